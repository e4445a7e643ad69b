package load

import (
	"context"
	"fmt"
	"time"
)

// A Mapping says which subscribers get which publisher's messages.
type Mapping int

// The mappings.
const (
	Pairs  Mapping = iota // publisher i to subscriber i
	FanOut                // every publisher to every subscriber, which asks for each topic by name
	FanIn                 // every publisher to every subscriber, which asks for all by one wildcard
	Shared                // each message to one of the subscribers, which share a subscription
)

func (m Mapping) String() string { return [...]string{"pairs", "fan-out", "fan-in", "shared"}[m] }

// Messages is a workload of application messages.
type Messages struct {
	Publishers  int
	Subscribers int
	Mapping     Mapping
	QoS         int
	Payload     int // bytes, stamp included

	// Window bounds the messages of a publisher that are in flight: sent and not yet both
	// acknowledged (QoS 1 and 2) and received by every subscriber they are for, slow ones excepted.
	// So no queue of the broker can grow without end, and no broker has a reason to drop. A message
	// that is gone for writeOffAfter gives its place free, and is lost unless it comes after all.
	Window int
	// Rate is the messages published per second by all publishers together, evenly spaced; latency
	// counts from when a message was due, also when Window held it back. 0: closed loop, each
	// publisher sends as soon as Window lets it.
	Rate int

	// Persistent, 1, gives the subscribers sessions that outlive their connections, so that a broker
	// with a store keeps what is for them at QoS 1 and 2; they are removed at the end. 0: not.
	Persistent int

	Filters   int // wildcard filters per subscriber that match nothing; then the one that matches has wildcards too
	Slow      int // subscribers, of the first ones, that read SlowBytes a second; their losses do not count
	SlowBytes int

	Warmup   time.Duration // before the measured window
	Duration time.Duration // of the measured window
	Drain    time.Duration // to wait afterwards for what is in flight; what is missing then is lost
}

// writeOffAfter is when a message that has not arrived no longer holds its publisher up.
const writeOffAfter = 5 * time.Second

// maxFilters bounds Messages.Filters.
const maxFilters = 10_000

// Bounds of what a run remembers of each publisher at each subscriber.
const (
	maxStreams = 2_000_000  // 600 bytes
	maxShared  = 50_000_000 // 4 bytes
)

// Validate checks the workload against its bounds.
func (w *Messages) Validate() error {
	err := check(
		bound{"publishers", w.Publishers, 1, maxClients},
		bound{"subscribers", w.Subscribers, 1, maxClients},
		bound{"mapping", int(w.Mapping), int(Pairs), int(Shared)},
		bound{"qos", w.QoS, 0, 2},
		bound{"payload", w.Payload, stampBytes, maxPayload},
		bound{"window", w.Window, 1, maxWindow},
		bound{"rate", w.Rate, 0, maxRate},
		bound{"persistent", w.Persistent, 0, 1},
		bound{"filters", w.Filters, 0, maxFilters},
		bound{"slow", w.Slow, 0, w.Subscribers - 1},
		bound{"slow-bytes", w.SlowBytes, 0, 1 << 30},
	)
	if err != nil {
		return err
	}
	switch {
	case w.Mapping == Pairs && w.Publishers != w.Subscribers:
		return fmt.Errorf("load: pairs need as many publishers as subscribers, not %d and %d", w.Publishers, w.Subscribers)
	case w.Mapping == FanOut && w.Publishers > maxFilters:
		return fmt.Errorf("load: fan-out has one filter per publisher, at most %d", maxFilters)
	case w.Mapping != Pairs && w.Publishers*w.Subscribers > w.mostPairs():
		return fmt.Errorf("load: %d publishers times %d subscribers are more than %d pairs to follow", w.Publishers, w.Subscribers, w.mostPairs())
	case w.Mapping != Pairs && w.Filters > 0:
		return fmt.Errorf("load: filters that match nothing belong to pairs")
	case w.Slow > 0 && w.Mapping != FanOut:
		return fmt.Errorf("load: slow subscribers belong to fan-out")
	case w.Slow > 0 && w.SlowBytes < 1:
		return fmt.Errorf("load: slow subscribers need a rate in slow-bytes")
	case w.Duration <= 0:
		return fmt.Errorf("load: duration must be positive")
	}
	return checkDurations(w.Warmup, w.Duration, w.Drain)
}

func (w *Messages) mostPairs() int {
	if w.Mapping == Shared {
		return maxShared
	}
	return maxStreams
}

// Unit is one delivery.
func (w *Messages) Unit() string { return "message" }

// Clients is publishers and subscribers.
func (w *Messages) Clients() int { return w.Publishers + w.Subscribers }

// Scale keeps one publisher or subscriber one: the rate per publisher stays.
func (w *Messages) Scale(factor float64) {
	before := w.Publishers
	if w.Publishers > 1 {
		w.Publishers = scaled(w.Publishers, factor)
	}
	if w.Subscribers > 1 {
		w.Subscribers = scaled(w.Subscribers, factor)
	}
	w.Slow = min(scaled(w.Slow, factor), w.Slow, w.Subscribers-1)
	if w.Rate > 0 {
		w.Rate = scaled(w.Rate, float64(w.Publishers)/float64(before))
	}
}

// Parameters are the fields by name, Mapping excepted.
func (w *Messages) Parameters() []Parameter {
	return []Parameter{
		{Name: "publishers", About: "publishing clients", Number: &w.Publishers},
		{Name: "subscribers", About: "subscribing clients", Number: &w.Subscribers},
		{Name: "qos", About: "of publications and subscriptions", Number: &w.QoS},
		{Name: "payload", About: "bytes of each message", Number: &w.Payload},
		{Name: "window", About: "messages in flight per publisher", Number: &w.Window},
		{Name: "rate", About: "messages published per second in all; 0: as the window lets", Number: &w.Rate},
		{Name: "persistent", About: "1: the sessions of subscribers outlive their connections", Number: &w.Persistent},
		{Name: "filters", About: "further wildcard filters per subscriber, which match nothing", Number: &w.Filters},
		{Name: "slow", About: "subscribers that read slowly", Number: &w.Slow},
		{Name: "slow-bytes", About: "bytes per second that a slow subscriber reads", Number: &w.SlowBytes},
		{Name: "warmup", About: "before the measured window", Duration: &w.Warmup},
		{Name: "duration", About: "of the measured window", Duration: &w.Duration},
		{Name: "drain", About: "wait at the end for what is in flight", Duration: &w.Drain},
	}
}

// Run brings up the clients, publishes, measures, and waits for what is in flight.
func (w *Messages) Run(ctx context.Context, b Broker, watch func(Sample)) (*Result, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	r := newMessagesRun(*w, b.Version)
	d, err := newDriver(b, r, watch)
	if err != nil {
		return nil, err
	}
	defer d.close()
	r.join(d)
	return r.measure(ctx)
}
