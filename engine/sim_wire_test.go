package engine

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
)

// A simConn is one connection, both ends, with the bytes on their way. It is
// the transport.Socket of the broker's end.
type simConn struct {
	s      *sim
	client *simClient
	number int
	loop   int
	peer   transport.Peer
	conn   *conn
	simConnect
	opened clock.Time

	// toward the broker
	up      []byte
	total   int // bytes ever sent
	handed  int // bytes the broker got
	sent    []*upPacket
	waiting []*upPacket // handed, but the session is not there yet

	// toward the client
	down    []byte
	frames  []*downFrame // in down
	written int          // bytes the broker ever wrote
	taken   int          // bytes the client ever took
	first   []byte       // what the broker wrote first
	stalled bool
	slow    bool // was stalled once

	closed bool // the broker will not write any more
	gone   bool // the broker's end is down
	lost   bool // the client's end is down

	// model
	claim       int         // number of its CONNECT, in the order the broker handled them; 0 not yet
	sess        *simSession // which it has, or had
	attached    bool
	over        bool // will not get a session any more
	left        bool // DISCONNECT was handled
	heard       clock.Time
	outstanding int               // PUBLISH packets of QoS 1 and 2 written and not finished
	aliases     map[uint16]string // the broker's
	changes     int               // SUBSCRIBEs and UNSUBSCRIBEs handled
	confirmed   int               // of them, acknowledgements written
	checked     int               // packets of the broker checked

	// client
	live    bool // CONNACK was read
	own     map[string]uint16
	owed    []owed
	granted map[uint16][]byte // by packet identifier of SUBSCRIBE: what must be granted
}

// simConnect is what the CONNECT says.
type simConnect struct {
	version   codec.Version
	clean     bool
	expiry    uint32 // in force
	keepAlive uint16
	receive   uint16 // Receive Maximum, 0 none
	maxPacket uint32
	aliasMax  uint16
	will      *simWill
}

// upPacket is a packet of the client, as far as the model must know it.
type upPacket struct {
	kind    codec.PacketType
	end     int // offset behind it
	id      uint16
	code    codec.ReasonCode
	pub     *simPublish
	subs    []codec.Subscription
	subID   uint32
	filters []string
	expiry  int64 // DISCONNECT: Session Expiry Interval, -1 none
}

type simWrite struct {
	c *simConn
	b []byte
}

func (c *simConn) String() string {
	return fmt.Sprintf("%s#%d(loop %d)", c.client.id, c.number, c.loop)
}

func (c *simConn) Write(b []byte) {
	if c.gone || c.closed {
		c.s.fail("%v: broker wrote %x after it closed", c, b)
	}
	if c.first == nil {
		c.first = slices.Clone(b)
	}
	c.s.wrote = append(c.s.wrote, simWrite{c, slices.Clone(b)})
	c.down = append(c.down, b...)
}

func (c *simConn) SetReading(bool) {}

func (c *simConn) Buffered() int {
	if c.stalled {
		return len(c.down)
	}
	return 0
}

func (c *simConn) Close() {
	if c.gone {
		return
	}
	c.closed, c.gone = true, true
	c.peer.Closed(nil)
}
func (c *simConn) CloseWrite() error           { c.closed = true; return nil }
func (c *simConn) Listener() any               { return c.s.b.listeners[0] }
func (c *simConn) TLS() *tls.ConnectionState   { return nil }
func (c *simConn) Proxied() *transport.Proxied { return nil }
func (c *simConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.number}
}
func (c *simConn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883} }

// dial opens a connection for cl on a loop that is not in a turn.
func (s *sim) dial(cl *simClient, cn simConnect) *simConn {
	loop := s.rng.IntN(len(s.envs))
	for s.open[loop] {
		s.endTurn(loop)
	}
	s.dialed++
	c := &simConn{s: s, client: cl, number: s.dialed, loop: loop, simConnect: cn, opened: s.now(),
		aliases: make(map[uint16]string), own: make(map[string]uint16), granted: make(map[uint16][]byte)}
	s.call(loop, func() {
		c.peer = s.envs[loop].loop.Opened(c)
		c.conn = c.peer.(*conn)
	})
	s.conns = append(s.conns, c)
	return c
}

// send puts a packet on its way to the broker.
func (c *simConn) send(p *upPacket, b []byte) {
	c.up = append(c.up, b...)
	c.total += len(b)
	p.end = c.total
	c.sent = append(c.sent, p)
}

// pick returns a random connection for which ok holds, or nil.
func (s *sim) pick(ok func(*simConn) bool) *simConn {
	n := len(s.conns)
	if n == 0 {
		return nil
	}
	for i, at := 0, s.rng.IntN(n); i < n; i++ {
		if c := s.conns[(at+i)%n]; ok(c) {
			return c
		}
	}
	return nil
}

// handSome gives the broker some bytes of a connection.
func (s *sim) handSome() {
	c := s.pick(func(c *simConn) bool { return len(c.up) > 0 && !s.open[c.loop] && !c.gone })
	if c == nil {
		return
	}
	n := len(c.up)
	if s.maybe(1, 3) {
		n = 1 + s.rng.IntN(n)
	}
	s.hand(c, n)
}

