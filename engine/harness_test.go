package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
)

// A harness is a broker without sockets and without time of its own: the test
// hands it bytes and moves the clock, and everything has happened when the
// call returns.
type harness struct {
	t     testing.TB
	b     *Broker
	clock *clock.Manual
	envs  []*loopEnv
	next  int // loop of the next dial
	peers []*peer
	off   []func() // what runs off the loops, when held or run lets it
	held  bool     // not now
	due   []*overdue
}

// overdue is what happens when a hook off the loops has not answered in time.
type overdue struct {
	at clock.Time
	f  func() // nil: it has answered
}

// hookDeadline stands for context.AfterFunc, in the harness's time.
func (h *harness) hookDeadline(_ context.Context, f func()) (stop func() bool) {
	d := &overdue{at: h.clock.Now().Add(h.b.options().HookTimeout), f: f}
	h.due = append(h.due, d)
	return func() bool { d.f = nil; return true }
}

// fireOverdue fires the deadlines that have passed, which are in order.
func (h *harness) fireOverdue() {
	for len(h.due) > 0 && h.due[0].at <= h.clock.Now() {
		f := h.due[0].f
		h.due = h.due[1:]
		if f != nil {
			f()
		}
	}
}

// loopEnv stands for the transport of one loop.
type loopEnv struct {
	h     *harness
	loop  *loop
	woken bool
	later clock.Time // a wake-up asked for; 0 none
}

func (e *loopEnv) Wake() { e.woken = true }

// tick is the step in which the harness moves time.
const tick = transport.TickInterval

// newHarness makes a broker with the given number of loops; the listener is
// anonymous and may read $SYS unless o says otherwise.
func newHarness(t testing.TB, loops int, o Options) *harness {
	t.Helper()
	if len(o.Listeners) == 0 {
		o.Listeners = []Listener{{Address: "harness:1883", Anonymous: true, Sys: true}}
	}
	if o.SysInterval == 0 {
		o.SysInterval = -1
	}
	o.Loops = loops
	o.Logger = slog.New(slog.DiscardHandler)
	h := &harness{t: t, clock: new(clock.Manual)}
	h.clock.Advance(time.Hour)
	b, err := newBroker(o, h.clock)
	if err != nil {
		t.Fatal(err)
	}
	h.b = b
	b.off.spawn = func(f func()) { h.off = append(h.off, f) }
	b.off.after = h.hookDeadline
	for _, l := range b.loops {
		e := &loopEnv{h: h, loop: l}
		h.envs = append(h.envs, e)
		l.mailbox.bind(e.Wake)
		l.wakeAfter = func(d time.Duration) { e.later = h.clock.Now().Add(d) }
	}
	return h
}

// each runs f with one loop and with three.
func each(t *testing.T, o Options, f func(t *testing.T, h *harness)) {
	t.Helper()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("loops=%d", n), func(t *testing.T) { f(t, newHarness(t, n, o)) })
	}
}

// run lets the loops work until none has anything to do.
func (h *harness) run() {
	for range 10_000 {
		busy := false
		if len(h.off) > 0 && !h.held {
			f := h.off[0]
			h.off, busy = h.off[1:], true
			f()
		}
		for _, e := range h.envs {
			if e.woken {
				e.woken, busy = false, true
				e.loop.Woken()
			}
		}
		if !busy {
			return
		}
	}
	h.t.Fatal("the loops do not come to rest")
}

// advance moves time on, in ticks.
func (h *harness) advance(d time.Duration) {
	h.t.Helper()
	for end := h.clock.Now().Add(d); h.clock.Now() < end; {
		h.clock.Advance(min(tick, end.Sub(h.clock.Now())))
		h.fireOverdue()
		for _, e := range h.envs {
			if e.later != 0 && e.later <= h.clock.Now() {
				e.later, e.woken = 0, true
			}
			e.loop.Ticked(0)
		}
		h.run()
	}
}

// peer is the client's end of one connection, and the transport.Socket of the
// broker's end.
type peer struct {
	h       *harness
	env     *loopEnv
	conn    transport.Peer
	version codec.Version // to read answers by
	in      []byte        // from the broker, not read yet by the test
	closed  bool          // the broker closed, or half closed
	gone    bool          // the connection is down
	stalled bool          // the test does not take bytes: they count as buffered
	held    int           // bytes buffered while stalled
	paused  bool          // the broker does not read
}

