package webhook

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth/internal/remote"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// A backend lets ada in, with rights, and behaves as it is told.
type backend struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[func(w http.ResponseWriter, r Request)]
}

func newBackend(t *testing.T) *backend {
	b := &backend{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		var q Request
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Header.Get("Authorization") != "Bearer t" {
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		(*b.answer.Load())(w, q)
	}))
	t.Cleanup(b.Close)
	b.behave(func(w http.ResponseWriter, r Request) {
		switch {
		case r.UserName == "ada" && r.Password == "secret":
			_, _ = w.Write([]byte(`{"result": "allow", "grants": [{"allow": ["publish"], "topics": ["%u/%c"]}], "max_queued_messages": 5, "no_will": true}`))
		case r.UserName == "short":
			_, _ = w.Write([]byte(`{"result": "allow", "expires_in": 2}`))
		case r.UserName == "none":
			_, _ = w.Write([]byte(`{"result": "allow", "grants": []}`))
		case r.UserName == "ada":
			_, _ = w.Write([]byte(`{"result": "deny", "code": 134}`))
		default:
			_, _ = w.Write([]byte(`{"result": "ignore"}`))
		}
	})
	return b
}

func (b *backend) behave(f func(w http.ResponseWriter, r Request)) { b.answer.Store(&f) }

