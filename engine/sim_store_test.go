package engine

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/store"
)

// The second simulation is about the store: it commits late, fails, is full or
// too busy for a while, and the process ends at any moment, with some of what
// waited committed and nobody told. Clients do what the standard says. By the
// end, whatever was acknowledged has arrived: at QoS 2 once, and for the first time in
// order.
//
// go test ./engine -run SimulatedStore -simstore.seed=N plays a run again.

var (
	simStoreSeed = flag.Uint64("simstore.seed", 0, "seed of the first simulated run with a store (0: 1)")
	simStoreRuns = flag.Int("simstore.runs", 0, "such runs (0: 200, or 1 with -simstore.seed)")
)

func TestSimulatedStore(t *testing.T) {
	first, runs := *simStoreSeed, *simStoreRuns
	if runs == 0 && first == 0 {
		runs = 200
	}
	for seed := max(1, first); seed < max(1, first)+uint64(max(1, runs)); seed++ {
		newStoreSim(t, seed).play()
	}
}

// A moodyStore does what the simulation says with what is committed.
type moodyStore struct {
	kept    *store.Memory
	waiting []waitingCommit
	failing bool // commits fail, and so does reading
	busy    bool // none is taken
	full    bool
}

type waitingCommit struct {
	b    *store.Batch
	done func(*store.Batch, error)
}

func (m *moodyStore) First() uint64 { return m.kept.First() }
func (m *moodyStore) Full() bool    { return m.full }
func (m *moodyStore) Close() error  { return nil }

func (m *moodyStore) Commit(b *store.Batch, done func(*store.Batch, error)) error {
	if m.busy {
		return store.ErrBusy
	}
	m.waiting = append(m.waiting, waitingCommit{b, done})
	return nil
}

func (m *moodyStore) Load(ctx context.Context, l store.Loader) error { return m.kept.Load(ctx, l) }

func (m *moodyStore) ReadQueue(id store.SessionID, after store.Position, f func(store.Position, *store.Delivery, *store.Message) bool) error {
	if m.failing {
		return store.ErrUnavailable
	}
	return m.kept.ReadQueue(id, after, f)
}

// commit does with the first that waits what the store is in the mood for.
func (m *moodyStore) commit() bool {
	if len(m.waiting) == 0 {
		return false
	}
	w := m.waiting[0]
	m.waiting = m.waiting[1:]
	if err := w.b.Begin(); err != nil || m.failing {
		w.b.Fail()
		w.done(w.b, store.ErrUnavailable)
		return true
	}
	m.keep(w)
	w.done(w.b, nil)
	return true
}

func (m *moodyStore) keep(w waitingCommit) {
	kept := make(chan struct{})
	if err := m.kept.Commit(w.b, func(*store.Batch, error) { close(kept) }); err != nil {
		panic(err)
	}
	<-kept
}

// A storeSim is one run.
type storeSim struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	h     *harness
	store *moodyStore
	opts  Options
	loops int
	pubs  []*storePublisher
	subs  []*storeSubscriber
	trace []string
	calm  bool
}

func newStoreSim(t *testing.T, seed uint64) *storeSim {
	s := &storeSim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), store: &moodyStore{kept: store.NewMemory()}}
	s.loops = 1 + s.rng.IntN(3)
	s.opts = Options{Store: s.store, LoopDelay: -1, SessionExpiryLimit: Unlimited, MaxQueuedMessages: Unlimited, MaxQueuedBytes: Unlimited,
		MaxInflight: uint16(1 + s.rng.IntN(5)), QueueMemory: Limit(1 + s.rng.IntN(2)*(1<<20))}
	s.start()
	version := func() codec.Version { return []codec.Version{codec.V311, codec.V5}[s.rng.IntN(2)] }
	for i := range 3 {
		c := storePeer{s: s, id: fmt.Sprint("sub", i), version: version()}
		s.subs = append(s.subs, &storeSubscriber{storePeer: c, qos: codec.QoS(1 + s.rng.IntN(2)), open: map[uint16]bool{}, got: map[string][]int{}})
	}
	for i := range 3 {
		s.pubs = append(s.pubs, &storePublisher{storePeer: storePeer{s: s, id: fmt.Sprint("pub", i), version: version()}, result: map[int]string{}, odd: map[int]bool{}})
	}
	for _, x := range s.subs { // before anything goes wrong
		x.connect()
		s.settle()
		x.read()
		x.peer.send(subscribePacket(x.version, 1, filter("t/#", x.qos)))
		s.settle()
		x.read()
		if !x.subscribed {
			s.fail("%s has no SUBACK", x.id)
		}
	}
	return s
}