func (p *peer) Write(b []byte) {
	if p.gone || p.closed {
		p.h.t.Errorf("broker wrote %x after it closed", b)
		return
	}
	p.in = append(p.in, b...)
	if p.stalled {
		p.held += len(b)
	}
}
func (p *peer) Buffered() int      { return p.held }
func (p *peer) SetReading(on bool) { p.paused = !on }
func (p *peer) Close() {
	if p.gone {
		return
	}
	p.closed, p.gone = true, true
	p.conn.Closed(nil)
}
func (p *peer) CloseWrite() error           { p.closed = true; return nil }
func (p *peer) Listener() any               { return p.h.b.listeners[0] }
func (p *peer) TLS() *tls.ConnectionState   { return nil }
func (p *peer) Proxied() *transport.Proxied { return nil }
func (p *peer) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }
func (p *peer) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883} }

// dial opens a connection on the next loop in turn.
func (h *harness) dial(v codec.Version) *peer {
	h.next++
	return h.dialOn(h.next%len(h.envs), v)
}

// dialOn opens a connection on one loop.
func (h *harness) dialOn(loop int, v codec.Version) *peer {
	p := &peer{h: h, env: h.envs[loop], version: v}
	p.conn = p.env.loop.Opened(p)
	if p.conn == nil {
		p.closed, p.gone = true, true
	}
	h.peers = append(h.peers, p)
	h.run()
	return p
}

// post sends bytes in one piece without letting other loops run.
func (p *peer) post(b ...[]byte) {
	if !p.gone {
		p.conn.Received(bytes.Join(b, nil))
	}
}

// send sends bytes in one piece and lets everything happen.
func (p *peer) send(b ...[]byte) {
	p.post(b...)
	p.h.run()
}

// hex sends bytes written in hexadecimal, blanks ignored.
func (p *peer) hex(s string) {
	p.h.t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		p.h.t.Fatal(err)
	}
	p.send(b)
}

// cut ends the connection as a network failure does.
func (p *peer) cut() {
	if !p.gone {
		p.gone = true
		p.conn.Closed(io.EOF)
		p.h.run()
	}
}

// frame takes the next packet the broker sent; nil when there is none.
func (p *peer) frame() []byte {
	h, ok, err := codec.ReadHeader(p.in)
	if err != nil || !ok || len(p.in) < h.Size+h.Remaining {
		if len(p.in) > 0 {
			p.h.t.Fatalf("broker sent a broken packet: % x (%v)", p.in, err)
		}
		return nil
	}
	f := p.in[:h.Size+h.Remaining]
	p.in = p.in[h.Size+h.Remaining:]
	return f
}

// read takes the next packet as text; "" when there is none.
func (p *peer) read() string {
	f := p.frame()
	if f == nil {
		return ""
	}
	return describe(p.h.t, f, p.version)
}

// all takes everything that is there, as text.
func (p *peer) all() []string {
	var lines []string
	for s := p.read(); s != ""; s = p.read() {
		lines = append(lines, s)
	}
	return lines
}

// expect takes everything that is there and compares it.
func (p *peer) expect(want ...string) {
	p.h.t.Helper()
	got := p.all()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		p.h.t.Fatalf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	if p.closed {
		p.h.t.Fatal("the broker closed the connection")
	}
}

// expectEnd is expect, and the broker has closed behind it.
func (p *peer) expectEnd(want ...string) {
	p.h.t.Helper()
	got := p.all()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		p.h.t.Fatalf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	if !p.closed {
		p.h.t.Fatal("the broker did not close the connection")
	}
}

// stall stops taking bytes; resume takes what is buffered.
func (p *peer) stall() { p.stalled = true }
func (p *peer) resume() {
	p.stalled, p.held = false, 0
	p.h.advance(tick)
}

