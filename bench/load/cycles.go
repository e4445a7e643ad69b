package load

import (
	"context"
	"fmt"
	"time"
)

// Cycles is a workload of clients that connect, subscribe, disconnect, and begin again.
type Cycles struct {
	Clients  int           // at once
	Warmup   time.Duration // before the measured window
	Duration time.Duration // of the measured window
}

// A CyclesResult is what a Cycles workload measured.
type CyclesResult struct {
	Usage
	Cycles uint64 `json:"cycles"` // CONNECT to DISCONNECT, in the measured window
}

// PerSecond is the rate of cycles.
func (r CyclesResult) PerSecond() float64 { return float64(r.Cycles) / r.Elapsed.Seconds() }

// CPUPerCycle is the broker's CPU time per cycle in microseconds.
func (r CyclesResult) CPUPerCycle() float64 {
	return float64(r.BrokerCPU) / 1e3 / float64(max(1, r.Cycles))
}

// Run lets the clients go round and counts.
func (w Cycles) Run(ctx context.Context, b Broker) (CyclesResult, error) {
	if w.Clients < 1 || w.Clients > handshakesOpen || w.Duration <= 0 || w.Warmup < 0 {
		return CyclesResult{}, fmt.Errorf("load: Clients must be 1 to %d, Duration positive, Warmup not negative", handshakesOpen)
	}
	r := &cyclesRun{}
	// Each connection takes the next source address: closed ones keep their port for a while.
	d, err := newDriver(b.Address, r, 1)
	if err != nil {
		return CyclesResult{}, err
	}
	defer d.close()
	r.driver = d
	for i := range w.Clients {
		d.add(fmt.Sprintf("load-c%06d", i), fmt.Sprintf("load/cycle/%06d", i), 0)
	}
	return w.measure(ctx, r, b.PID)
}

func (w Cycles) measure(ctx context.Context, r *cyclesRun, pid int) (CyclesResult, error) {
	d := r.driver
	r.ended = append(r.ended, d.conns...)
	if err := r.drive(ctx, d.now()+int64(w.Warmup)); err != nil {
		return CyclesResult{}, err
	}
	begin, err := readMeter(pid)
	if err != nil {
		return CyclesResult{}, err
	}
	before := r.cycles
	if err := r.drive(ctx, d.now()+int64(w.Duration)); err != nil {
		return CyclesResult{}, err
	}
	usage, err := usageSince(begin, pid)
	if err != nil {
		return CyclesResult{}, err
	}
	return CyclesResult{Usage: usage, Cycles: r.cycles - before}, nil
}

// A cyclesRun ends each connection as soon as it is subscribed.
type cyclesRun struct {
	driver *driver
	cycles uint64
	ended  []*conn // to be dialled again before the next turn
}

func (r *cyclesRun) drive(ctx context.Context, until int64) error {
	d := r.driver
	for d.now() < until {
		for _, c := range r.ended {
			if err := d.dial(c); err != nil {
				return err
			}
		}
		r.ended = r.ended[:0]
		if err := d.turn(ctx, until); err != nil {
			return err
		}
	}
	return nil
}

func (r *cyclesRun) ready(c *conn) error {
	c.out = appendDisconnect(c.out)
	if err := r.driver.flush(c); err != nil {
		return err
	}
	c.close()
	r.cycles++
	r.ended = append(r.ended, c)
	return nil
}

func (r *cyclesRun) packet(_ *conn, first byte, _ []byte, _ int64) error {
	return fmt.Errorf("load: packet 0x%02x after DISCONNECT", first)
}
