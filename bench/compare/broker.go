package compare

import (
	"cmp"
	"context"
	"crypto/tls"
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

// Bounds of starting and stopping a broker.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// A process is a candidate that runs.
type process struct {
	load.Broker
	command *exec.Cmd
	output  string        // path of what it printed
	ended   chan struct{} // closed when the process is gone
}

// A stand is what all runs have in common.
type stand struct {
	certificate certificate
	cores       pinning
}

// start runs the candidate, on a fresh port where it can be told one, and waits until it lets clients in.
func (t stand) start(ctx context.Context, c candidate, m mode, dir string) (*process, error) {
	s, ok := c.in(m)
	if !ok {
		return nil, fmt.Errorf("%s: no setup %s", c.Name, m)
	}
	address, fill, err := t.places(s, m, dir)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "broker.conf"), []byte(fill.Replace(s.Settings)), 0o644); err != nil {
		return nil, err
	}
	var args []string
	for _, a := range s.Command {
		args = append(args, fill.Replace(a))
	}
	p := &process{
		Broker:  load.Broker{Address: address},
		command: exec.Command(args[0], args[1:]...),
		output:  filepath.Join(dir, "output"),
		ended:   make(chan struct{}),
	}
	switch m {
	case secure, both:
		p.TLS = &tls.Config{RootCAs: t.certificate.pool}
	}
	if m == web || m == both {
		p.WebSocket = cmp.Or(s.Path, "/mqtt")
	}
	if err := p.launch(t.cores); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := p.awaitReady(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w; it printed: %s", c.Name, err, p.printed())
	}
	return p, nil
}

// places chooses where the broker listens and what stands for the names in braces.
func (t stand) places(s setup, m mode, dir string) (address string, fill *strings.Replacer, err error) {
	spare, err := freePort()
	if err != nil {
		return "", nil, err
	}
	if address = s.Address; address == "" {
		port, err := freePort()
		if err != nil {
			return "", nil, err
		}
		address = net.JoinHostPort("127.0.0.1", port)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil, err
	}
	socket := filepath.Join(dir, "broker.sock")
	fill = strings.NewReplacer("{port}", port, "{address}", address, "{socket}", socket, "{spare}", spare, "{dir}", dir,
		"{cert}", t.certificate.cert, "{key}", t.certificate.key)
	if m == local {
		address = socket
	}
	return address, fill, nil
}

func (p *process) launch(cores pinning) error {
	out, err := os.Create(p.output)
	if err != nil {
		return err
	}
	defer out.Close()
	p.command.Stdout, p.command.Stderr = out, out
	// A group of its own: a start command may be a script with the broker as its child.
	p.command.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cores.start(p.command); err != nil {
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

// awaitReady waits until a client gets in, and finds the process that let it in: the start command may be a script.
func (p *process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, err := load.Probe(ctx, p.Broker)
		if err == nil {
			p.PID = cmp.Or(load.FindProcess(p.Address), p.PID)
			return nil
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

// stop asks the process and its children to end and, when they do not, kills them.
func (p *process) stop() {
	group := -p.command.Process.Pid
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		_ = unix.Kill(group, signal) // fails only when all are gone
		select {
		case <-p.ended:
			_ = unix.Kill(group, unix.SIGKILL) // children that outlived it
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
