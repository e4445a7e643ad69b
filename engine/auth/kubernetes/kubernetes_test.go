package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// token is one in form: the API server of these tests knows good ones by their signature "good".
func token(user string, end time.Time, signature string) string {
	claims, _ := json.Marshal(map[string]any{"sub": user, "exp": end.Unix()})
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(claims) + "." + signature
}

// An apiServer speaks what is documented of TokenReview.
type apiServer struct {
	*httptest.Server
	reviews atomic.Int64
	own     atomic.Pointer[string] // token of the broker that it takes
	fails   atomic.Bool
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.reviews.Add(1)
		var q review
		switch {
		case s.fails.Load():
			http.Error(w, "etcd is away", http.StatusInternalServerError)
			return
		case r.Header.Get("Authorization") != "Bearer "+*s.own.Load():
			http.Error(w, `{"kind": "Status", "code": 401}`, http.StatusUnauthorized)
			return
		case r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || json.NewDecoder(r.Body).Decode(&q) != nil || q.Kind != "TokenReview":
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		q.Status = reviewStatus{}
		parts := strings.Split(q.Spec.Token, ".")
		if len(parts) == 3 && parts[2] == "good" {
			var claims struct{ Sub string }
			b, _ := base64.RawURLEncoding.DecodeString(parts[1])
			_ = json.Unmarshal(b, &claims)
			q.Status.Authenticated, q.Status.User.Username = true, claims.Sub
			for _, a := range q.Spec.Audiences {
				if a == "mqtt" {
					q.Status.Audiences = append(q.Status.Audiences, a)
				}
			}
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(q)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) hook(t *testing.T, edit func(*Config)) (h *Hook, rotate func(own string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	n := 0
	rotate = func(own string) {
		t.Helper()
		s.own.Store(&own)
		n++
		at := time.Now().Add(time.Duration(n) * time.Second)
		if err := os.WriteFile(path, []byte(own+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	rotate("first")
	c := Config{APIServer: s.URL, TokenFile: path, Audience: []string{"mqtt"}, Accounts: []Account{
		{Namespace: "factory", Name: "press", Grants: []auth.Grant{{Allow: []string{"publish"}, Topics: []string{"${namespace}/${account}/%c"}}}},
		{Namespace: "tools", Name: "*"}}}
	if edit != nil {
		edit(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h, rotate
}

func ask(t *testing.T, h *Hook, user, password string) (hook.Decision, error) {
	t.Helper()
	return h.Decide(t.Context(), &hook.Connect{ClientID: "c1", HasUserName: true, UserName: user, Password: []byte(password)})
}

func TestTokenReview(t *testing.T) {
	s := newAPIServer(t)
	h, rotate := s.hook(t, nil)
	hour := time.Now().Add(time.Hour)
	f := func(what, user, password string, want hook.Verdict, code codec.ReasonCode) hook.Decision {
		t.Helper()
		d, err := ask(t, h, user, password)
		if err != nil || d.Verdict != want || d.Code != code {
			t.Errorf("%s: %+v, %v; want %v, %v", what, d, err, want, code)
		}
		return d
	}
	d := f("good", "$sat", token("system:serviceaccount:factory:press", hour, "good"), hook.Accept, 0)
	if d.UserName != "system:serviceaccount:factory:press" || d.Until.Unix() != hour.Unix() ||
		!d.Rights.May(hook.Publish, []byte("factory/press/c1")) || d.Rights.May(hook.Publish, []byte("factory/other/c1")) {
		t.Errorf("%+v", d)
	}
	if d = f("any account", "$sat", token("system:serviceaccount:tools:x", hour, "good"), hook.Accept, 0); d.Rights != nil {
		t.Errorf("%+v", d)
	}
	f("another account", "$sat", token("system:serviceaccount:factory:x", hour, "good"), hook.Refuse, codec.NotAuthorized)
	f("forged", "$sat", token("system:serviceaccount:factory:press", hour, "bad"), hook.Refuse, codec.BadUserNameOrPassword)
	f("no account", "$sat", token("admin", hour, "good"), hook.Refuse, codec.BadUserNameOrPassword)
	f("expired", "$sat", token("system:serviceaccount:factory:press", hour.Add(-2*time.Hour), "good"), hook.Refuse, codec.NotAuthorized)
	f("nothing", "$sat", "", hook.Refuse, codec.BadUserNameOrPassword)
	f("too large", "$sat", strings.Repeat("x", maxToken+1), hook.Refuse, codec.BadUserNameOrPassword)
	f("others", "ada", "secret", hook.Pass, 0)
	rotate("second") // the cluster exchanged the broker's own token
	f("good", "$sat", token("system:serviceaccount:tools:x", hour, "good"), hook.Accept, 0)
	s.fails.Store(true)
	if d, err := ask(t, h, "$sat", token("system:serviceaccount:tools:x", hour, "good")); err == nil {
		t.Errorf("without an API server: %+v", d)
	}
	other, _ := s.hook(t, func(c *Config) { c.Audience = []string{"web"} })
	s.fails.Store(false)
	if d, err := ask(t, other, "$sat", token("system:serviceaccount:tools:x", hour, "good")); err != nil || d.Verdict != hook.Refuse {
		t.Errorf("another audience: %+v, %v", d, err)
	}
}

func TestFresh(t *testing.T) {
	s := newAPIServer(t)
	h, _ := s.hook(t, func(c *Config) { c.Fresh = time.Hour })
	for range 5 {
		if d, err := ask(t, h, "$sat", token("system:serviceaccount:tools:x", time.Now().Add(time.Hour).Truncate(time.Hour), "good")); err != nil || d.Verdict != hook.Accept {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if n := s.reviews.Load(); n != 1 {
		t.Errorf("%d reviews, want 1", n)
	}
}

type keysOfTheIssuer struct{}

func (keysOfTheIssuer) Token(_ context.Context, token, _ string) (hook.Decision, error) {
	if !strings.HasSuffix(token, ".good") {
		return hook.Decision{Verdict: hook.Refuse}, nil
	}
	return hook.Decision{Verdict: hook.Accept, UserName: "system:serviceaccount:factory:press"}, nil
}

func TestVerifier(t *testing.T) {
	h, err := New(Config{Verifier: keysOfTheIssuer{}, Accounts: []Account{{Namespace: "factory", Name: "press"}}})
	if err != nil {
		t.Fatal(err)
	}
	for signature, want := range map[string]hook.Verdict{"good": hook.Accept, "bad": hook.Refuse} {
		if d, err := ask(t, h, "$sat", token("x", time.Now().Add(time.Hour), signature)); err != nil || d.Verdict != want {
			t.Errorf("%s: %+v, %v", signature, d, err)
		}
	}
}

func TestConfig(t *testing.T) {
	one := []Account{{"*", "*", nil}}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for want, c := range map[string]Config{
		"no account":             {},
		"needs a namespace":      {Accounts: []Account{{Name: "x"}}},
		"does not run in a":      {Accounts: one},
		"the broker's own token": {APIServer: "https://x", TokenFile: "/nonexistent", Accounts: one},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	for user, want := range map[string]string{"system:serviceaccount:a:b": "a b true", "system:serviceaccount:a:#": "a # false", "x": "  false", "system:serviceaccount:a": "a  false"} {
		if n, a, ok := serviceAccount(user); fmt.Sprint(n, " ", a, " ", ok) != want {
			t.Errorf("%s: %q %q %v", user, n, a, ok)
		}
	}
}
