package jwt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/hook"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func publicPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims, kid ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if len(kid) > 0 {
		token.Header["kid"] = kid[0]
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

func newVerifier(t *testing.T, c Config) *Verifier {
	t.Helper()
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// TestTokens: good ones come in, forged and foreign ones do not.
func TestTokens(t *testing.T) {
	key, other := rsaKey(), func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k }()
	pub := publicPEM(t, &key.PublicKey)
	v := newVerifier(t, Config{KeyFile: write(t, "pub.pem", pub), Issuer: "me", Audience: []string{"mqtt"}, Leeway: time.Minute, AnyTopic: true, ClientID: "cid"})
	good := func(edit func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "ada", "iss": "me", "aud": []string{"x", "mqtt"}, "exp": in(time.Hour), "cid": "c1"}
		if edit != nil {
			edit(c)
		}
		return c
	}
	f := func(what, token, clientID string, want hook.Verdict, code codec.ReasonCode) {
		t.Helper()
		d, err := v.Decide(t.Context(), &hook.Connect{Password: []byte(token), ClientID: clientID})
		if err != nil || d.Verdict != want || d.Code != code || want == hook.Accept && (d.UserName != "ada" || d.Until.IsZero()) {
			t.Errorf("%s: %+v, %v; want %v, %v", what, d, err, want, code)
		}
	}
	rs := func(edit func(jwt.MapClaims)) string { return sign(t, jwt.SigningMethodRS256, key, good(edit)) }
	f("good", rs(nil), "c1", hook.Accept, 0)
	f("PS512", sign(t, jwt.SigningMethodPS512, key, good(nil)), "c1", hook.Accept, 0)
	f("another client", rs(nil), "c2", hook.Refuse, codec.ClientIdentifierNotValid)
	f("expired within the leeway", rs(func(c jwt.MapClaims) { c["exp"] = in(-30 * time.Second) }), "c1", hook.Accept, 0)
	f("expired", rs(func(c jwt.MapClaims) { c["exp"] = in(-time.Hour) }), "c1", hook.Refuse, codec.NotAuthorized)
	f("never expires", rs(func(c jwt.MapClaims) { delete(c, "exp") }), "c1", hook.Refuse, codec.BadUserNameOrPassword)
	f("not yet", rs(func(c jwt.MapClaims) { c["nbf"] = in(time.Hour) }), "c1", hook.Refuse, codec.BadUserNameOrPassword)
	f("another audience", rs(func(c jwt.MapClaims) { c["aud"] = "web" }), "c1", hook.Refuse, codec.BadUserNameOrPassword)
	f("another issuer", rs(func(c jwt.MapClaims) { c["iss"] = "you" }), "c1", hook.Refuse, codec.BadUserNameOrPassword)
	f("nobody", rs(func(c jwt.MapClaims) { delete(c, "sub") }), "c1", hook.Refuse, codec.NotAuthorized)
	f("another key", sign(t, jwt.SigningMethodRS256, other, good(nil)), "c1", hook.Refuse, codec.BadUserNameOrPassword)
	f("none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(nil)), "c1", hook.Refuse, codec.BadUserNameOrPassword)
	f("the public key as a secret", sign(t, jwt.SigningMethodHS256, pub, good(nil)), "c1", hook.Refuse, codec.BadUserNameOrPassword)
	whole := rs(nil)
	f("cut", whole[:len(whole)-4], "c1", hook.Refuse, codec.BadUserNameOrPassword)
	f("too large", rs(func(c jwt.MapClaims) { c["x"] = strings.Repeat("x", maxToken) }), "c1", hook.Pass, 0)
	f("a password", "secret", "c1", hook.Pass, 0)

	v = newVerifier(t, Config{KeyFile: write(t, "pub.pem", pub), AnyTopic: true, LoginName: "token"})
	for user, want := range map[string]hook.Verdict{"token": hook.Refuse, "ada": hook.Pass} {
		if d, err := v.Decide(t.Context(), &hook.Connect{HasUserName: true, UserName: user, Password: []byte("secret")}); err != nil || d.Verdict != want {
			t.Errorf("as %s: %+v, %v", user, d, err)
		}
	}
}

