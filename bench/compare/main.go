package compare

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are the command line.
type options struct {
	scenario  string
	builtin   string
	mosquitto string
	wheelmq   string
	loops     string
	brokers   string
	repeats   int
	timing    timing
	smoke     bool
	list      bool
	json      string
	table     string
	readme    string
	report    string
}

// Command is the whole program, without its name in args; it returns the exit
// status. own is the path of a wheelmq that is measured when no other is named; "":
// one is built.
func Command(args []string, own string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	return command(ctx, args, own, stdout, stderr)
}

func command(ctx context.Context, args []string, own string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, own, stderr)
	if err != nil {
		return 2
	}
	if o.table != "" {
		if err := show(o, stdout); err != nil {
			fmt.Fprintln(stderr, "compare:", err)
			return 1
		}
		return 0
	}
	if o.list {
		for _, s := range scenarios {
			fmt.Fprintf(stdout, "%-24s %s\n", s.name, s.about)
		}
		return 0
	}
	flawed, err := compare(ctx, o, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
		return 1
	}
	if flawed {
		return 1
	}
	return 0
}

func parseOptions(args []string, own string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.scenario, "scenario", "", "names of scenarios, separated by commas (all)")
	f.StringVar(&o.builtin, "builtin", mosquittoName+","+wheelmqName, "which of mosquitto and wheelmq to start")
	f.StringVar(&o.brokers, "brokers", "", "a file that names further brokers, as bench/compare/brokers.toml does")
	f.StringVar(&o.mosquitto, "mosquitto", "", "path of Mosquitto (looked for)")
	f.StringVar(&o.wheelmq, "wheelmq", own, "WheelMQ's command, --listen and --loops are appended (\"\": cmd/wheelmq is built)")
	f.StringVar(&o.loops, "loops", "1", "WheelMQ's numbers of loops, separated by commas, each a broker of its own")
	f.IntVar(&o.repeats, "repeats", 3, "runs of each broker in each scenario")
	f.DurationVar(&o.timing.Duration, "duration", 5*time.Second, "measured window of a run")
	f.DurationVar(&o.timing.Warmup, "warmup", time.Second, "before the window")
	f.DurationVar(&o.timing.Settle, "settle", 5*time.Second, "idle: from the last connection to the measurement")
	f.IntVar(&o.timing.Idle, "idle", 15000, "idle: connections")
	f.BoolVar(&o.smoke, "smoke", false, "one short run of each, to see that all works")
	f.BoolVar(&o.list, "list", false, "print the scenarios")
	f.StringVar(&o.json, "json", "", "write all figures and runs to this file")
	f.StringVar(&o.report, "report", "", "write a page with all figures to this file; with -table, of those")
	f.StringVar(&o.table, "table", "", "measure nothing: print the table of a file that -json wrote, in Markdown")
	f.StringVar(&o.readme, "readme", "", "with -table: put the table into this file, between its marks")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.repeats < 1 || o.timing.Duration <= 0 || o.timing.Warmup < 0 || o.timing.Settle < 0 {
		err := fmt.Errorf("compare: takes flags only; -repeats and -duration must be positive")
		fmt.Fprintln(stderr, err)
		return o, err
	}
	if o.smoke {
		const moment = 300 * time.Millisecond
		o.repeats, o.timing = 1, timing{Warmup: moment, Duration: moment, Settle: moment, Idle: 500}
	}
	return o, nil
}

// compare makes the plan, carries it out and reports; it tells whether a run was flawed.
func compare(ctx context.Context, o options, stdout, stderr io.Writer) (bool, error) {
	p := plan{repeats: o.repeats, timing: o.timing, progress: stderr}
	var err error
	if p.scenarios, err = chosen(o.scenario); err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if p.candidates, err = o.candidates(ctx, dir); err != nil {
		return false, err
	}
	if p.stand, err = newStand(dir); err != nil {
		return false, err
	}
	if err := p.stand.cores.apply(); err != nil {
		return false, err
	}
	runs, stopped := p.execute(ctx)
	r := newReport(p, runs, o.smoke)
	r.print(stdout)
	if stopped != nil {
		return false, fmt.Errorf("stopped before the end: %w", stopped)
	}
	if o.json != "" {
		err = r.write(o.json)
	}
	if o.report != "" {
		err = errors.Join(err, r.writePage(o.report))
	}
	return len(r.flawed()) > 0, err
}

// newStand prepares what all runs have in common, with its files in dir.
func newStand(dir string) (t stand, err error) {
	cores, err := usableCores()
	if err != nil {
		return t, err
	}
	t.cores = part(cores)
	t.certificate, err = newCertificate(dir)
	return t, err
}

// show measures nothing: it makes table and page of figures that are kept.
func show(o options, stdout io.Writer) error {
	r, err := readReport(o.table)
	if err != nil {
		return err
	}
	if o.report != "" {
		if err := r.writePage(o.report); err != nil {
			return err
		}
	}
	return r.writeTable(o.readme, stdout)
}

// candidates are the brokers to start; the first one is the reference.
func (o options) candidates(ctx context.Context, dir string) ([]candidate, error) {
	names := strings.Split(o.builtin, ",")
	var list []candidate
	for _, name := range names {
		if name != mosquittoName && name != wheelmqName && name != "" {
			return nil, fmt.Errorf("-builtin: %q is neither %s nor %s", name, mosquittoName, wheelmqName)
		}
	}
	if slices.Contains(names, mosquittoName) {
		c, err := mosquitto(ctx, o.mosquitto)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if slices.Contains(names, wheelmqName) {
		built, err := wheelmq(ctx, o.wheelmq, o.loops, dir)
		if err != nil {
			return nil, err
		}
		list = append(list, built...)
	}
	if o.brokers != "" {
		more, err := further(ctx, o.brokers)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no broker to start")
	}
	seen := map[string]bool{}
	for _, c := range list {
		if seen[c.Name] {
			return nil, fmt.Errorf("two brokers are called %s", c.Name)
		}
		seen[c.Name] = true
	}
	return list, nil
}
