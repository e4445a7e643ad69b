package load

import (
	"context"
	"fmt"
	"time"
)

// Cycles is a workload of clients that connect, subscribe, disconnect, and begin again.
type Cycles struct {
	Count    int           // clients at once
	Warmup   time.Duration // before the measured window
	Duration time.Duration // of the measured window
}

// Validate checks the workload against its bounds.
func (w *Cycles) Validate() error {
	if err := check(bound{"clients", w.Count, 1, HandshakesOpen}); err != nil {
		return err
	}
	if w.Duration <= 0 {
		return fmt.Errorf("load: duration must be positive")
	}
	return checkDurations(w.Warmup, w.Duration)
}

// Unit is one cycle.
func (w *Cycles) Unit() string { return "cycle" }

// Clients is the number of clients at once.
func (w *Cycles) Clients() int { return w.Count }

// Scale changes the number of clients.
func (w *Cycles) Scale(factor float64) { w.Count = scaled(w.Count, factor) }

// Parameters are the fields by name.
func (w *Cycles) Parameters() []Parameter {
	return []Parameter{
		{Name: "clients", About: "clients at once", Number: &w.Count},
		{Name: "warmup", About: "before the measured window", Duration: &w.Warmup},
		{Name: "duration", About: "of the measured window", Duration: &w.Duration},
	}
}

// Run lets the clients go round and counts. The latency is from connect to SUBACK.
func (w *Cycles) Run(ctx context.Context, b Broker, watch func(Sample)) (*Result, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	r := &cyclesRun{}
	d, err := newDriver(b, r, watch)
	if err != nil {
		return nil, err
	}
	defer d.close()
	d.perSource = 1 // closed connections keep their port for a while: take turns
	r.driver = d
	run := newRunID()
	for i := range w.Count {
		d.add(fmt.Sprintf("load-%x-c%06d", run, i), 0, fmt.Sprintf("load/%x/cycle/%06d", run, i))
	}
	return w.measure(ctx, r)
}

func (w *Cycles) measure(ctx context.Context, r *cyclesRun) (*Result, error) {
	res := &Result{Unit: w.Unit()}
	r.ended = append(r.ended, r.conns...)
	r.enter(WarmingUp, w.Warmup)
	if err := r.drive(ctx, r.now()+int64(w.Warmup)); err != nil {
		return nil, err
	}
	begin, err := readMeter(r.broker.PID)
	if err != nil {
		return nil, err
	}
	r.enter(Measuring, w.Duration)
	if err := r.drive(ctx, r.now()+int64(w.Duration)); err != nil {
		return nil, err
	}
	r.enter(Draining, 0)
	if res.Usage, err = usageSince(begin, r.broker.PID); err != nil {
		return nil, err
	}
	r.finish(res)
	res.Done = res.Latency.Count
	return res, nil
}

// A cyclesRun ends each connection as soon as it is subscribed.
type cyclesRun struct {
	*driver
	ended []*conn // to be dialled again before the next turn
}

func (r *cyclesRun) drive(ctx context.Context, until int64) error {
	for r.now() < until {
		for _, c := range r.ended {
			if err := r.dial(c); err != nil {
				return err
			}
		}
		r.ended = r.ended[:0]
		if err := r.turn(ctx, until); err != nil {
			return err
		}
	}
	return nil
}

func (r *cyclesRun) ready(c *conn) error {
	r.record(r.now() - c.began)
	c.out = appendDisconnect(c.out)
	if err := r.flush(c); err != nil {
		return err
	}
	r.closeConn(c)
	r.ended = append(r.ended, c)
	return nil
}

func (r *cyclesRun) packet(_ *conn, first byte, _ []byte, _ int64) error {
	return fmt.Errorf("load: packet 0x%02x after DISCONNECT", first)
}

func (r *cyclesRun) lost(_ *conn, err error) error { return err }
