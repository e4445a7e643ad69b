package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPprofListen(t *testing.T) {
	f := func(wantCode int, want string, flags pprofFlags) {
		t.Helper()
		l, err := pprofListen(flags)
		if err == nil {
			l.Close()
		}
		var exit *exitError
		switch {
		case wantCode == exitClean && err != nil:
			t.Errorf("%+v: %v", flags, err)
		case wantCode != exitClean && (!errors.As(err, &exit) || exit.code != wantCode || !strings.Contains(err.Error(), want)):
			t.Errorf("%+v: %v, want status %d with %q", flags, err, wantCode, want)
		}
	}
	f(exitClean, "", pprofFlags{address: "127.0.0.1:0"})
	f(exitClean, "", pprofFlags{address: "localhost:0"})
	f(exitConfiguration, "unix:PATH", pprofFlags{address: "6060"})
	f(exitConfiguration, "--pprof-remote", pprofFlags{address: ":0"})
	f(exitConfiguration, "--pprof-remote", pprofFlags{address: "0.0.0.0:0"})
	f(exitClean, "", pprofFlags{address: "0.0.0.0:0", remote: true})
	f(exitSystem, "--pprof", pprofFlags{address: "unix:" + filepath.Join(t.TempDir(), "none", "socket")})
}

func TestPprofUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pprof")
	f := func() net.Listener {
		t.Helper()
		l, err := pprofListen(pprofFlags{address: "unix:" + path})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("socket %v, %v: want it for its user alone", info.Mode(), err)
		}
		return l
	}
	l := f()
	if _, err := pprofListen(pprofFlags{address: "unix:" + path}); err == nil {
		t.Error("a socket that is served was taken away")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	f().Close() // what a process that ended left behind gives way
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pprofListen(pprofFlags{address: "unix:" + path}); err == nil {
		t.Error("a file was taken for a socket and removed")
	}
}

func TestPprofHandler(t *testing.T) {
	s := httptest.NewServer(pprofHandler())
	defer s.Close()
	f := func(path string, want string) {
		t.Helper()
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(want)) {
			t.Errorf("%s: %s, %v, without %q:\n%.300s", path, res.Status, err, want, body)
		}
	}
	const gzip = "\x1f\x8b"
	f("/", "goroutine")
	f("/debug/pprof/heap", gzip)
	f("/debug/pprof/allocs", gzip)
	f("/debug/pprof/goroutine?debug=1", "goroutine profile")
	f("/debug/pprof/block?seconds=1", gzip)
	f("/debug/pprof/mutex?seconds=1", gzip)
	f("/debug/pprof/profile?seconds=1", gzip)
	f("/debug/pprof/trace?seconds=0.1", "go 1.")
}

func TestCostlyProfileIsTakenOnce(t *testing.T) {
	var on, off int
	h := during("block", func() { on++ }, func() { off++ })
	ctx, cancel := context.WithCancel(context.Background())
	started, done := make(chan struct{}), make(chan struct{})
	slow := during("block", func() { close(started) }, func() { close(done) })
	go slow.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/?seconds=600", nil))
	<-started
	second := httptest.NewRecorder()
	slow.ServeHTTP(second, httptest.NewRequest(http.MethodGet, "/", nil))
	if second.Code != http.StatusConflict {
		t.Errorf("a second profile at the same time: status %d, want %d", second.Code, http.StatusConflict)
	}
	cancel()
	<-done
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/?seconds=1", nil))
	if on != 1 || off != 1 {
		t.Errorf("switched on %d times and off %d times, want 1 and 1", on, off)
	}
}

func TestServePprofEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		servePprof(ctx, l, slog.New(slog.DiscardHandler))
		close(ended)
	}()
	cancel()
	<-ended
}
