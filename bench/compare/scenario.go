package compare

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
	cpu       metric = "cpu_us"           // broker's CPU time per delivered message, connection or cycle
	rate      metric = "per_second"       // delivered messages, connections or cycles
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
	Failed        uint64             `json:"failed"` // connections
	GeneratorFull bool               `json:"generator_full"`
}

// Timing is how long the parts of a run last, and how large the idle scenario is.
type timing struct {
	Warmup   time.Duration `json:"warmup_ns"`
	Duration time.Duration `json:"duration_ns"`
	Settle   time.Duration `json:"settle_ns"`
	Idle     int           `json:"idle_connections"`
}

// fullIdle is timing.Idle of runs that mean something.
const fullIdle = 1000

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
	burstColumns   = []metric{cpu, rate, rss, generator, other}
)

// batching are the checks of a scenario in which messages can leave a broker together.
func batching(ratio float64) []check {
	return []check{{cpu, atMostRatio, ratio}, {rate, atLeastRatio, 6}}
}

// steady are the checks of a scenario at a fixed rate.
func steady(ratio float64) []check {
	return []check{{cpu, atMostRatio, ratio}, {p50, atMostRatio, 1}, {p99, atMostRatio, 1}}
}

func pairs(n, qos, window, rate int) load.Messages {
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
	messages("shared-100-10", "100 publishers to 10 subscribers that share, QoS 0, 64 in flight each", 0, nil,
		load.Messages{Publishers: 100, Subscribers: 10, Mapping: load.Shared, Window: 64}),
	messages("wildcards100", "100 pairs, 100 wildcard filters per subscriber of which one matches, QoS 0, 64 in flight each", 0, nil,
		load.Messages{Publishers: 100, Subscribers: 100, Window: 64, Filters: 99}),
	messages("large-4", "4 pairs, 64 KiB each, QoS 0, 2 in flight each", 0, nil,
		load.Messages{Publishers: 4, Subscribers: 4, Window: 2, Payload: 64 << 10}),
	{
		name: "retained100k", about: "a new subscriber asks for 100,000 retained messages",
		columns: burstColumns, work: burst(func(t timing) load.Workload {
			return &load.Retained{Messages: scaled(100_000, t), Subscribers: 1, Payload: payloadBytes}
		}),
	},
	{
		name: "replay10k", about: "10,000 clients come back to 100 queued messages each, QoS 1",
		columns: burstColumns, work: burst(func(t timing) load.Workload {
			return &load.Replay{Sessions: scaled(10_000, t), Queued: 100, Payload: payloadBytes}
		}),
	},
	{
		name: "connect10k", about: "10,000 clients connect and subscribe as fast as they can",
		columns: burstColumns, work: burst(func(t timing) load.Workload {
			return &load.Connections{Count: scaled(10_000, t), Filters: 1, KeepAlive: 60}
		}),
	},
	{
		name: "idle15000", about: "connections with one subscription each, nothing sent",
		columns: idleColumns, checks: []check{{memory, atMost, 1.2 * 1024}}, work: idle,
	},
	{
		name: "cycles", about: "50 clients connect, subscribe, disconnect, again",
		columns: cycleColumns, checks: []check{{cpu, atMostRatio, 0.8}}, work: burst(func(t timing) load.Workload {
			return &load.Cycles{Count: 50, Warmup: t.Warmup, Duration: t.Duration}
		}),
	},
}

// payloadBytes is the payload of every message that has no other.
const payloadBytes = 64

// scaled is n, or little where the run is only to show that all works.
func scaled(n int, t timing) int {
	if t.Idle < fullIdle {
		return max(1, n/100)
	}
	return n
}

func messages(name, about string, reference float64, checks []check, w load.Messages) scenario {
	if w.Payload == 0 {
		w.Payload = payloadBytes
	}
	w.Drain = drain
	work := func(ctx context.Context, b load.Broker, t timing) (outcome, error) {
		w := w
		w.Warmup, w.Duration = t.Warmup, t.Duration
		return measure(ctx, b, &w)
	}
	return scenario{name: name, about: about, columns: messageColumns, reference: reference, checks: checks, work: work}
}

// burst is a workload that ends when its work is done.
func burst(w func(timing) load.Workload) func(context.Context, load.Broker, timing) (outcome, error) {
	return func(ctx context.Context, b load.Broker, t timing) (outcome, error) { return measure(ctx, b, w(t)) }
}

// measure runs w once.
func measure(ctx context.Context, b load.Broker, w load.Workload) (outcome, error) {
	r, err := w.Run(ctx, b, nil)
	if err != nil {
		return outcome{}, err
	}
	o := usage(r.Usage)
	o.Lost, o.Duplicate, o.Late, o.Failed = r.Lost, r.Duplicate, r.Late, r.Failed
	o.Values[cpu], o.Values[rate] = r.CPUPerUnit(), r.PerSecond()
	if r.Latency.Count > 0 {
		o.Values[p50], o.Values[p99], o.Values[p999] = r.Latency.Microseconds(50), r.Latency.Microseconds(99), r.Latency.Microseconds(99.9)
	}
	if r.Done == 0 {
		return o, fmt.Errorf("no %s in the measured window", r.Unit)
	}
	return o, nil
}

func idle(ctx context.Context, b load.Broker, t timing) (outcome, error) {
	w := load.Connections{Count: t.Idle, Filters: 1, KeepAlive: 60, Settle: t.Settle}
	r, err := w.Run(ctx, b, nil)
	if err != nil {
		return outcome{}, err
	}
	o := usage(r.Usage)
	o.Failed = r.Failed
	o.Values[memory] = r.ConnectionBytes
	return o, nil
}

func usage(u load.Usage) outcome {
	return outcome{GeneratorFull: u.GeneratorFull, Values: map[metric]float64{
		rss:       float64(u.BrokerRSS),
		generator: u.Cores(u.GeneratorCPU),
		other:     u.Cores(u.OtherCPU),
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
