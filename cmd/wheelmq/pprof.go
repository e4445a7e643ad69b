package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

// pprofFlags say where profiles are served, if anywhere.
type pprofFlags struct {
	address string // host:port, or unix:PATH; empty: nowhere
	remote  bool   // others than this machine may read them
}

func (f *pprofFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.address, "pprof", "", "serve profiles and execution traces by HTTP on host:port or unix:PATH")
	set.BoolVar(&f.remote, "pprof-remote", false, "let --pprof be an address that other machines can reach")
}

// Rates of the profiles that cost something while they are on, which is while somebody asks for one.
const (
	blockRate     = 10_000 // nanoseconds blocked per sample
	mutexFraction = 10     // contended locks per sample
)

// pprofSeconds is how long a block or mutex profile lasts when the request does not say.
const pprofSeconds = "5"

// pprofListen opens the address of f.
func pprofListen(f pprofFlags) (net.Listener, error) {
	if path, ok := strings.CutPrefix(f.address, "unix:"); ok {
		return listenUnix(path)
	}
	host, _, err := net.SplitHostPort(f.address)
	if err != nil {
		return nil, configurationError("--pprof %s: want host:port or unix:PATH", f.address)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) && !f.remote {
		return nil, configurationError("--pprof %s can be reached from other machines: profiles show what the broker holds, "+
			"and taking them slows it down.\nIf that is what you want, add --pprof-remote; else choose 127.0.0.1 or unix:PATH", f.address)
	}
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		return nil, systemError("--pprof: %w", err)
	}
	return l, nil
}

// listenUnix opens a socket that the broker's own user can reach. A socket that nobody serves gives way.
func listenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil && isDeadSocket(path) {
		if err = os.Remove(path); err == nil {
			l, err = net.Listen("unix", path)
		}
	}
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, systemError("--pprof: %w", err)
	}
	return l, nil
}

func isDeadSocket(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	return err != nil
}

// servePprof serves profiles on l until ctx is done.
func servePprof(ctx context.Context, l net.Listener, log *slog.Logger) {
	s := &http.Server{
		Handler: pprofHandler(), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("profiles are not served any more", "error", err)
	}
}

// pprofHandler is net/http/pprof, with the costly profiles switched on only while they are taken.
func pprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("/debug/pprof/block", during("block", func() { runtime.SetBlockProfileRate(blockRate) },
		func() { runtime.SetBlockProfileRate(0) }))
	mux.Handle("/debug/pprof/mutex", during("mutex", func() { runtime.SetMutexProfileFraction(mutexFraction) },
		func() { runtime.SetMutexProfileFraction(0) }))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/debug/pprof/", http.StatusFound)
	})
	return mux
}

// during serves the profile called name over some seconds, in which it is on. One is taken at a time.
func during(name string, on, off func()) http.Handler {
	var taking sync.Mutex
	profile := pprof.Handler(name)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("seconds") == "" {
			q.Set("seconds", pprofSeconds)
			r.URL.RawQuery = q.Encode()
			r.Form = nil
		}
		if !taking.TryLock() {
			http.Error(w, fmt.Sprintf("a %s profile is being taken; try again when it is done", name), http.StatusConflict)
			return
		}
		defer taking.Unlock()
		on()
		defer off()
		profile.ServeHTTP(w, r)
	})
}
