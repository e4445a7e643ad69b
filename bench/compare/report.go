package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	pages "github.com/wheelmq/wheelmq/bench/report"
)

// A report is all that a comparison found, as it is written in JSON.
type report struct {
	Made       time.Time     `json:"made"`
	Commit     string        `json:"commit"`
	Machine    pages.Machine `json:"machine"`
	Pinning    string        `json:"pinning,omitempty"`
	Command    []string      `json:"command,omitempty"` // that made it
	Smoke      bool          `json:"smoke"`             // too short to mean anything
	Repeats    int           `json:"repeats"`
	Timing     timing        `json:"timing"`
	Reference  string        `json:"reference"`
	Candidates []candidate   `json:"brokers"`
	Summaries  []summary     `json:"scenarios"`
}

// A summary is one scenario of a report.
type summary struct {
	Name      string    `json:"name"`
	About     string    `json:"about"`
	Reference float64   `json:"reference_quiet,omitempty"` // first column of Mosquitto 2.0.11 on a quiet machine
	Columns   []metric  `json:"columns"`
	Rows      []row     `json:"rows"`
	Verdicts  []verdict `json:"targets,omitempty"`
	Runs      []run     `json:"runs"`
}

// A row is one broker in one scenario: medians, and ratios to the reference broker.
type row struct {
	Broker  string            `json:"broker"`
	Absent  bool              `json:"absent,omitempty"` // it has no setup for this scenario
	Figures map[metric]spread `json:"figures"`
	Ratios  map[metric]spread `json:"ratios"`
}

func newReport(p plan, runs []run, smoke bool) report {
	r := report{
		Made: time.Now().UTC(), Commit: commit(), Machine: pages.ThisMachine(), Pinning: p.stand.cores.String(), Command: os.Args, Smoke: smoke,
		Repeats: p.repeats, Timing: p.timing, Reference: p.candidates[0].Name, Candidates: p.candidates,
	}
	for _, s := range p.scenarios {
		own := slices.DeleteFunc(slices.Clone(runs), func(r run) bool { return r.Scenario != s.name })
		r.Summaries = append(r.Summaries, summarize(s, p.candidates, own, smoke))
	}
	return r
}

func summarize(s scenario, candidates []candidate, runs []run, smoke bool) summary {
	sum := summary{Name: s.name, About: s.about, Reference: s.reference, Columns: s.columns, Runs: runs}
	reference := candidates[0].Name
	for _, c := range candidates {
		_, has := c.in(s.mode)
		line := row{Broker: c.Name, Absent: !has, Figures: map[metric]spread{}, Ratios: map[metric]spread{}}
		for _, m := range s.columns {
			if v, ok := figure(runs, c.Name, m); ok {
				line.Figures[m] = v
			}
			if v, ok := ratio(runs, c.Name, reference, m); ok && c.Name != reference {
				line.Ratios[m] = v
			}
		}
		sum.Rows = append(sum.Rows, line)
		for _, check := range s.checks {
			if c.targets && has && !smoke {
				sum.Verdicts = append(sum.Verdicts, check.judge(runs, c.Name, reference))
			}
		}
	}
	return sum
}

// flawed are the runs that failed or did not deliver each message once and in order.
func (r report) flawed() []run {
	var list []run
	for _, s := range r.Summaries {
		for _, one := range s.Runs {
			if one.flawed() {
				list = append(list, one)
			}
		}
	}
	return list
}

// print writes flawed runs first, then a table per scenario.
func (r report) print(w io.Writer) {
	for _, one := range r.flawed() {
		fmt.Fprintf(w, "!! %s, %s, repeat %d: %s\n", one.Scenario, one.Broker, one.Repeat, one.line(cpu))
	}
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s, commit %s, %s\n", r.Machine.Processor, r.Machine.Cores,
		r.Machine.Kernel, r.Machine.Go, r.Commit, r.Made.Format(time.DateOnly))
	fmt.Fprintf(w, "%s\n", r.Pinning)
	for _, c := range r.Candidates {
		fmt.Fprintf(w, "%s: %s\n", c.Name, cmp.Or(c.Version, strings.Join(c.Command, " ")))
	}
	fmt.Fprintf(w, "medians of %d (min to max), %v measured after %v; x: ratio to %s\n",
		r.Repeats, r.Timing.Duration, r.Timing.Warmup, r.Reference)
	if r.Smoke {
		fmt.Fprintln(w, "smoke: too short to be compared, targets are not judged")
	}
	for _, s := range r.Summaries {
		s.print(w)
	}
}

func (s summary) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", s.Name, s.About)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "  broker")
	for _, m := range s.Columns {
		fmt.Fprintf(table, "\t%s", m)
	}
	fmt.Fprintln(table)
	for _, line := range s.Rows {
		fmt.Fprintf(table, "  %s", line.Broker)
		for _, m := range s.Columns {
			fmt.Fprintf(table, "\t%s", line.cell(m))
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush() // the writer below reports nothing better than standard output does
	if s.Reference > 0 {
		fmt.Fprintf(w, "  Mosquitto 2.0.11 on a quiet machine: %s %s\n", format(s.Columns[0], s.Reference), s.Columns[0])
	}
	for _, v := range s.Verdicts {
		fmt.Fprintf(w, "  %s: %s\n", v.Broker, v)
	}
	for _, r := range s.Runs {
		if r.GeneratorFull {
			fmt.Fprintf(w, "  %s, repeat %d: the generator may have been the bottleneck\n", r.Broker, r.Repeat)
		}
	}
}

func (v verdict) String() string {
	if !v.Known {
		return v.Target + ": not measured"
	}
	word := "MISSED"
	if v.Met {
		word = "met"
	}
	return fmt.Sprintf("%s: %.3g (%.3g to %.3g), %s", v.Target, v.Measured.Median, v.Measured.Min, v.Measured.Max, word)
}

// cell is a figure with its range, and its ratio.
func (l row) cell(m metric) string {
	v, ok := l.Figures[m]
	if !ok {
		return "-"
	}
	text := format(m, v.Median)
	if v.Min < v.Max {
		text += fmt.Sprintf(" (%s to %s)", format(m, v.Min), format(m, v.Max))
	}
	if x, ok := l.Ratios[m]; ok && m != generator && m != other {
		text += fmt.Sprintf(" x%.3g", x.Median)
	}
	return text
}

// format prints a figure with as many digits as mean something.
func format(m metric, v float64) string {
	switch m {
	case cpu, storeCPU, generator, other:
		return fmt.Sprintf("%.2f", v)
	case rss:
		return fmt.Sprintf("%.1fM", v/(1<<20))
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

func (r report) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// commit is the short hash of the checkout, with a plus sign when it has changes.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty=+", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
