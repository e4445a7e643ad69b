package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// A shuffle drives the loops of a harness in an order that a seed decides, with
// connections that come, go and publish in between. A turn may stay open while
// other loops run: what it routed then leaves late, as on loops that run at the
// same time.
type shuffle struct {
	*harness
	seed  uint64
	rng   *rand.Rand
	open  []bool // by loop: its turn has begun and not ended
	subs  []*roamer
	pubs  []*source
	trace []string // what was done, for the report of a failure
}

// A roamer is a client whose session goes from loop to loop.
type roamer struct {
	id    string
	qos   codec.QoS
	conns []*roamerConn
	seen  []int             // by source: highest number delivered
	again map[string]string // packet identifier and payload of QoS 2 deliveries not released, by identifier
}

type roamerConn struct {
	*peer
	owed [][]byte // acknowledgements not sent yet
	up   bool     // CONNACK came
}

// A source is a client that stays and publishes numbered messages.
type source struct {
	*peer
	qos    codec.QoS
	sent   int
	acked  int
	packet uint16
}

func newShuffle(t *testing.T, seed uint64, loops int, o Options) *shuffle {
	return &shuffle{harness: newHarness(t, loops, o), seed: seed, rng: rand.New(rand.NewPCG(seed, 0)),
		open: make([]bool, loops)}
}

func (s *shuffle) fail(format string, a ...any) {
	s.t.Helper()
	tail := s.trace[max(0, len(s.trace)-60):]
	s.t.Fatalf("seed %d: %s\n%s", s.seed, fmt.Sprintf(format, a...), strings.Join(tail, "\n"))
}

func (s *shuffle) did(format string, a ...any) { s.trace = append(s.trace, fmt.Sprintf(format, a...)) }

// source connects a publisher that stays on one loop.
func (s *shuffle) source(loop int, qos codec.QoS) {
	p := s.dialOn(loop, codec.V5)
	p.send(connectPacket(codec.V5, fmt.Sprint("source", len(s.pubs)), true))
	p.expectConnack(false)
	s.pubs = append(s.pubs, &source{peer: p, qos: qos})
}

// publish sends the source's next message; n is its number, from 1.
func (s *shuffle) publish(i int) {
	p := s.pubs[i]
	p.sent++
	p.packet = p.packet%60000 + 1
	s.did("source %d publishes %d", i, p.sent)
	s.maybeOpen(p.env.loop)
	p.post(publishPacket(codec.V5, fmt.Sprint("t/", i), fmt.Sprint(p.sent), p.qos, p.packet))
	s.acknowledged(p)
}

// acknowledged finishes the exchanges of a source.
func (s *shuffle) acknowledged(p *source) {
	for f := p.frame(); f != nil; f = p.frame() {
		h, _, _ := codec.ReadHeader(f)
		ack, err := codec.ParseAck(h.Type, f[h.Size:], codec.V5)
		if err != nil || ack.Code.Failure() {
			s.fail("publisher got %s", describe(s.t, f, codec.V5))
		}
		if h.Type == codec.PUBREC {
			p.post(ackPacket(codec.V5, codec.PUBREL, ack.PacketID, 0))
		} else {
			p.acked++
		}
	}
}

// connect opens one more connection for the roamer, on any loop.
func (s *shuffle) connect(r *roamer, clean bool, edit ...func(*codec.Connect)) *roamerConn {
	loop := s.rng.IntN(len(s.envs))
	p := &peer{h: s.harness, env: s.envs[loop], version: codec.V5}
	p.conn = p.env.loop.Opened(p)
	s.did("%s connects on loop %d, clean %v", r.id, loop, clean)
	p.post(connectPacket(codec.V5, r.id, clean, edit...))
	c := &roamerConn{peer: p}
	r.conns = append(r.conns, c)
	return c
}

// turn lets one loop that has work do it, or end its turn. It reports whether
// there was one.
func (s *shuffle) turn() bool {
	var ready []*loopEnv
	for i, e := range s.envs {
		if e.woken || s.open[i] {
			ready = append(ready, e)
		}
	}
	if len(ready) == 0 {
		return false
	}
	e := ready[s.rng.IntN(len(ready))]
	if s.open[e.loop.id] {
		s.did("loop %d ends its turn", e.loop.id)
		s.open[e.loop.id] = false
		e.loop.end()
		return true
	}
	s.did("loop %d runs", e.loop.id)
	e.woken = false
	s.maybeOpen(e.loop)
	e.loop.Woken()
	return true
}

