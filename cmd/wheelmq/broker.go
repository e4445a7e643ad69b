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
	options.HandshakesBusy = processorsFor(&options)
	if err := options.Validate(); err != nil {
		return &exitError{exitConfiguration, err}
	}
	broker, err := engine.New(options)
	if err != nil {
		return &exitError{exitSystem, err}
	}
	setProcessors(broker.Loops())
	go new(tuner).run(ctx, broker.Connections)
	return serve(broker, log, func() {
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
func brokerOptions(flags *brokerFlags, r resolver) (options engine.Options, note string, err error) {
	options = engine.Options{Loops: flags.loops, Version: versionNumber()}
	if len(flags.listen) == 0 {
		options.Listeners, note = r.defaults()
		return options, note, nil
	}
	options.Listeners, err = r.listeners(flags.listen, flags.allowAnonymous)
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

// serve starts s, calls ready and stops s at the first INT or TERM.
func serve(s server, log *slog.Logger, ready func()) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := s.Start(); err != nil {
		return startError(err)
	}
	ready()
	first := <-signals
	signal.Reset(os.Interrupt, syscall.SIGTERM) // a second signal ends the process, whatever hangs
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
