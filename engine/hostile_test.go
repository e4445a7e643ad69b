package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// hostileState is where a connection stands when it gets what no client sends.
type hostileState uint8

const (
	hostileFresh  hostileState = iota // before CONNECT
	hostileAuth                       // in enhanced authentication
	hostileResume                     // its session is on its way from another loop
	hostileV31                        // open
	hostileV311
	hostileV5
	hostileClosing // after its DISCONNECT
	hostileStates
)

func (s hostileState) version() codec.Version {
	switch s {
	case hostileFresh:
		return 0
	case hostileV31:
		return codec.V31
	case hostileV311:
		return codec.V311
	default:
		return codec.V5
	}
}

// hostileWill is the payload of the hostile client's will.
const hostileWill = "\x01\xFE will of the hostile \xFE\x01"

// A hostile is a client that is about to misbehave, and one that watches.
type hostile struct {
	*harness
	state hostileState
	peer  *peer
	watch *peer
}

var hostileOptions = Options{Hooks: []any{turnMethod{}}, MaximumPacketSize: 4096}

// newHostile brings a connection into a state. If it has a session, there is a
// will, subscriptions, and deliveries in each step both ways.
func newHostile(t testing.TB, loops int, s hostileState) *hostile {
	t.Helper()
	h := &hostile{harness: newHarness(t, loops, hostileOptions), state: s}
	v := s.version()
	h.watch = h.client(codec.V5, "watch").subscribed(filter("will", 0))
	will := willOf(codec.Will{Topic: []byte("will"), Payload: []byte(hostileWill)})
	switch s {
	case hostileFresh:
		h.peer = h.dial(codec.V5)
	case hostileAuth:
		h.peer = h.dial(v)
		h.peer.send(connectPacket(v, "hostile", true, method("turn", "hello")))
		h.peer.expect(challengeLine)
	case hostileResume:
		h.dialOn(0, v).send(connectPacket(v, "hostile", true, keepFor(60)))
		h.peer = h.dialOn(loops-1, v)
		h.peer.post(connectPacket(v, "hostile", false, keepFor(60), will))
	default:
		h.peer = h.client(v, "hostile", will, keepForIn(v, 60))
		h.begun(v)
		if s == hostileClosing {
			h.peer.send(disconnectPacket(v, 0))
			h.peer.expectEnd()
		}
	}
	return h
}

// begun opens deliveries: toward the client 1 awaits PUBACK, 2 PUBREC, 3
// PUBCOMP; from it 9 awaits PUBREL.
func (h *hostile) begun(v codec.Version) {
	h.peer.subscribed(filter("t/#", 2), filter("+/u", 1))
	pub := h.client(v, "pub")
	pub.send(publishPacket(v, "t/1", "m", 1, 1), publishPacket(v, "t/2", "m", 2, 2), publishPacket(v, "t/3", "m", 2, 3))
	h.peer.send(ackPacket(v, codec.PUBREC, 3, 0), publishPacket(v, "t/u", "m", 2, 9))
	h.peer.in = nil
}

// feed gives the bytes in pieces of step, 0 for one piece, and lets all of it
// happen. What it says must be readable, and the broker consistent.
func (h *hostile) feed(data []byte, step int) {
	h.t.Helper()
	for rest := data; len(rest) > 0; {
		n := len(rest)
		if step > 0 {
			n = min(step, n)
		}
		h.peer.post(append([]byte(nil), rest[:n]...))
		rest = rest[n:]
	}
	h.run()
	c := h.peer.conn.(*conn)
	h.peer.version = c.version
	if c.version == 0 && len(h.peer.in) > 0 {
		h.t.Fatalf("answer without a version: % x", h.peer.in)
	}
	said := h.peer.all()
	h.consistent()
	handled := uint64(0)
	for _, l := range h.b.loops {
		handled += l.counters.PacketsReceived[codec.DISCONNECT]
	}
	if h.peer.closed != (c.state >= connClosing) {
		h.t.Fatalf("closed %v in state %d", h.peer.closed, c.state)
	}
	wills := 0 // how many there must have been
	switch {
	case h.state <= hostileAuth || h.watch.closed:
		wills = -1 // it may have begun any session, or taken that of the watcher
	case h.state == hostileClosing || !h.peer.closed:
	case len(said) > 0 && strings.HasPrefix(said[len(said)-1], "DISCONNECT"), handled == 0,
		!cleanDisconnect(data, c.version):
		wills = 1
	}
	h.wills(wills)
	h.cut(c)
	if h.state >= hostileResume && h.state < hostileClosing && wills == 0 && handled == 0 {
		h.wills(1)
	}
}

// cut waits out a connection that closes, and cuts one that stays open.
func (h *hostile) cut(c *conn) {
	h.t.Helper()
	if h.peer.closed {
		h.advance(lingering + 2*tick)
		if !h.peer.gone {
			h.t.Fatal("the connection is still up")
		}
	}
	h.peer.cut()
	if c.state != connClosed {
		h.t.Fatalf("state %d at the end", c.state)
	}
	h.consistent()
}

// wills takes what the watcher got: n times the hostile client's will.
func (h *hostile) wills(n int) {
	h.t.Helper()
	got := 0
	for _, line := range h.watch.all() {
		if strings.HasSuffix(line, fmt.Sprintf("%q", hostileWill)) {
			got++
		}
	}
	if n >= 0 && got != n {
		h.t.Fatalf("%d wills, want %d", got, n)
	}
}

