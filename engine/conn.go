package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
	"github.com/wheelmq/wheelmq/engine/internal/wheel"
)

type connState uint8

const (
	connAwaitConnect connState = iota // open, no CONNECT yet;            -> connAuth, connDeciding, connResume, connOpen, connClosing, connClosed
	connAuth                          // enhanced authentication;         -> connResume, connOpen, connClosing, connClosed
	connDeciding                      // hooks think about its CONNECT;   -> connResume, connOpen, connClosing, connClosed
	connResume                        // its session is on another loop;  -> connOpen, connClosing, connClosed
	connOpen                          // CONNACK sent, has a session;     -> connClosing, connClosed
	connClosing                       // last packet sent, our side shut; -> connClosed
	connClosed                        // terminal
)

var connNext = [connClosed + 1]uint8{ // bit s of connNext[c] set: s may follow c
	connAwaitConnect: 1<<connAuth | 1<<connDeciding | 1<<connResume | 1<<connOpen | 1<<connClosing | 1<<connClosed,
	connAuth:         1<<connResume | 1<<connOpen | 1<<connClosing | 1<<connClosed,
	connDeciding:     1<<connResume | 1<<connOpen | 1<<connClosing | 1<<connClosed,
	connResume:       1<<connOpen | 1<<connClosing | 1<<connClosed,
	connOpen:         1<<connClosing | 1<<connClosed,
	connClosing:      1 << connClosed,
}

// A conn is one Network Connection. Loop-owned.
//
// Memory: an idle connection holds this struct and no buffer.
type conn struct {
	loop  *loop
	sock  transport.Socket
	cl    *client                    // whose session it has; nil before connOpen and after
	in    *bytebufferpool.ByteBuffer // what arrived of a packet that is not complete; nil when there is none
	out   *bytebufferpool.ByteBuffer // frames made in this turn; nil when there are none
	ext   *connExt                   // what most connections do not need; nil for these
	timer wheel.Node[conn]           // connect deadline, then keep-alive, then the end of closing

	lastSeen  uint32 // loop tick of the last whole packet
	marked    uint32 // turn in which it last got frames to write
	openedAt  uint32 // loop tick of its CONNACK
	keepAlive uint16 // seconds; 0 off
	gate      uint64 // output waits until this batch is committed
	gated     bool   // in loop.commits.gated
	state     connState
	version   codec.Version    // 0 until CONNECT
	index     uint32           // in loop.conns
	dirty     bool             // in loop.dirty
	congested bool             // in loop.congested
	deaf      bool             // takes no packets: by its state, for ext.review or for ext.rate
	counted   bool             // among those of its address
	unwanted  codec.ReasonCode // its CONNECT is refused with it, for its address; 0: it is not
}

// connExt is the part of a connection that only some need.
type connExt struct {
	aliasIn        [][]byte          // by alias-1: topic names the client defined
	aliasOut       map[string]uint16 // by topic name: aliases we defined
	aliasOutMax    uint16            // Topic Alias Maximum of the client, as far as we use it
	maximumPacket  uint32            // of the client; 0: no limit
	noProblemInfo  bool              // Request Problem Information 0
	method         string            // Authentication Method; "" none
	exchange       *authExchange     // in progress
	connecting     *connecting       // between CONNECT and CONNACK
	until          wheel.Node[conn]  // when the right to be connected ends; idle: never
	receiveMaximum uint16            // of this client; 0: as the options say
	packetLimit    int               // of this client; 0: as the options say
	move           *move             // in connResume: what brings the session
	review         *review           // what hooks think about
	countedUser    string            // among whose connections it counts; "" nobody's
	rate           *rate             // what it may send and be sent; nil: as much as it likes
}

// Kinds of a connection's timer.
const (
	timerConnect   uint8 = iota // CONNECT must have been accepted
	timerKeepAlive              // look whether a packet came
	timerClosing                // the peer had time to read our last packet
	timerThrottle               // what was sent too fast is paid for
	timerHeld                   // what was sent to it too fast is paid for
	timerUntil                  // the right to be connected has ended
)

// lingering is how long a connection whose last packet is sent may stay open
// for the peer to read it: a close with unread input would discard the packet.
const lingering = time.Second

func newConn(l *loop, s transport.Socket) *conn {
	c := &conn{loop: l, sock: s, lastSeen: l.ticks}
	c.timer.Owner = c
	c.arm(timerConnect, l.b.options().ConnectTimeout)
	return c
}

