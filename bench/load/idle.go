package load

import (
	"context"
	"fmt"
	"time"
)

// Idle is a workload of connections that hold one subscription each and say nothing.
type Idle struct {
	Connections int
	Settle      time.Duration // from the last SUBACK to the measurement
}

// An IdleResult is what an Idle workload measured.
type IdleResult struct {
	Usage                         // of the time to settle
	Connections     int           `json:"connections"`
	Opening         time.Duration `json:"opening_ns"`  // from the first connect to the last SUBACK
	OpeningCPU      time.Duration `json:"opening_cpu"` // broker's, ns
	BaseRSS         int64         `json:"base_rss_bytes"`
	ConnectionBytes float64       `json:"connection_bytes"` // growth of the broker's resident set per connection
}

// Run opens the connections, lets the broker settle, and compares its resident set with before.
func (w Idle) Run(ctx context.Context, b Broker) (IdleResult, error) {
	if w.Connections < 1 || w.Connections > maxClients || w.Settle < 0 || w.Settle > keepAliveSeconds*time.Second/2 {
		return IdleResult{}, fmt.Errorf("load: Connections must be 1 to %d, Settle at most half of the keep-alive", maxClients)
	}
	d, err := newDriver(b.Address, idleRun{}, maxClients)
	if err != nil {
		return IdleResult{}, err
	}
	defer d.close()
	for i := range w.Connections {
		d.add(fmt.Sprintf("load-i%06d", i), fmt.Sprintf("load/idle/%06d", i), 0)
	}
	return w.measure(ctx, d, b.PID)
}

func (w Idle) measure(ctx context.Context, d *driver, pid int) (IdleResult, error) {
	res := IdleResult{Connections: w.Connections}
	var err error
	if res.BaseRSS, err = residentBytes(pid); err != nil {
		return res, err
	}
	begin, err := readMeter(pid)
	if err != nil {
		return res, err
	}
	if err := d.open(ctx); err != nil {
		return res, err
	}
	opened, err := readMeter(pid)
	if err != nil {
		return res, err
	}
	for until := d.now() + int64(w.Settle); d.now() < until; {
		if err := d.turn(ctx, until); err != nil {
			return res, err
		}
	}
	if res.Usage, err = usageSince(opened, pid); err != nil {
		return res, err
	}
	res.Opening, res.OpeningCPU = opened.at.Sub(begin.at), opened.broker-begin.broker
	res.ConnectionBytes = float64(res.BrokerRSS-res.BaseRSS) / float64(w.Connections)
	return res, nil
}

// An idleRun expects no packets.
type idleRun struct{}

func (idleRun) ready(*conn) error { return nil }

func (idleRun) packet(_ *conn, first byte, _ []byte, _ int64) error {
	return fmt.Errorf("load: packet 0x%02x at an idle connection", first)
}
