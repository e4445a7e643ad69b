package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hangEnv makes the test binary a process whose server never stops, for [TestSecondSignal].
const hangEnv = "WHEELMQ_TEST_HANG"

func TestMain(m *testing.M) {
	if os.Getenv(hangEnv) != "" {
		log := newLogger(os.Stderr, slog.LevelInfo, formatText)
		_ = serve(hangingServer{}, log, nil, func() { log.Info("ready") })
		os.Exit(exitClean)
	}
	state, err := os.MkdirTemp("", "wheelmq")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_STATE_HOME", state)
	code := m.Run()
	os.RemoveAll(state)
	os.Exit(code)
}

type hangingServer struct{}

func (hangingServer) Start() error               { return nil }
func (hangingServer) Stop(context.Context) error { select {} }

func TestRunRefuses(t *testing.T) {
	f := func(wantCode int, wantText string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code := run(args, &stdout, &stderr)
		if code != wantCode || !strings.Contains(stderr.String(), wantText) || stdout.Len() > 0 {
			t.Errorf("wheelmq %s: status %d, want %d with %q\nstdout: %s\nstderr: %s",
				strings.Join(args, " "), code, wantCode, wantText, &stdout, &stderr)
		}
	}
	f(exitUsage, "unknown flag: --port", "--port", "1883")
	f(exitUsage, "wheelmq --help", "--port", "1883")
	f(exitUsage, "unknown command", "publish")
	f(exitUsage, "needs an argument", "--listen")
	f(exitUsage, "not host:port", "--listen", "1883")
	f(exitUsage, "--loops", "--loops", "many")
	f(exitUsage, "none of debug", "--log-level", "loud")
	f(exitUsage, "neither text nor json", "--log-format", "xml")
	f(exitConfiguration, "TLS needs a certificate", "--listen", "wss://127.0.0.1:8084/mqtt")
	f(exitUsage, `no scheme "quic"`, "--listen", "quic://127.0.0.1:1")
	f(exitConfiguration, "--cert and --key go together", "--cert", "x")
	f(exitConfiguration, "need --cert and --key", "--require-certificate")
	f(exitConfiguration, "need --client-ca", "--cert", "x", "--key", "y", "--require-certificate")
	f(exitConfiguration, "password file", "--listen", "127.0.0.1:0", "--password-file", "/nonexistent/passwords")
	f(exitConfiguration, "--allow-anonymous", "--listen", "192.0.2.99:1883")
	f(exitSystem, "not an address of this machine", "--listen", "192.0.2.99:1883", "--allow-anonymous") // TEST-NET-1, RFC 5737
	f(exitConfiguration, "Loops -1", "--loops", "-1")
}

func TestRunPrints(t *testing.T) {
	f := func(want, flag string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run([]string{flag}, &stdout, &stderr); code != exitClean || !strings.Contains(stdout.String(), want) || stderr.Len() > 0 {
			t.Errorf("wheelmq %s: status %d, want 0 with %q\nstdout: %s\nstderr: %s", flag, code, want, &stdout, &stderr)
		}
	}
	f("wheelmq ", "--version")
	f(runtime.Version(), "--version")
	f("--allow-anonymous", "--help")
	f("--listen", "-h")
}

func TestPickVersion(t *testing.T) {
	f := func(linked, module, revision, modified, want string) {
		t.Helper()
		info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}}
		info.Main.Version = module
		if got := pickVersion(linked, info); got != want {
			t.Errorf("pickVersion(%q, %q, %q, %q) = %q, want %q", linked, module, revision, modified, got, want)
		}
	}
	f("v1.2.3-4-gabc", "v1.2.3", "", "", "v1.2.3-4-gabc")
	f("", "v1.2.3", "0123456789abcdef", "false", "v1.2.3")
	f("", "(devel)", "0123456789abcdef", "false", "0123456789ab")
	f("", "(devel)", "0123456789abcdef", "true", "0123456789ab-dirty")
	f("", "", "0123", "false", "0123")
	f("", "(devel)", "", "", "unknown")
}