func TestSecret(t *testing.T) {
	secret := strings.Repeat("s", minSecret)
	v := newVerifier(t, Config{SecretFile: write(t, "secret", []byte(secret+"\n")), AnyTopic: true})
	d, err := v.Token(t.Context(), sign(t, jwt.SigningMethodHS384, []byte(secret), jwt.MapClaims{"sub": "ada", "exp": in(time.Hour)}), "")
	if err != nil || d.Verdict != hook.Accept {
		t.Errorf("%+v, %v", d, err)
	}
	d, err = v.Token(t.Context(), sign(t, jwt.SigningMethodRS256, rsaKey(), jwt.MapClaims{"sub": "ada", "exp": in(time.Hour)}), "")
	if err != nil || d.Verdict != hook.Refuse {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestRights(t *testing.T) {
	secret := strings.Repeat("s", minSecret)
	v := newVerifier(t, Config{SecretFile: write(t, "secret", []byte(secret)), ACL: "acl", Grants: []auth.Grant{
		{Allow: []string{"publish"}, Topics: []string{"tenants/${tenant}/%c/#"}},
		{Allow: []string{"subscribe"}, Topics: []string{"groups/${groups}"}}}})
	f := func(claims jwt.MapClaims, allowed, denied string) {
		t.Helper()
		claims["sub"], claims["exp"] = "ada", in(time.Hour)
		d, err := v.Token(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(secret), claims), "c1")
		if err != nil || d.Verdict != hook.Accept {
			t.Errorf("%v: %+v, %v", claims, d, err)
			return
		}
		for want, list := range map[bool]string{true: allowed, false: denied} {
			for question := range strings.FieldsSeq(list) {
				action, name, _ := strings.Cut(question, ":")
				a := map[string]hook.Action{"pub": hook.Publish, "sub": hook.Subscribe, "ret": hook.Retain}[action]
				if got := d.Rights.May(a, []byte(name)); got != want {
					t.Errorf("%v: %s is %v", claims, question, got)
				}
			}
		}
	}
	f(jwt.MapClaims{"tenant": "t1", "groups": []string{"a", "b"}}, "pub:tenants/t1/c1/x sub:groups/a sub:groups/b",
		"pub:tenants/t2/c1/x pub:tenants/t1/c2/x sub:groups/c ret:tenants/t1/c1/x")
	f(jwt.MapClaims{"tenant": "+"}, "", "pub:tenants/x/c1/x sub:groups/a")
	f(jwt.MapClaims{"tenant": "t1/c2"}, "", "pub:tenants/t1/c2/c1/x")
	f(jwt.MapClaims{"acl": map[string]any{"pub": []string{"p/#"}, "sub": []string{"s/#"}, "deny": []string{"p/no"}}}, "pub:p/x ret:p/x sub:s/x", "pub:p/no pub:s/x sub:p/x")
	f(jwt.MapClaims{"acl": []any{map[string]any{"allow": []string{"publish"}, "topics": []string{"p/%u"}}}}, "pub:p/ada", "ret:p/ada pub:p/bob")
	for _, acl := range []any{5, map[string]any{"write": []string{"x"}}, map[string]any{"pub": "x"}, map[string]any{"pub": []int{1}}, []any{map[string]any{"allow": []string{"x"}, "topics": []string{"x"}}}} {
		d, err := v.Token(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"sub": "ada", "exp": in(time.Hour), "acl": acl}), "c1")
		if err != nil || d.Verdict != hook.Refuse {
			t.Errorf("%v: %+v, %v", acl, d, err)
		}
	}
}

// A keyServer is a provider with discovery whose keys can be exchanged.
type keyServer struct {
	*httptest.Server
	mu   sync.Mutex
	set  jwkset.JWKSMarshal
	down bool
}

func newKeyServer(t *testing.T) *keyServer {
	s := &keyServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.down:
			http.Error(w, "down", http.StatusInternalServerError)
		case r.URL.Path == "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.URL, "jwks_uri": s.URL + "/keys"})
		case r.URL.Path == "/keys":
			_ = json.NewEncoder(w).Encode(s.set)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) use(t *testing.T, kid string, key any) {
	t.Helper()
	jwk, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}}
}

func (s *keyServer) fail(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = on
}

// TestDiscovery: keys are found by the issuer, new ones as soon as a token
// names one; while nobody answers tokens are not judged.
func TestDiscovery(t *testing.T) {
	s := newKeyServer(t)
	first, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.use(t, "first", first)
	s.fail(true)
	v := newVerifier(t, Config{Discover: true, Issuer: s.URL, AnyTopic: true})
	v.keys.(*provider).between = 10 * time.Millisecond
	ask := func(key *ecdsa.PrivateKey, kid string) (hook.Decision, error) {
		return v.Token(t.Context(), sign(t, jwt.SigningMethodES256, key, jwt.MapClaims{"sub": "ada", "iss": s.URL, "exp": in(time.Hour)}, kid), "")
	}
	if d, err := ask(first, "first"); err == nil {
		t.Errorf("without a provider: %+v", d)
	}
	s.fail(false)
	v.keys.(*provider).tried = time.Time{} // the time between two attempts has passed
	if d, err := ask(first, "first"); err != nil || d.Verdict != hook.Accept {
		t.Errorf("%+v, %v", d, err)
	}
	s.use(t, "second", second)
	if d, err := ask(second, "second"); err != nil || d.Verdict != hook.Accept {
		t.Errorf("after a rotation: %+v, %v", d, err)
	}
	if d, err := ask(first, "third"); err != nil || d.Verdict != hook.Refuse {
		t.Errorf("a key that nobody has: %+v, %v", d, err)
	}
}

