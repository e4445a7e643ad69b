package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine"
)

// newConfig returns the commands that look at configuration files.
func newConfig(stdout io.Writer) *cobra.Command {
	var all bool
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a configuration, and what becomes of each directive of a mosquitto.conf",
		Long: `Reads a wheelmq.yaml, or a mosquitto.conf with all that it includes, and the
files that it names. Of a mosquitto.conf it says which directives are
approximated, without effect, not yet applied or refused, and why. The exit
status is 3 when the broker would not start with it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return checkConfig(stdout, args[0], all) },
	}
	check.Flags().BoolVar(&all, "all", false, "also directives that are applied as they stand")
	c := &cobra.Command{Use: "config", Short: "Look at configuration files, and write them"}
	c.AddCommand(check, newConfigShow(stdout), newConfigInit(stdout), newConfigConvert(stdout), &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of wheelmq.yaml, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := config.Schema()
			if err == nil {
				_, err = stdout.Write(text)
			}
			return err
		},
	})
	return c
}

func newConfigShow(stdout io.Writer) *cobra.Command {
	var flags brokerFlags
	var effective bool
	c := &cobra.Command{
		Use:   "show [--effective] [broker's flags]",
		Short: "Print the configuration that the broker would run by",
		Long: `Reads the file of --config, the environment and the broker's flags, and prints
what differs from the default; with --effective every key, and where its value
comes from.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := readSettings(&flags, newResolver())
			if err != nil {
				return err
			}
			s.TakeListeners(s.options.Listeners, s.users)
			if effective {
				return s.WriteEffective(stdout, s.flags)
			}
			return s.WriteChanges(stdout)
		},
	}
	flags.register(c.Flags())
	c.Flags().BoolVar(&effective, "effective", false, "every key, with where its value comes from")
	return c
}

func newConfigInit(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a configuration to begin with: this machine only, every key in a comment",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return config.WriteInitial(stdout)
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
			if errors.Is(err, fs.ErrExist) {
				return systemError("%s is there already: name another file, or remove it", args[0])
			}
			if err != nil {
				return systemError("%w", err)
			}
			if err := errors.Join(config.WriteInitial(f), f.Close()); err != nil {
				return systemError("%s: %w", args[0], err)
			}
			fmt.Fprintf(stdout, "%s is written: wheelmq -c %s\n", args[0], args[0])
			return nil
		},
	}
}

func newConfigConvert(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "convert FILE",
		Short: "Print a mosquitto.conf as wheelmq.yaml",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := config.ReadMosquitto(args[0])
			if err != nil {
				return &exitError{exitConfiguration, err}
			}
			fmt.Fprintf(stdout, "# from %s\n", args[0])
			for _, f := range m.Findings {
				if f.Effect == config.Later || f.Effect == config.Approximated {
					fmt.Fprintf(stdout, "# line %d, %s %s: %s\n", f.Line, f.Name, f.Effect, f.Note)
				}
			}
			return m.Native().WriteChanges(stdout)
		},
	}
}

func checkConfig(w io.Writer, path string, all bool) error {
	if config.IsNative(path) {
		return checkNative(w, path)
	}
	m, err := config.ReadMosquitto(path)
	if err != nil {
		return &exitError{exitConfiguration, err}
	}
	if err := checkOptions(w, m.Options, m.Users); err != nil {
		return err
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
	fmt.Fprintf(w, "%d directives applied, %d approximated, %d without effect, %d not yet applied\n", counts[config.Applied],
		counts[config.Approximated], counts[config.NoEffect], counts[config.Later])
	return nil
}

func checkNative(w io.Writer, path string) error {
	n, err := config.Read(path, nil)
	if err != nil {
		return &exitError{exitConfiguration, err}
	}
	o, users, err := n.Options()
	if err != nil {
		return &exitError{exitConfiguration, err}
	}
	if !n.SaysListeners() {
		o.Listeners = nil
	}
	if n.Store.Kind == "mysql" {
		if _, err := placeOf(&n.Store); err != nil {
			return err
		}
	}
	return checkOptions(w, o, users)
}

// checkOptions looks at what can be looked at without opening anything: bounds,
// users, certificates.
func checkOptions(w io.Writer, o engine.Options, list []config.Users) error {
	if _, err := engine.New(o); err != nil {
		return &exitError{exitConfiguration, err}
	}
	who, err := readUsers(list, nil)
	if err != nil {
		return &exitError{exitConfiguration, err}
	}
	who.close()
	for _, l := range o.Listeners {
		clients := "a user name or certificate is needed"
		if l.Anonymous {
			clients = "anyone may connect"
		}
		fmt.Fprintf(w, "listens on %s, %s\n", l.Address, clients)
	}
	return nil
}