func TestStartReport(t *testing.T) {
	f := func(want string, note string, addresses ...openAddress) {
		t.Helper()
		r := startReport{version: "v1", loops: 2, addresses: addresses, files: 1024, kept: "nothing", connections: 960, note: note}
		_, got, _ := strings.Cut(r.text(), "\n")
		if got != want {
			t.Errorf("report\n%swant\n%s", got, want)
		}
	}
	tcp := func(host string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(host), Port: 1883} }
	f(`  open    127.0.0.1:1883  this machine: anyone may connect, no password
  open    [::1]:1883      this machine: anyone may connect, no password
  keeps   nothing
  limit   960 connections (1024 open files)
  others  to let other machines in, without passwords: --listen :1883 --allow-anonymous
`, "", openAddress{tcp("127.0.0.1"), true}, openAddress{tcp("::1"), true})
	f(`  open    192.0.2.7:1883  other machines too: anyone may connect, no password
  note    something is missing
  keeps   nothing
  limit   960 connections (1024 open files)
`, "something is missing", openAddress{tcp("192.0.2.7"), true})
}

func TestConnectionsFor(t *testing.T) {
	f := func(files uint64, want int) {
		t.Helper()
		got, err := connectionsFor(files, false)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("connectionsFor(%d) = %d, %v, want %d", files, got, err, want)
		}
	}
	f(0, 0)
	f(reservedDescriptors, 0)
	f(reservedDescriptors+1, 1)
	f(1024, 1024-reservedDescriptors)
	f(1<<30, maxConnections)
	f(^uint64(0), maxConnections) // RLIM_INFINITY
}

func TestRaiseFileLimit(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	lowered := syscall.Rlimit{Cur: before.Max / 2, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lowered); err != nil {
		t.Fatal(err)
	}
	if got, err := raiseFileLimit(); err != nil || got != before.Max {
		t.Errorf("raiseFileLimit() = %d, %v, want the hard limit %d", got, err, before.Max)
	}
}

func TestSetProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	f := func(environment string, loops, want int) {
		t.Helper()
		t.Setenv("GOMAXPROCS", environment)
		runtime.GOMAXPROCS(2)
		setProcessors(loops)
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("GOMAXPROCS %d with %d loops and %q in the environment, want %d", got, loops, environment, want)
		}
	}
	f("", 1, 1)
	f("", 3, 3)
	f("2", 1, 2) // the user decides
	f("", 0, 2)
}

func TestStartErrors(t *testing.T) {
	f := func(cause error, want string) {
		t.Helper()
		addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883}
		err := startError(fmt.Errorf("transport: %w", &net.OpError{Op: "listen", Net: "tcp", Addr: addr, Err: cause}))
		var exit *exitError
		if !errors.As(err, &exit) || exit.code != exitSystem || !strings.Contains(err.Error(), want) {
			t.Errorf("startError(%v) = %v, want status %d with %q", cause, err, exitSystem, want)
		}
	}
	f(syscall.EADDRINUSE, "127.0.0.1:1883 is in use")
	f(syscall.EADDRNOTAVAIL, "127.0.0.1:1883 is not an address")
	f(syscall.EACCES, "127.0.0.1:1883: the user")
	f(syscall.EMFILE, "too many open files")
}

// A scriptedServer answers Start and Stop with fixed errors.
type scriptedServer struct{ start, stop error }

func (s scriptedServer) Start() error               { return s.start }
func (s scriptedServer) Stop(context.Context) error { return s.stop }

func TestServe(t *testing.T) {
	f := func(s scriptedServer, wantCode int, wantReady bool) {
		t.Helper()
		log := newLogger(io.Discard, slog.LevelError, formatText)
		ready := false
		err := serve(s, log, nil, func() {
			ready = true
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		})
		code := exitClean
		var exit *exitError
		if errors.As(err, &exit) {
			code = exit.code
		}
		if code != wantCode || ready != wantReady {
			t.Errorf("serve(%+v): status %d, ready %v, want %d, %v", s, code, ready, wantCode, wantReady)
		}
	}
	f(scriptedServer{}, exitClean, true)
	f(scriptedServer{start: errors.New("no")}, exitSystem, false)
	f(scriptedServer{stop: errors.New("no")}, exitSystem, true)
}

func TestSecondSignal(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hangEnv+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	waitFor := func(text string) {
		t.Helper()
		var seen []byte
		for buf := make([]byte, 1024); !bytes.Contains(seen, []byte(text)); {
			n, err := stderr.Read(buf)
			seen = append(seen, buf[:n]...)
			if err != nil {
				t.Fatalf("the process ended before %q: %v\n%s", text, err, seen)
			}
		}
	}
	waitFor("INFO ready")
	signal := func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	signal()
	waitFor("INFO stopping")
	signal()
	_ = cmd.Wait() // a process that a signal ends always gives an error; the state says which
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("after the second signal: %v, want ended by SIGTERM", cmd.ProcessState)
	}
}
