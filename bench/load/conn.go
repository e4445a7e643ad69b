package load

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// keepAliveSeconds is offered in CONNECT; no workload is silent for so long, so nobody sends PINGREQ.
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
	fd       int
	slot     int // index in driver.conns; what epoll hands back
	state    connState
	blocked  bool // the socket took only a part: EPOLLOUT is asked for
	clientID string
	filter   string // "": does not subscribe
	qos      uint8
	index    int // of the publisher or subscriber in its workload

	in  []byte // beginning of a packet of which the rest has not come
	out []byte // bytes to write
}

func (c *conn) begin(fd int) {
	c.fd, c.state, c.blocked = fd, connAwaitConnack, false
	c.in, c.out = c.in[:0], c.out[:0]
}

func (c *conn) close() {
	if c.state == connClosed {
		return
	}
	_ = unix.Close(c.fd)
	c.fd, c.state = -1, connClosed
}

// flush writes out; what the socket does not take waits for EPOLLOUT.
func (d *driver) flush(c *conn) error {
	if c.state == connClosed || len(c.out) == 0 {
		return nil
	}
	n, err := unix.Write(c.fd, c.out)
	if errors.Is(err, unix.EAGAIN) {
		n, err = 0, nil
	}
	if err != nil {
		return fmt.Errorf("load: %s: write: %w", c.clientID, err)
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	if blocked := len(c.out) > 0; blocked != c.blocked {
		return d.watch(c, blocked)
	}
	return nil
}

func (d *driver) watch(c *conn, blocked bool) error {
	c.blocked = blocked
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.slot)}
	if blocked {
		e.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(d.epoll, unix.EPOLL_CTL_MOD, c.fd, &e); err != nil {
		return fmt.Errorf("load: epoll_ctl: %w", err)
	}
	return nil
}

// read takes what one read brings, handles the whole packets in place and keeps the rest.
func (d *driver) read(c *conn) error {
	if c.state == connClosed {
		return nil
	}
	kept := copy(d.in, c.in)
	if kept == len(d.in) {
		return fmt.Errorf("load: %s: packet longer than %d bytes", c.clientID, len(d.in))
	}
	n, err := unix.Read(c.fd, d.in[kept:])
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load: %s: read: %w", c.clientID, err)
	}
	if n == 0 {
		return fmt.Errorf("load: %s: the broker closed the connection", c.clientID)
	}
	return d.packets(c, d.in[:kept+n])
}

func (d *driver) packets(c *conn, b []byte) error {
	now := d.now()
	for len(b) > 0 {
		body, size, err := splitPacket(b)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		// Fast path: the connection is up.
		if c.state == connReady {
			err = d.handler.packet(c, b[0], body, now)
		} else {
			err = d.handshake(c, b[0], body)
		}
		if err != nil {
			return fmt.Errorf("%w (%s)", err, c.clientID)
		}
		if c.state == connClosed {
			return nil
		}
		b = b[size:]
	}
	c.in = append(c.in[:0], b...)
	if c.filter == "" {
		return nil // a publisher's output leaves at the end of the turn
	}
	return d.flush(c)
}

// handshake takes CONNACK and SUBACK.
func (d *driver) handshake(c *conn, first byte, body []byte) error {
	switch {
	case c.state == connAwaitConnack && first == connackPacket && len(body) == 2:
		if body[1] != 0 {
			return fmt.Errorf("load: CONNACK refuses with code %d", body[1])
		}
		if c.filter == "" {
			return d.becomeReady(c)
		}
		c.state = connAwaitSuback
		c.out = appendSubscribe(c.out, 1, c.filter, c.qos)
		return d.flush(c)
	case c.state == connAwaitSuback && first == subackPacket && len(body) == 3:
		if body[2] != c.qos {
			return fmt.Errorf("load: SUBACK grants %d, asked was %d", body[2], c.qos)
		}
		return d.becomeReady(c)
	}
	return fmt.Errorf("load: packet 0x%02x of %d bytes was not expected", first, len(body))
}

func (d *driver) becomeReady(c *conn) error {
	c.state = connReady
	d.handshakes--
	return d.handler.ready(c)
}
