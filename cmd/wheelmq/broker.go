package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/store/pebblestore"
)

const (
	stopTimeout    = 10 * time.Second // of the clean stop after the first signal
	logPatience    = time.Second      // for the last lines of the log
	droppedLogging = 10 * time.Second // how often it is looked whether lines were left out
)

// runBroker runs the broker until a signal ends it.
func runBroker(flags *brokerFlags, stdout, stderr io.Writer) error {
	set, err := readSettings(flags, newResolver())
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(levelOf(set.Log.Level))
	format := logFormat(set.Log.Format)
	direct := newLogger(stderr, level, format)
	lines := newLogWriter(stderr, logBacklog, func(n uint64) {
		direct.Warn("lines of the log were dropped: they were not read as fast as they came", "lines", n)
	})
	defer lines.close(logPatience)
	log := newLogger(lines, level, format)
	options := &set.options
	options.Logger = log
	files, err := raiseFileLimit()
	if err != nil {
		return err
	}
	most, err := connectionsFor(files, set.Store.Kind != "memory")
	if err != nil {
		return err
	}
	if options.MaxConnections <= 0 || options.MaxConnections > most {
		options.MaxConnections = most
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if set.Profiles.Address != "" {
		profiles, err := pprofListen(pprofFlags{set.Profiles.Address, set.Profiles.Remote})
		if err != nil {
			return err
		}
		log.Info("profiles are served", "address", profiles.Addr().String())
		options.ProfileLabels = true
		go servePprof(ctx, profiles, log)
	}
	processors := newProcessors(options)
	options.HandshakesBusy = processors.busy
	who, err := openUsers(set.users, processors.busy)
	if err != nil {
		return &exitError{exitConfiguration, err}
	}
	options.Hooks = append(append(options.Hooks, who), who.enhanced()...)
	kept := "nothing: sessions and messages are in memory only"
	if set.Store.Kind != "memory" {
		at, err := placeOf(&set.Store)
		if err != nil {
			return err
		}
		s, err := at.open(log, int(set.Limits.Packet))
		if err != nil {
			return err
		}
		defer func() {
			if err := s.Close(); err != nil {
				log.Error("closing the store", "error", err)
			}
		}()
		if files, ok := s.(*pebblestore.Store); ok {
			defer serveBackups(at.path, files.Backup, log).close()
		}
		leftByMosquitto(flags.config, at, s.First(), log)
		options.Store, kept = s, "sessions, their messages and retained messages in "+at.String()
	}
	broker, err := engine.New(*options)
	if err != nil {
		return &exitError{exitSystem, err}
	}
	setProcessors(broker.Loops())
	go new(tuner).run(ctx, broker.Connections)
	r := &running{flags: flags, resolver: newResolver(), settings: set, broker: broker, users: who, lines: &connectionLog{log}, level: level, log: log,
		most: most, busy: processors.busy}
	if err := r.logConnections(set.Log.Connections); err != nil {
		return &exitError{exitSystem, err}
	}
	r.remember()
	go tellDropped(ctx, droppedLogging, func() uint64 { return broker.Stats().EventsDropped }, log)
	go watchFiles(ctx, watchInterval, func() []string { return *r.files.Load() }, func() {
		log.Info("files of TLS have changed")
		_ = broker.ReloadTLS() // it logs what is wrong with them
	})
	return serve(broker, log, func() { r.reload(ctx) }, func() {
		go watchdog(ctx, broker.Ping, log)
		report := startReport{
			version: versionNumber(), loops: broker.Loops(), note: set.note, kept: kept,
			files: files, connections: options.MaxConnections,
		}
		for i, a := range broker.Addrs() {
			report.addresses = append(report.addresses, openAddress{a, options.Listeners[i].Anonymous})
		}
		report.announce(stdout, log, format)
	})
}

func levelOf(name string) slog.Level {
	var l levelFlag
	_ = l.Set(name) // the configuration was checked
	return slog.Level(l)
}

// flagListeners are the listeners that flags ask for, where clients must say who they are or not; note is a line for the start
// report.
func flagListeners(flags *brokerFlags, passwords bool, r resolver) (listeners []engine.Listener, note string, err error) {
	p := policy{anonymous: flags.allowAnonymous, passwords: passwords || flags.tls.identity}
	if p.tls, err = flags.tls.options(); err != nil {
		return nil, "", err
	}
	if len(flags.listen) == 0 {
		listeners, note = r.defaults()
		for i := range listeners {
			listeners[i].Anonymous = p.anonymous || !p.passwords
		}
		return listeners, note, nil
	}
	listeners, err = r.listeners(flags.listen, p)
	for i := range listeners {
		if flags.tls.identity && listeners[i].TLS != nil {
			listeners[i].Identity = engine.IdentityCommonName
		}
	}
	return listeners, "", err
}

// startError says what to do about the usual reasons why a broker does not start.
func startError(err error) error {
	address := "the address"
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		address = op.Addr.String()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return systemError("%s is in use, perhaps by another broker: stop that one (ss -ltnp lists who listens) "+
			"or choose another port, as in --listen 127.0.0.1:2883", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return systemError("%s is not an address of this machine", address)
	case errors.Is(err, syscall.EACCES):
		return systemError("%s: the user that runs wheelmq may not open this port", address)
	default:
		return systemError("%w", err)
	}
}

// A server is what serve drives; *engine.Broker outside tests.
type server interface {
	Start() error
	Stop(context.Context) error
}

// serve starts s, calls ready, calls reload at each HUP, and stops s at the first INT or TERM.
func serve(s server, log *slog.Logger, reload, ready func()) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := s.Start(); err != nil {
		return startError(err)
	}
	ready()
	notify(daemon.SdNotifyReady, log)
	first := <-signals
	for ; first == syscall.SIGHUP; first = <-signals {
		notify(reloading(), log)
		reload()
		notify(daemon.SdNotifyReady, log)
	}
	notify(daemon.SdNotifyStopping, log)
	signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // a second signal ends the process, whatever hangs
	log.Info("stopping", "signal", first.String(), "hint", "a second signal ends the process at once")
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		return systemError("stopping: %w", err)
	}
	log.Info("stopped", "took", roundDuration(time.Since(began)))
	return nil
}
