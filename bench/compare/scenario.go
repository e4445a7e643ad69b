package compare

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/bench/load"
)

// A metric names one figure of a run.
type metric string

const (
	cpu       metric = "cpu_us"        // broker's CPU time per delivered message, connection or cycle
	rate      metric = "per_second"    // delivered messages, connections or cycles
	p50       metric = "p50_us"        // latency
	p99       metric = "p99_us"        //
	p999      metric = "p999_us"       //
	storeCPU  metric = "stored_cpu_us" // broker's CPU time per message that is queued or retained
	storeRate metric = "stored_per_second"
	memory    metric = "connection_bytes" // growth of the broker's resident set per connection
	absent    metric = "session_bytes"    // the same per absent session, with what is queued for it
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
	mode    mode
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
	storedColumns  = []metric{storeCPU, storeRate, cpu, rate, rss, generator, other}
	absentColumns  = []metric{absent, storeCPU, storeRate, rss, generator, other}
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

// kept gives the subscribers persistent sessions.
func kept(w load.Messages) load.Messages {
	w.Persistent = 1
	return w
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
		name: "retained100k", mode: plain, about: "a new subscriber asks for 100,000 retained messages",
		columns: storedColumns, work: burst(retained),
	},
	{
		name: "replay10k", mode: plain, about: "10,000 clients come back to 100 queued messages each, QoS 1",
		columns: storedColumns, work: burst(replay),
	},
	{
		name: "connect10k", mode: plain, about: "10,000 clients connect and subscribe as fast as they can",
		columns: burstColumns, work: burst(func(t timing) load.Workload {
			return &load.Connections{Count: scaled(10_000, t), Filters: 1, KeepAlive: 60}
		}),
	},
	{
		name: "idle15000", mode: plain, about: "connections with one subscription each, nothing sent",
		columns: idleColumns, checks: []check{{memory, atMost, 1.2 * 1024}}, work: idleOf(math.MaxInt),
	},
	{
		name: "cycles", mode: plain, about: "50 clients connect, subscribe, disconnect, again",
		columns: cycleColumns, checks: []check{{cpu, atMostRatio, 0.8}}, work: burst(func(t timing) load.Workload {
			return &load.Cycles{Count: 50, Warmup: t.Warmup, Duration: t.Duration}
		}),
	},

	messages("pairs100-qos0-w64", "100 pairs, QoS 0, 64 in flight each", 0, nil, pairs(100, 0, 64, 0)).over(secure),
	messages("rate20k-50pairs-qos0", "50 pairs, QoS 0, 20,000 a second in all", 0, nil, pairs(50, 0, 1000, 20_000)).over(secure),
	messages("large-4", "4 pairs, 64 KiB each, QoS 0, 2 in flight each", 0, nil,
		load.Messages{Publishers: 4, Subscribers: 4, Window: 2, Payload: 64 << 10}).over(secure),
	scenario{
		name: "connect2k", about: "2,000 clients connect and subscribe as fast as they can",
		columns: cycleColumns, work: burst(func(t timing) load.Workload {
			return &load.Connections{Count: scaled(2_000, t), Filters: 1, KeepAlive: 60}
		}),
	}.over(secure),
	scenario{name: "idle5000", about: "5,000 connections with one subscription each, nothing sent", columns: idleColumns, work: idleOf(5000)}.over(secure),

	messages("pairs100-qos0-w64", "100 pairs, QoS 0, 64 in flight each", 0, nil, pairs(100, 0, 64, 0)).over(web),
	messages("rate20k-50pairs-qos0", "50 pairs, QoS 0, 20,000 a second in all", 0, nil, pairs(50, 0, 1000, 20_000)).over(web),
	scenario{name: "idle5000", about: "5,000 connections with one subscription each, nothing sent", columns: idleColumns, work: idleOf(5000)}.over(web),

	scenario{name: "idle5000", about: "5,000 connections with one subscription each, nothing sent", columns: idleColumns, work: idleOf(5000)}.over(both),
	scenario{name: "idle5000", about: "5,000 connections with one subscription each, nothing sent", columns: idleColumns, work: idleOf(5000)}.over(local),

	messages("pairs100-qos1-w20", "100 pairs, QoS 1, 20 in flight each, subscribers with persistent sessions", 0, []check{{rate, atLeastRatio, 2}},
		kept(pairs(100, 1, 20, 0))).over(durable),
	messages("pairs100-qos1-w1", "100 pairs, QoS 1, 1 in flight each, subscribers with persistent sessions", 0, nil, kept(pairs(100, 1, 1, 0))).over(durable),
	messages("pairs100-qos2-w20", "100 pairs, QoS 2, 20 in flight each, subscribers with persistent sessions", 0, nil, kept(pairs(100, 2, 20, 0))).over(durable),
	scenario{
		name: "retained100k", about: "100,000 retained messages are stored, then a new subscriber asks for them",
		columns: storedColumns, work: burst(retained),
	}.over(durable),
	scenario{
		name: "replay10k", about: "100 messages are queued for each of 10,000 absent clients, QoS 1, which then come back",
		columns: storedColumns, work: burst(replay),
	}.over(durable),
	scenario{
		name: "absent100k", about: "100,000 absent clients with 10 messages queued for each, QoS 1",
		columns: absentColumns, work: burst(func(t timing) load.Workload {
			return &load.Replay{Sessions: scaled(100_000, t), Queued: 10, Payload: payloadBytes, Returning: scaled(1000, t)}
		}),
	}.over(durable),
}

