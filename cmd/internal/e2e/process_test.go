package e2e

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// longestLine bounds a line of a child's output: a 1 MiB payload in hexadecimal or base64 and some more.
const longestLine = 4 << 20

// A process is a child whose standard output is read line by line.
type process struct {
	name  string
	cmd   *exec.Cmd
	lines chan string   // standard output; closed at its end
	ended chan struct{} // closed when the child has been waited for; cmd.ProcessState is valid then
	log   lockedBuffer  // standard error, and standard output unless large
}

// lockedBuffer collects what a child says, for messages of failed tests. Any goroutine.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startProcess starts a child that is killed, if it still runs, when the test ends. A nil stdin is empty.
func startProcess(t *testing.T, stdin []byte, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(name, args...), lines: make(chan string, 4096), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdin = bytes.NewReader(stdin)
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go p.follow(stdout)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has usually ended
		<-p.ended
	})
	return p
}

// follow passes lines on until the output ends, then waits for the child.
func (p *process) follow(stdout io.Reader) {
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, longestLine)
	for scanner.Scan() {
		if len(scanner.Bytes()) < 4096 {
			_, _ = p.log.Write(append(scanner.Bytes(), '\n'))
		}
		p.lines <- scanner.Text()
	}
	close(p.lines)
	_ = p.cmd.Wait() // ProcessState tells how it ended
	close(p.ended)
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Errorf("%s: %v", p.name, err)
	}
}

// wait returns the exit status once the child has ended; -1 when a signal ended it.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	deadline := time.After(patience)
	lines := p.lines // nobody else may be reading
	for {
		select {
		case _, more := <-lines:
			if !more {
				lines = nil
			}
		case <-p.ended:
			return p.cmd.ProcessState.ExitCode()
		case <-deadline:
			t.Fatalf("%s did not end within %v\n%s", p.name, patience, &p.log)
		}
	}
}

// terminate asks the child to end and returns its exit status.
func (p *process) terminate(t *testing.T) int {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	return p.wait(t)
}
