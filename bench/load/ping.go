package load

import (
	"fmt"
	"time"
)

// keepUp spreads a PINGREQ of each connection over every, again and again, from now on.
func (d *driver) keepUp(every time.Duration) {
	d.pingNext = 0
	d.pingSpan = max(1, int64(every)/int64(max(1, len(d.conns))))
	d.pingAt = d.now()
}

// ping sends what is due. Without keepUp it first does so after half of the keep-alive, and then in
// a quarter of it each time: so nobody is silent for too long in a long run, and in a run of
// minutes nobody pings at all.
func (d *driver) ping(now int64) error {
	if d.pingSpan == 0 {
		d.keepUp(time.Duration(d.keepAlive) * time.Second / 4)
	}
	for ; d.pingAt <= now; d.pingAt += d.pingSpan {
		if len(d.conns) == 0 {
			continue
		}
		c := d.conns[d.pingNext%len(d.conns)]
		d.pingNext++
		if c.state != connReady || c.pinged != 0 {
			continue
		}
		c.pinged = now
		c.out = appendPing(c.out)
		if err := d.flush(c); err != nil {
			if err := d.fail(c, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *driver) pong(c *conn, now int64) error {
	if c.pinged == 0 {
		return fmt.Errorf("load: PINGRESP without PINGREQ")
	}
	if d.timePings {
		d.record(now - c.pinged)
	}
	c.pinged = 0
	return nil
}

// unanswered are the connections that await a PINGRESP.
func (d *driver) unanswered() (n uint64) {
	for _, c := range d.conns {
		if c.state == connReady && c.pinged != 0 {
			n++
		}
	}
	return n
}