// become is the one place that changes the state.
func (c *conn) become(s connState) {
	if connNext[c.state]&(1<<s) == 0 {
		panic("engine: connection cannot go from state " + string('0'+rune(c.state)) + " to " + string('0'+rune(s)))
	}
	c.state = s
	c.deaf = s > connAuth && s != connOpen
}

func (c *conn) arm(kind uint8, d time.Duration) {
	c.timer.Kind = kind
	c.loop.connTimers.Arm(&c.timer, c.loop.now.Add(d))
}

// fireConn handles a connection's timer.
func fireConn(n *wheel.Node[conn]) {
	c := n.Owner
	switch n.Kind {
	case timerConnect:
		c.note("connection closed", codec.Success, "no CONNECT in time")
		c.sock.Close()
	case timerKeepAlive:
		c.checkKeepAlive()
	case timerClosing:
		c.sock.Close()
	case timerThrottle:
		c.unthrottle()
	case timerHeld:
		c.unhold()
	case timerUntil:
		c.fail(codec.NotAuthorized, "the right to be connected has ended")
	}
}

// checkKeepAlive closes the connection, or looks again when a packet seen
// since lets it live. A packet costs one store, no timer operation.
func (c *conn) checkKeepAlive() {
	allowed := keepAliveGrace(c.keepAlive)
	if c.throttled() {
		c.lastSeen = c.loop.ticks // it is not the client that is slow
	}
	due := c.loop.start.Add(time.Duration(c.lastSeen+1) * wheel.Tick).Add(allowed)
	if c.loop.now < due {
		c.loop.connTimers.Arm(&c.timer, due)
		return
	}
	c.fail(codec.KeepAliveTimeout, "no packet within 1.5 times the keep-alive")
}

// keepAliveGrace is the time without a packet that is allowed [MQTT-3.1.2-22].
func keepAliveGrace(seconds uint16) time.Duration {
	return time.Duration(seconds) * time.Second * 3 / 2
}

// Received implements transport.Peer.
func (c *conn) Received(b []byte) {
	l := c.loop
	l.at(workRead)
	l.begin()
	defer l.end() // also when a hook panics: the loop goes on
	l.counters.BytesReceived += uint64(len(b))
	if b = c.consume(b); len(b) > 0 && c.state < connClosing {
		c.keep(b)
	}
}

// reading reports whether packets are taken now. In connDeciding and
// connResume, and while hooks think about the last one, they wait.
func (c *conn) reading() bool { return !c.deaf }

// consume handles the whole packets at the start of b, borrowed, with what was
// kept before it, and returns the rest.
func (c *conn) consume(b []byte) (rest []byte) {
	if c.in != nil && c.reading() {
		b = c.fill(b)
	}
	for len(b) > 0 && c.reading() {
		h, ok := c.header(b)
		if !ok || len(b)-h.Size < h.Remaining {
			break
		}
		n := h.Size + h.Remaining
		if c.loop.asks&onPacket == 0 || c.interceptIn(h, b[:n:n]) {
			c.packet(h, b[h.Size:n:n])
		}
		b = b[n:]
	}
	return b
}

// header reads and checks the fixed header at the start of b. ok is false when
// it is not complete, or refused: then the connection is closing.
func (c *conn) header(b []byte) (h codec.Header, ok bool) {
	h, ok, err := codec.ReadHeader(b)
	if err == nil && !ok {
		return h, false
	}
	if err == nil && c.version == 0 && h.Type != codec.CONNECT {
		c.drop("first packet is not CONNECT") // [MQTT-3.1.0-1]
		return h, false
	}
	if err == nil {
		err = h.CheckFlags(c.version)
	}
	if err != nil {
		c.failWith(err)
		return h, false
	}
	if h.Size+h.Remaining > c.packetLimit() {
		if c.version == 0 && bytes.HasPrefix(b[h.Size:], beginsV5) {
			c.version = codec.V5 // it can be told
		}
		c.fail(codec.PacketTooLarge, "packet larger than the limit")
		return h, false
	}
	return h, true
}

// beginsV5 is how the body of a CONNECT of MQTT 5.0 begins.
var beginsV5 = []byte("\x00\x04MQTT\x05")

func (c *conn) packetLimit() int {
	if c.version == 0 {
		return c.loop.b.options().MaximumConnectSize
	}
	if c.ext != nil && c.ext.packetLimit > 0 {
		return c.ext.packetLimit
	}
	return c.loop.b.options().MaximumPacketSize
}