// maybeOpen begins a turn of l that ends later.
func (s *shuffle) maybeOpen(l *loop) {
	if !s.open[l.id] && s.rng.IntN(2) == 0 {
		s.open[l.id] = true
		l.begin()
	}
}

// settle lets everything happen.
func (s *shuffle) settle() {
	for range 100_000 {
		for _, r := range s.subs {
			s.collect(r)
		}
		if !s.turn() {
			return
		}
	}
	s.fail("the loops do not come to rest")
}

// collect takes what the broker sent to the roamer and checks it.
func (s *shuffle) collect(r *roamer) {
	for _, c := range r.conns {
		for f := c.frame(); f != nil; f = c.frame() {
			s.received(r, c, append([]byte(nil), f...))
		}
	}
}

func (s *shuffle) received(r *roamer, c *roamerConn, f []byte) {
	h, _, _ := codec.ReadHeader(f)
	body := f[h.Size:]
	switch h.Type {
	case codec.CONNACK:
		for _, o := range r.conns {
			if o != c && o.up && !o.closed && !o.gone {
				s.fail("%s: CONNACK before the old connection was ended", r.id)
			}
		}
		c.up = true
	case codec.PUBLISH:
		s.delivered(r, c, h, body)
	case codec.PUBREL:
		ack, _ := codec.ParseAck(h.Type, body, codec.V5)
		delete(r.again, fmt.Sprint(ack.PacketID))
		c.owed = append(c.owed, ackPacket(codec.V5, codec.PUBCOMP, ack.PacketID, 0))
	case codec.DISCONNECT:
		if d, _ := codec.ParseDisconnect(body, codec.V5, codec.FromServer); d.Code != codec.SessionTakenOver {
			s.fail("%s got %s", r.id, describe(s.t, f, codec.V5))
		}
	}
}

// delivered checks one delivery: a number is new and the next one, or repeated
// with DUP; QoS 2 is repeated only under its packet identifier before PUBREL.
func (s *shuffle) delivered(r *roamer, c *roamerConn, h codec.Header, body []byte) {
	var p codec.Publish
	if err := codec.ParsePublish(&p, h.Flags, body, codec.V5, codec.FromServer); err != nil {
		s.fail("%s: %v", r.id, err)
	}
	var from, n int
	if _, err := fmt.Sscanf(string(p.Topic)+" "+string(p.Payload), "t/%d %d", &from, &n); err != nil {
		s.fail("%s got %q %q", r.id, p.Topic, p.Payload)
	}
	s.did("%s gets %d of %d, q%d id %d dup %v", r.id, n, from, p.QoS, p.PacketID, p.Dup)
	switch last := r.seen[from]; {
	case n == last+1:
		r.seen[from] = n
	case n > last && p.QoS == 0:
		r.seen[from] = n
	case n > last:
		s.fail("%s: message %d of source %d follows %d", r.id, n, from, last)
	case p.QoS == 0 || !p.Dup:
		s.fail("%s: message %d of source %d again, after %d, without DUP", r.id, n, from, last)
	}
	id := fmt.Sprint(p.PacketID)
	switch p.QoS {
	case 1:
		c.owed = append(c.owed, ackPacket(codec.V5, codec.PUBACK, p.PacketID, 0))
	case 2:
		if was, ok := r.again[id]; p.Dup && ok && was != string(p.Topic)+" "+string(p.Payload) {
			s.fail("%s: packet identifier %s repeats as %s %s, was %s", r.id, id, p.Topic, p.Payload, was)
		}
		r.again[id] = string(p.Topic) + " " + string(p.Payload)
		c.owed = append(c.owed, ackPacket(codec.V5, codec.PUBREC, p.PacketID, 0))
	}
}

// answer sends some of the acknowledgements a connection owes.
func (s *shuffle) answer(c *roamerConn, n int) {
	n = min(n, len(c.owed))
	if n > 0 && !c.closed && !c.gone {
		for _, a := range c.owed[:n] {
			c.post(a)
		}
	}
	c.owed = c.owed[n:]
}

// lose ends a connection from the client's side without a word.
func (s *shuffle) lose(r *roamer, c *roamerConn) {
	if !c.gone {
		s.did("%s loses a connection", r.id)
		c.gone = true
		c.conn.Closed(nil)
	}
}

