package load

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Result is what a run measured. Usage, Done and Latency are of the measured window; the counts
// of messages cover the whole run.
type Result struct {
	Usage
	Unit    string  `json:"unit"` // what Done counts: "message", "connection", "cycle"
	Done    uint64  `json:"done"`
	Latency Latency `json:"latency"`

	Sent      uint64 `json:"sent"`      // messages published
	Lost      uint64 `json:"lost"`      // deliveries that never came
	Duplicate uint64 `json:"duplicate"` // deliveries that came again
	Late      uint64 `json:"late"`      // deliveries out of order
	Failed    uint64 `json:"failed"`    // connections that failed, pings without an answer

	Open            int           `json:"open"`              // connections at the end
	Opening         time.Duration `json:"opening_ns"`        // from the first connect to the last SUBACK
	BaseRSS         int64         `json:"base_rss_bytes"`    // broker's, before the first connection
	ConnectionBytes float64       `json:"connection_bytes"`  // growth of the broker's resident set per connection; 0: not measured
	QueuedBytes     float64       `json:"queued_bytes"`      // the same per queued or retained message
	SessionBytes    float64       `json:"session_bytes"`     // the same per absent session, with what is queued for it
	Storing         *Usage        `json:"storing,omitempty"` // while the broker takes what it has to queue or retain, Sent messages with QoS 1

	Hold        *Usage  `json:"hold,omitempty"` // while connections only keep alive
	HoldLatency Latency `json:"hold_latency"`   // of PINGREQ to PINGRESP then

	RoundLatency Latency `json:"round_latency"` // of the messages to a sample of idle connections

	Worst  []Flaw   `json:"worst,omitempty"` // publisher and subscriber pairs with losses, duplicates or late messages
	Notes  []string `json:"notes,omitempty"` // what a reader has to know
	Series []Sample `json:"series"`
}

// A Flaw is what did not arrive once and in order from one publisher at one subscriber.
type Flaw struct {
	Publisher  int    `json:"publisher"`
	Subscriber int    `json:"subscriber"` // -1: any member of the share
	Lost       uint64 `json:"lost"`
	Duplicate  uint64 `json:"duplicate"`
	Late       uint64 `json:"late"`
}

// maxFlaws bounds Result.Worst.
const maxFlaws = 20

func (r *Result) addFlaw(f Flaw) {
	r.Lost, r.Duplicate, r.Late = r.Lost+f.Lost, r.Duplicate+f.Duplicate, r.Late+f.Late
	if f.Lost+f.Duplicate+f.Late > 0 {
		r.Worst = append(r.Worst, f)
	}
}

// rankFlaws leaves the worst ones, most messages first.
func (r *Result) rankFlaws() {
	count := func(f Flaw) uint64 { return f.Lost + f.Duplicate + f.Late }
	slices.SortStableFunc(r.Worst, func(a, b Flaw) int { return int(count(b)) - int(count(a)) })
	r.Worst = r.Worst[:min(len(r.Worst), maxFlaws)]
}

// Flawed tells that something failed or that a message did not arrive once and in order.
func (r *Result) Flawed() bool { return r.Lost+r.Duplicate+r.Late+r.Failed > 0 }

// PerSecond is the rate of what Done counts.
func (r *Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Done) / r.Elapsed.Seconds()
}

// CPUPerUnit is the broker's CPU time in microseconds for one of what Done counts.
func (r *Result) CPUPerUnit() float64 { return float64(r.BrokerCPU) / 1e3 / float64(max(1, r.Done)) }

// A Latency is a distribution of latencies.
type Latency struct {
	Count  uint64        `json:"count"`
	Mean   time.Duration `json:"mean_ns"`
	Points []Point       `json:"points,omitempty"` // ascending; the last one is the longest latency
}

// A Point says that this percentage of the latencies was at most At.
type Point struct {
	Percent float64       `json:"percent"`
	At      time.Duration `json:"at_ns"`
}

// percents are the points of a Latency.
var percents = []float64{1, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 97, 98, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h == nil || h.TotalCount() == 0 {
		return Latency{}
	}
	l := Latency{Count: uint64(h.TotalCount()), Mean: time.Duration(h.Mean())}
	for _, p := range percents {
		l.Points = append(l.Points, Point{p, time.Duration(h.ValueAtPercentile(p))})
	}
	return l
}

// At is the latency that this percentage stayed within, which must be one of the points; 0 without latencies.
func (l Latency) At(percent float64) time.Duration {
	for _, p := range l.Points {
		if p.Percent >= percent {
			return p.At
		}
	}
	return 0
}

// Microseconds is At as a number.
func (l Latency) Microseconds(percent float64) float64 { return float64(l.At(percent)) / 1e3 }