func (b *backend) hook(t *testing.T, edit func(*Config)) *Hook {
	t.Helper()
	c := Config{URL: b.URL, Token: "t"}
	if edit != nil {
		edit(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(t *testing.T, h *Hook, user, password string) (hook.Decision, error) {
	t.Helper()
	return h.Decide(t.Context(), &hook.Connect{ClientID: "c1", HasUserName: true, UserName: user, Password: []byte(password), Version: codec.V5})
}

func TestDecide(t *testing.T) {
	h := newBackend(t).hook(t, nil)
	d, err := ask(t, h, "ada", "secret")
	if err != nil || d.Verdict != hook.Accept || d.MaxQueuedMessages != 5 || !d.Rights.May(hook.Publish, []byte("ada/c1")) || d.Rights.May(hook.Retain, []byte("ada/c1")) {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err = ask(t, h, "ada", "wrong"); err != nil || d.Verdict != hook.Refuse || d.Code != codec.BadUserNameOrPassword {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err = ask(t, h, "bob", "x"); err != nil || d.Verdict != hook.Pass {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err = ask(t, h, "short", "x"); err != nil || d.Rights != nil || time.Until(d.Until) > 2*time.Second || time.Until(d.Until) < 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err = ask(t, h, "none", "x"); err != nil || d.Rights == nil || d.Rights.May(hook.Publish, []byte("a")) || d.Rights.May(hook.Subscribe, []byte("#")) {
		t.Errorf("without any right: %+v, %v", d, err)
	}
	d, err = h.Decide(t.Context(), &hook.Connect{ClientID: "c1", UserName: "ada", Password: []byte("secret"), Will: &hook.Will{Topic: "w"}})
	if err != nil || d.Verdict != hook.Refuse {
		t.Errorf("with a will: %+v, %v", d, err)
	}
}

// TestTrouble: a service that is slow, fails or lies; it is asked again once it
// has come back, and meanwhile who was let in before comes in.
func TestTrouble(t *testing.T) {
	b := newBackend(t)
	good := *b.answer.Load()
	h := b.hook(t, func(c *Config) {
		c.Timeout, c.Failures, c.LeaveAlone, c.Stale = 100*time.Millisecond, 3, 50*time.Millisecond, time.Hour
	})
	if d, err := ask(t, h, "ada", "secret"); err != nil || d.Verdict != hook.Accept {
		t.Fatalf("%+v, %v", d, err)
	}
	release := make(chan struct{})
	defer close(release)
	for name, f := range map[string]func(http.ResponseWriter, Request){
		"slow":     func(http.ResponseWriter, Request) { <-release },
		"failing":  func(w http.ResponseWriter, _ Request) { http.Error(w, "sorry", http.StatusInternalServerError) },
		"lying":    func(w http.ResponseWriter, _ Request) { _, _ = w.Write([]byte(`{"result": "perhaps"}`)) },
		"babbling": func(w http.ResponseWriter, _ Request) { _, _ = w.Write([]byte("hello")) },
		"endless":  func(w http.ResponseWriter, _ Request) { _, _ = w.Write(make([]byte, 2<<20)) },
		"unclear": func(w http.ResponseWriter, _ Request) {
			_, _ = w.Write([]byte(`{"result": "allow", "grants": [{"allow": ["fly"], "topics": ["x"]}]}`))
		},
	} {
		b.behave(f)
		if d, err := ask(t, h, "new", "x"); err == nil {
			t.Errorf("%s: a new client: %+v", name, d)
		}
		if d, err := ask(t, h, "ada", "secret"); name != "unclear" && (err != nil || d.Verdict != hook.Accept) {
			t.Errorf("%s: one that was in before: %+v, %v", name, d, err)
		}
		if d, err := ask(t, h, "ada", "wrong"); err == nil {
			t.Errorf("%s: with another password: %+v", name, d)
		}
		b.behave(good)
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			d, err := ask(t, h, "ada", "secret")
			asked, direct := b.asked.Load(), false
			if err == nil && d.Verdict == hook.Accept {
				_, err = ask(t, h, "bob", "x")
				direct = b.asked.Load() > asked
			}
			if err == nil && direct {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: it has come back, and is not asked: %v", name, err)
			}
		}
	}
}

func TestLeftAlone(t *testing.T) {
	b := newBackend(t)
	b.behave(func(w http.ResponseWriter, _ Request) { http.Error(w, "sorry", http.StatusInternalServerError) })
	h := b.hook(t, func(c *Config) { c.Failures, c.LeaveAlone = 3, time.Hour })
	for range 20 {
		if _, err := ask(t, h, "x", "y"); err == nil {
			t.Error("let in")
		}
	}
	if n := b.asked.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestFresh(t *testing.T) {
	b := newBackend(t)
	h := b.hook(t, func(c *Config) { c.Fresh = time.Hour })
	for range 10 {
		if d, err := ask(t, h, "ada", "secret"); err != nil || d.Verdict != hook.Accept {
			t.Errorf("%+v, %v", d, err)
		}
		if d, err := ask(t, h, "ada", "wrong"); err != nil || d.Verdict != hook.Refuse {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if n := b.asked.Load(); n != 11 { // once about the right password, each time about the wrong one
		t.Errorf("asked %d times, want 11", n)
	}
}

// TestOthersDoNotWait: a service that hangs takes AtOnce of the broker's
// workers; the others decide about clients that it has nothing to do with.
func TestOthersDoNotWait(t *testing.T) {
	b := newBackend(t)
	release := make(chan struct{})
	b.behave(func(http.ResponseWriter, Request) { <-release })
	h := b.hook(t, func(c *Config) { c.AtOnce, c.Timeout = 4, time.Minute })
	broker := enginetest.Start(t, engine.Options{HookWorkers: 8, HookTimeout: time.Minute, Hooks: []any{byName{}, h},
		Listeners: []engine.Listener{{Address: "127.0.0.1:0"}}})
	var wait sync.WaitGroup
	for range 4 {
		c := broker.Dial(t, codec.V5)
		p := codec.Connect{Version: codec.V5, CleanStart: true, HasUserName: true, UserName: []byte("slow"), HasPassword: true}
		c.Send(p.Append(nil))
		wait.Go(func() {
			if ack := c.ExpectConnack(); ack.Code != codec.ServerUnavailable {
				t.Errorf("of the service that fails: %v", ack.Code)
			}
		})
	}
	for end := time.Now().Add(enginetest.Patience); b.asked.Load() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("asked %d times", b.asked.Load())
		}
	}
	broker.Connect(t, "c", codec.V5, enginetest.Login("known", "")).Ping()
	c := broker.Dial(t, codec.V5)
	p := codec.Connect{Version: codec.V5, CleanStart: true, HasUserName: true, UserName: []byte("slow"), HasPassword: true}
	c.Send(p.Append(nil))
	if ack := c.ExpectConnack(); ack.Code != codec.ServerUnavailable { // at once
		t.Errorf("the fifth: %v", ack.Code)
	}
	close(release)
	wait.Wait()
}

// byName lets known in.
type byName struct{}

func (byName) Decide(_ context.Context, c *hook.Connect) (hook.Decision, error) {
	if c.UserName == "known" {
		return hook.Decision{Verdict: hook.Accept}, nil
	}
	return hook.Decision{}, nil
}

func TestConfig(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	f(Config{URL: "here"}, "want an address")
	f(Config{URL: "https://x", CAFile: "/nonexistent"}, "CA")
	f(Config{URL: "https://x", CertFile: "/nonexistent"}, "nonexistent")
	f(Config{URL: "https://x", Timeout: -1}, "above 0")
	f(Config{URL: "https://x", Fresh: -1}, "above 0")
}

// The cache is bounded.
func TestRemembered(t *testing.T) {
	c := remote.NewCache[int](3)
	for i := range 10 {
		c.Put(c.Key("a", string(rune('a'+i))), i)
	}
	if _, _, ok := c.Get(c.Key("a", "a")); ok {
		t.Error("the first is still there")
	}
	if v, _, ok := c.Get(c.Key("a", "j")); !ok || v != 9 {
		t.Errorf("the last is %v, %v", v, ok)
	}
	if c.Key("a", "bc") == c.Key("ab", "c") {
		t.Error("parts run into each other")
	}
}
