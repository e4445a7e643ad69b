package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wheelmq runs the command to its end and returns its exit status and what it said.
func wheelmq(t *testing.T, args ...string) (int, string) {
	t.Helper()
	p := startProcess(t, nil, nil, wheelmqPath, args...)
	code := p.wait(t)
	return code, p.log.String()
}

func TestExitStatus(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startBroker(t)
	f := func(want int, text string, args ...string) {
		t.Helper()
		if code, said := wheelmq(t, args...); code != want || !strings.Contains(said, text) {
			t.Errorf("wheelmq %s: status %d, want %d with %q\n%s", strings.Join(args, " "), code, want, text, said)
		}
	}
	f(0, "wheelmq ", "--version")
	f(0, "--allow-anonymous", "--help")
	f(1, "unknown flag", "--no-such-flag")
	f(1, "not host:port", "--listen", "1883")
	f(3, "--listen 0.0.0.0:1883 --allow-anonymous", "--listen", "0.0.0.0:1883")
	f(3, "TLS needs a certificate", "--listen", "wss://127.0.0.1:8084")
	f(3, "Loops", "--listen", "127.0.0.1:0", "--loops", "-1")
	f(14, b.address+" is in use", "--listen", b.address)
	f(14, "not an address of this machine", "--listen", "192.0.2.99:1883", "--allow-anonymous") // TEST-NET-1, RFC 5737
}

func TestCleanStop(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		b := startBroker(t)
		idle, err := net.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		b.stopped = true
		b.signal(t, s)
		if code := b.wait(t); code != 0 {
			t.Errorf("status %d after %v, want 0\n%s", code, s, &b.log)
		}
		for _, want := range []string{"open    " + b.address + "  this machine", "INFO stopping signal=", "INFO stopped"} {
			if !strings.Contains(b.log.String(), want) {
				t.Errorf("the broker did not say %q\n%s", want, &b.log)
			}
		}
	}
}

// TestGoodbye stops the broker under a connected v5 client, which is told why. [MQTT-3.14.2-1]
func TestGoodbye(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startBroker(t)
	c := paho5Connect(t, b, subscription{clientID: newClientID()})
	b.stop(t)
	select {
	case code := <-c.disconnected:
		if code != 0x8B {
			t.Errorf("DISCONNECT with 0x%02X, want 0x8B, Server shutting down", code)
		}
	case <-time.After(patience):
		t.Error("no DISCONNECT came when the broker stopped")
	}
}

func TestJSONLog(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startBroker(t, "--log-format", "json")
	b.stop(t)
	events := make(map[string]bool)
	for line := range strings.Lines(b.log.String()) {
		var record struct {
			TS, Level, Event string
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.TS == "" || record.Level == "" {
			t.Errorf("not a log record with ts and level: %q (%v)", line, err)
		}
		events[record.Event] = true
	}
	for _, want := range []string{"listening", "started", "stopping", "stopped"} {
		if !events[want] {
			t.Errorf("no record of %q\n%s", want, &b.log)
		}
	}
}

// TestFileLimit gives the broker few descriptors and asks for more connections than fit: it raises the soft limit, says
// how many connections that allows, holds to it, tells those beyond why, and lives.
func TestFileLimit(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	const limit, allowed = 160, 32
	b := &broker{port: freePort(t)}
	b.address = fmt.Sprintf("127.0.0.1:%d", b.port)
	script := fmt.Sprintf(`ulimit -Sn 120 && ulimit -Hn %d && exec "$0" "$@"`, limit)
	b.process = startProcess(t, nil, nil, "sh", "-c", script, wheelmqPath, "--no-persistence", "--listen", b.address)
	awaitLog(t, b.process, fmt.Sprintf("%d connections (%d open files)", allowed, limit))
	var inside []*paho5Client
	for range allowed {
		inside = append(inside, paho5Connect(t, b, subscription{clientID: newClientID()}))
	}
	if _, code, err := paho5TryConnect(t, b, subscription{clientID: newClientID()}); err == nil || code != 0x89 {
		t.Errorf("connection %d was answered 0x%02X (%v), want 0x89, Server busy", allowed+1, code, err)
	}
	var silent []net.Conn
	for range 2 * limit { // more than there are descriptors
		if conn, err := net.Dial("tcp", b.address); err == nil { // refused is as good as closed
			silent = append(silent, conn)
		}
	}
	for _, c := range inside { // those who came in time are still served
		c.mustPublish(t, publication{topic: "alive", qos: 1})
		c.mustDisconnect(t)
	}
	for _, conn := range silent {
		conn.Close()
	}
	deadline := time.Now().Add(patience)
	for {
		_, code, err := paho5TryConnect(t, b, subscription{clientID: newClientID()})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no client gets in after the others have gone: 0x%02X, %v\n%s", code, err, &b.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.stop(t)
}

// awaitLog waits until a child has said text.
func awaitLog(t *testing.T, p *process, text string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(p.log.String(), text) {
		select {
		case <-p.ended:
			t.Fatalf("%s ended before it said %q\n%s", p.name, text, &p.log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not say %q within %v\n%s", p.name, text, patience, &p.log)
		}
	}
}
