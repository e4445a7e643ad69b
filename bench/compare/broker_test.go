package compare

import (
	"context"
	"net"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also a broker to start: told to listen, it does so
// until it is told to stop.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "listen" {
		listen(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

func listen(address string) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	defer l.Close()
	<-ctx.Done()
}

func TestStartStop(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := candidate{Name: "listener", Command: []string{self, "listen", "{address}"}, Settings: "port {port}"}
	dir := t.TempDir()
	p, err := c.start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	_, port, _ := net.SplitHostPort(p.Address)
	if b, err := os.ReadFile(dir + "/broker.conf"); err != nil || string(b) != "port "+port {
		t.Errorf("configuration %q, %v", b, err)
	}
	if conn, err := net.Dial("tcp", p.Address); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	p.stop()
	if err := unix.Kill(p.PID, 0); err != unix.ESRCH {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	f := func(ctx context.Context, want string, command ...string) {
		t.Helper()
		_, err := candidate{Name: "x", Command: command}.start(ctx, t.TempDir())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", command, err, want)
		}
	}
	f(t.Context(), "no such file", "/nowhere/at/all")
	f(t.Context(), "it printed: gone", "sh", "-c", "echo gone")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	f(ctx, "not ready", "sleep", "60")
}
