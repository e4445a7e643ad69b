package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestMosquittoConf: the same mosquitto.conf, with listeners that differ in whom they let in, and what config convert makes of it
// treat the same clients alike at both brokers.
func TestMosquittoConf(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	dir := t.TempDir()
	passwords, acl, config := filepath.Join(dir, "passwords"), filepath.Join(dir, "acl"), filepath.Join(dir, "mosquitto.conf")
	if out, err := exec.Command("mosquitto_passwd", "-c", "-b", passwords, "ada", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v\n%s", err, out)
	}
	open, closed := freePort(t), freePort(t)
	conf := fmt.Sprintf(`# two doors
per_listener_settings true
max_queued_messages 100
set_tcp_nodelay true
persistence false
log_type error
user root

listener %d 127.0.0.1
allow_anonymous true

listener %d 127.0.0.1
allow_anonymous false
password_file %s
acl_file %s
`, open, closed, passwords, acl)
	for path, text := range map[string]string{acl: "user ada\ntopic readwrite ada/#\n", config: conf} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outcome := func(p *process) (lines []string) {
		t.Helper()
		at := func(port int) *broker {
			b := &broker{process: p, port: port, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), stopped: true}
			b.awaitOpen(t)
			return b
		}
		for _, door := range []struct {
			name string
			port int
		}{{"open", open}, {"closed", closed}} {
			for _, who := range [][2]string{{"", ""}, {"ada", "secret"}, {"ada", "wrong"}, {"eve", "x"}} {
				got := make(chan string, 10)
				c, err := login(t, at(door.port), who[0], "", who[1], func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() })
				line := fmt.Sprintf("%s door, %q with %q: ", door.name, who[0], who[1])
				if err != nil {
					lines = append(lines, line+"refused")
					continue
				}
				awaitToken(t, "SUBSCRIBE", c.Subscribe("#", 1, nil))
				for _, topic := range []string{"other", "ada/x"} {
					awaitToken(t, "PUBLISH", c.Publish(topic, 1, false, "x"))
				}
				var topics []string
				for len(topics) == 0 || topics[len(topics)-1] != "ada/x" {
					select {
					case topic := <-got:
						topics = append(topics, topic)
					case <-time.After(patience):
						t.Fatalf("%sgot %q", line, topics)
					}
				}
				lines = append(lines, line+strings.Join(topics, ", "))
			}
		}
		return lines
	}
	m := startProcess(t, nil, nil, mosquittoPath(), "-c", config)
	want := outcome(m)
	m.terminate(t)
	native := filepath.Join(dir, "wheelmq.yaml")
	code, said := wheelmq(t, "config", "convert", config)
	if code != 0 {
		t.Fatalf("config convert: status %d\n%s", code, said)
	}
	if err := os.WriteFile(native, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{config, native} {
		w := startProcess(t, nil, nil, wheelmqPath, "-c", file)
		got := outcome(w)
		if code := w.terminate(t); code != 0 {
			t.Errorf("%s: the broker ended with status %d\n%s", file, code, &w.log)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: outcome\n%s\nMosquitto's\n%s", file, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if !slices.Contains(want, `closed door, "ada" with "wrong": refused`) || !slices.Contains(want, `closed door, "ada" with "secret": ada/x`) {
		t.Errorf("the test tests nothing:\n%s", strings.Join(want, "\n"))
	}
	code, said = wheelmq(t, "config", "check", config)
	if code != 0 || !strings.Contains(said, "set_tcp_nodelay without effect") || !strings.Contains(said, "log_type approximated") {
		t.Errorf("config check: status %d\n%s", code, said)
	}
}
