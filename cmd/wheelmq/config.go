package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// newConfig returns the commands that look at configuration files.
func newConfig(stdout io.Writer) *cobra.Command {
	var all bool
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what becomes of each directive of a mosquitto.conf",
		Long: `Reads a mosquitto.conf with all that it includes and says which directives are
approximated, without effect, not yet applied or refused, and why. The exit
status is 3 when the broker would not start with it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return checkConfig(stdout, args[0], all) },
	}
	check.Flags().BoolVar(&all, "all", false, "also those that are applied as they stand")
	c := &cobra.Command{Use: "config", Short: "Look at configuration files"}
	c.AddCommand(check)
	return c
}

func checkConfig(w io.Writer, path string, all bool) error {
	m, err := config.ReadMosquitto(path)
	if err != nil {
		return &exitError{exitConfiguration, err}
	}
	if err := m.Options.Validate(); err != nil {
		return &exitError{exitConfiguration, err}
	}
	if _, err := openUsers(m.Users, nil); err != nil {
		return &exitError{exitConfiguration, err}
	}
	counts := make(map[config.Effect]int)
	for _, f := range m.Findings {
		counts[f.Effect]++
		if f.Effect != config.Applied || all {
			note := f.Note
			if note != "" {
				note = ": " + note
			}
			fmt.Fprintf(w, "%s:%d: %s %s%s\n", f.File, f.Line, f.Name, f.Effect, note)
		}
	}
	for _, l := range m.Options.Listeners {
		clients := "a user name or certificate is needed"
		if l.Anonymous {
			clients = "anyone may connect"
		}
		fmt.Fprintf(w, "listens on %s, %s\n", l.Address, clients)
	}
	fmt.Fprintf(w, "%d directives applied, %d approximated, %d without effect, %d not yet applied\n", counts[config.Applied],
		counts[config.Approximated], counts[config.NoEffect], counts[config.Later])
	return nil
}

// users decide by the files of the listener that a client came by.
type users struct {
	every      *auth.Files            // nil: none
	byListener map[string]*auth.Files // in place of every
}

// openUsers opens the files. busy is told when passwords are hashed.
func openUsers(list []config.Users, busy func(bool)) (*users, error) {
	if len(list) == 0 {
		return nil, nil
	}
	u := &users{byListener: make(map[string]*auth.Files)}
	var errs []error
	for _, x := range list {
		x.Files.HashesBusy = busy
		f, err := auth.Open(x.Files)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if x.Listener == "" {
			u.every = f
		} else {
			u.byListener[x.Listener] = f
		}
	}
	return u, errors.Join(errs...)
}

// Decide implements hook.Decider.
func (u *users) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	f := u.byListener[c.Listener]
	if f == nil {
		f = u.every
	}
	if f == nil {
		if c.Anonymous { // nobody is known by name here: any name is as good as none
			return hook.Decision{Verdict: hook.Accept}, nil
		}
		return hook.Decision{}, nil
	}
	return f.Decide(ctx, c)
}

// reload reads the files again.
func (u *users) reload(ctx context.Context, b *engine.Broker) error {
	var errs []error
	if u.every != nil {
		errs = append(errs, u.every.Reload(ctx, b))
	}
	for _, f := range u.byListener {
		errs = append(errs, f.Reload(ctx, b))
	}
	return errors.Join(errs...)
}

// reloadFiles reads again what the broker reads from files. What cannot be read changes nothing.
func reloadFiles(ctx context.Context, u *users, b *engine.Broker, log *slog.Logger) {
	ok := true
	if err := b.ReloadTLS(); err != nil {
		log.Error("certificates stay as they were", "error", err)
		ok = false
	}
	if u != nil {
		if err := u.reload(ctx, b); err != nil {
			log.Error("users and rights stay as they were", "error", err)
			ok = false
		}
	}
	if ok {
		log.Info("reloaded", "what", "certificates, users, rights")
	}
}
