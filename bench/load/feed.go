package load

import (
	"context"
	"fmt"
	"time"
)

// feedWindow is how many messages a feed has open toward the broker.
const feedWindow = 500

// A feed publishes a number of QoS 1 messages over one connection, so that afterwards the broker
// is known to have them.
//
// Ownership: the driver's goroutine.
type feed struct {
	driver *driver
	conn   *conn
	count  uint64
	append func(dst []byte, k uint64, packetID uint16) []byte // the packet of message k

	sent, acked uint64
	window      uint64
	open        []bool // by packet identifier, from 1
}

// newFeed adds the publisher to the driver.
func newFeed(d *driver, clientID string) *feed {
	f := &feed{driver: d, conn: d.add(clientID, 1)}
	f.conn.publisher = true
	return f
}

// start begins with message 0 of count.
func (f *feed) start(count int, appendPacket func(dst []byte, k uint64, packetID uint16) []byte) {
	f.count, f.append, f.sent, f.acked = uint64(count), appendPacket, 0, 0
	f.window = uint64(max(1, min(feedWindow, int(f.conn.receiveMaximum))))
	f.open = make([]bool, f.window+1)
}

// measure is run with what it costs.
func (f *feed) measure(ctx context.Context) (*Usage, error) {
	begin, err := readMeter(f.driver.broker.PID)
	if err != nil {
		return nil, err
	}
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	u, err := usageSince(begin, f.driver.broker.PID)
	return &u, err
}

// run publishes all messages; it fails when none is acknowledged for stallTimeout.
func (f *feed) run(ctx context.Context) error {
	last, at := uint64(0), f.driver.now()
	for f.acked < f.count {
		if err := f.push(); err != nil {
			return err
		}
		if err := f.driver.turn(ctx, f.driver.now()+int64(longestWait)); err != nil {
			return err
		}
		if now := f.driver.now(); f.acked != last {
			last, at = f.acked, now
		} else if now-at > int64(stallTimeout) {
			return fmt.Errorf("load: %d of %d messages were acknowledged, and no more for %v", f.acked, f.count, stallTimeout)
		}
	}
	return nil
}

// stallTimeout bounds every wait for one more message.
const stallTimeout = 30 * time.Second

func (f *feed) push() error {
	for !f.conn.blocked && f.sent < f.count {
		packetID := uint16(f.sent%f.window) + 1
		if f.open[packetID] {
			break
		}
		f.open[packetID] = true
		f.conn.out = f.append(f.conn.out, f.sent, packetID)
		f.sent++
		f.driver.sent++
		if len(f.conn.unwritten()) > readBytes {
			if err := f.driver.flush(f.conn); err != nil {
				return err
			}
		}
	}
	return f.driver.flush(f.conn)
}

// packet takes a PUBACK.
func (f *feed) packet(first byte, body []byte) error {
	packetID, err := parseAck(f.driver.broker.Version, first, body)
	if err != nil {
		return err
	}
	if first != pubackPacket || packetID == 0 || int(packetID) >= len(f.open) || !f.open[packetID] {
		return fmt.Errorf("load: packet 0x%02x for packet identifier %d was not expected", first, packetID)
	}
	f.open[packetID] = false
	f.acked++
	return nil
}
