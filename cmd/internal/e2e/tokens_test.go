package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// tokenOf gets an access token from an OpenID provider by client credentials.
func tokenOf(t *testing.T, issuer, client string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(client, "secret")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	return got.Token
}

// TestOpenID: tokens of a real OpenID provider let clients in, with rights by their claims, also after it has exchanged
// its key; clients that are connected stay.
func TestOpenID(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	env := []string{"NODE_PATH=" + filepath.Join(mqttjsFolder, "node_modules")}
	provider := startProcess(t, nil, env, "node", filepath.Join("testdata", "mqttjs", "provider.js"))
	next := func(prefix string) string {
		t.Helper()
		for {
			select {
			case line, ok := <-provider.lines: // its notices come in between
				if rest, found := strings.CutPrefix(line, prefix); found {
					return rest
				}
				if !ok {
					t.Fatalf("the provider has ended\n%s", &provider.log)
				}
			case <-time.After(patience):
				t.Fatalf("the provider does not say %q\n%s", prefix, &provider.log)
			}
		}
	}
	issuer := "http://127.0.0.1:" + next("listening ")
	port := freePort(t)
	b, _ := startNative(t, port, fmt.Sprintf(`
listeners: [{address: "127.0.0.1:%d"}]
authentication:
  - jwt:
      discover: true
      issuer: %s
      audience: [mqtt]
      grants: [{allow: [publish, subscribe], topics: ["users/${sub}/#"]}]
store: {kind: memory}
`, port, issuer))
	first := tokenOf(t, issuer, "ada")
	got := make(chan string, 10)
	ada, err := login(t, b, "whoever", "", first, func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() })
	if err != nil {
		t.Fatal(err)
	}
	awaitToken(t, "SUBSCRIBE", ada.Subscribe("users/ada/#", 1, nil))
	if _, err := login(t, b, "whoever", "", first[:len(first)-6]+"AAAAAA", nil); err == nil {
		t.Error("a forged token is taken")
	}
	if _, err := login(t, b, "ada", "", "secret", nil); err == nil {
		t.Error("a password is taken")
	}
	if err := provider.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	next("rotated")
	bob, err := login(t, b, "whoever", "", tokenOf(t, issuer, "bob"), nil)
	if err != nil {
		t.Fatalf("with the new key: %v", err)
	}
	for _, topic := range []string{"users/ada/x", "users/bob/x"} { // neither may write to, or read, the other's
		awaitToken(t, "PUBLISH", bob.Publish(topic, 1, false, "bob's"))
		awaitToken(t, "PUBLISH", ada.Publish(topic, 1, false, "ada's"))
	}
	select {
	case topic := <-got:
		if topic != "users/ada/x" {
			t.Errorf("ada got %s", topic)
		}
	case <-time.After(patience):
		t.Error("ada, who stayed connected, got nothing")
	}
	if !ada.IsConnected() {
		t.Error("ada is not connected any more")
	}
}
