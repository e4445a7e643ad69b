package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The service manager is told in its own protocol.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	_ = manager.SetReadDeadline(time.Now().Add(time.Minute))
	next := func() string {
		t.Helper()
		b := make([]byte, 200)
		n, err := manager.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	t.Setenv("NOTIFY_SOCKET", path)
	log := slog.New(slog.DiscardHandler)
	notify(reloading(), log)
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("told %q", got)
	}
	t.Setenv("WATCHDOG_USEC", "20000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pings := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		watchdog(ctx, func(context.Context) error {
			if pings++; pings == 1 {
				return errors.New("a loop hangs")
			}
			return nil
		}, log)
	}()
	for range 2 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	cancel()
	<-done
	if pings < 3 {
		t.Errorf("told after %d pings, of which the first failed", pings)
	}
}

// A change counts once it has settled, also one behind a link.
func TestWatchFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("a", link); err != nil {
		t.Fatal(err)
	}
	looks, changes := make(chan int), make(chan struct{}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	n := 0
	go func() {
		defer close(done)
		watchFiles(ctx, time.Millisecond, func() []string {
			n++
			select {
			case looks <- n:
			case <-ctx.Done():
			}
			return []string{link, filepath.Join(dir, "missing")}
		}, func() { changes <- struct{}{} })
	}()
	for range 5 {
		<-looks
	}
	if err := errors.Join(os.Symlink("b", link+"2"), os.Rename(link+"2", link)); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		<-looks
	}
	cancel()
	<-done
	if len(changes) != 1 {
		t.Errorf("told of %d changes, want 1", len(changes))
	}
}
