package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
)

// Statuses of pub, sub and rr, as Mosquitto's clients have them. A refusal of
// CONNECT ends with its code.
const (
	exitNoConnection = 1 // none could be made, or bad usage
	exitLost         = 7
	exitTimedOut     = 27
)

// A mqttCommand is one of pub, sub and rr.
type mqttCommand struct {
	clientFlags
	stdin          io.Reader
	stdout, stderr io.Writer
	lost           chan error
}

// values are what a shell proposes behind a flag.
var values = map[string][]cobra.Completion{
	"qos":              {"0", "1", "2"},
	"will-qos":         {"0", "1", "2"},
	"protocol-version": {"mqttv5", "mqttv311", "mqttv31"},
	"tls-version":      {"tlsv1.2", "tlsv1.3"},
	"retain-handling":  {"always", "new", "never"},
}

// completeValue answers a shell that completes what is behind a flag, which cobra leaves to commands that parse theirs.
// Unless the values are known, it may be a file.
func completeValue(c *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.HasPrefix(begun, "-") {
		return nil, cobra.ShellCompDirectiveNoFileComp // cobra names the flags
	}
	if len(args) > 0 {
		name, long := strings.CutPrefix(args[len(args)-1], "--")
		if short, ok := strings.CutPrefix(name, "-"); ok && len(short) == 1 {
			if f := c.Flags().ShorthandLookup(short); f != nil {
				name, long = f.Name, true
			}
		}
		if known := values[name]; long && known != nil {
			return known, cobra.ShellCompDirectiveNoFileComp
		}
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// command makes the cobra command around run. Its flags are parsed by itself: -D takes three values, and -h is a host.
func (m *mqttCommand) command(use, short, long, examples string, register func(*pflag.FlagSet), run func(ctx context.Context) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Example: examples, DisableFlagParsing: true,
		ValidArgsFunction: completeValue}
	register(c.Flags())
	m.register(c.Flags())
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := m.parse(c.Flags(), args); err != nil {
			if errors.Is(err, pflag.ErrHelp) {
				return m.help(c)
			}
			return &exitError{exitNoConnection, fmt.Errorf("%w\nwheelmq %s --help lists the flags", err, m.name)}
		}
		if help, _ := c.Flags().GetBool("help"); help {
			return m.help(c)
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err := run(ctx)
		if err != nil && m.quiet {
			err = &exitError{statusOf(err), errSilent}
		} else if err != nil {
			err = &exitError{statusOf(err), err}
		}
		return err
	}
	return c
}

// errSilent is printed by nobody.
var errSilent = errors.New("")

func (m *mqttCommand) help(c *cobra.Command) error {
	_, err := fmt.Fprintf(m.stdout, "%s\n\nUsage:\n  wheelmq %s\n\nExamples:\n%s\n\nFlags:\n%s%s", c.Long, c.Use, c.Example, c.Flags().FlagUsages(), propertyHelp)
	return err
}

// statusOf is the status that err ends with.
func statusOf(err error) int {
	var refused *client.Refused
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &refused) && refused.What == "CONNECT":
		return int(refused.Code)
	case errors.Is(err, errTimedOut):
		return exitTimedOut
	case errors.As(err, &refused), errors.Is(err, client.ErrLost), errors.Is(err, client.ErrClosed):
		return exitLost
	default:
		return exitNoConnection
	}
}

var errTimedOut = errors.New("timed out")

// connect opens the connection that the flags describe.
func (m *mqttCommand) connect(ctx context.Context, edit func(*client.Options)) (*client.Client, error) {
	o, err := m.options()
	if err != nil {
		return nil, err
	}
	m.lost = make(chan error, 1)
	o.OnLost = func(err error) {
		select {
		case m.lost <- err:
		default:
		}
	}
	if m.debug {
		o.Logger = slog.New(newTextHandler(m.stderr, slog.LevelDebug))
		o.Tap = func(sent bool, packet []byte) {
			h, _, _ := codec.ReadHeader(packet)
			way := "received"
			if sent {
				way = "sent"
			}
			fmt.Fprintf(m.stderr, "%s %s %v (%d bytes)\n", time.Now().UTC().Format(timeLayout), way, h.Type, len(packet))
		}
	}
	if edit != nil {
		edit(&o)
	}
	c, err := client.New(o)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// leave disconnects in good order.
func leave(c *client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Disconnect(ctx)
}
