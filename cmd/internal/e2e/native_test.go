package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startNative starts the broker with a configuration file, which is written anew by the function it returns.
func startNative(t *testing.T, port int, text string, env ...string) (b *broker, rewrite func(text string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wheelmq.yaml")
	rewrite = func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(text)
	b = &broker{port: port, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	b.process = startProcess(t, nil, env, wheelmqPath, "-c", path)
	t.Cleanup(func() {
		if !b.stopped {
			b.stop(t)
		}
	})
	b.awaitOpen(t)
	return b, rewrite
}

func isOpen(port int) bool {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// TestReload: HUP opens and closes listeners, changes bounds and the log; what cannot change is named, a bad file changes
// nothing, and clients stay through all of it.
func TestReload(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	first, second := freePort(t), freePort(t)
	conf := func(ports []int, more string) string {
		var b strings.Builder
		b.WriteString("listeners:\n")
		for _, p := range ports {
			fmt.Fprintf(&b, "  - {address: '127.0.0.1:%d', anonymous: true}\n", p)
		}
		return b.String() + "store: {kind: memory}\n" + more
	}
	b, rewrite := startNative(t, first, conf([]int{first}, ""), "WHEELMQ_LIMITS__QOS=1")
	stays := paho5Connect(t, b, subscription{clientID: newClientID()})
	hup := func(want string) {
		t.Helper()
		if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		awaitLog(t, b.process, want)
	}
	rewrite(conf([]int{first, second}, "log: {connections: true}\nloops: 2\nlimits: {qos: 0}\n"))
	hup("INFO reloaded listeners=2")
	awaitLog(t, b.process, "some changes need a restart what=loops") // not QoS: the environment goes before the file
	if !isOpen(second) {
		t.Error("the second listener is not open")
	}
	other := &broker{process: b.process, port: second, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(second))}
	id := newClientID()
	paho5Connect(t, other, subscription{clientID: id}).mustDisconnect(t)
	awaitLog(t, b.process, "INFO connected client="+id)
	awaitLog(t, b.process, "INFO disconnected client="+id)

	rewrite(conf([]int{second}, "limit: 1\n"))
	hup("did you mean limits?")
	if !isOpen(first) {
		t.Error("a bad file closed a listener")
	}
	occupier, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupier.Close()
	third := occupier.Addr().(*net.TCPAddr).Port
	rewrite(conf([]int{first, second, third}, ""))
	hup("ERROR listeners error=")
	occupier.Close()
	hup(fmt.Sprintf("INFO listening listener=127.0.0.1:%d", third)) // the same file opens what could not be opened before
	if !isOpen(third) {
		t.Error("the third listener is not open")
	}
	rewrite(strings.Replace(conf([]int{first, second}, ""), "anonymous: true}", "anonymous: false}", 1))
	hup(fmt.Sprintf("INFO listening listener=127.0.0.1:%d address=127.0.0.1:%d anonymous=false", first, first))
	if _, code, err := paho5TryConnect(t, b, subscription{clientID: newClientID()}); err == nil {
		t.Errorf("a client without a name came in, with code 0x%02X", code)
	}
	rewrite(conf([]int{second}, "loops: 2\n"))
	hup("INFO reloaded listeners=1")
	if isOpen(first) {
		t.Error("the first listener is still open")
	}
	stays.mustPublish(t, publication{topic: "alive", qos: 1})
	stays.mustDisconnect(t)
}

// TestConfigCommands: what init and convert write, the broker takes; show says where values come from.
func TestConfigCommands(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "wheelmq.yaml")
	if code, said := wheelmq(t, "config", "init", path); code != 0 || !strings.Contains(said, path) {
		t.Errorf("config init: status %d\n%s", code, said)
	}
	if code, said := wheelmq(t, "config", "init", path); code != 14 || !strings.Contains(said, "is there already") {
		t.Errorf("config init again: status %d\n%s", code, said)
	}
	if code, said := wheelmq(t, "config", "check", path); code != 0 || !strings.Contains(said, "listens on 127.0.0.1:1883, anyone may connect") {
		t.Errorf("config check: status %d\n%s", code, said)
	}
	t.Setenv("WHEELMQ_LIMITS__QUEUE__MESSAGES", "500")
	code, said := wheelmq(t, "config", "show", "--effective", "-c", path, "--loops", "2")
	for _, want := range []string{"messages: 500  # WHEELMQ_LIMITS__QUEUE__MESSAGES", "loops: 2  # --loops",
		"address: 127.0.0.1:1883  # " + path + ":", "retained: true  # default"} {
		if code != 0 || !strings.Contains(said, want) {
			t.Errorf("config show: status %d, want %q\n%s", code, want, said)
		}
	}
	if err := os.WriteFile(path, []byte("limits:\n  paket: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-c", path}, {"config", "check", path}, {"config", "show", "-c", path}} {
		if code, said := wheelmq(t, args...); code != 3 || !strings.Contains(said, `wheelmq.yaml:2: limits: unknown key "paket" (did you mean packet?)`) {
			t.Errorf("wheelmq %s: status %d\n%s", args, code, said)
		}
	}
}
