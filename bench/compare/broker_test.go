package compare

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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

// listen accepts every CONNECT, and answers nothing else.
func listen(address string) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := conn.Read(make([]byte, 1024)); err == nil {
					_, _ = conn.Write([]byte{0x20, 2, 0, 0})
					_, _ = io.Copy(io.Discard, conn)
				}
				conn.Close()
			}()
		}
	}()
	<-ctx.Done()
	l.Close()
}

func TestStartStop(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A script that has the broker as its child: it is the child that is measured.
	c := candidate{Name: "listener", setup: setup{Command: []string{"sh", "-c", self + " listen {address} & wait"}, Settings: "port {port}"}}
	dir := t.TempDir()
	p, err := stand{}.start(t.Context(), c, plain, dir)
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
	if p.PID == p.command.Process.Pid {
		t.Error("the process that is measured is the script")
	}
	p.stop()
	for err := error(nil); err != unix.ESRCH; err = unix.Kill(p.PID, 0) { // until whoever inherits the child has reaped it
		if state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID)); t.Context().Err() != nil || strings.Contains(string(state), ") Z ") {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestStartFails(t *testing.T) {
	f := func(ctx context.Context, want string, command ...string) {
		t.Helper()
		_, err := stand{}.start(ctx, candidate{Name: "x", setup: setup{Command: command}}, plain, t.TempDir())
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

// A broker is pinned from three cores on, and its process has what it is given.
func TestPinning(t *testing.T) {
	f := func(cores []int, want string) {
		t.Helper()
		if got := part(cores).String(); !strings.Contains(got, want) {
			t.Errorf("%v: %s, want %q", cores, got, want)
		}
	}
	f([]int{0}, "share all cores")
	f([]int{0, 1}, "share all cores")
	f([]int{0, 2, 3}, "broker is pinned to cores [0 2], the generator to [3]")
	f([]int{0, 1, 2, 3, 4, 5}, "broker is pinned to cores [0 1 2 3], the generator to [4 5]")

	cores, err := usableCores()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	command := exec.Command("sh", "-c", "grep Cpus_allowed_list /proc/self/status")
	command.Stdout = &out
	last := cores[len(cores)-1]
	if err := (pinning{broker: []int{last}}).start(command); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil || !strings.HasSuffix(strings.TrimSpace(out.String()), fmt.Sprintf("\t%d", last)) {
		t.Errorf("%q, %v", out.String(), err)
	}
	if again, err := usableCores(); err != nil || len(again) != len(cores) {
		t.Errorf("the test itself has cores %v afterwards, had %v (%v)", again, cores, err)
	}
	if err := (pinning{generator: cores}).apply(); err != nil {
		t.Error(err)
	}
}