func (s *storeSim) start() {
	s.h = newHarness(s.t, s.loops, s.opts)
	if err := s.h.b.loadStore(); err != nil {
		s.fail("%v", err)
	}
	if s.rng.IntN(2) == 0 {
		s.h.advance(time.Second)
	}
}

func (s *storeSim) did(format string, a ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, a...))
}

func (s *storeSim) fail(format string, a ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\nseed %d (%d loops): %s", strings.Join(s.trace[max(0, len(s.trace)-4*traceTail):], "\n"), s.seed, s.loops, fmt.Sprintf(format, a...))
}

// settle commits all that waits and lets everything happen.
func (s *storeSim) settle() {
	for s.h.run(); s.store.commit(); s.h.run() {
	}
}

func (s *storeSim) play() {
	for range 150 + s.rng.IntN(250) {
		s.step()
	}
	s.end()
	for _, x := range s.subs {
		x.check()
	}
}

func (s *storeSim) step() {
	pub, sub := s.pubs[s.rng.IntN(len(s.pubs))], s.subs[s.rng.IntN(len(s.subs))]
	switch k := s.rng.IntN(100); {
	case k < 30:
		pub.act()
	case k < 45:
		sub.connect()
		sub.read()
	case k < 55:
		sub.read()
	case k < 58:
		sub.cut()
	case k < 61:
		pub.cut()
	case k < 88:
		for range s.rng.IntN(4) {
			s.store.commit()
		}
		s.h.run()
	case k < 92:
		s.h.advance(time.Duration(s.rng.IntN(1500)) * time.Millisecond)
	case k < 95:
		s.change(&s.store.failing, "failing", 3)
	case k < 97:
		s.change(&s.store.busy, "busy", 2)
	case k < 99:
		s.change(&s.store.full, "full", 2)
	default:
		s.crash()
	}
}

// change changes one mood, which is a good one most of the time.
func (s *storeSim) change(mood *bool, name string, bad int) {
	if on := s.rng.IntN(bad+2) < 2; on != *mood {
		*mood = on
		s.did("the store is %s: %v", name, on)
	}
}

// crash ends the process: some of what waited is committed, in order, and nobody hears of it.
func (s *storeSim) crash() {
	n := s.rng.IntN(len(s.store.waiting) + 1)
	if s.store.failing {
		n = 0
	}
	for _, w := range s.store.waiting[:n] {
		if w.b.Begin() == nil {
			s.store.keep(w)
		}
	}
	s.did("crash, %d of %d batches are committed", n, len(s.store.waiting))
	s.store.waiting = nil
	*s.store = moodyStore{kept: s.store.kept}
	for _, x := range s.subs {
		x.peer = nil
	}
	for _, x := range s.pubs {
		x.peer = nil
	}
	s.start()
}