// alive counts the roamer's connections that the broker takes as open.
func (r *roamer) alive() (n int) {
	for _, c := range r.conns {
		if !c.closed && !c.gone {
			n++
		}
	}
	return n
}

// finish lets the roamer connect once more and read until nothing is left.
func (s *shuffle) finish(r *roamer, edit ...func(*codec.Connect)) {
	s.settle()
	c := s.connect(r, false, edit...)
	for range 10_000 {
		s.settle()
		if len(c.owed) == 0 {
			break
		}
		s.answer(c, len(c.owed))
	}
	if r.alive() != 1 || c.closed || !c.up {
		s.fail("%s has %d live connections at the end, want the last one alone", r.id, r.alive())
	}
}

// consistent checks what must hold between loops, router and directory when
// all is at rest.
func (s *shuffle) consistent() {
	s.t.Helper()
	sessions, subscriptions, shared, connected := 0, 0, 0, 0
	for _, l := range s.b.loops {
		for _, cl := range l.slots {
			if cl == nil {
				continue
			}
			sessions++
			if cl.moving() != nil {
				s.fail("session %s is still moving", cl.ClientID)
			}
			if cl.conn != nil {
				connected++
			}
			if at, ok := s.b.directory.Lookup(cl.ClientID); !ok || uint64(at) != uint64(cl.ref) {
				s.fail("directory has session %s elsewhere", cl.ClientID)
			}
			for i := range cl.subs {
				if cl.subs[i].member != nil {
					shared++
				} else {
					subscriptions++
				}
			}
		}
		l.Ticked(0)
	}
	sum := s.b.stats()
	f := func(what string, got, want int) {
		s.t.Helper()
		if got != want {
			s.fail("%s: %d, want %d", what, got, want)
		}
	}
	f("directory", s.b.directory.Len(), sessions)
	f("sessions counted", int(sum.Sessions), sessions)
	f("clients counted as connected", int(sum.Connected), connected)
	f("subscriptions in the router", s.b.router.Subscriptions(), subscriptions)
	f("shared subscriptions in the router", s.b.router.SharedSubscriptions(), shared)
}

// roamer connects a client that keeps its session and subscribes to all sources.
func (s *shuffle) roamer(id string, qos codec.QoS, share string) *roamer {
	r := &roamer{id: id, qos: qos, seen: make([]int, len(s.pubs)), again: make(map[string]string)}
	s.subs = append(s.subs, r)
	c := s.connect(r, true, keepFor(1000))
	s.settle()
	c.post(subscribePacket(codec.V5, 1, filter(share+"t/#", qos)))
	s.settle()
	return r
}

// wander lets the roamer change connections while the sources publish.
func (s *shuffle) wander(steps int, edit ...func(*codec.Connect)) {
	for range steps {
		r := s.subs[s.rng.IntN(len(s.subs))]
		switch k := s.rng.IntN(20); {
		case k < 8:
			s.turn()
		case k < 14:
			s.publish(s.rng.IntN(len(s.pubs)))
		case k < 17:
			s.answer(r.conns[s.rng.IntN(len(r.conns))], 1+s.rng.IntN(5))
		case k < 19:
			s.connect(r, false, edit...)
		default:
			s.lose(r, r.conns[s.rng.IntN(len(r.conns))])
		}
		for _, r := range s.subs {
			s.collect(r)
		}
	}
}

