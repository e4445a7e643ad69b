package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wheelmq/wheelmq/bench/compare"
	"github.com/wheelmq/wheelmq/bench/load"
	"github.com/wheelmq/wheelmq/bench/report"
)

const benchHelp = `Puts load on an MQTT broker, WheelMQ or any other, and prints how it bore it.

A scenario is a workload with a name; without one they are listed. Its numbers
can be changed by flags. Messages carry sequence numbers: what is lost, doubled
or reordered is counted. If the broker runs on this machine, its CPU time and
memory are part of the figures.

The exit status is 2 when the run failed or a message did not arrive once and
in order.`

const benchExamples = `  wheelmq bench                                          list the scenarios
  wheelmq bench pairs                                    100 pairs against 127.0.0.1:1883
  wheelmq bench pairs-rate --rate 50000 --qos 1          at a fixed rate: latency counts from when a message was due
  wheelmq bench fan-out --broker broker.local:1883 --report out.html
  wheelmq bench pairs --broker mqtts://broker.local --ca ca.pem
  wheelmq bench compare                                  WheelMQ and Mosquitto side by side`

// benchFlags are the flags of wheelmq bench, as given.
type benchFlags struct {
	address, mqtt, username, password string
	tls                               clientTLS
	pid                               int
	sources                           []string
	scale                             float64
	json, html                        string
	quiet                             bool
}

func newBench(stdout, stderr io.Writer) *cobra.Command {
	var flags benchFlags
	bench := &cobra.Command{
		Use:     "bench [SCENARIO]",
		Short:   "Put load on an MQTT broker and measure it",
		Long:    benchHelp,
		Example: benchExamples,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listScenarios(stdout)
			}
			return runBench(c, &flags, args[0], stdout, stderr)
		},
	}
	f := bench.Flags()
	f.SortFlags = false
	f.StringVar(&flags.address, "broker", "127.0.0.1:1883", "host:port, or a URL: mqtts://HOST[:8883], ws://HOST[:80][/mqtt], wss://HOST[:443][/mqtt], unix:///PATH (with --pid)")
	f.StringVar(&flags.mqtt, "mqtt", "", "version of MQTT: 3.1.1 or 5 (default: the scenario's)")
	f.StringVarP(&flags.username, "username", "u", "", "user name of all clients")
	f.StringVarP(&flags.password, "password", "P", "", "password of all clients")
	flags.tls.add(f)
	f.StringArrayVar(&flags.sources, "source", nil, "local address to connect from; may be repeated (default on loopback: 127.0.0.1 to 127.0.0.250)")
	f.IntVar(&flags.pid, "pid", 0, "process of the broker (default: found by its port, if it runs on this machine)")
	f.Float64Var(&flags.scale, "scale", 0, "multiply the numbers of clients (default 1, less where this process may not open enough files)")
	f.StringVar(&flags.json, "json", "", "write all figures to this file; - is standard output")
	f.StringVar(&flags.html, "report", "", "write a page with charts to this file")
	f.BoolVarP(&flags.quiet, "quiet", "q", false, "no progress line")
	known := map[string]bool{}
	for _, s := range load.Scenarios() {
		for _, p := range s.New().Parameters() {
			if !known[p.Name] {
				known[p.Name] = true
				f.String(p.Name, "", p.About)
			}
		}
	}
	bench.AddCommand(newCompare(stdout, stderr))
	return bench
}

// newCompare returns the command that measures brokers side by side. Its flags are its own.
func newCompare(stdout, stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:                "compare [-list | -smoke | FLAGS]",
		Short:              "Measure brokers side by side: WheelMQ, Mosquitto, others that a file names",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			own, err := os.Executable()
			if err != nil {
				own = "" // one is built
			}
			if status := compare.Command(args, own, stdout, stderr); status != 0 {
				return &exitError{status, errors.New("the comparison is not clean")}
			}
			return nil
		},
	}
}

func listScenarios(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range load.Scenarios() {
		fmt.Fprintf(table, "%s\t%s\n", s.Name, s.About)
	}
	return table.Flush()
}

