package compare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wheelmq/wheelmq/bench/load"
)

// A candidate is a broker that can be started.
type candidate struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Command  []string `json:"command"`            // {port}, {address} and {dir} are replaced
	Settings string   `json:"settings,omitempty"` // configuration file, written to {dir}/broker.conf
	targets  bool     // the scenarios' targets are meant for it
}

// Bounds of starting and stopping a broker.
const (
	startTimeout = 15 * time.Second
	stopTimeout  = 5 * time.Second
)

// A process is a candidate that runs.
type process struct {
	load.Broker
	command *exec.Cmd
	output  string        // path of what it printed
	ended   chan struct{} // closed when the process is gone
}

// start runs the candidate on a fresh port and waits until it accepts connections.
func (c candidate) start(ctx context.Context, dir string) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", port)
	fill := strings.NewReplacer("{port}", port, "{address}", address, "{dir}", dir)
	if err := os.WriteFile(filepath.Join(dir, "broker.conf"), []byte(fill.Replace(c.Settings)), 0o644); err != nil {
		return nil, err
	}
	var args []string
	for _, a := range c.Command {
		args = append(args, fill.Replace(a))
	}
	p := &process{
		Broker:  load.Broker{Address: address},
		command: exec.Command(args[0], args[1:]...),
		output:  filepath.Join(dir, "output"),
		ended:   make(chan struct{}),
	}
	if err := p.launch(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := p.awaitReady(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w; it printed: %s", c.Name, err, p.printed())
	}
	return p, nil
}

func (p *process) launch() error {
	out, err := os.Create(p.output)
	if err != nil {
		return err
	}
	defer out.Close()
	p.command.Stdout, p.command.Stderr = out, out
	if err := p.command.Start(); err != nil {
		return err
	}
	p.PID = p.command.Process.Pid
	go func() {
		_ = p.command.Wait() // how it ended does not matter; that it ended early shows in the run
		close(p.ended)
	}()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	err = unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, &limit, nil)
	if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: it ended already, which awaitReady reports
		p.stop()
		return fmt.Errorf("file limit: %w", err)
	}
	return nil
}

func (p *process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", p.Address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks the process to end and, when it does not, kills it.
func (p *process) stop() {
	for _, signal := range []os.Signal{unix.SIGTERM, unix.SIGKILL} {
		_ = p.command.Process.Signal(signal) // fails only when the process is gone
		select {
		case <-p.ended:
			return
		case <-time.After(stopTimeout):
		}
	}
}

// printed is the end of what the broker printed.
func (p *process) printed() string {
	b, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	return strings.TrimSpace(string(b[max(0, len(b)-most):]))
}

// freePort asks the kernel for a port nobody uses.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}
