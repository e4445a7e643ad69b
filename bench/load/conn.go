package load

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// keepAliveSeconds is offered in CONNECT where a workload does not ask for another; see driver.ping.
const keepAliveSeconds = 600

type connState uint8

const (
	connClosed       connState = iota // no socket
	connAwaitConnack                  // CONNECT sent or waiting to be
	connAwaitSuback                   // SUBSCRIBE sent
	connReady                         // packets go to the handler
)

// A conn is one client: one connection at a time, which dial may open again after close.
//
// Ownership: its driver's goroutine. in and out are owned.
type conn struct {
	fd         int
	slot       int // index in driver.conns; what epoll hands back
	state      connState
	publisher  bool // its output leaves at the end of the turn, not of the read
	persistent bool // asks for a session that outlives the connection
	slow       bool // is read by readSlow only
	blocked    bool // the socket took only a part: EPOLLOUT is asked for
	clientID   string
	filters    []string // to subscribe to before it is ready
	subacks    int      // awaited
	qos        uint8
	index      int // of the publisher or subscriber in its workload

	wire *wire // nil: TCP alone

	sessionPresent bool   // of the last CONNACK
	receiveMaximum uint16 // of the last CONNACK
	began          int64  // driver's clock at dial
	pinged         int64  // driver's clock at PINGREQ; 0: no answer awaited

	in    []byte // beginning of a packet of which the rest has not come
	want  int    // its length, once it is known
	out   []byte // bytes to write
	outAt int    // those before are written
}

func (c *conn) begin(fd int, now int64) {
	c.fd, c.state, c.blocked, c.began, c.pinged = fd, connAwaitConnack, false, now, 0
	c.in, c.want, c.out, c.outAt = c.in[:0], 0, c.out[:0], 0
}

// unwritten are the bytes that the socket has not taken.
func (c *conn) unwritten() []byte { return c.out[c.outAt:] }

// flush writes out; what the socket does not take waits for EPOLLOUT.
func (d *driver) flush(c *conn) error {
	if c.state == connClosed {
		return nil
	}
	if c.wire != nil {
		return d.flushWire(c)
	}
	if len(c.unwritten()) == 0 {
		return nil
	}
	n, err := writeSocket(c, c.unwritten())
	if err != nil {
		return err
	}
	if c.outAt += n; c.outAt == len(c.out) {
		c.out, c.outAt = c.out[:0], 0
	}
	if blocked := len(c.out) > 0; blocked != c.blocked {
		return d.watch(c, blocked)
	}
	return nil
}

