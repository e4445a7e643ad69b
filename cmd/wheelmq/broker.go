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

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/store/pebblestore"
)

// stopTimeout bounds the clean stop after the first signal.
const stopTimeout = 10 * time.Second

// runBroker runs the broker until a signal ends it.
func runBroker(flags *brokerFlags, stdout, stderr io.Writer) error {
	options, note, list, err := brokerOptions(flags, newResolver())
	if err != nil {
		return err
	}
	log := newLogger(stderr, slog.Level(flags.logLevel), flags.logFormat)
	options.Logger = log
	files, err := raiseFileLimit()
	if err != nil {
		return err
	}
	most, err := connectionsFor(files)
	if err != nil {
		return err
	}
	if options.MaxConnections <= 0 || options.MaxConnections > most {
		options.MaxConnections = most
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
	options.HandshakesBusy = processors.busy
	users, err := openUsers(list, processors.busy)
	if err != nil {
		return &exitError{exitConfiguration, err}
	}
	if users != nil {
		options.Hooks = append(options.Hooks, users)
	}
	if err := options.Validate(); err != nil {
		return &exitError{exitConfiguration, err}
	}
	if flags.dataDir != "" {
		kept, err := pebblestore.Open(flags.dataDir, pebblestore.Options{Logger: log})
		if err != nil {
			return &exitError{exitSystem, err}
		}
		defer func() {
			if err := kept.Close(); err != nil {
				log.Error("closing the store", "error", err)
			}
		}()
		log.Info("sessions and messages are kept", "dir", flags.dataDir)
		options.Store = kept
	}
	broker, err := engine.New(options)
	if err != nil {
		return &exitError{exitSystem, err}
	}
	setProcessors(broker.Loops())
	go new(tuner).run(ctx, broker.Connections)
	reload := func() { reloadFiles(ctx, users, broker, log) }
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

// brokerOptions turns flags into options, Logger and MaxConnections excepted; note is a line for the start report.
func brokerOptions(flags *brokerFlags, r resolver) (options engine.Options, note string, list []config.Users, err error) {
	if flags.config != "" {
		options, list, err = configured(flags)
		return options, "", list, err
	}
	options = engine.Options{Loops: flags.loops, Version: versionNumber()}
	if flags.auth.PasswordFile != "" || flags.auth.ACLFile != "" {
		list = []config.Users{{Files: flags.auth}}
	}
	options.Listeners, note, err = flagListeners(flags, r)
	return options, note, list, err
}

// configured is what a configuration file says; flags that are not in one keep their meaning.
func configured(flags *brokerFlags) (engine.Options, []config.Users, error) {
	if len(flags.listen) > 0 || flags.auth.PasswordFile != "" || flags.auth.ACLFile != "" || flags.tls != (tlsFlags{}) || flags.allowAnonymous {
		return engine.Options{}, nil, configurationError("with --config, listeners, users and certificates are said in the file")
	}
	m, err := config.ReadMosquitto(flags.config)
	if err != nil {
		return engine.Options{}, nil, &exitError{exitConfiguration, err}
	}
	if m.LogLevel != "" {
		if err := flags.logLevel.Set(m.LogLevel); err != nil {
			return engine.Options{}, nil, &exitError{exitConfiguration, err}
		}
	}
	m.Options.Loops, m.Options.Version = flags.loops, versionNumber()
	return m.Options, m.Users, nil
}

// flagListeners are the listeners that flags ask for; note is a line for the start report.
func flagListeners(flags *brokerFlags, r resolver) (listeners []engine.Listener, note string, err error) {
	p := policy{anonymous: flags.allowAnonymous, passwords: flags.auth.PasswordFile != "" || flags.tls.identity}
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
