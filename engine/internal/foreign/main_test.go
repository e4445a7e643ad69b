package foreign

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// patience is how long a test waits for a foreign program.
const patience = 60 * time.Second

// startBroker runs a broker with one anonymous listener on a free port, asking w.
func startBroker(t *testing.T, w *watcher, l engine.Listener) *engine.Broker {
	t.Helper()
	l.Address, l.Anonymous = "127.0.0.1:0", true
	o := engine.Options{Listeners: []engine.Listener{l}, SysInterval: -1}
	if w != nil {
		o.Hooks = []any{w}
	}
	b, err := engine.New(o)
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

// port is the broker's.
func port(b *engine.Broker) string {
	_, p, _ := net.SplitHostPort(b.Addrs()[0].String())
	return p
}

func serverTLS(a *certtest.Authority) *engine.TLS {
	cert, key := a.Issue(certtest.Request{})
	return &engine.TLS{Certificates: []engine.KeyPair{{CertificateFile: cert, KeyFile: key}}, CAFile: a.File}
}

// watcher is an authenticator that keeps what it is asked.
type watcher struct {
	mu   sync.Mutex
	seen []hook.Connect
}

func (w *watcher) Authenticate(c *hook.Connect) codec.ReasonCode {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, *c)
	return codec.Success
}

func (w *watcher) last(t *testing.T) hook.Connect {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		t.Fatal("no client came")
	}
	return w.seen[len(w.seen)-1]
}

// program finds one, also where only root's path leads.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed: run .ci/clients", name)
	return ""
}

// run is the output of a program that ends by itself.
func run(t *testing.T, input io.Reader, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, name), args...)
	cmd.Stdin = input
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// start runs a program, with all it starts, until the test ends.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program(t, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.Bytes())
		}
	})
}

// freePort is one that nobody has now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}

// await waits until somebody listens.
func await(t *testing.T, port string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return
		}
	}
	t.Fatalf("nobody listens on port %s", port)
}

// write makes a file of the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mqttjs is the folder in which MQTT.js is installed.
func mqttjs(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WHEELMQ_E2E_MQTTJS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "wheelmq", "mqttjs")
	}
	dir = filepath.Join(dir, "node_modules")
	if _, err := os.Stat(filepath.Join(dir, "mqtt")); err != nil {
		t.Fatalf("MQTT.js is not installed: run .ci/clients: %v", err)
	}
	return dir
}

func host(addr string) string {
	h, _, _ := net.SplitHostPort(addr)
	return h
}
