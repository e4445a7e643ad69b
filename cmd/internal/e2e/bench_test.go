package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// benchScenarios are short runs of the load generator.
var benchScenarios = map[string][]string{
	"pairs-rate": {"--mqtt=5", "--qos=2", "--rate=2000", "--publishers=10", "--subscribers=10", "--warmup=100ms", "--duration=500ms"},
	"fan-out":    {"--qos=1", "--subscribers=50", "--window=4", "--warmup=100ms", "--duration=300ms"},
	"retained":   {"--messages=1000"},
	"replay":     {"--sessions=20", "--queued=50"},
	"connect":    {"--connections=100", "--settle=0s"},
}

// TestBench runs the load generator against this broker and Mosquitto, over each transport: each message arrives once and in
// order, and figures and page are written.
func TestBench(t *testing.T) {
	t.Parallel()
	if !onlyWheelmq(t) {
		return
	}
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	secure, web, both := freePort(t), freePort(t), freePort(t)
	own := startBroker(t, "--listen", local("tls", secure), "--listen", local("ws", web)+"/mqtt", "--listen", local("wss", both)+"/mqtt",
		"--cert", cert, "--key", key)
	otherSecure, otherWeb := freePort(t), freePort(t)
	other := startMosquitto(t, "max_queued_messages 0", "max_inflight_messages 20",
		fmt.Sprintf("listener %d 127.0.0.1\ncertfile %s\nkeyfile %s", otherSecure, cert, key),
		fmt.Sprintf("listener %d 127.0.0.1\nprotocol websockets", otherWeb))
	for _, port := range []int{secure, web, both} {
		own.awaitOpenAt(t, port)
	}
	for _, port := range []int{otherSecure, otherWeb} {
		other.awaitOpenAt(t, port)
	}
	f := func(name, address string, flags ...string) {
		t.Helper()
		for scenario, changes := range benchScenarios {
			if strings.Contains(address, "://") && scenario != "pairs-rate" && scenario != "connect" {
				continue // the scenarios differ above the transport
			}
			bench(t, name, scenario, append(append([]string{"--broker", address}, flags...), changes...)...)
		}
	}
	f("wheelmq", own.address)
	f("wheelmq, TLS", local("mqtts", secure), "--ca", cert)
	f("wheelmq, WebSocket", local("ws", web))
	f("wheelmq, both", local("wss", both), "--insecure")
	f("mosquitto", other.address)
	f("mosquitto, TLS", local("mqtts", otherSecure), "--ca", cert)
	f("mosquitto, WebSocket", local("ws", otherWeb))

	refused := func(want string, flags ...string) {
		t.Helper()
		if status, said := wheelmq(t, append([]string{"bench", "connect", "--quiet"}, flags...)...); status == 0 || !strings.Contains(said, want) {
			t.Errorf("%q: status %d, want %q\n%s", flags, status, want, said)
		}
	}
	refused("unknown authority", "--broker", local("mqtts", secure))
	refused("are for --broker mqtts://", "--broker", own.address, "--insecure")
	refused("go together", "--broker", local("mqtts", secure), "--cert", cert)
	refused("no certificate in PEM", "--broker", local("mqtts", secure), "--ca", key)
	refused("404", "--broker", local("ws", web)+"/elsewhere")
	refused("scheme http", "--broker", local("http", web))
}

func local(scheme string, port int) string {
	return fmt.Sprintf("%s://%s", scheme, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// bench runs one scenario and holds its figures and page against what they have to say.
func bench(t *testing.T, name, scenario string, flags ...string) {
	t.Helper()
	folder := t.TempDir()
	figures, page := filepath.Join(folder, "figures.json"), filepath.Join(folder, "page.html")
	args := append([]string{"bench", scenario, "--quiet", "--json", figures, "--report", page}, flags...)
	if status, said := wheelmq(t, args...); status != 0 {
		t.Errorf("%s, %s: ended with status %d\n%s", name, scenario, status, said)
		return
	}
	var run struct {
		Scenario string
		Result   struct {
			Done, Lost, Duplicate, Late, Failed uint64
		}
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &run); err != nil {
		t.Fatal(err)
	}
	if r := run.Result; run.Scenario != scenario || r.Done == 0 || r.Lost+r.Duplicate+r.Late+r.Failed != 0 {
		t.Errorf("%s, %s: %+v", name, scenario, run)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), scenario) {
		t.Errorf("%s, %s: a page of %d bytes does not name the scenario (%v)", name, scenario, len(html), err)
	}
}

// TestScale is make scale without its machine, and as many connections as any machine has files for: all come up, outlast 1.5
// times their keep-alive, and a sample of them gets a message.
func TestScale(t *testing.T) {
	t.Parallel()
	if !onlyWheelmq(t) {
		return
	}
	const connections, sample = 3000, 500
	figures := filepath.Join(t.TempDir(), "figures.json")
	status, said := wheelmq(t, "bench", "idle", "--quiet", "--broker", startBroker(t).address, "--json", figures, "--at-once", "256",
		"--connections", strconv.Itoa(connections), "--sample", strconv.Itoa(sample), "--keep-alive", "10", "--settle", "0s", "--duration", "16s")
	if status != 0 {
		t.Fatalf("ended with status %d\n%s", status, said)
	}
	var run struct {
		Scale  float64
		Result struct {
			Open          int
			Sent          int
			Failed        int
			HoldLatency   struct{ Count int } `json:"hold_latency"`
			RoundLatency  struct{ Count int } `json:"round_latency"`
			ConnectionRSS float64             `json:"connection_bytes"`
		}
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &run); err != nil {
		t.Fatal(err)
	}
	r := run.Result
	if run.Scale != 1 || r.Open != connections || r.Failed != 0 || r.Sent != sample || r.RoundLatency.Count != sample ||
		r.HoldLatency.Count < connections || r.ConnectionRSS <= 0 {
		t.Errorf("%+v", run)
	}
}