// fill completes the packet in c.in from b, handles it, and returns the rest of b.
func (c *conn) fill(b []byte) []byte {
	for {
		h, ok := c.header(c.in.B)
		if !c.reading() {
			return nil
		}
		need := 1 // of the header
		if ok {
			need = h.Size + h.Remaining - len(c.in.B)
		}
		switch {
		case need == 0:
			in := c.in
			c.in = nil
			if c.loop.asks&onPacket == 0 || c.interceptIn(h, in.B) {
				c.packet(h, in.B[h.Size:])
			}
			putBuffer(in)
			return b
		case len(b) == 0:
			return nil
		}
		n := min(need, len(b))
		c.in.B = append(growFor(c.in.B, n, need), b[:n]...)
		b = b[n:]
	}
}

// growFor makes room for n bytes, and for more of the need still to come, but
// never for more than has arrived already: a length announced costs nothing.
func growFor(b []byte, n, need int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	grown := make([]byte, len(b), len(b)+max(n, min(need, len(b)+n)))
	copy(grown, b)
	return grown
}

// keep copies b behind what is kept of an incomplete packet, or of packets
// that wait for the session.
func (c *conn) keep(b []byte) {
	if c.in == nil {
		c.in = bytebufferpool.Get()
	}
	most := c.packetLimit() + c.loop.b.options().MaximumConnectSize
	if c.throttled() {
		most += throttledBytes
		c.sock.SetReading(false) // it may have begun again
	}
	if len(c.in.B)+len(b) > most {
		if c.throttled() {
			c.fail(codec.MessageRateTooHigh, "too many packets wait for the rate")
			return
		}
		if c.underReview() {
			c.fail(codec.QuotaExceeded, "too many packets wait for a decision")
			return
		}
		c.drop("too many bytes before the session was there")
		return
	}
	if c.underReview() {
		c.lastSeen = c.loop.ticks // it is not the client that is slow
	}
	c.in.B = append(c.in.B, b...)
}

// resumeReading handles what was kept while packets waited.
func (c *conn) resumeReading() {
	if c.in == nil || !c.reading() {
		return
	}
	defer c.endOnPanic()
	in := c.in
	c.in = nil
	if rest := c.consume(in.B); len(rest) > 0 && c.state < connClosing {
		in.B, c.in = rest, in
		return
	}
	putBuffer(in)
}

// Closed implements transport.Peer: the network connection is gone.
func (c *conn) Closed(err error) {
	if c.state == connClosed {
		return
	}
	l := c.loop
	l.begin()
	defer l.end()
	if c.underReview() && c.state == connOpen && err != nil {
		c.hangUp()
		return
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.note("connection lost", codec.Success, err.Error())
	}
	why := ""
	if err != nil && !errors.Is(err, io.EOF) {
		why = err.Error()
	}
	l.part(hook.ByNetwork, codec.Success, why)
	c.leave(true)
	c.become(connClosed)
	l.connTimers.Cancel(&c.timer)
	l.forget(c)
	c.leaveAddress()
	l.b.open.Add(-1)
	if c.unwanted != codec.Success {
		l.b.unwanted.Add(-1)
	}
	c.release()
}

// release gives the buffers back.
func (c *conn) release() {
	if c.in != nil {
		putBuffer(c.in)
		c.in = nil
	}
	if c.out != nil {
		c.loop.buffers.put(c.out)
		c.out = nil
	}
	if c.ext != nil {
		c.loop.connTimers.Cancel(&c.ext.until)
		c.endRate()
		if u := c.ext.countedUser; u != "" {
			c.loop.b.userConns.Add(u, -1, 0)
		}
		c.ext = nil
	}
}

// extend makes sure that c has its ext.
func (c *conn) extend() *connExt {
	if c.ext == nil {
		c.ext = &connExt{}
	}
	return c.ext
}

// drop closes without a word.
func (c *conn) drop(detail string) {
	c.note("connection closed", codec.Success, detail)
	c.loop.part(hook.ByBroker, codec.Success, detail)
	c.sock.Close()
	c.loop.parting = parting{} // it may have been closed before
}

// failWith answers an error of the codec.
func (c *conn) failWith(err error) {
	var e *codec.Error
	if !errors.As(err, &e) {
		e = &codec.Error{Code: codec.UnspecifiedError, Detail: err.Error()}
	}
	c.fail(e.Code, e.Detail)
}

// fail ends the connection for the peer's mistake: with DISCONNECT under v5,
// with CONNACK when none was sent, without a word in 3.x after CONNACK
// [MQTT-4.13.1-1]. The will is published.
func (c *conn) fail(code codec.ReasonCode, detail string) {
	switch c.state {
	case connAwaitConnect, connAuth, connDeciding, connResume:
		c.refuse(code, detail)
	case connOpen:
		c.note("connection closed", code, detail)
		c.disconnect(code, detail, true)
	}
}