// suffixes are what a mode adds to the names and descriptions of scenarios.
var suffixes = map[mode]struct{ name, about string }{
	secure:  {"-tls", "; TLS 1.3"},
	web:     {"-ws", "; WebSocket"},
	both:    {"-wss", "; WebSocket on TLS 1.3"},
	local:   {"-unix", "; Unix socket"},
	durable: {"-durable", "; persistence on"},
}

// over is the scenario in another mode.
func (s scenario) over(m mode) scenario {
	s.mode, s.name, s.about = m, s.name+suffixes[m].name, s.about+suffixes[m].about
	return s
}

func retained(t timing) load.Workload {
	return &load.Retained{Messages: scaled(100_000, t), Subscribers: 1, Payload: payloadBytes}
}

func replay(t timing) load.Workload {
	return &load.Replay{Sessions: scaled(10_000, t), Queued: 100, Payload: payloadBytes}
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
	return scenario{name: name, about: about, mode: plain, columns: messageColumns, reference: reference, checks: checks, work: work}
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
	if u := r.Storing; u != nil && r.Sent > 0 {
		o.Values[storeCPU] = float64(u.BrokerCPU) / 1e3 / float64(r.Sent)
		o.Values[storeRate] = float64(r.Sent) / u.Elapsed.Seconds()
	}
	if r.SessionBytes > 0 {
		o.Values[absent] = r.SessionBytes
	}
	if r.Latency.Count > 0 {
		o.Values[p50], o.Values[p99], o.Values[p999] = r.Latency.Microseconds(50), r.Latency.Microseconds(99), r.Latency.Microseconds(99.9)
	}
	if r.Done == 0 {
		return o, fmt.Errorf("no %s in the measured window", r.Unit)
	}
	return o, nil
}

// idleOf is the memory of so many connections, or of fewer where the run says so.
func idleOf(count int) func(context.Context, load.Broker, timing) (outcome, error) {
	return func(ctx context.Context, b load.Broker, t timing) (outcome, error) {
		w := load.Connections{Count: min(t.Idle, count), Filters: 1, KeepAlive: 60, Settle: t.Settle}
		r, err := w.Run(ctx, b, nil)
		if err != nil {
			return outcome{}, err
		}
		o := usage(r.Usage)
		o.Failed = r.Failed
		o.Values[memory] = r.ConnectionBytes
		return o, nil
	}
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
