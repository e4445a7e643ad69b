package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestConvertedDoors: a mosquitto.conf with client certificates that say who it is, WebSocket, a Unix socket, passwords and
// patterns of rights; and what config convert makes of it. The same clients are let in, and get the same, at Mosquitto.
func TestConvertedDoors(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, user := range []string{"ada", "eve"} {
		if _, err := os.Stat(in("passwords")); err != nil {
			if err := os.WriteFile(in("passwords"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("mosquitto_passwd", "-b", in("passwords"), user, "secret").CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd: %v\n%s", err, out)
		}
	}
	authority, cert, key, _, _ := certificates(t) // the broker's, and ada's
	secure, web := freePort(t), freePort(t)
	conf := fmt.Sprintf(`per_listener_settings false
allow_anonymous false
password_file %s
acl_file %s
persistence false
log_type error
user root
max_inflight_messages 20
max_keepalive 100

listener %d 127.0.0.1
cafile %s
certfile %s
keyfile %s
require_certificate true
use_identity_as_username true
tls_version tlsv1.2

listener %d 127.0.0.1
protocol websockets

listener 0 %s
`, in("passwords"), in("acl"), secure, authority, cert, key, web, in("socket"))
	acl := "pattern readwrite own/%u/#\nuser ada\ntopic readwrite shared/#\nuser eve\ntopic read shared/#\ntopic deny shared/secret\n"
	for path, text := range map[string]string{in("acl"): acl, in("mosquitto.conf"): conf} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	if data, err := os.ReadFile(authority); err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	// lines are what each client meets at the broker that runs.
	lines := func(p *process) (lines []string) {
		t.Helper()
		for _, port := range []int{secure, web} {
			b := &broker{process: p, port: port, address: net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), stopped: true}
			b.awaitOpen(t)
		}
		for _, door := range []struct {
			name, url string
			tls       *tls.Config
		}{
			{"TLS with a certificate", fmt.Sprintf("ssl://127.0.0.1:%d", secure), &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}},
			{"TLS without", fmt.Sprintf("ssl://127.0.0.1:%d", secure), &tls.Config{RootCAs: pool}},
			{"WebSocket", fmt.Sprintf("ws://127.0.0.1:%d/mqtt", web), nil},
			{"Unix", "unix://" + in("socket"), nil},
		} {
			for _, who := range [][2]string{{"", ""}, {"ada", "secret"}, {"eve", "secret"}, {"eve", "wrong"}} {
				lines = append(lines, fmt.Sprintf("%s, %q with %q: %s", door.name, who[0], who[1], meets(t, door.url, door.tls, who[0], who[1])))
			}
		}
		return lines
	}
	m := startProcess(t, nil, nil, mosquittoPath(), "-c", in("mosquitto.conf"))
	want := lines(m)
	m.terminate(t)
	code, said := wheelmq(t, "config", "convert", in("mosquitto.conf"))
	if code != 0 {
		t.Fatalf("config convert: status %d\n%s", code, said)
	}
	if err := os.WriteFile(in("wheelmq.yaml"), []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"mosquitto.conf", "wheelmq.yaml"} {
		_ = os.Remove(in("socket"))
		w := startProcess(t, nil, nil, wheelmqPath, "-c", in(file))
		got := lines(w)
		if code := w.terminate(t); code != 0 {
			t.Errorf("%s: the broker ended with status %d\n%s", file, code, &w.log)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: outcome\n%s\nMosquitto's\n%s", file, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if all := strings.Join(want, "\n"); strings.Count(all, "refused") < 6 || !strings.Contains(all, `TLS with a certificate, "" with "": own/ada/x shared/x`) {
		t.Errorf("the test tests nothing:\n%s", all)
	}
}

// meets is what a client gets of what it publishes itself, or that it is refused.
func meets(t *testing.T, url string, config *tls.Config, user, password string) string {
	t.Helper()
	got := make(chan string, 10)
	o := mqtt.NewClientOptions().AddBroker(url).SetClientID(newClientID()).SetConnectTimeout(patience).SetAutoReconnect(false).
		SetProtocolVersion(4).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() })
	if config != nil {
		o.SetTLSConfig(config)
	}
	if user != "" {
		o.SetUsername(user).SetPassword(password)
	}
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(patience) {
		t.Fatalf("%s: CONNECT is not answered", url)
	}
	if token.Error() != nil {
		return "refused"
	}
	defer c.Disconnect(100)
	awaitToken(t, "SUBSCRIBE", c.Subscribe("#", 1, nil))
	for _, topic := range []string{"own/ada/x", "own/eve/x", "shared/x", "shared/secret", "other", "own/ada/last", "own/eve/last"} {
		awaitToken(t, "PUBLISH", c.Publish(topic, 1, false, "x"))
	}
	var topics []string
	for {
		select {
		case topic := <-got:
			if strings.HasSuffix(topic, "/last") {
				return strings.Join(topics, " ")
			}
			topics = append(topics, topic)
		case <-time.After(patience):
			t.Fatalf("%s as %q: got %q", url, user, topics)
		}
	}
}
