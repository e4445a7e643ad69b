package engine

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// labelHook notes the profiler's view of the goroutine that calls it.
type labelHook struct{ seen *string }

func (h labelHook) Authorize(hook.Client, hook.Action, []byte) bool {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	*h.seen = b.String()
	return true
}

func TestProfileLabels(t *testing.T) {
	f := func(on bool) {
		t.Helper()
		var seen string
		h := newHarness(t, 1, Options{ProfileLabels: on, Hooks: []any{labelHook{&seen}}})
		defer h.b.loops[0].at(workPoll)
		p := h.client(codec.V5, "p")
		p.send(publishPacket(codec.V5, "a", "x", 0, 0))
		if got := strings.Contains(seen, `"loop":"0", "work":"read"`); got != on {
			t.Errorf("ProfileLabels %v: labels of the loop in the profile: %v\n%s", on, got, seen)
		}
	}
	f(false)
	f(true)
}
