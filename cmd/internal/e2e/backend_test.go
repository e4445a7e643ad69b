package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestBackendInTrouble: a service that decides who comes in slows to 5 s, fails, lies, hangs up and comes back. It costs
// its own new clients alone: they are refused with 0x88, those that it let in before come in by that, and nobody else
// notices.
func TestBackendInTrouble(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	decide := func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Password string `json:"password"`
		}
		if json.NewDecoder(r.Body).Decode(&q) != nil || q.Password != "good" {
			fmt.Fprint(w, `{"result": "deny", "code": 134}`)
			return
		}
		fmt.Fprint(w, `{"result": "allow", "grants": [{"allow": ["publish", "subscribe"], "topics": ["ours/#"]}]}`)
	}
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
	}
	troubles := []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"slow", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // without it the end of the connection is not seen
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
			decide(w, r)
		}},
		{"fails", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"result": "allow"}`, http.StatusInternalServerError)
		}},
		{"sends elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/else", http.StatusTemporaryRedirect)
		}},
		{"speaks nonsense", says("<html>welcome</html>")},
		{"says nothing", says("")},
		{"invents a result", says(`{"result": "sure"}`)},
		{"has other types", says(`{"result": true, "grants": "all"}`)},
		{"promises what is no right", says(`{"result": "allow", "grants": [{"allow": ["everything"], "topics": ["#"]}]}`)},
		{"does not end", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"result": "allow", "reason": "`, strings.Repeat("x", 2<<20), `"}`)
		}},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	}
	var now atomic.Pointer[http.HandlerFunc]
	set := func(h http.HandlerFunc) { now.Store(&h) }
	set(decide)
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		(*now.Load())(w, r)
	}))
	defer service.Close()
	port, open := freePort(t), freePort(t)
	b, _ := startNative(t, port, fmt.Sprintf(`
listeners:
  - address: 127.0.0.1:%d
    authentication: [{http: {url: %s, timeout: 2s, failures: 3, leave_alone: 200ms, stale: 1h}}]
  - {address: "127.0.0.1:%d", anonymous: true}
store: {kind: memory}
`, port, service.URL, open))
	others := &broker{process: b.process, port: open, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(open))}
	others.awaitOpen(t)
	expect := func(when, user, password string, want byte) {
		t.Helper()
		if code := connackOf(t, b.address, user, password); code != want {
			t.Errorf("%s: %s with %q: %#x, want %#x", when, user, password, code, want)
		}
	}
	expect("at first", "known", "good", accepted)
	expect("at first", "eve", "bad", badPassword)
	inside, err := login(t, b, "inside", "inside", "good", nil)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := login(t, others, "", "elsewhere", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	traffics := map[string]*traffic{"inside": startTraffic(t, inside, "ours/loop"), "elsewhere": startTraffic(t, elsewhere, "loop")}
	for i, trouble := range troubles {
		set(trouble.answer)
		for before, end := asked.Load(), time.Now().Add(patience); asked.Load() == before; { // it may be left alone still
			if time.Now().After(end) {
				t.Fatalf("%s: the service is not asked any more", trouble.name)
			}
			expect(trouble.name, fmt.Sprint("stranger", i), "good", unavailable)
		}
		expect(trouble.name, "known", "good", accepted)
		expect(trouble.name, "known", "another", unavailable)
		if _, err := login(t, others, "", "", "", nil); err != nil {
			t.Errorf("%s: by the other listener: %v", trouble.name, err)
		}
	}
	for name, tr := range traffics {
		n, worst := tr.stop()
		t.Logf("%s: %d messages meanwhile, the slowest in %v", name, n, worst)
		if n == 0 {
			t.Errorf("%s: no message came through", name)
		}
	}
	set(decide)
	for end := time.Now().Add(patience); ; {
		code := connackOf(t, b.address, "stranger", "good")
		if code == accepted {
			break
		}
		if code != unavailable || time.Now().After(end) {
			t.Fatalf("the service is back: %#x", code)
		}
	}
	expect("in the end", "eve", "bad", badPassword)
}