// workload is the scenario with what the flags change, and the report that will tell.
func (flags *benchFlags) workload(c *cobra.Command, name string) (load.Workload, *report.Run, error) {
	s, err := load.FindScenario(name)
	if err != nil {
		return nil, nil, err
	}
	run := &report.Run{
		Scenario: s.Name, About: s.About, Scale: 1, Address: flags.address, MQTT: s.Version.String(),
		Generator: versionNumber(), Command: os.Args, Machine: report.ThisMachine(), Began: time.Now(),
	}
	w := s.New()
	for _, p := range w.Parameters() {
		if flag := c.Flags().Lookup(p.Name); flag.Changed {
			if err := p.Set(flag.Value.String()); err != nil {
				return nil, nil, fmt.Errorf("--%w", err)
			}
		}
	}
	for _, p := range otherParameters(w) {
		if c.Flags().Changed(p) {
			return nil, nil, fmt.Errorf("scenario %s has no --%s", name, p)
		}
	}
	if run.Scale = flags.scale; flags.scale == 0 {
		if run.Scale, err = fit(w, run); err != nil {
			return nil, nil, err
		}
	}
	if run.Scale != 1 {
		w.Scale(run.Scale)
	}
	run.Parameters = report.ParametersOf(w)
	return w, run, w.Validate()
}

// fit is the factor by which this process can hold the workload's connections.
func fit(w load.Workload, run *report.Run) (float64, error) {
	files, err := raiseFileLimit()
	if err != nil {
		return 0, err
	}
	scale := load.Fit(w, uint64(files))
	if scale < 1 {
		run.Limit = fmt.Sprintf("%d clients were asked for, and this process may open %d files", w.Clients(), files)
	}
	return scale, nil
}

// otherParameters are those that only other workloads have.
func otherParameters(w load.Workload) []string {
	own := map[string]bool{}
	for _, p := range w.Parameters() {
		own[p.Name] = true
	}
	var names []string
	for _, s := range load.Scenarios() {
		for _, p := range s.New().Parameters() {
			if !own[p.Name] {
				own[p.Name] = true
				names = append(names, p.Name)
			}
		}
	}
	return names
}

func (flags *benchFlags) broker(run *report.Run) (load.Broker, error) {
	b, err := load.ParseBroker(flags.address)
	if err != nil {
		return b, fmt.Errorf("--broker: %w", err)
	}
	if err := flags.tls.apply(b.TLS); err != nil {
		return b, err
	}
	b.PID, b.Username, b.Password = flags.pid, flags.username, flags.password
	if flags.mqtt != "" {
		run.MQTT = flags.mqtt
	}
	if b.Version, err = load.ParseVersion(run.MQTT); err != nil {
		return b, fmt.Errorf("--mqtt: %w", err)
	}
	run.MQTT = b.Version.String()
	for _, s := range flags.sources {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return b, fmt.Errorf("--source: %w", err)
		}
		b.Sources = append(b.Sources, a)
	}
	if b.PID == 0 {
		b.PID = load.FindProcess(b.Address)
	}
	run.Process = load.CommandOf(b.PID)
	return b, nil
}

func runBench(c *cobra.Command, flags *benchFlags, name string, stdout, stderr io.Writer) error {
	w, run, err := flags.workload(c, name)
	if err != nil {
		return err
	}
	broker, err := flags.broker(run)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if run.Broker, err = load.Probe(ctx, broker); err == nil {
		progress := report.NewProgress(stderr, w.Unit()+"s", w.Clients())
		watch := progress.Show
		if flags.quiet {
			watch = nil
		}
		run.Result, err = w.Run(ctx, broker, watch)
		progress.Done()
	}
	if err != nil {
		run.Error = strings.TrimPrefix(err.Error(), "load: ")
	}
	if err := flags.write(run, stdout, stderr); err != nil {
		return systemError("%w", err)
	}
	if !run.OK() {
		return &exitError{exitWrong, fmt.Errorf("%s: %s", name, run.Verdict())}
	}
	return nil
}

// write prints the table and writes the files that were asked for.
func (flags *benchFlags) write(run *report.Run, stdout, stderr io.Writer) error {
	if flags.json == "-" {
		run.Print(stderr)
		if err := run.WriteJSON(stdout); err != nil {
			return err
		}
	} else {
		run.Print(stdout)
		if flags.json != "" {
			if err := writeFile(flags.json, run.WriteJSON); err != nil {
				return err
			}
		}
	}
	if flags.html == "" {
		return nil
	}
	return writeFile(flags.html, run.WriteHTML)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close() // the first error tells more
		return err
	}
	return f.Close()
}