// TestTakeoverKeepsEverything moves sessions between loops while publishers on
// every loop send to them: nothing is lost, each publisher's order holds,
// repetitions are marked, one connection is left.
func TestTakeoverKeepsEverything(t *testing.T) {
	covers(t, "B-takeover-order", "B-takeover-race", "B-order-mixed", "MQTT-4.6.0-6")
	f := func(seed uint64, loops int, qos codec.QoS, share string, steps int) {
		t.Helper()
		s := newShuffle(t, seed, loops, Options{MaxQueuedMessages: Unlimited, MaxQueuedBytes: Unlimited})
		for i := range loops {
			s.source(i, qos)
			s.source(i, qos)
		}
		edit := []func(*codec.Connect){keepFor(1000), with(codec.ReceiveMaximum, uint32(1+s.rng.IntN(12)))}
		s.roamer("one", qos, share)
		if share == "" { // alone in its group: with a second member no order would hold
			s.roamer("two", qos, share)
		}
		s.wander(steps, edit...)
		for _, r := range s.subs {
			s.finish(r, edit...)
		}
		s.settle()
		s.consistent()
		for i, p := range s.pubs {
			s.acknowledged(p)
			s.settle()
			s.acknowledged(p)
			if qos > 0 && p.acked != p.sent {
				s.fail("source %d: %d of %d acknowledged", i, p.acked, p.sent)
			}
			for _, r := range s.subs {
				if qos > 0 && r.seen[i] != p.sent {
					s.fail("%s: %d of %d messages of source %d", r.id, r.seen[i], p.sent, i)
				}
			}
		}
	}
	for seed := range uint64(12) {
		for _, loops := range []int{1, 2, 3, 5} {
			f(seed, loops, 0, "", 150)
			f(seed, loops, 1, "", 150)
			f(seed, loops, 2, "", 150)
			f(seed, loops, 1, "$share/g/", 150)
		}
	}
	for seed := range uint64(4) {
		f(1000+seed, 3, 1, "", 1500)
		f(1000+seed, 3, 2, "", 1500)
	}
}

// TestTakeoverOfMany has ten and fifty connects with one client identifier at
// once, on different loops: the last one the directory saw stays.
func TestTakeoverOfMany(t *testing.T) {
	covers(t, "B-takeover-race")
	f := func(seed uint64, loops, connects int, clean bool) {
		t.Helper()
		s := newShuffle(t, seed, loops, Options{})
		s.source(0, 1)
		r := s.roamer("one", 1, "")
		for range 20 {
			s.publish(0)
		}
		for range connects {
			s.connect(r, clean && s.rng.IntN(2) == 0, keepFor(1000))
			if s.rng.IntN(3) == 0 {
				s.turn()
			}
			s.collect(r)
		}
		s.settle()
		if r.alive() != 1 {
			s.fail("%d of %d connections are left, want 1", r.alive(), connects)
		}
		s.consistent()
		if clean {
			return
		}
		s.finish(r, keepFor(1000))
		if r.seen[0] != 20 {
			s.fail("%d of 20 messages", r.seen[0])
		}
	}
	for seed := range uint64(15) {
		for _, loops := range []int{1, 2, 4} {
			f(seed, loops, 10, false)
			f(seed, loops, 50, false)
			f(seed, loops, 10, true)
			f(seed, loops, 50, true)
		}
	}
}

// TestTakeoverOfShortSessions mixes connects that end, keep and begin sessions
// with losses and time: at the end nothing is left behind.
func TestTakeoverOfShortSessions(t *testing.T) {
	f := func(seed uint64, loops int) {
		t.Helper()
		s := newShuffle(t, seed, loops, Options{MaxQueuedMessages: 20})
		s.source(0, 1)
		r := s.roamer("one", 1, "")
		for range 300 {
			switch k := s.rng.IntN(20); {
			case k < 9:
				s.turn()
			case k < 14:
				c := s.connect(r, s.rng.IntN(3) == 0, keepFor(uint32(s.rng.IntN(3))),
					willOf(codec.Will{Topic: []byte("t/0"), Payload: []byte("1"), DelayInterval: uint32(s.rng.IntN(3))}))
				c.post(subscribePacket(codec.V5, 1, filter("t/#", 1), filter("$share/g/t/+", 1)))
			case k < 16:
				s.pubs[0].post(publishPacket(codec.V5, "t/0", "1", 1, 1))
			case k < 19:
				s.lose(r, r.conns[s.rng.IntN(len(r.conns))])
			default:
				s.clock.Advance(tick)
				s.envs[s.rng.IntN(loops)].loop.Ticked(0)
			}
		}
		for s.turn() {
		}
		if r.alive() > 1 {
			s.fail("%d connections are left", r.alive())
		}
		s.consistent()
		for _, c := range r.conns {
			s.lose(r, c)
		}
		s.advance(5 * time.Second)
		s.consistent()
		if n := s.b.directory.Len(); n != 1 {
			s.fail("%d sessions are left, want the publisher's", n)
		}
		if sum := s.b.stats(); sum.QueuedMessages != 0 || sum.QueuedBytes != 0 {
			s.fail("%d messages, %d bytes are still counted as queued", sum.QueuedMessages, sum.QueuedBytes)
		}
	}
	for seed := range uint64(120) {
		f(seed, 1)
		f(seed, 2)
		f(seed, 3)
	}
}
