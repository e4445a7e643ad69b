package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Connections is a workload of clients that connect, subscribe, and then only keep alive. Its
// measured window is the time to connect, its latency from connect to CONNACK or SUBACK.
type Connections struct {
	Count     int
	AtOnce    int // between connect and SUBACK at most; 0: HandshakesOpen
	Rate      int // begun per second; 0: as fast as AtOnce lets
	Filters   int // subscriptions of each, to topics of its own
	KeepAlive int // seconds; while they hold, each sends a PINGREQ in this time
	Sample    int // connections that get a message at the end, which needs Filters; 0: none

	Settle time.Duration // from the last SUBACK to Hold
	Hold   time.Duration // measured apart: CPU time of keep-alive, memory at its end
}

// maxConnections bounds Connections.Count: what 250 source addresses have ports for.
const maxConnections = loopbacks * portsOfSource

// Validate checks the workload against its bounds.
func (w *Connections) Validate() error {
	err := check(
		bound{"connections", w.Count, 1, maxConnections},
		bound{"at-once", w.AtOnce, 0, maxClients},
		bound{"rate", w.Rate, 0, maxRate},
		bound{"filters", w.Filters, 0, filtersPerPacket},
		bound{"keep-alive", w.KeepAlive, 1, 65535},
		bound{"sample", w.Sample, 0, w.Count},
	)
	if err != nil {
		return err
	}
	if w.Sample > 0 && w.Filters == 0 {
		return errors.New("load: a sample needs connections with filters")
	}
	return checkDurations(w.Settle, w.Hold)
}

// Unit is one connection.
func (w *Connections) Unit() string { return "connection" }

// Clients is the number of connections, with that of the sample's publisher.
func (w *Connections) Clients() int { return w.Count + min(w.Sample, 1) }

// Scale leaves the rate: it is how fast clients come, not how many there are.
func (w *Connections) Scale(factor float64) {
	w.Count = scaled(w.Count, factor)
	w.Sample = min(w.Sample, w.Count)
}

// Parameters are the fields by name.
func (w *Connections) Parameters() []Parameter {
	return []Parameter{
		{Name: "connections", About: "clients that connect", Number: &w.Count},
		{Name: "at-once", About: "clients in their handshake at once; 0: 64", Number: &w.AtOnce},
		{Name: "rate", About: "connects per second; 0: as fast as at-once lets", Number: &w.Rate},
		{Name: "filters", About: "subscriptions per client", Number: &w.Filters},
		{Name: "keep-alive", About: "seconds between the pings of a client", Number: &w.KeepAlive},
		{Name: "sample", About: "connections that get a message at the end", Number: &w.Sample},
		{Name: "settle", About: "from the last connection to the hold", Duration: &w.Settle},
		{Name: "duration", About: "of the hold, in which clients only ping", Duration: &w.Hold},
	}
}

// Run opens the connections, holds them, and compares the broker's memory with before.
func (w *Connections) Run(ctx context.Context, b Broker, watch func(Sample)) (*Result, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	r := &connectionsRun{Connections: *w}
	d, err := newDriver(b, r, watch)
	if err != nil {
		return nil, err
	}
	defer d.close()
	r.driver = d
	d.keepAlive = uint16(w.KeepAlive)
	// While connections come up nobody pings, unless that alone takes long.
	d.pingAt = int64(time.Duration(w.KeepAlive) * time.Second / 2)
	run := newRunID()
	for i := range w.Count {
		c := d.add(fmt.Sprintf("load-%x-i%06d", run, i), 0)
		for f := range w.Filters {
			c.filters = append(c.filters, fmt.Sprintf("load/%x/idle/%06d/%d", run, i, f))
		}
	}
	r.idle = d.conns
	if w.Sample > 0 {
		r.round = round{driver: d, run: run, open: map[*conn]uint32{}, conn: d.add(fmt.Sprintf("load-%x-round", run), 0)}
	}
	return r.measure(ctx)
}

