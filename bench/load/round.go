package load

import (
	"context"
	"fmt"
)

// roundWindow is how many messages of a round are under way at most.
const roundWindow = 64

// A round sends one message, QoS 0, to each of a sample of connections that have been idle, and sees it arrive.
//
// Ownership: the driver's goroutine.
type round struct {
	driver   *driver
	run      uint32
	conn     *conn   // publishes
	sample   []*conn // whom
	open     map[*conn]uint32
	sent     int
	received uint64
	extra    uint64 // deliveries that nobody waits for
}

// sampleOf takes n of these connections, evenly, of those that are up.
func sampleOf(conns []*conn, n int) []*conn {
	var sample []*conn
	for i := range n {
		if c := conns[i*len(conns)/n]; c.state == connReady {
			sample = append(sample, c)
		}
	}
	return sample
}

// send carries the round out; it ends when all have come, or none for lossTimeout.
func (r *round) send(ctx context.Context) error {
	d := r.driver
	last, at := r.received, d.now()
	for int(r.received) < len(r.sample) {
		for r.sent < len(r.sample) && len(r.open) < roundWindow {
			to := r.sample[r.sent]
			r.open[to] = uint32(r.sent)
			frame := newPublishFrame(d.broker.Version, to.filters[0], 0, false, usualPayload)
			r.conn.out = frame.append(r.conn.out, 0, stamp{run: r.run, sequence: uint32(r.sent), due: d.now()})
			r.sent++
			d.sent++
		}
		if err := d.flush(r.conn); err != nil {
			return err
		}
		if err := d.turn(ctx, d.now()+int64(longestWait)); err != nil {
			return err
		}
		if now := d.now(); r.received != last {
			last, at = r.received, now
		} else if now-at > int64(lossTimeout) {
			if len(r.open) == 0 || r.sent == len(r.sample) {
				return nil
			}
			clear(r.open) // they are lost
			at = now
		}
	}
	return nil
}

// packet takes a delivery.
func (r *round) packet(c *conn, first byte, body []byte, now int64) error {
	if first&0xf0 != publishPacket {
		return fmt.Errorf("load: packet 0x%02x at an idle connection", first)
	}
	payload, err := receive(c, r.driver.broker.Version, first, body, 0)
	if err != nil {
		return err
	}
	if len(payload) != usualPayload {
		return fmt.Errorf("load: message of %d bytes, sent were %d", len(payload), usualPayload)
	}
	s := readStamp(payload)
	if s.run != r.run {
		return fmt.Errorf("load: message of another run")
	}
	if sequence, awaited := r.open[c]; !awaited || sequence != s.sequence {
		r.extra++
		r.driver.flawed++
		return nil
	}
	delete(r.open, c)
	r.received++
	r.driver.record(now - s.due)
	return nil
}
