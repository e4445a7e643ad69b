package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestCompletion: a shell is told the flags of all commands, of those too that parse them by themselves, each once, and
// the values of some. What shells make of it is tested in cmd/internal/e2e.
func TestCompletion(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(append([]string{"__complete"}, args...), &out, &errs); code != 0 || strings.Count("\n"+out.String(), "\n"+want) != 1 {
			t.Errorf("%q: status %d, want %q in\n%s%s", args, code, want, &out, &errs)
		}
	}
	f("--topic\t", "pub", "--to")
	f("--stats\t", "sub", "--")
	f("--response-topic", "rr", "-")
	f("--listen", "--li")
	f("import", "store", "imp")
	f("0\n1\n2\n:4\n", "sub", "--qos", "")
	f("mqttv5\n", "pub", "-V", "m")
	f(":0\n", "sub", "qos", "") // files
	f(":0\n", "sub", "-t", "")
}