// A connectionsRun expects no packets before its round.
type connectionsRun struct {
	Connections
	*driver
	idle   []*conn
	round  round
	failed uint64
	first  error // why the first one failed
}

func (r *connectionsRun) measure(ctx context.Context) (*Result, error) {
	res := &Result{Unit: r.Unit()}
	var err error
	if res.BaseRSS, err = r.startRSS(); err != nil {
		return nil, err
	}
	begin, err := readMeter(r.broker.PID)
	if err != nil {
		return nil, err
	}
	r.enter(Measuring, r.expected())
	if err := r.open(ctx, r.idle, atOnceOr(r.AtOnce), r.Rate); err != nil {
		return nil, err
	}
	r.enter(Draining, r.Settle) // what has to settle
	if res.Usage, err = usageSince(begin, r.broker.PID); err != nil {
		return nil, err
	}
	res.Opening = res.Elapsed
	if err := r.until(ctx, r.now()+int64(r.Settle), nil); err != nil {
		return nil, err
	}
	if err := r.hold(ctx, res); err != nil {
		return nil, err
	}
	if res.ConnectionBytes, err = r.growth(res.BaseRSS, r.up); err != nil {
		return nil, err
	}
	if err := r.passRound(ctx, res); err != nil {
		return nil, err
	}
	r.finish(res)
	res.Done = res.Latency.Count
	if res.Failed += r.failed; r.first != nil {
		res.Notes = append(res.Notes, fmt.Sprintf("%d connections failed, the first one: %v", r.failed, r.first))
	}
	return res, nil
}

// hold lets the connections ping and measures what that costs.
func (r *connectionsRun) hold(ctx context.Context, res *Result) error {
	if r.Hold == 0 {
		return nil
	}
	r.timePings = true
	r.keepUp(time.Duration(r.KeepAlive) * time.Second)
	begin, err := readMeter(r.broker.PID)
	if err != nil {
		return err
	}
	r.enter(Holding, r.Hold)
	if err := r.until(ctx, r.now()+int64(r.Hold), nil); err != nil {
		return err
	}
	usage, err := usageSince(begin, r.broker.PID)
	if err != nil {
		return err
	}
	res.Hold = &usage
	// The last pings are about to be answered.
	if err := r.until(ctx, r.now()+int64(time.Second), func() bool { return r.unanswered() == 0 }); err != nil {
		return err
	}
	res.Failed = r.unanswered()
	return nil
}

// passRound sends a message to each of the sample.
func (r *connectionsRun) passRound(ctx context.Context, res *Result) error {
	if r.Sample == 0 {
		return nil
	}
	r.timePings = false
	r.enter(Draining, 0) // the publisher comes in
	if err := r.open(ctx, []*conn{r.round.conn}, 1, 0); err != nil {
		return err
	}
	r.round.sample = sampleOf(r.idle, r.Sample)
	r.enter(Rounding, 0)
	if err := r.round.send(ctx); err != nil {
		return err
	}
	r.closeConn(r.round.conn)
	res.Sent, res.Lost, res.Duplicate = uint64(r.round.sent), uint64(r.round.sent)-r.round.received, r.round.extra
	return nil
}

// expected is how long connecting will take at a rate; 0: not known.
func (r *connectionsRun) expected() time.Duration {
	if r.Rate == 0 {
		return 0
	}
	return time.Duration(float64(r.Count) / float64(r.Rate) * float64(time.Second))
}

func atOnceOr(n int) int {
	if n == 0 {
		return HandshakesOpen
	}
	return n
}

func (r *connectionsRun) ready(c *conn) error {
	r.record(r.now() - c.began)
	return nil
}

func (r *connectionsRun) packet(c *conn, first byte, body []byte, now int64) error {
	if r.phase == Rounding {
		return r.round.packet(c, first, body, now)
	}
	return fmt.Errorf("load: packet 0x%02x at an idle connection", first)
}

// lost counts: how many a broker can take is what is measured.
func (r *connectionsRun) lost(_ *conn, err error) error {
	if r.failed++; r.first == nil {
		r.first = err
	}
	r.flawed++
	return nil
}
