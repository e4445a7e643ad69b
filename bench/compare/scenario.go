package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/bench/load"
)

// A metric names one figure of a run.
type metric string

const (
	cpu       metric = "cpu_us"           // broker's CPU time per delivered message or cycle
	rate      metric = "per_second"       // delivered messages or cycles
	p50       metric = "p50_us"           // latency
	p99       metric = "p99_us"           //
	p999      metric = "p999_us"          //
	memory    metric = "connection_bytes" // growth of the broker's resident set per connection
	rss       metric = "rss_bytes"        // broker's resident set at the end of the window
	generator metric = "generator_cores"  // CPU time per time
	other     metric = "other_cores"      // CPU time per time, neither broker nor generator
)

// An outcome is what one run of a scenario measured.
type outcome struct {
	Values        map[metric]float64 `json:"values,omitempty"`
	Lost          uint64             `json:"lost"`
	Duplicate     uint64             `json:"duplicate"`
	Late          uint64             `json:"late"`
	GeneratorFull bool               `json:"generator_full"`
}

// Timing is how long the parts of a run last, and how large the idle scenario is.
type timing struct {
	Warmup   time.Duration `json:"warmup_ns"`
	Duration time.Duration `json:"duration_ns"`
	Settle   time.Duration `json:"settle_ns"`
	Idle     int           `json:"idle_connections"`
}

// drain is how long what is in flight at the end of a run may take to arrive.
const drain = 10 * time.Second

// A scenario is one workload, its columns in the table, and the targets WheelMQ has in it.
type scenario struct {
	name    string
	about   string
	columns []metric
	// reference is what Mosquitto 2.0.11 needed for the first column on a quiet machine like the
	// one the targets were set on; 0: not known. It tells how far this machine is from that one.
	reference float64
	checks    []check
	work      func(ctx context.Context, b load.Broker, t timing) (outcome, error)
}

var (
	messageColumns = []metric{cpu, rate, p50, p99, p999, rss, generator, other}
	cycleColumns   = []metric{cpu, rate, rss, generator, other}
	idleColumns    = []metric{memory, rss, generator, other}
)

// batching are the checks of a scenario in which messages can leave a broker together.
func batching(ratio float64) []check {
	return []check{{cpu, atMostRatio, ratio}, {rate, atLeastRatio, 6}}
}

// steady are the checks of a scenario at a fixed rate.
func steady(ratio float64) []check {
	return []check{{cpu, atMostRatio, ratio}, {p50, atMostRatio, 1}, {p99, atMostRatio, 1}}
}

func pairs(n int, qos uint8, window, rate int) load.Messages {
	return load.Messages{Publishers: n, Subscribers: n, QoS: qos, Window: window, Rate: rate}
}

var scenarios = []scenario{
	messages("pairs100-qos0-w64", "100 pairs, QoS 0, 64 in flight each", 14.0, batching(0.06), pairs(100, 0, 64, 0)),
	messages("pairs100-qos1-w20", "100 pairs, QoS 1, 20 in flight each", 20.1, batching(0.08), pairs(100, 1, 20, 0)),
	messages("pairs100-qos2-w20", "100 pairs, QoS 2, 20 in flight each", 46.5, batching(0.05), pairs(100, 2, 20, 0)),
	messages("fanout-1-500", "1 publisher to 500 subscribers, QoS 0, 8 in flight", 10.9, batching(0.15),
		load.Messages{Publishers: 1, Subscribers: 500, Mapping: load.FanOut, Window: 8}),
	messages("fanin-100-1", "100 publishers to 1 subscriber, QoS 0, 64 in flight each", 10.6, batching(0.04),
		load.Messages{Publishers: 100, Subscribers: 1, Mapping: load.FanIn, Window: 64}),
	messages("pairs100-isolated", "100 pairs, QoS 0, 1 in flight each", 11.5, []check{{cpu, atMostRatio, 0.8}}, pairs(100, 0, 1, 0)),
	messages("rate20k-50pairs-qos0", "50 pairs, QoS 0, 20,000 a second in all", 25.8, steady(0.85), pairs(50, 0, 1000, 20_000)),
	messages("rate20k-50pairs-qos1", "50 pairs, QoS 1, 20,000 a second in all", 0, steady(0.85), pairs(50, 1, 1000, 20_000)),
	{
		name: "idle15000", about: "connections with one subscription each, nothing sent",
		columns: idleColumns, checks: []check{{memory, atMost, 1.2 * 1024}}, work: idle,
	},
	{
		name: "cycles", about: "50 clients connect, subscribe, disconnect, again",
		columns: cycleColumns, checks: []check{{cpu, atMostRatio, 0.8}}, work: cycles,
	},
}

// payloadBytes is the payload of every message.
const payloadBytes = 64

func messages(name, about string, reference float64, checks []check, w load.Messages) scenario {
	w.Payload, w.Drain = payloadBytes, drain
	work := func(ctx context.Context, b load.Broker, t timing) (outcome, error) {
		w := w
		w.Warmup, w.Duration = t.Warmup, t.Duration
		r, err := w.Run(ctx, b)
		if err != nil {
			return outcome{}, err
		}
		o := usage(r.Usage)
		o.Lost, o.Duplicate, o.Late = r.Lost, r.Duplicate, r.Late
		o.Values[cpu], o.Values[rate] = r.CPUPerMessage(), r.PerSecond()
		o.Values[p50], o.Values[p99], o.Values[p999] = r.LatencyAt(50), r.LatencyAt(99), r.LatencyAt(99.9)
		if r.Delivered == 0 {
			return o, fmt.Errorf("nothing was delivered in the measured window")
		}
		return o, nil
	}
	return scenario{name: name, about: about, columns: messageColumns, reference: reference, checks: checks, work: work}
}

func idle(ctx context.Context, b load.Broker, t timing) (outcome, error) {
	r, err := load.Idle{Connections: t.Idle, Settle: t.Settle}.Run(ctx, b)
	if err != nil {
		return outcome{}, err
	}
	o := usage(r.Usage)
	o.Values[memory] = r.ConnectionBytes
	return o, nil
}

func cycles(ctx context.Context, b load.Broker, t timing) (outcome, error) {
	r, err := load.Cycles{Clients: 50, Warmup: t.Warmup, Duration: t.Duration}.Run(ctx, b)
	if err != nil {
		return outcome{}, err
	}
	o := usage(r.Usage)
	o.Values[cpu], o.Values[rate] = r.CPUPerCycle(), r.PerSecond()
	if r.Cycles == 0 {
		return o, fmt.Errorf("no cycle ended in the measured window")
	}
	return o, nil
}

func usage(u load.Usage) outcome {
	return outcome{GeneratorFull: u.GeneratorFull, Values: map[metric]float64{
		rss:       float64(u.BrokerRSS),
		generator: u.GeneratorCPU.Seconds() / u.Elapsed.Seconds(),
		other:     u.OtherCPU.Seconds() / u.Elapsed.Seconds(),
	}}
}

// chosen are the scenarios with these names, separated by commas; all for "".
func chosen(names string) ([]scenario, error) {
	if names == "" {
		return scenarios, nil
	}
	var list []scenario
next:
	for name := range strings.SplitSeq(names, ",") {
		for _, s := range scenarios {
			if s.name == name {
				list = append(list, s)
				continue next
			}
		}
		return nil, fmt.Errorf("no scenario %q; -list prints them", name)
	}
	return list, nil
}