// disconnect sends DISCONNECT where the version has it, and closes. will says
// whether the session's will is to be published.
func (c *conn) disconnect(code codec.ReasonCode, reason string, will bool) {
	if c.version == codec.V5 {
		d := codec.Disconnect{Code: code}
		size := len(d.Append(nil, c.version))
		if reason != "" && c.fits(size+len(reason)+4) {
			d.Properties = codec.AppendBytes(nil, codec.ReasonString, reason)
		}
		if c.fits(size) {
			c.sent(codec.DISCONNECT)
			c.buffer().B = d.Append(c.out.B, c.version)
		}
	}
	c.loop.part(hook.ByBroker, code, reason)
	c.leave(will)
	c.closeAfterOutput()
}

// fits reports whether a packet of n bytes is within the client's Maximum Packet Size.
func (c *conn) fits(n int) bool {
	return c.ext == nil || c.ext.maximumPacket == 0 || uint32(n) <= c.ext.maximumPacket
}

// closeAfterOutput writes what waits, shuts our side and leaves the peer a
// moment to read it.
func (c *conn) closeAfterOutput() {
	if c.state >= connClosing {
		return
	}
	c.become(connClosing)
	if c.throttled() {
		c.sock.SetReading(true) // a close with unread input would discard the last packet
	}
	c.writeOut()
	if c.state == connClosed {
		return
	}
	if c.in != nil {
		putBuffer(c.in)
		c.in = nil
	}
	if c.sock.Buffered() == 0 && c.sock.CloseWrite() != nil {
		c.sock.Close()
		return
	}
	c.arm(timerClosing, lingering)
}

// buffer returns the output buffer and makes sure it is written with this turn.
func (c *conn) buffer() *bytebufferpool.ByteBuffer {
	if c.out == nil {
		c.out = c.loop.buffers.get()
	}
	if c.dirty {
		c.loop.flush.joined(c)
	} else {
		c.dirty = true
		c.marked = c.loop.flush.turn
		c.loop.dirty = append(c.loop.dirty, c)
	}
	return c.out
}

// sent counts one packet.
func (c *conn) sent(t codec.PacketType) { c.loop.counters.PacketsSent[t]++ }

// writeOut hands the frames to the socket. The connection may be closed after it.
func (c *conn) writeOut() {
	out := c.out
	if out == nil || c.state == connClosed {
		return
	}
	if c.gate > c.loop.commits.committed && c.waits() {
		c.checkOutput(c.unsent())
		return
	}
	c.out = nil
	if c.loop.asks&onPacket != 0 {
		out.B = c.interceptOut(out.B)
	}
	c.loop.counters.BytesSent += uint64(len(out.B))
	if len(out.B) > 0 {
		c.sock.Write(out.B)
	}
	c.loop.buffers.put(out)
	if c.state == connOpen {
		c.checkOutput(c.sock.Buffered())
	}
}

// unsent is the number of bytes that the kernel did not take yet.
func (c *conn) unsent() int {
	n := c.sock.Buffered()
	if c.out != nil {
		n += len(c.out.B)
	}
	return n
}

// checkOutput acts on what the client has not read, or may not have before the
// store has more: above the bound it is a slow reader, and a client that makes
// us answer without ever reading the answers is closed.
func (c *conn) checkOutput(buffered int) {
	o := c.loop.b.options()
	switch {
	case buffered > 4*o.OutboundBytes+o.MaximumPacketSize:
		c.loop.counters.OutputOverflows++
		c.drop("the client does not read what it asked for, or the store is too slow for it")
	case buffered > o.OutboundBytes && !c.congested:
		c.congested = true
		c.cl.tellMembers()
		c.loop.congested = append(c.loop.congested, c)
		c.loop.pollLater()
	}
}

// relieve writes early when a lot has collected.
func (c *conn) relieve() {
	if c.out != nil && len(c.out.B) >= flushBytes {
		c.writeOut()
	}
}

// note logs what happened to the connection, at debug level; below it costs a
// check and no more.
func (c *conn) note(event string, code codec.ReasonCode, why string) {
	log := c.loop.b.log
	if log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug(event, "client", c.clientID(), "peer", c.peer(), "version", c.version, "code", code, "why", why)
	}
}

// peer is the remote address, for logs.
func (c *conn) peer() string {
	if a := c.sock.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// door is the listener by which it came.
func (c *conn) door() *door { return c.sock.Listener().(*door) }

func (c *conn) clientID() string {
	if c.cl != nil {
		return c.cl.ClientID
	}
	return ""
}
