package e2e

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A forger makes tokens with the claims of another.
type forger struct {
	t      *testing.T
	claims string // as they stand in a token
}

func newForger(t *testing.T, claims string) *forger { return &forger{t, claims} }

func (f *forger) begin(header string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + f.claims
}

func signed(begin string, signature []byte) string {
	return begin + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// none is a token without a signature that says so.
func (f *forger) none() string { return f.begin(`{"alg":"none","typ":"JWT"}`) + "." }

// hs256 is a token signed with a secret, such as a public key that everybody can read.
func (f *forger) hs256(secret []byte) string {
	begin := f.begin(`{"alg":"HS256","typ":"JWT"}`)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(begin))
	return signed(begin, mac.Sum(nil))
}

// rs256 is a token signed with a key.
func (f *forger) rs256(key *rsa.PrivateKey) string {
	f.t.Helper()
	begin := f.begin(`{"alg":"RS256","typ":"JWT"}`)
	sum := sha256.Sum256([]byte(begin))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return signed(begin, signature)
}

// publicPEM is what everybody may know of key.
func publicPEM(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// claimsOf is claims as they stand in a token.
func claimsOf(t *testing.T, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// TestForgedTokens: what is no good token is refused, each with its code, and who is inside does not notice.
func TestForgedTokens(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	dir := t.TempDir()
	key, other := writeKey(t, filepath.Join(dir, "key")), writeKey(t, filepath.Join(dir, "other"))
	public, keys := publicPEM(t, key), filepath.Join(dir, "keys.pem")
	if err := os.WriteFile(keys, public, 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	b, _ := startNative(t, port, fmt.Sprintf(`
listeners: [{address: "127.0.0.1:%d", sys: true}]
authentication:
  - jwt:
      key_file: %s
      issuer: https://issuer.test
      audience: [mqtt]
      grants: [{allow: [publish, subscribe], topics: ["users/${sub}/#", "$SYS/#"]}]
store: {kind: memory}
sys_interval: 1s
`, port, keys))
	with := func(claim string, value any) *forger {
		claims := map[string]any{"iss": "https://issuer.test", "aud": "mqtt", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
		if value == nil {
			delete(claims, claim)
		} else {
			claims[claim] = value
		}
		return newForger(t, claimsOf(t, claims))
	}
	right := with("sub", "ada")
	good := right.rs256(key)
	ada, err := login(t, b, "whoever", "", good, nil)
	if err != nil {
		t.Fatalf("a good token: %v", err)
	}
	sys, tr := watchSys(t, ada), startTraffic(t, ada, "users/ada/loop")
	refused := 0
	f := func(what, token string, want byte) {
		t.Helper()
		refused++
		if code := connackOf(t, b.address, "whoever", token); code != want {
			t.Errorf("%s: %#x, want %#x", what, code, want)
		}
	}
	f("expired", with("exp", time.Now().Add(-time.Minute).Unix()).rs256(key), notAuthorized)
	f("without an end", with("exp", nil).rs256(key), badPassword)
	f("not valid yet", with("nbf", time.Now().Add(time.Hour).Unix()).rs256(key), badPassword)
	f("alg none", right.none(), badPassword)
	f("the public key as a secret", right.hs256(public), badPassword)
	f("the public key in DER as a secret", right.hs256(x509.MarshalPKCS1PublicKey(&key.PublicKey)), badPassword)
	f("another key", right.rs256(other), badPassword)
	f("another audience", with("aud", "web").rs256(key), badPassword)
	f("no audience", with("aud", nil).rs256(key), badPassword)
	f("another issuer", with("iss", "https://elsewhere.test").rs256(key), badPassword)
	f("nobody's", with("sub", nil).rs256(key), notAuthorized)
	f("the claims of one, the signature of another", with("sub", "eve").claimsSignedBy(good), badPassword)
	f("cut off", good[:len(good)-10], badPassword)
	f("no token", "secret", notAuthorized)
	sys.await(t, "wheelmq/refused", refused)
	joker, err := login(t, b, "whoever", "", with("sub", "+").rs256(key), nil)
	if err != nil {
		t.Fatalf("a name that is a wildcard: %v", err)
	}
	for _, filter := range []string{"users/+/loop", "users/ada/loop"} {
		token := joker.Subscribe(filter, 1, nil)
		if token.WaitTimeout(patience); token.(*mqtt.SubscribeToken).Result()[filter] != 0x80 {
			t.Errorf("a name that is a wildcard may read %s", filter)
		}
	}
	if n, worst := tr.stop(); n == 0 || !ada.IsConnected() {
		t.Errorf("%d messages of who is inside, connected %v", n, ada.IsConnected())
	} else {
		t.Logf("%d messages meanwhile, the slowest in %v", n, worst)
	}
	if code := connackOf(t, b.address, "whoever", good); code != accepted {
		t.Errorf("the good token: %#x", code)
	}
}

// claimsSignedBy is a token with f's claims, and header and signature of another token.
func (f *forger) claimsSignedBy(token string) string {
	parts := strings.Split(token, ".")
	return parts[0] + "." + f.claims + "." + parts[2]
}
