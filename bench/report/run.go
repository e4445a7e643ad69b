package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wheelmq/wheelmq/bench/load"
)

// A Run is one run of a workload with all that is needed to repeat it.
type Run struct {
	Scenario   string       `json:"scenario"`
	About      string       `json:"about"`
	Scale      float64      `json:"scale"` // 1: as the scenario says
	Limit      string       `json:"limit"` // why it was scaled; "" where it was not or was asked for
	Parameters []Parameter  `json:"parameters"`
	MQTT       string       `json:"mqtt"`
	Address    string       `json:"address"`
	Broker     string       `json:"broker"`    // what it says of itself in $SYS/broker/version; "" where it does not
	Process    []string     `json:"process"`   // its command line; none where it is not known
	Generator  string       `json:"generator"` // version of this program
	Command    []string     `json:"command"`   // this program's
	Machine    Machine      `json:"machine"`
	Began      time.Time    `json:"began"`
	Error      string       `json:"error,omitempty"` // why there is no Result
	Result     *load.Result `json:"result,omitempty"`
}

// A Parameter is a setting of the workload.
type Parameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	About string `json:"about"`
}

// ParametersOf are the settings of a workload.
func ParametersOf(w load.Workload) []Parameter {
	var list []Parameter
	for _, p := range w.Parameters() {
		list = append(list, Parameter{p.Name, p.String(), p.About})
	}
	return list
}

// OK tells that the run came to its end and that every message arrived once and in order.
func (r *Run) OK() bool { return r.Error == "" && r.Result != nil && !r.Result.Flawed() }

// Verdict is the first thing a reader has to know.
func (r *Run) Verdict() string {
	if r.Error != "" || r.Result == nil {
		return "FAILED: " + r.Error
	}
	x := r.Result
	if !x.Flawed() {
		if x.Unit == "message" {
			return "every message arrived once and in order"
		}
		return "nothing failed"
	}
	var parts []string
	for _, p := range []struct {
		n    uint64
		what string
	}{{x.Lost, "lost"}, {x.Duplicate, "duplicate"}, {x.Late, "out of order"}, {x.Failed, "failed"}} {
		if p.n > 0 {
			parts = append(parts, Count(float64(p.n))+" "+p.what)
		}
	}
	return "NOT CLEAN: " + strings.Join(parts, ", ")
}

// Warnings are what makes the figures doubtful.
func (r *Run) Warnings() []string {
	x := r.Result
	if x == nil {
		return nil
	}
	var list []string
	if r.Scale != 1 {
		why := ""
		if r.Limit != "" {
			why = ": " + r.Limit
		}
		list = append(list, fmt.Sprintf("scaled by %s%s; figures do not compare with those of the whole scenario", digits(r.Scale), why))
	}
	if x.GeneratorFull {
		list = append(list, fmt.Sprintf("the generator used %.2f of a core and may have been the bottleneck: the broker may be faster than this", x.Cores(x.GeneratorCPU)))
	}
	if share := x.Cores(x.OtherCPU); share > 0.2 {
		list = append(list, fmt.Sprintf("other programs used %.2f cores meanwhile", share))
	}
	return append(list, x.Notes...)
}

// A Line is a figure with its name.
type Line struct{ Name, Value string }

// Figures are the results in the order in which they matter.
func (r *Run) Figures() []Line {
	x := r.Result
	if x == nil {
		return nil
	}
	list := []Line{{x.Unit + "s per second", Count(x.PerSecond())}}
	f := func(ok bool, name, value string) {
		if ok {
			list = append(list, Line{name, value})
		}
	}
	f(true, x.Unit+"s", fmt.Sprintf("%s in %s", Count(float64(x.Done)), Duration(x.Elapsed)))
	f(x.Sent > 0, "published, whole run", Count(float64(x.Sent)))
	for _, p := range []float64{50, 90, 99, 99.9, 99.99, 100} {
		f(x.Latency.Count > 0, latencyName(p), Duration(x.Latency.At(p)))
	}
	known := x.BrokerRSS > 0
	f(known && x.Done > 0, "broker's CPU time per "+x.Unit, Duration(time.Duration(x.CPUPerUnit()*1e3)))
	f(known, "broker's CPU", fmt.Sprintf("%.2f cores", x.Cores(x.BrokerCPU)))
	f(known, "broker's memory", Bytes(float64(x.BrokerRSS)))
	f(x.ConnectionBytes > 0, "memory per connection", Bytes(x.ConnectionBytes))
	if x.Storing != nil {
		f(true, "stored per second", Count(float64(x.Sent)/x.Storing.Elapsed.Seconds()))
		f(known, "broker's CPU time per stored message", Duration(time.Duration(float64(x.Storing.BrokerCPU)/float64(max(1, x.Sent)))))
	}
	f(x.QueuedBytes > 0, "memory per stored message", Bytes(x.QueuedBytes))
	f(x.SessionBytes > 0, "memory per absent session", Bytes(x.SessionBytes))
	f(x.Opening > 0, "connecting", fmt.Sprintf("%s connections in %s", Count(float64(x.Open)), Duration(x.Opening)))
	if x.Hold != nil {
		f(known, "broker's CPU while idle", fmt.Sprintf("%s %% of a core", digits(100*x.Hold.Cores(x.Hold.BrokerCPU))))
		f(x.HoldLatency.Count > 0, "ping, 99 %", Duration(x.HoldLatency.At(99)))
	}
	if n := x.RoundLatency.Count; n > 0 {
		f(true, "messages to a sample", fmt.Sprintf("%s of %s arrived", Count(float64(n)), Count(float64(x.Sent))))
		f(true, "their latency, median", Duration(x.RoundLatency.At(50)))
		f(true, "their latency, 99 %", Duration(x.RoundLatency.At(99)))
	}
	f(true, "generator's CPU", fmt.Sprintf("%.2f cores", x.Cores(x.GeneratorCPU)))
	f(true, "other programs' CPU", fmt.Sprintf("%.2f cores", x.Cores(x.OtherCPU)))
	return list
}

func latencyName(percent float64) string {
	switch percent {
	case 50:
		return "latency, median"
	case 100:
		return "latency, longest"
	}
	return fmt.Sprintf("latency, %g %%", percent)
}

// Print writes the run as text.
func (r *Run) Print(w io.Writer) {
	mark := "ok"
	if !r.OK() {
		mark = "!!"
	}
	fmt.Fprintf(w, "%s %s: %s\n", mark, r.Scenario, r.Verdict())
	for _, text := range r.Warnings() {
		fmt.Fprintf(w, "   note: %s\n", text)
	}
	fmt.Fprintf(w, "   %s\n   %s, MQTT %s", r.About, r.Address, r.MQTT)
	if r.Broker != "" {
		fmt.Fprintf(w, ", %s", r.Broker)
	}
	fmt.Fprintf(w, "\n   %s\n", r.Machine)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range r.Figures() {
		fmt.Fprintf(table, "   %s\t%s\n", line.Name, line.Value)
	}
	_ = table.Flush() // the writer below reports nothing better than standard output does
	if r.Result == nil {
		return
	}
	for _, f := range r.Result.Worst {
		fmt.Fprintf(w, "   publisher %d, %s: lost %d, duplicate %d, out of order %d\n", f.Publisher, receiver(f), f.Lost, f.Duplicate, f.Late)
	}
}

func receiver(f load.Flaw) string {
	if f.Subscriber < 0 {
		return "any of the share"
	}
	return fmt.Sprintf("subscriber %d", f.Subscriber)
}

// WriteJSON writes everything, the series included.
func (r *Run) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