// end lets nothing go wrong any more, until nothing happens.
func (s *storeSim) end() {
	s.calm = true
	s.did("calm")
	s.store.failing, s.store.busy, s.store.full = false, false, false
	for quiet := 0; quiet < 20; quiet++ {
		s.settle()
		s.h.advance(tick)
		before := len(s.trace)
		for _, x := range s.subs {
			x.connect()
			s.settle()
			x.read()
		}
		for _, x := range s.pubs {
			x.connect()
			s.settle()
			x.read()
		}
		if len(s.trace) > before {
			quiet = 0
		}
		if len(s.trace) > 100_000 {
			s.fail("it does not come to rest")
		}
	}
	for _, x := range s.subs {
		if !x.inside {
			s.fail("%s does not come in any more", x.id)
		}
	}
	for _, x := range s.pubs {
		if len(x.flight) > 0 || !x.inside {
			s.fail("%s has no answer to %+v", x.id, x.flight)
		}
	}
}

// storePeer is what clients have in common: a session that is kept.
type storePeer struct {
	s       *storeSim
	id      string
	version codec.Version
	peer    *peer
	known   bool // the broker has said that there is a session
	inside  bool // CONNACK came on this connection
}

func (c *storePeer) connect() {
	if c.peer != nil && !c.peer.closed && !c.peer.gone {
		return
	}
	c.inside = false
	c.peer = c.s.h.dialOn(c.s.rng.IntN(c.s.loops), c.version)
	var edit []func(*codec.Connect)
	if c.version == codec.V5 {
		edit = append(edit, keepFor(0xFFFFFFFF))
	}
	c.s.did("%s connects", c.id)
	c.peer.send(connectPacket(c.version, c.id, false, edit...))
}

func (c *storePeer) cut() {
	if c.peer != nil && !c.peer.gone {
		c.s.did("%s is cut", c.id)
		c.peer.cut()
		c.peer = nil
	}
}

// packets takes what has come, and calls f for all but CONNACK and DISCONNECT.
// accepted is called at CONNACK.
func (c *storePeer) packets(accepted func(), f func(h codec.Header, body []byte)) {
	for c.peer != nil {
		p := c.peer
		b := p.frame()
		if b == nil {
			if p.closed {
				c.peer = nil
			}
			return
		}
		h, _, err := codec.ReadHeader(b)
		if err != nil {
			c.s.fail("%s: %v", c.id, err)
		}
		body := slices.Clone(b[h.Size:])
		c.s.did("%s gets %s", c.id, describe(c.s.t, b, c.version))
		switch h.Type {
		case codec.CONNACK:
			ack, err := codec.ParseConnack(body, c.version)
			if err != nil {
				c.s.fail("%s: %v", c.id, err)
			}
			if ack.Code != codec.Success {
				continue
			}
			if c.known && !ack.SessionPresent {
				c.s.fail("%s: the session is lost", c.id)
			}
			c.known, c.inside = true, true
			accepted()
		case codec.DISCONNECT:
		default:
			f(h, body)
		}
	}
}

func (c *storePeer) send(b []byte) {
	if c.peer != nil && !c.peer.closed {
		c.peer.send(b)
	}
}

func (c *storePeer) ack(h codec.Header, body []byte) codec.Ack {
	a, err := codec.ParseAck(h.Type, body, c.version)
	if err != nil {
		c.s.fail("%s: %v", c.id, err)
	}
	return a
}

// A storePublisher publishes numbered messages at QoS 1 and 2 in turn.
type storePublisher struct {
	storePeer
	next   int
	flight []*storeFlight
	result map[int]string // "acknowledged" or "refused"; else nobody knows
	odd    map[int]bool   // may have been refused, unheard: what came behind it is ahead of its repetition
}

type storeFlight struct {
	number   int
	id       uint16
	qos      codec.QoS
	sent     bool
	received bool // PUBREC came
}

func (p *storePublisher) act() {
	p.connect()
	p.read()
	if p.inside && len(p.flight) < 4 && !p.s.calm {
		f := &storeFlight{number: p.next, id: uint16(p.next + 1), qos: codec.QoS(1 + p.next%2)}
		p.next++
		p.flight = append(p.flight, f)
		p.publish(f)
	}
}