func (d *driver) watch(c *conn, blocked bool) error {
	c.blocked = blocked
	e := unix.EpollEvent{Fd: int32(c.slot)}
	if !c.slow || c.state != connReady {
		e.Events |= unix.EPOLLIN
	}
	if blocked {
		e.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(d.epoll, unix.EPOLL_CTL_MOD, c.fd, &e); err != nil {
		return fmt.Errorf("load: epoll_ctl: %w", err)
	}
	return nil
}

// read takes what one read brings, handles the whole packets in place and keeps the rest.
func (d *driver) read(c *conn) error { return d.readMost(c, math.MaxInt) }

func (d *driver) readMost(c *conn, most int) error {
	if c.state == connClosed {
		return nil
	}
	if c.wire != nil {
		return d.readWire(c, most)
	}
	b := d.in
	kept := len(c.in)
	if c.want <= len(b) {
		copy(b, c.in)
	} else { // Slow path: a packet longer than the shared buffer is gathered in the connection's own.
		if cap(c.in) < c.want {
			c.in = append(make([]byte, 0, c.want), c.in...)
		}
		b = c.in[:c.want]
	}
	n, err := readSocket(c, b[kept:min(len(b)-kept, most)+kept])
	if n == 0 || err != nil {
		return err
	}
	return d.packets(c, b[:kept+n])
}

func (d *driver) packets(c *conn, b []byte) error {
	now := d.now()
	c.want = 0
	for len(b) > 0 {
		body, size, err := splitPacket(b)
		if err != nil {
			return err
		}
		if body == nil {
			c.want = size
			break
		}
		if err := d.packet(c, b[0], body, now); err != nil {
			return fmt.Errorf("%w (%s)", err, c.clientID)
		}
		if c.state == connClosed {
			return nil
		}
		b = b[size:]
	}
	c.keep(b)
	if c.publisher {
		return nil // its output leaves at the end of the turn
	}
	return d.flush(c)
}

// keep holds on to the beginning of a packet, which may already lie where it is kept.
func (c *conn) keep(b []byte) {
	if len(b) > 0 && cap(c.in) > 0 && &b[0] == &c.in[:1][0] {
		c.in = c.in[:len(b)]
		return
	}
	c.in = append(c.in[:0], b...)
}

func (d *driver) packet(c *conn, first byte, body []byte, now int64) error {
	switch {
	case first == pingrespPacket && len(body) == 0:
		return d.pong(c, now)
	case first == disconnectPacket && len(body) > 0:
		return fmt.Errorf("load: the broker disconnects: %s", reason(body[0]))
	case c.state == connReady: // Fast path: the connection is up.
		return d.handler.packet(c, first, body, now)
	}
	return d.handshake(c, first, body)
}

// handshake takes CONNACK and SUBACK.
func (d *driver) handshake(c *conn, first byte, body []byte) error {
	switch {
	case c.state == connAwaitConnack && first == connackPacket:
		ack, err := parseConnack(d.broker.Version, body)
		if err != nil {
			return err
		}
		c.sessionPresent, c.receiveMaximum = ack.sessionPresent, ack.receiveMaximum
		if len(c.filters) == 0 {
			return d.becomeReady(c)
		}
		d.subscribe(c)
		return d.flush(c)
	case c.state == connAwaitSuback && first == subackPacket:
		packetID, err := parseSuback(d.broker.Version, body, c.qos, filtersIn(c, body))
		if err != nil {
			return err
		}
		if packetID == 0 {
			return fmt.Errorf("load: SUBACK for packet identifier 0")
		}
		if c.subacks--; c.subacks == 0 {
			return d.becomeReady(c)
		}
		return nil
	case first&0xf0 == publishPacket && c.persistent:
		return d.handler.packet(c, first, body, d.now()) // a session that was found again begins at once
	}
	return fmt.Errorf("load: packet 0x%02x of %d bytes was not expected", first, len(body))
}

// filtersPerPacket bounds a SUBSCRIBE, far below what any broker takes as a packet.
const filtersPerPacket = 100

// subscribe sends the filters in as many packets as it takes, identifiers from 1.
func (d *driver) subscribe(c *conn) {
	c.state, c.subacks = connAwaitSuback, 0
	for at := 0; at < len(c.filters); at += filtersPerPacket {
		c.subacks++
		part := c.filters[at:min(len(c.filters), at+filtersPerPacket)]
		c.out = appendSubscribe(c.out, d.broker.Version, uint16(c.subacks), c.qos, part...)
	}
}

// filtersIn is how many filters the SUBSCRIBE had that this SUBACK answers.
func filtersIn(c *conn, suback []byte) int {
	if len(suback) < 2 {
		return 0
	}
	at := (int(suback[0])<<8 + int(suback[1]) - 1) * filtersPerPacket
	return max(0, min(len(c.filters)-at, filtersPerPacket))
}

func (d *driver) becomeReady(c *conn) error {
	c.state = connReady
	d.handshakes--
	d.settled++
	d.up++
	if c.slow {
		if err := d.watch(c, c.blocked); err != nil {
			return err
		}
	}
	return d.handler.ready(c)
}

// closeConn ends the connection, if there is one.
func (d *driver) closeConn(c *conn) {
	switch c.state {
	case connClosed:
		return
	case connReady:
		d.up--
	default:
		d.handshakes--
	}
	if c.wire != nil {
		d.release(c.wire)
	}
	_ = unix.Close(c.fd)
	c.fd, c.state = -1, connClosed
}
