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

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
)

// stopTimeout bounds the clean stop after the first signal.
const stopTimeout = 10 * time.Second

// runBroker runs the broker until a signal ends it.
func runBroker(flags *brokerFlags, stdout, stderr io.Writer) error {
	log := newLogger(stderr, slog.Level(flags.logLevel), flags.logFormat)
	options, note, err := brokerOptions(flags, newResolver())
	if err != nil {
		return err
	}
	options.Logger = log
	files, err := raiseFileLimit()
	if err != nil {
		return err
	}
	if options.MaxConnections, err = connectionsFor(files); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if flags.pprof.address != "" {
		profiles, err := pprofListen(flags.pprof)
		if err != nil {
			return err
		}
		log.Info("profiles are served", "address", profiles.Addr().String())
		options.ProfileLabels = true
		go servePprof(ctx, profiles, log)
	}
	processors := newProcessors(&options)
	options.HandshakesBusy, flags.auth.HashesBusy = processors.busy, processors.busy
	var users authFiles
	if flags.auth.PasswordFile != "" || flags.auth.ACLFile != "" {
		if users.Files, err = auth.Open(flags.auth); err != nil {
			return &exitError{exitConfiguration, err}
		}
		options.Hooks = append(options.Hooks, users.Files)
	}
	if err := options.Validate(); err != nil {
		return &exitError{exitConfiguration, err}
	}
	broker, err := engine.New(options)
	if err != nil {
		return &exitError{exitSystem, err}
	}
	setProcessors(broker.Loops())
	go new(tuner).run(ctx, broker.Connections)
	reload := func() { users.reload(ctx, broker, log) }
	return serve(broker, log, reload, func() {
		report := startReport{
			version: versionNumber(), loops: broker.Loops(), note: note,
			files: files, connections: options.MaxConnections,
		}
		for i, a := range broker.Addrs() {
			report.addresses = append(report.addresses, openAddress{a, options.Listeners[i].Anonymous})
		}
		report.announce(stdout, log, flags.logFormat)
	})
}

// authFiles is the password and ACL files, if there are any.
type authFiles struct{ *auth.Files }

// reload reads again what the broker reads from files. What cannot be read changes nothing.
func (f authFiles) reload(ctx context.Context, b *engine.Broker, log *slog.Logger) {
	ok := true
	if err := b.ReloadTLS(); err != nil {
		log.Error("certificates stay as they were", "error", err)
		ok = false
	}
	if f.Files != nil {
		if err := f.Reload(ctx, b); err != nil {
			log.Error("users and rights stay as they were", "error", err)
			ok = false
		}
	}
	if ok {
		log.Info("reloaded", "what", "certificates, users, rights")
	}
}

// brokerOptions turns flags into options, Logger and MaxConnections excepted; note is a line for the start report.
func brokerOptions(flags *brokerFlags, r resolver) (options engine.Options, note string, err error) {
	options = engine.Options{Loops: flags.loops, Version: versionNumber()}
	p := policy{anonymous: flags.allowAnonymous, passwords: flags.auth.PasswordFile != "" || flags.tls.identity}
	if p.tls, err = flags.tls.options(); err != nil {
		return options, "", err
	}
	if len(flags.listen) == 0 {
		options.Listeners, note = r.defaults()
		for i := range options.Listeners {
			options.Listeners[i].Anonymous = p.anonymous || !p.passwords
		}
		return options, note, nil
	}
	options.Listeners, err = r.listeners(flags.listen, p)
	for i := range options.Listeners {
		if flags.tls.identity && options.Listeners[i].TLS != nil {
			options.Listeners[i].Identity = engine.IdentityCommonName
		}
	}
	return options, "", err
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
	first := <-signals
	for ; first == syscall.SIGHUP; first = <-signals {
		reload()
	}
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