// describe writes a packet from the broker in one line:
//
//	CONNACK sp=0 00 {ReceiveMaximum=64}
//	PUBLISH q1 r0 d0 id=1 "topic" "payload" {…}
//	PUBACK 1 00
//	SUBACK 1 [00 80]
func describe(t testing.TB, f []byte, v codec.Version) string {
	t.Helper()
	h, _, err := codec.ReadHeader(f)
	must(t, err)
	body := append([]byte(nil), f[h.Size:]...)
	switch h.Type {
	case codec.CONNACK:
		p, err := codec.ParseConnack(body, v)
		must(t, err)
		return fmt.Sprintf("CONNACK sp=%d %02X%s", bit(p.SessionPresent), byte(p.Code), properties(p.Properties))
	case codec.PUBLISH:
		var p codec.Publish
		must(t, codec.ParsePublish(&p, h.Flags, body, v, codec.FromServer))
		s := fmt.Sprintf("PUBLISH q%d r%d d%d", p.QoS, bit(p.Retain), bit(p.Dup))
		if p.QoS > 0 {
			s += fmt.Sprintf(" id=%d", p.PacketID)
		}
		s += fmt.Sprintf(" %q %q", p.Topic, p.Payload)
		if p.TopicAlias > 0 {
			s += fmt.Sprintf(" alias=%d", p.TopicAlias)
		}
		if p.HasMessageExpiry {
			s += fmt.Sprintf(" expiry=%d", p.MessageExpiry)
		}
		return s + properties(p.Properties)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		p, err := codec.ParseAck(h.Type, body, v)
		must(t, err)
		return fmt.Sprintf("%v %d %02X%s", h.Type, p.PacketID, byte(p.Code), properties(p.Properties))
	case codec.SUBACK:
		var p codec.Suback
		must(t, codec.ParseSuback(&p, body, v))
		return fmt.Sprintf("SUBACK %d [% X]%s", p.PacketID, codes(p.Codes), properties(p.Properties))
	case codec.UNSUBACK:
		var p codec.Unsuback
		must(t, codec.ParseUnsuback(&p, body, v))
		return fmt.Sprintf("UNSUBACK %d [% X]%s", p.PacketID, codes(p.Codes), properties(p.Properties))
	case codec.PINGRESP:
		return "PINGRESP"
	case codec.DISCONNECT:
		p, err := codec.ParseDisconnect(body, v, codec.FromServer)
		must(t, err)
		return fmt.Sprintf("DISCONNECT %02X%s", byte(p.Code), properties(withoutReason(p.Properties)))
	case codec.AUTH:
		p, err := codec.ParseAuth(body, codec.FromServer)
		must(t, err)
		return fmt.Sprintf("AUTH %02X%s", byte(p.Code), properties(p.Properties))
	}
	t.Fatalf("a server does not send %v: % x", h.Type, f)
	return ""
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("broker sent what cannot be read: %v", err)
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func codes(c []codec.ReasonCode) []byte {
	b := make([]byte, len(c))
	for i := range c {
		b[i] = byte(c[i])
	}
	return b
}

// withoutReason leaves the Reason String out: its text is for people.
func withoutReason(p codec.Properties) codec.Properties {
	var out codec.Properties
	for x := range p.All() {
		switch {
		case x.ID == codec.ReasonString:
		case x.ID == codec.UserProperty:
			out = codec.AppendUserProperty(out, string(x.Bytes), string(x.Value))
		case x.Bytes != nil:
			out = codec.AppendBytes(out, x.ID, x.Bytes)
		default:
			out = codec.AppendUint(out, x.ID, x.Uint)
		}
	}
	return out
}

func properties(p codec.Properties) string {
	if len(p) == 0 {
		return ""
	}
	var parts []string
	for x := range p.All() {
		name := strings.ReplaceAll(x.ID.String(), " ", "")
		switch {
		case x.ID == codec.UserProperty:
			parts = append(parts, fmt.Sprintf("%s=%q:%q", name, x.Bytes, x.Value))
		case x.Bytes != nil:
			parts = append(parts, fmt.Sprintf("%s=%q", name, x.Bytes))
		default:
			parts = append(parts, fmt.Sprintf("%s=%d", name, x.Uint))
		}
	}
	return " {" + strings.Join(parts, " ") + "}"
}

// covers names the requirements that a test checks; the table is made from
// these calls (requirements_test.go).
func covers(testing.TB, ...string) {}