func (p *storePublisher) publish(f *storeFlight) {
	if f.received {
		p.send(ackPacket(p.version, codec.PUBREL, f.id, 0))
		return
	}
	p.s.did("%s publishes %d at QoS %d, again %v", p.id, f.number, f.qos, f.sent)
	if p.peer != nil && p.peer.env.loop.full() {
		p.odd[f.number] = true
	}
	dup := f.sent
	f.sent = true
	p.send(publishPacket(p.version, "t/"+p.id, fmt.Sprint(f.number), f.qos, f.id, func(d *codec.Delivery) { d.Dup = dup }))
}

func (p *storePublisher) read() {
	p.packets(func() {
		for _, f := range slices.Clone(p.flight) {
			p.publish(f)
		}
	}, func(h codec.Header, body []byte) {
		a := p.ack(h, body)
		i := slices.IndexFunc(p.flight, func(f *storeFlight) bool { return f.id == a.PacketID })
		if i < 0 {
			return // a second answer
		}
		f := p.flight[i]
		switch {
		case h.Type == codec.PUBREC && !a.Code.Failure():
			p.result[f.number] = "acknowledged"
			f.received = true
			p.send(ackPacket(p.version, codec.PUBREL, f.id, 0))
			return
		case h.Type == codec.PUBCOMP && f.received:
		case a.Code.Failure():
			p.result[f.number] = "refused"
		case h.Type == codec.PUBACK:
			p.result[f.number] = "acknowledged"
		default:
			p.s.fail("%s: %v for %+v", p.id, h.Type, f)
		}
		p.flight = slices.Delete(p.flight, i, i+1)
	})
}

// A storeSubscriber acknowledges what it gets.
type storeSubscriber struct {
	storePeer
	qos        codec.QoS
	subscribed bool
	open       map[uint16]bool
	got        map[string][]int // by publisher
}

func (c *storeSubscriber) read() {
	c.packets(func() {}, func(h codec.Header, body []byte) {
		switch h.Type {
		case codec.SUBACK:
			c.subscribed = true
		case codec.PUBLISH:
			var p codec.Publish
			if err := codec.ParsePublish(&p, h.Flags, body, c.version, codec.FromServer); err != nil {
				c.s.fail("%s: %v", c.id, err)
			}
			var n int
			fmt.Sscan(string(p.Payload), &n)
			from := strings.TrimPrefix(string(p.Topic), "t/")
			if p.QoS == 2 {
				if !c.open[p.PacketID] {
					c.open[p.PacketID] = true
					c.got[from] = append(c.got[from], n)
				}
				c.send(ackPacket(c.version, codec.PUBREC, p.PacketID, 0))
				return
			}
			c.got[from] = append(c.got[from], n)
			c.send(ackPacket(c.version, codec.PUBACK, p.PacketID, 0))
		case codec.PUBREL:
			a := c.ack(h, body)
			delete(c.open, a.PacketID)
			c.send(ackPacket(c.version, codec.PUBCOMP, a.PacketID, 0))
		}
	})
}

func (c *storeSubscriber) check() {
	for _, p := range c.s.pubs {
		var last [3]int
		seen := map[int]int{}
		for _, n := range c.got[p.id] {
			qos := 1 + n%2
			if seen[n]++; seen[n] == 1 {
				if n+1 < last[qos] && !p.odd[n] {
					c.s.fail("%s got %v of %s: %d is late", c.id, c.got[p.id], p.id, n)
				}
				last[qos] = n + 1
			}
			if qos == 2 && c.qos == 2 && seen[n] > 1 {
				c.s.fail("%s got %v of %s: %d twice at QoS 2", c.id, c.got[p.id], p.id, n)
			}
		}
		for n, result := range p.result {
			if result == "acknowledged" && seen[n] == 0 {
				c.s.fail("%s did not get %d of %s, which was acknowledged; it got %v", c.id, n, p.id, c.got[p.id])
			}
		}
	}
}
