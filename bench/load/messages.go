package load

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Mapping says which subscribers get which publisher's messages.
type Mapping uint8

const (
	Pairs  Mapping = iota // publisher i to subscriber i
	FanOut                // one publisher to all subscribers
	FanIn                 // all publishers to one subscriber
)

func (m Mapping) String() string { return [...]string{"pairs", "fan-out", "fan-in"}[m] }

// Messages is a workload of application messages.
type Messages struct {
	Publishers  int
	Subscribers int
	Mapping     Mapping
	QoS         uint8
	Payload     int // bytes, stamp included

	// Window bounds the messages of a publisher that are in flight: sent and not yet both
	// acknowledged (QoS 1 and 2) and received by every subscriber they are for. So no queue of
	// the broker can grow without end, and no broker has a reason to drop.
	Window int
	// Rate is the messages published per second by all publishers together, evenly spaced; latency
	// counts from when a message was due, also when Window held it back. 0: closed loop, each
	// publisher sends as soon as Window lets it.
	Rate int

	Warmup   time.Duration // before the measured window
	Duration time.Duration // of the measured window
	Drain    time.Duration // to wait afterwards for what is in flight; what is missing then is lost
}

// Bounds of a Messages workload.
const (
	maxClients = 15000
	maxPayload = readBytes / 2
	maxWindow  = sequenceWindow
	maxLatency = int64(time.Minute)
)

// Validate checks the workload against its bounds.
func (w Messages) Validate() error {
	f := func(name string, value, low, high int) error {
		if value < low || value > high {
			return fmt.Errorf("load: %s is %d, must be %d to %d", name, value, low, high)
		}
		return nil
	}
	for _, err := range []error{
		f("Publishers", w.Publishers, 1, maxClients),
		f("Subscribers", w.Subscribers, 1, maxClients),
		f("QoS", int(w.QoS), 0, 2),
		f("Payload", w.Payload, stampBytes, maxPayload),
		f("Window", w.Window, 1, maxWindow),
		f("Rate", w.Rate, 0, 10_000_000),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case w.Mapping > FanIn:
		return fmt.Errorf("load: unknown mapping %d", w.Mapping)
	case w.Mapping == Pairs && w.Publishers != w.Subscribers:
		return fmt.Errorf("load: pairs need as many publishers as subscribers")
	case w.Mapping == FanOut && w.Publishers != 1:
		return fmt.Errorf("load: fan-out needs one publisher")
	case w.Mapping == FanIn && w.Subscribers != 1:
		return fmt.Errorf("load: fan-in needs one subscriber")
	case w.Duration <= 0 || w.Warmup < 0 || w.Drain < 0:
		return fmt.Errorf("load: Duration must be positive, Warmup and Drain not negative")
	}
	return nil
}

// A MessagesResult is what a Messages workload measured. Counts of sent, lost, duplicate and late
// cover the whole run; delivered, usage and latency the measured window.
type MessagesResult struct {
	Usage
	Sent      uint64 `json:"sent"`      // messages published
	Delivered uint64 `json:"delivered"` // messages received
	Lost      uint64 `json:"lost"`      // deliveries that never came
	Duplicate uint64 `json:"duplicate"` // deliveries that came again
	Late      uint64 `json:"late"`      // deliveries out of order

	Latency *hdrhistogram.Histogram `json:"-"` // ns
}

// PerSecond is the rate of delivered messages.
func (r MessagesResult) PerSecond() float64 { return float64(r.Delivered) / r.Elapsed.Seconds() }

// CPUPerMessage is the broker's CPU time per delivered message in microseconds.
func (r MessagesResult) CPUPerMessage() float64 {
	return float64(r.BrokerCPU) / 1e3 / float64(max(1, r.Delivered))
}

// LatencyAt is the latency in microseconds that this percentage of the messages stayed within.
func (r MessagesResult) LatencyAt(percent float64) float64 {
	return float64(r.Latency.ValueAtPercentile(percent)) / 1e3
}

// Run brings up the clients, publishes, measures, and waits for what is in flight.
func (w Messages) Run(ctx context.Context, b Broker) (MessagesResult, error) {
	if err := w.Validate(); err != nil {
		return MessagesResult{}, err
	}
	r := newMessagesRun(w)
	d, err := newDriver(b.Address, r, maxClients)
	if err != nil {
		return MessagesResult{}, err
	}
	defer d.close()
	r.join(d)
	if err := d.open(ctx); err != nil {
		return MessagesResult{}, err
	}
	return r.measure(ctx, b.PID)
}
