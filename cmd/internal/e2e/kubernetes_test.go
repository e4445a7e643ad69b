package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A cluster is a kube-apiserver on an etcd, on loopback, with nothing else of Kubernetes.
type cluster struct {
	t        *testing.T
	server   *process
	url      string
	ca       string // file: who signs the API server's certificate
	http     *http.Client
	keyOfAPI string // file: the key that signs tokens
	public   []byte // its public half, in PEM
}

const adminToken = "the-token-of-the-administrator"

// startCluster starts the programs that "make kubernetes" has built and installed.
func startCluster(t *testing.T, apiServer string) *cluster {
	t.Helper()
	dir := t.TempDir()
	etcdPort, peerPort, port := freePort(t), freePort(t), freePort(t)
	etcd := fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	startProcess(t, nil, nil, "etcd", "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	c := &cluster{t: t, url: fmt.Sprintf("https://127.0.0.1:%d", port), ca: filepath.Join(dir, "apiserver.crt"), keyOfAPI: filepath.Join(dir, "accounts.key")}
	c.public = publicPEM(t, writeKey(t, c.keyOfAPI))
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(adminToken+",admin,admin,\"system:masters\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.server = startProcess(t, nil, nil, apiServer, "--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+strconv.Itoa(port),
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--cert-dir="+dir, "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://cluster.test", "--api-audiences=https://cluster.test", "--service-account-signing-key-file="+c.keyOfAPI,
		"--service-account-key-file="+c.keyOfAPI, "--token-auth-file="+tokens, "--authorization-mode=RBAC")
	for end := time.Now().Add(2 * patience); ; time.Sleep(100 * time.Millisecond) {
		if text, err := os.ReadFile(c.ca); err == nil && c.http == nil {
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(text)
			c.http = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
		}
		if c.http != nil {
			if status, _, err := c.call(http.MethodGet, "/readyz", nil); err == nil && status == http.StatusOK {
				return c
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the API server does not become ready\n%s", &c.server.log)
		}
	}
}

// writeKey makes an RSA key.
func writeKey(t *testing.T, path string) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return key
}

// call asks the API server as its administrator.
func (c *cluster) call(method, path string, body any) (status int, answer []byte, err error) {
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// must is call, which has to succeed.
func (c *cluster) must(method, path string, body any) []byte {
	c.t.Helper()
	status, answer, err := c.call(method, path, body)
	if err != nil || status >= 300 {
		c.t.Fatalf("%s %s: %d, %v\n%s", method, path, status, err, answer)
	}
	return answer
}

type object map[string]any

func named(name string) object { return object{"metadata": object{"name": name}} }

// token asks for a token of a service account in the namespace factory.
func (c *cluster) token(account, audience string) string {
	c.t.Helper()
	spec := object{"expirationSeconds": 3600}
	if audience != "" {
		spec["audiences"] = []string{audience}
	}
	var answer struct{ Status struct{ Token string } }
	text := c.must(http.MethodPost, "/api/v1/namespaces/factory/serviceaccounts/"+account+"/token", object{"spec": spec})
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status.Token == "" {
		c.t.Fatalf("%v: %s", err, text)
	}
	return answer.Status.Token
}

// TestKubernetes: tokens of service accounts of a real API server let clients in, by TokenReview and by the keys of the
// issuer. "make kubernetes" runs it: it needs a kube-apiserver, which takes half an hour to build.
func TestKubernetes(t *testing.T) {
	apiServer := os.Getenv("WHEELMQ_KUBE_APISERVER")
	if apiServer == "" {
		t.Skip("WHEELMQ_KUBE_APISERVER is not set: make kubernetes sets it")
	}
	c := startCluster(t, apiServer)
	c.must(http.MethodPost, "/api/v1/namespaces", named("factory"))
	for _, account := range []string{"press", "oven", "broker"} {
		c.must(http.MethodPost, "/api/v1/namespaces/factory/serviceaccounts", named(account))
	}
	c.must(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", object{"metadata": object{"name": "broker"},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
		"subjects": []object{{"kind": "ServiceAccount", "name": "broker", "namespace": "factory"}}})
	dir := t.TempDir()
	own, keys := filepath.Join(dir, "token"), filepath.Join(dir, "keys.json")
	for path, text := range map[string][]byte{own: []byte(c.token("broker", "")), keys: c.must(http.MethodGet, "/openid/v1/jwks", nil)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reviewing, keyed := freePort(t), freePort(t)
	const accounts = `
          accounts:
            - namespace: factory
              name: press
              grants: [{allow: [publish, subscribe], topics: ["${namespace}/${account}/#"]}]`
	b, _ := startNative(t, reviewing, fmt.Sprintf(`
listeners:
  - address: 127.0.0.1:%d
    authentication:
      - kubernetes:
          api_server: %s
          ca: %s
          token_file: %s
          audience: [mqtt]%s
  - address: 127.0.0.1:%d
    authentication:
      - kubernetes:
          keys: {key_file: %s, issuer: "https://cluster.test", audience: [mqtt], any_topic: true}%s
store: {kind: memory}
`, reviewing, c.url, c.ca, own, accounts, keyed, keys, accounts))
	byKeys := &broker{port: keyed, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(keyed))}
	byKeys.process = b.process
	byKeys.awaitOpen(t)
	good := c.token("press", "mqtt")
	refused := func(what, user, token string, want byte) {
		t.Helper()
		for name, b := range map[string]*broker{"review": b, "keys": byKeys} {
			if code := connackOf(t, b.address, user, token); code != want {
				t.Errorf("%s by %s: %#x, want %#x", what, name, code, want)
			}
		}
	}
	for name, b := range map[string]*broker{"review": b, "keys": byKeys} {
		got := make(chan string, 10)
		client, err := login(t, b, "$sat", "", good, func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() })
		if err != nil {
			t.Fatalf("a good token by %s: %v", name, err)
		}
		awaitToken(t, "SUBSCRIBE", client.Subscribe("factory/press/#", 1, nil))
		for _, topic := range []string{"factory/oven/a", "factory/press/a"} {
			awaitToken(t, "PUBLISH", client.Publish(topic, 1, false, ""))
		}
		select {
		case topic := <-got:
			if topic != "factory/press/a" {
				t.Errorf("by %s: got %s", name, topic)
			}
		case <-time.After(patience):
			t.Errorf("by %s: nothing came", name)
		}
	}
	refused("another audience", "$sat", c.token("press", "web"), badPassword)
	refused("the audience of the API server", "$sat", c.token("press", ""), badPassword)
	refused("another account", "$sat", c.token("oven", "mqtt"), notAuthorized)
	refused("another user name", "press", good, notAuthorized)
	refused("no token", "$sat", "secret", badPassword)
	parts := strings.Split(good, ".")
	forged := newForger(t, parts[1])
	refused("another signature", "$sat", parts[0]+"."+parts[1]+"."+strings.Split(c.token("press", "web"), ".")[2], badPassword)
	refused("alg none", "$sat", forged.none(), badPassword)
	refused("the public key as a secret", "$sat", forged.hs256(c.public), badPassword)
	refused("another key", "$sat", forged.rs256(writeKey(t, filepath.Join(dir, "other.key"))), badPassword)
	c.must(http.MethodDelete, "/api/v1/namespaces/factory/serviceaccounts/press", nil)
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) { // the API server remembers a good token for 10 s
		code := connackOf(t, b.address, "$sat", good)
		if code == badPassword {
			break
		}
		if code != accepted || time.Now().After(end) {
			t.Fatalf("a deleted account by review: %#x, want %#x", code, badPassword)
		}
	}
	if code := connackOf(t, byKeys.address, "$sat", good); code != accepted {
		t.Errorf("a deleted account by keys: %#x: they cannot know before the token's end", code)
	}
	c.must(http.MethodPost, "/api/v1/namespaces/factory/serviceaccounts", named("press"))
	if code := connackOf(t, b.address, "$sat", good); code != badPassword {
		t.Errorf("a token of the account of that name before: %#x, want %#x", code, badPassword)
	}
	again := c.token("press", "mqtt")
	if code := connackOf(t, b.address, "$sat", again); code != accepted {
		t.Errorf("the account is there again: %#x", code)
	}
	c.server.signal(t, syscall.SIGKILL)
	<-c.server.ended
	if code := connackOf(t, b.address, "$sat", again); code != unavailable {
		t.Errorf("without an API server: %#x, want %#x", code, unavailable)
	}
	if code := connackOf(t, byKeys.address, "$sat", again); code != accepted {
		t.Errorf("without an API server, by keys: %#x", code)
	}
}
