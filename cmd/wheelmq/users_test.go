package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// A token of a service account that is verified by keys is good for its
// account's rights alone: as $sat, and not by AUTH.
func TestAccountKeys(t *testing.T) {
	secret := []byte(strings.Repeat("s", 32))
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	account := config.Account{Namespace: "plant", Name: "press", Grants: []config.Grant{{Allow: []string{"publish"}, Topics: []string{"${namespace}/#"}}}}
	method := func(keys config.JWT) []config.Users {
		keys.SecretFile, keys.UserName = config.Path(path), "sub"
		return []config.Users{{Methods: []config.Method{{Kubernetes: &config.Kubernetes{Audience: []string{"mqtt"}, Keys: &keys, Accounts: []config.Account{account}}}}}}
	}
	u, err := openUsers(method(config.JWT{}), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.now.Load().close)
	if methods := u.enhanced(); len(methods) != 0 {
		t.Errorf("offers %v", methods)
	}
	f := func(account, audience string, want hook.Verdict) {
		t.Helper()
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg": "HS256"}`)) + "." +
			base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub": %q, "aud": %q, "exp": %d}`, account, audience, time.Now().Add(time.Hour).Unix()))
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		token := text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		d, err := u.Decide(t.Context(), &hook.Connect{Version: codec.V5, HasUserName: true, UserName: "$sat", Password: []byte(token)})
		if err != nil || d.Verdict != want {
			t.Errorf("%s, %s: %+v, %v", account, audience, d, err)
			return
		}
		if want == hook.Accept && (!d.Rights.May(hook.Publish, []byte("plant/x")) || d.Rights.May(hook.Publish, []byte("x"))) {
			t.Errorf("%s has other rights than its account", account)
		}
	}
	f("system:serviceaccount:plant:press", "mqtt", hook.Accept)
	f("system:serviceaccount:plant:press", "web", hook.Refuse)
	f("system:serviceaccount:plant:other", "mqtt", hook.Refuse)
	f("ada", "mqtt", hook.Refuse)

	for want, keys := range map[string]config.JWT{"leave out grants": {Grants: account.Grants}, "audience": {Audience: []string{"x"}}} {
		if _, err := openUsers(method(keys), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