// cleanDisconnect reports whether the first DISCONNECT in data is one that
// drops the will.
func cleanDisconnect(data []byte, v codec.Version) bool {
	for {
		h, ok, err := codec.ReadHeader(data)
		if err != nil || !ok || len(data) < h.Size+h.Remaining {
			return false
		}
		body := append([]byte(nil), data[h.Size:h.Size+h.Remaining]...)
		if h.Type == codec.DISCONNECT {
			d, err := codec.ParseDisconnect(body, v, codec.FromClient)
			return err == nil && d.Code == codec.Success
		}
		data = data[h.Size+h.Remaining:]
	}
}

// consistent checks what must hold of a broker at rest.
func (h *harness) consistent() {
	h.t.Helper()
	sessions, subscriptions := 0, 0
	var queued, queuedBytes int64
	for _, l := range h.b.loops {
		timers := 0
		for i, c := range l.conns {
			if c.index != uint32(i) || c.loop != l {
				h.t.Fatalf("loop %d: connection %d thinks it is %d", l.id, i, c.index)
			}
			if err := c.consistent(); err != nil {
				h.t.Fatal(err)
			}
			if c.timer.Armed() {
				timers++
			}
		}
		if l.depth != 0 || len(l.dirty) != 0 || len(l.mailbox.items) != 0 || l.connTimers.Len() != timers {
			h.t.Fatalf("loop %d: depth %d, %d dirty, %d in the mailbox, %d connection timers of %d",
				l.id, l.depth, len(l.dirty), len(l.mailbox.items), l.connTimers.Len(), timers)
		}
		live, err := l.slotsConsistent()
		if err != nil {
			h.t.Fatal(err)
		}
		for _, cl := range live {
			subscriptions += len(cl.subs)
			n, bytes := cl.Queued()
			queued, queuedBytes = queued+int64(n), queuedBytes+int64(bytes)
		}
		sessions += len(live)
	}
	if n := h.b.directory.Len(); n != sessions {
		h.t.Fatalf("%d client identifiers, %d sessions", n, sessions)
	}
	if n := h.b.router.Subscriptions() + h.b.router.SharedSubscriptions(); n != subscriptions {
		h.t.Fatalf("%d subscriptions in the router, %d in the sessions", n, subscriptions)
	}
	for _, l := range h.b.loops {
		queued, queuedBytes = queued-l.counters.QueuedMessages, queuedBytes-l.counters.QueuedBytes
	}
	if queued != 0 || queuedBytes != 0 {
		h.t.Fatalf("the figures of what is queued are off by %d messages, %d bytes", queued, queuedBytes)
	}
}

// consistent checks what must hold of an open connection between turns.
func (c *conn) consistent() error {
	switch {
	case c.state == connClosed:
		return fmt.Errorf("a closed connection is in conns")
	case c.dirty || c.out != nil:
		return fmt.Errorf("output left behind")
	case c.state == connResume:
		return fmt.Errorf("a connection waits for its session for ever")
	case c.in != nil && c.state >= connClosing:
		return fmt.Errorf("a closing connection keeps %d bytes", len(c.in.B))
	case (c.cl != nil) != (c.state == connOpen):
		return fmt.Errorf("state %d, session %v", c.state, c.cl)
	case c.cl != nil && (c.cl.conn != c || c.loop.client(c.cl.ref) != c.cl):
		return fmt.Errorf("connection and session of %q do not belong together", c.cl.ClientID)
	case c.timer.Armed() != (c.state != connOpen || c.keepAlive > 0):
		return fmt.Errorf("state %d, timer %v", c.state, c.timer.Armed())
	}
	return nil
}

// slotsConsistent checks the slots of a loop at rest and returns its sessions.
func (l *loop) slotsConsistent() (live []*client, err error) {
	connected, timers := 0, 0
	for slot, cl := range l.slots {
		if cl == nil {
			continue
		}
		live = append(live, cl)
		at, _ := l.b.directory.Lookup(cl.ClientID)
		waits := cl.ext != nil && cl.ext.away != nil
		switch {
		case refLoop(cl.ref) != l.id || refSlot(cl.ref) != uint32(slot):
			return nil, fmt.Errorf("ref %x in slot %d of loop %d", cl.ref, slot, l.id)
		case uint64(at) != uint64(cl.ref):
			return nil, fmt.Errorf("the directory has %q elsewhere", cl.ClientID)
		case cl.moving() != nil:
			return nil, fmt.Errorf("%q is on the move", cl.ClientID)
		case cl.conn != nil && cl.conn.cl != cl:
			return nil, fmt.Errorf("%q has the connection of another", cl.ClientID)
		case cl.conn == nil && cl.expiry == 0:
			return nil, fmt.Errorf("%q should have ended with its connection", cl.ClientID)
		case cl.conn == nil && cl.expiry != expiryNever && !(waits && cl.ext.away.timer.Armed()), cl.conn != nil && waits:
			return nil, fmt.Errorf("%q: connected %v, timer %v", cl.ClientID, cl.conn != nil, waits)
		}
		if waits {
			timers++
		}
		if cl.conn != nil {
			connected++
		}
	}
	free := make(map[uint32]bool)
	for _, slot := range l.free {
		if free[slot] || l.slots[slot] != nil {
			return nil, fmt.Errorf("slot %d is not free, or free twice", slot)
		}
		free[slot] = true
	}
	if len(free)+len(live) != len(l.slots) || l.counters.Sessions != int64(len(live)) ||
		l.counters.Connected != int64(connected) || l.awayTimers.Len() != timers {
		return nil, fmt.Errorf("%d slots, %d free, %d live, %d counted, %d connected of %d, %d timers of %d", len(l.slots),
			len(free), len(live), l.counters.Sessions, connected, l.counters.Connected, timers, l.awayTimers.Len())
	}
	return live, nil
}
