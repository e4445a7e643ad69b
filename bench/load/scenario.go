package load

import (
	"fmt"
	"strings"
	"time"
)

// A Scenario is a workload with a name.
type Scenario struct {
	Name    string
	About   string
	Version Version         // of MQTT, where the workload needs it or its source says so
	New     func() Workload // a fresh one, to be changed at will
}

// Durations of the scenarios that say when they end.
const (
	usualWarmup   = time.Second
	usualDuration = 10 * time.Second
	usualDrain    = 10 * time.Second
	usualPayload  = 64
)

// suite is what the cases of the Open MQTT Benchmark Suite (github.com/emqx/mqttbs) have in
// common: QoS 1, payloads of 16 bytes, keep-alive 300 s. There a run lasts 5 to 30 minutes.
func suite(m Mapping, publishers, subscribers, rate int) func() Workload {
	return func() Workload {
		w := messages(m, publishers, subscribers, 1, 1000, rate)
		w.Payload = stampBytes
		return w
	}
}

func messages(m Mapping, publishers, subscribers, qos, window, rate int) *Messages {
	return &Messages{
		Publishers: publishers, Subscribers: subscribers, Mapping: m, QoS: qos, Payload: usualPayload, Window: window, Rate: rate,
		Warmup: usualWarmup, Duration: usualDuration, Drain: usualDrain,
	}
}

func plain(m Mapping, publishers, subscribers, window, rate int) func() Workload {
	return func() Workload { return messages(m, publishers, subscribers, 0, window, rate) }
}

func suiteConnections(count, rate int) func() Workload {
	return func() Workload {
		return &Connections{Count: count, Rate: rate, KeepAlive: 300, Settle: time.Second, Hold: usualDuration}
	}
}

// largePayload leaves room for the header within the 1 MiB that brokers commonly take as a packet.
const largePayload = 1<<20 - 256

var scenarios = []Scenario{
	{"conn-tcp-10K-100", "Open MQTT Benchmark Suite: 10,000 clients connect, 100 per second, and stay", V311, suiteConnections(10_000, 100)},
	{"fanout-1-1K-1-1K", "Open MQTT Benchmark Suite: 1 publisher to 1,000 subscribers, 1,000 deliveries per second", V311, suite(FanOut, 1, 1000, 1)},
	{"p2p-1K-1K-1K-1K", "Open MQTT Benchmark Suite: 1,000 publishers to 1,000 subscribers by 1,000 topics, 1,000 messages per second", V311, suite(Pairs, 1000, 1000, 1000)},
	{"sharedsub-1K-5-1K-1K", "Open MQTT Benchmark Suite: 1,000 publishers to 5 subscribers that share, 1,000 messages per second", V5, suite(Shared, 1000, 5, 1000)},
	{"conn-tcp-1M-5K", "Open MQTT Benchmark Suite: 1,000,000 clients connect, 5,000 per second, and stay", V311, suiteConnections(1_000_000, 5000)},
	{"fanout-5-1000-5-250K", "Open MQTT Benchmark Suite: 5 publishers to 1,000 subscribers of 5 topics, 250,000 deliveries per second", V311, suite(FanOut, 5, 1000, 250)},
	{"p2p-50K-50K-50K-50K", "Open MQTT Benchmark Suite: 50,000 publishers to 50,000 subscribers, 50,000 messages per second", V311, suite(Pairs, 50_000, 50_000, 50_000)},
	{"sharedsub-50K-500-50K-50K", "Open MQTT Benchmark Suite: 50,000 publishers to 500 subscribers that share, 50,000 messages per second", V5, suite(Shared, 50_000, 500, 50_000)},

	{"pairs", "100 publishers, each to a subscriber of its own, 64 messages in flight each", V311, plain(Pairs, 100, 100, 64, 0)},
	{"pairs-isolated", "100 pairs, one message in flight each", V311, plain(Pairs, 100, 100, 1, 0)},
	{"pairs-rate", "50 pairs, 20,000 messages per second in all", V311, plain(Pairs, 50, 50, 1000, 20_000)},
	{"fan-out", "1 publisher to 500 subscribers, 8 messages in flight", V311, plain(FanOut, 1, 500, 8, 0)},
	{"fan-in", "100 publishers to 1 subscriber, 64 messages in flight each", V311, plain(FanIn, 100, 1, 64, 0)},
	{"shared", "100 publishers to 10 subscribers that share, 64 messages in flight each", V5, plain(Shared, 100, 10, 64, 0)},
	{"retained", "retained storm: a new subscriber asks for 100,000 retained messages", V311, func() Workload {
		return &Retained{Messages: 100_000, Subscribers: 1, QoS: 0, Payload: usualPayload}
	}},
	{"connect", "connect storm: 10,000 clients connect and subscribe as fast as the broker lets them", V311, func() Workload {
		return &Connections{Count: 10_000, Filters: 1, KeepAlive: 60, Settle: time.Second}
	}},
	{"cycles", "50 clients connect, subscribe, disconnect, and begin again", V311, func() Workload {
		return &Cycles{Count: 50, Warmup: usualWarmup, Duration: usualDuration}
	}},
	{"idle", "15,000 clients with a subscription each hold their connections and ping every 60 s; then 1,000 of them get a message", V311, func() Workload {
		return &Connections{Count: 15_000, Filters: 1, KeepAlive: 60, Settle: 5 * time.Second, Hold: usualDuration, Sample: 1000}
	}},
	{"replay", "10,000 clients come back to persistent sessions with 100 messages queued in each", V311, func() Workload {
		return &Replay{Sessions: 10_000, Queued: 100, Payload: usualPayload}
	}},
	{"slow", "1 publisher to 100 subscribers, 2,000 messages of 1 KiB per second, of which 5 subscribers read 16 KiB/s only", V311, func() Workload {
		w := messages(FanOut, 1, 100, 0, 1000, 2000)
		w.Payload, w.Slow, w.SlowBytes = 1024, 5, 16<<10
		return w
	}},
	{"wildcards", "100 pairs, each subscriber with 100 wildcard filters of which one matches, 64 messages in flight each", V311, func() Workload {
		w := messages(Pairs, 100, 100, 0, 64, 0)
		w.Filters = 99
		return w
	}},
	{"large", "4 pairs, payloads of 1 MiB less the header, 2 messages in flight each", V311, func() Workload {
		w := messages(Pairs, 4, 4, 0, 2, 0)
		w.Payload = largePayload
		return w
	}},
}

// Scenarios are all scenarios, in the order in which they are listed.
func Scenarios() []Scenario { return append([]Scenario(nil), scenarios...) }

// FindScenario looks a scenario up by its name.
func FindScenario(name string) (Scenario, error) {
	var names []string
	for _, s := range scenarios {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(names, ", "))
}

// Set changes one parameter of a workload.
func Set(w Workload, name, value string) error {
	var names []string
	for _, p := range w.Parameters() {
		if p.Name == name {
			return p.Set(value)
		}
		names = append(names, p.Name)
	}
	return fmt.Errorf("this workload has no %s; it has %s", name, strings.Join(names, ", "))
}

// spareFiles is what a process needs beside connections.
const spareFiles = 200

// Fit is by what factor to scale a workload so that a process that may open so many files can hold its
// connections; at most 1.
func Fit(w Workload, files uint64) float64 {
	room := float64(files) - spareFiles
	return min(1, max(room, 1)/float64(max(1, w.Clients())))
}