// TestProviderHangs: a provider that does not answer holds few tokens, and each
// no longer than it has time.
func TestProviderHangs(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) })
	v := newVerifier(t, Config{JWKS: s.URL, AnyTopic: true})
	token := sign(t, jwt.SigningMethodRS256, rsaKey(), jwt.MapClaims{"sub": "ada", "exp": in(time.Hour)}, "k")
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error, maxWaiting)
	for range maxWaiting {
		go func() {
			_, err := v.Token(ctx, token, "")
			answers <- err
		}()
	}
	p := v.keys.(*provider)
	waiting := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.waiting
	}
	for end := time.Now().Add(enginetest.Patience); waiting() < maxWaiting; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d wait", waiting())
		}
	}
	if d, err := v.Token(t.Context(), token, ""); !errors.Is(err, errUnavailable) { // at once
		t.Errorf("one more: %+v, %v", d, err)
	}
	cancel()
	for range maxWaiting {
		if err := <-answers; !errors.Is(err, errUnavailable) {
			t.Errorf("after its time: %v", err)
		}
	}
}

// TestExpiry: a connection ends with its token, unless the client renews it.
func TestExpiry(t *testing.T) {
	secret := []byte(strings.Repeat("s", minSecret))
	v := newVerifier(t, Config{SecretFile: write(t, "secret", secret), AnyTopic: true})
	token := func(user string, d time.Duration) []byte {
		return []byte(sign(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": user, "exp": in(d)}))
	}
	b := enginetest.Start(t, engine.Options{Hooks: []any{v}, Listeners: []engine.Listener{{Address: "127.0.0.1:0"}}})
	watch := b.Connect(t, "watch", codec.V311, enginetest.Login("", string(token("w", time.Hour))))
	watch.Subscribe("died", 0)
	c := b.Connect(t, "c", codec.V5, enginetest.Login("whoever", string(token("ada", 5*time.Second))), enginetest.Will("died", "c", 0))
	enhanced := func(p *codec.Connect) {
		p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationMethod, "JWT")
		p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationData, token("ada", 6*time.Second))
	}
	renew := func(c *enginetest.Client, token []byte) {
		a := codec.Auth{Code: codec.ReAuthenticate}
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationMethod, "JWT")
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationData, token)
		c.Send(a.Append(nil))
	}
	stays := b.Connect(t, "d", codec.V5, enhanced)
	renew(stays, token("ada", time.Hour))
	if h, _, err := stays.Packet(); err != nil || h.Type != codec.AUTH {
		t.Fatalf("%v, %v", h.Type, err)
	}
	ends := b.Connect(t, "f", codec.V5, enhanced)
	if code := c.ExpectDisconnect(); code != codec.NotAuthorized {
		t.Errorf("ended with %v", code)
	}
	watch.ExpectPublish("died", "c")
	if code := ends.ExpectDisconnect(); code != codec.NotAuthorized { // its token is younger than the one that was renewed
		t.Errorf("ended with %v", code)
	}
	stays.Ping()
	c = b.Connect(t, "e", codec.V5, enhanced)
	renew(c, token("eve", time.Hour))
	if code := c.ExpectDisconnect(); code != codec.NotAuthorized {
		t.Errorf("another's token: %v", code)
	}
}

func TestConfig(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	f(Config{AnyTopic: true}, "there are 0")
	f(Config{KeyFile: "a", JWKS: "https://x"}, "there are 2")
	f(Config{JWKS: "here", AnyTopic: true}, "want an address")
	f(Config{Discover: true, AnyTopic: true}, "issuer")
	f(Config{KeyFile: "x", Algorithms: []string{"HS256"}, AnyTopic: true}, "with these keys want one of RS256")
	f(Config{SecretFile: "x", Algorithms: []string{"RS256"}, AnyTopic: true}, "want one of HS256")
	f(Config{KeyFile: "x"}, "what clients may do is not said")
	f(Config{KeyFile: "x", Leeway: time.Hour, AnyTopic: true}, "leeway")
	f(Config{KeyFile: "/nonexistent", AnyTopic: true}, "jwt: keys")
	f(Config{SecretFile: write(t, "s", []byte("short")), AnyTopic: true}, "at least 32")
	f(Config{KeyFile: write(t, "k", []byte("nothing")), AnyTopic: true}, "neither PEM nor a JWK set")
	f(Config{KeyFile: write(t, "k", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"})), AnyTopic: true}, "want public keys")
	f(Config{JWKS: "https://x", CAFile: "/nonexistent", AnyTopic: true}, "jwt: CA")
}