// hand gives the broker n bytes of a connection.
func (s *sim) hand(c *simConn, n int) {
	if s.b.options().Overflow == RejectPublisher { // one packet at a time: see [sim.refused]
		n = min(n, c.sent[0].end-c.handed)
	}
	b := slices.Clone(c.up[:n])
	c.up = c.up[n:]
	c.handed += n
	var done []*upPacket
	for len(c.sent) > 0 && c.sent[0].end <= c.handed {
		done = append(done, c.sent[0])
		c.sent = c.sent[1:]
	}
	s.did("%v: broker reads %d bytes, %d packets", c, n, len(done))
	s.call(c.loop, func() {
		s.before(c, done)
		c.peer.Received(b)
		for i := range b { // they were borrowed
			b[i] = 0xEE
		}
		s.received()
	})
}

// before tells the model what the broker is about to handle.
func (s *sim) before(c *simConn, done []*upPacket) {
	if len(done) > 0 && c.conn.state < connClosing {
		c.heard = s.now()
	}
	if c.claim == 0 && len(done) > 0 && c.conn.state == connAwaitConnect {
		s.claimed(c)
		c.waiting = done[1:]
		return
	}
	switch {
	case c.conn.state == connOpen:
		s.chunk, s.pending = c, done
	case c.conn.state == connResume:
		c.waiting = append(c.waiting, done...)
	}
}

// received tells the model what the broker has handled.
func (s *sim) received() {
	s.applyPending()
	s.chunk = nil
}

// applyPending tells the model the packets of the bytes being handled.
func (s *sim) applyPending() {
	for len(s.pending) > 0 {
		p := s.pending[0]
		s.pending = s.pending[1:]
		s.apply(s.chunk, p)
	}
}

// call lets one loop do one thing, as a turn that may stay open while other
// loops run.
func (s *sim) call(i int, f func()) {
	l := s.envs[i].loop
	if len(s.envs) > 1 && !s.calm && s.maybe(1, 3) {
		s.open[i] = true
		l.begin()
	}
	f()
	s.after()
}

func (s *sim) endTurn(i int) {
	s.did("loop %d ends its turn", i)
	s.open[i] = false
	s.envs[i].loop.end()
	s.after()
}

// after brings the model up to what the engine did.
func (s *sim) after() {
	s.observe()
	s.check()
}

// runSome lets one loop that has work do some of it. It reports whether there was one.
func (s *sim) runSome() bool {
	var ready []int
	for i, e := range s.envs {
		if e.woken || s.open[i] {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return false
	}
	i := ready[s.rng.IntN(len(ready))]
	if s.open[i] {
		s.endTurn(i)
	} else {
		s.runLoop(i)
	}
	return true
}

// runLoop lets loop i empty its mailbox, or only its front as if the rest had
// come later. The model follows entry by entry, within one turn.
func (s *sim) runLoop(i int) {
	e := s.envs[i]
	l := e.loop
	e.woken = false
	items := l.mailbox.take(nil)
	n := len(items)
	if n > 0 && !s.calm && s.maybe(1, 3) {
		n = 1 + s.rng.IntN(n)
	}
	s.did("loop %d handles %d of %d entries", i, n, len(items))
	s.call(i, func() {
		l.begin()
		for k := range n {
			l.mailbox.items = append(l.mailbox.items, items[k])
			l.Woken()
			s.observe()
		}
		if n == 0 {
			l.Woken()
		}
		l.end()
	})
	if rest := items[n:]; len(rest) > 0 {
		bytes := 0
		for k := range rest {
			bytes += rest[k].size()
		}
		l.mailbox.items = append(slices.Clone(rest), l.mailbox.items...)
		l.mailbox.bytes += bytes
		l.mailbox.wakeOnce()
	}
}

// noticeSome tells the broker that a client's end is gone, or that it closed.
func (s *sim) noticeSome() {
	c := s.pick(func(c *simConn) bool {
		return c.lost && !c.gone && !s.open[c.loop] && (len(c.up) == 0 || s.maybe(1, 4))
	})
	if c != nil {
		s.notice(c)
	}
}

func (s *sim) notice(c *simConn) {
	s.did("%v: broker notices the end", c)
	c.gone = true
	s.losing = c
	s.call(c.loop, func() { c.peer.Closed(io.EOF) })
	s.losing = nil
}

// stallSome stops or resumes the reading of a connection.
func (s *sim) stallSome() {
	c := s.pick(func(c *simConn) bool { return !c.lost && !c.closed && !c.gone })
	if c == nil {
		return
	}
	c.stalled = !c.stalled
	c.slow = true
	s.did("%v: stalled %v", c, c.stalled)
}

// readSome lets a client read some bytes.
func (s *sim) readSome() {
	c := s.pick(func(c *simConn) bool { return !c.lost && !c.stalled && (len(c.down) > 0 || c.closed) })
	if c == nil {
		return
	}
	n := len(c.down)
	if n > 0 && s.maybe(1, 3) {
		n = 1 + s.rng.IntN(n)
	}
	c.read(n)
}
