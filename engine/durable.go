package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/router"
)

// durable is what all loops share of the store. Any loop.
//
// What a turn changes is one batch, committed at the turn's end, ahead of what
// the turn has for other loops: so a subscriber's loop can only commit behind
// the publisher's. What a connection is to be told waits as bytes (conn.gate)
// until the batches that it follows from are committed: acknowledgements keep
// their order, and a PUBLISH leaves under a packet identifier that survives.
type durable struct {
	store  store.Store
	next   atomic.Uint64 // identifier to draw
	failed atomic.Int64  // clock.Time up to which durable messages are refused
	epoch  int64         // Unix nanoseconds of clock 0

	mu       sync.RWMutex
	sessions map[router.Ref]store.SessionID // of all durable sessions, wherever they are
}

// storeRetry is how long durable messages are refused after a commit failed.
const storeRetry = time.Second

func newDurable(s store.Store, now clock.Time) *durable {
	d := &durable{store: s, epoch: time.Now().UnixNano() - int64(now), sessions: map[router.Ref]store.SessionID{}}
	d.next.Store(s.First())
	return d
}

func (d *durable) draw() uint64 { return d.next.Add(1) - 1 }

// named is the session of ref; 0 when it is none that survives.
func (d *durable) named(ref router.Ref) store.SessionID {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.sessions[ref]
}

func (d *durable) name(ref router.Ref, id store.SessionID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[ref] = id
}

func (d *durable) forget(ref router.Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, ref)
}

// wall is t as Unix nanoseconds; 0 stays 0.
func (d *durable) wall(t clock.Time) int64 {
	if t == 0 {
		return 0
	}
	return int64(t) + d.epoch
}

// time is the opposite of wall: 1, long ago, for what was before the clock began.
func (d *durable) time(unix int64) clock.Time {
	if unix == 0 {
		return 0
	}
	return max(1, clock.Time(unix-d.epoch))
}

// A commitLog is a loop's side of the store. Loop-owned.
type commitLog struct {
	batch     *store.Batch // of this turn
	spare     []*store.Batch
	seq       uint64 // of batch
	committed uint64 // highest that is
	gated     []*conn
	expiring  *client // whose queue is looked through
}

// change returns the turn's batch. What c, if not nil, is told from now on waits for it.
func (l *loop) change(c *conn) *store.Batch {
	g := &l.commits
	if g.batch == nil {
		g.seq++
		if n := len(g.spare); n > 0 {
			g.batch, g.spare = g.spare[n-1], g.spare[:n-1]
		} else {
			g.batch = &store.Batch{}
		}
	}
	if c != nil {
		c.gate = g.seq
	}
	return g.batch
}

// commit hands the turn's batch to the store.
func (l *loop) commit() {
	g := &l.commits
	b, seq := g.batch, g.seq
	if b == nil {
		return
	}
	g.batch = nil
	err := l.b.durable.store.Commit(b, func(b *store.Batch, err error) {
		l.mailbox.post([]item{{kind: itemCall, call: func(l *loop) { l.committed(b, seq, err) }}}, 0)
	})
	if err != nil { // the connections are ended in a turn of their own
		l.mailbox.post([]item{{kind: itemCall, call: func(l *loop) { l.committed(b, seq, err) }}}, 0)
	}
}

// committed lets out what waited for b, or ends the connections that wait for
// any: they may repeat what was not acknowledged.
func (l *loop) committed(b *store.Batch, seq uint64, err error) {
	g := &l.commits
	b.Reset()
	if len(g.spare) < 8 {
		g.spare = append(g.spare, b)
	}
	g.committed = max(g.committed, seq)
	if err != nil {
		l.b.durable.failed.Store(int64(l.now.Add(storeRetry)))
		l.b.log.Error("durable messages are refused: the store did not take changes", "error", err)
	}
	waiting := g.gated
	g.gated = nil
	for _, c := range waiting {
		c.gated = false
		switch {
		case c.state == connClosed:
		case err != nil:
			c.out.Reset()
			c.gate = 0
			c.fail(codec.QuotaExceeded, "the store does not take changes")
		default:
			c.writeOut()
		}
	}
}

// waits reports whether c's output waits for a commit, and notes it down.
func (c *conn) waits() bool {
	g := &c.loop.commits
	if c.gate <= g.committed {
		return false
	}
	if c.state != connOpen { // the end of a connection is not held up
		c.out.Reset()
		return false
	}
	if !c.gated {
		c.gated = true
		g.gated = append(g.gated, c)
	}
	return true
}

// refusing reports whether the store failed a moment ago.
func (l *loop) refusing() bool { return int64(l.now) < l.b.durable.failed.Load() }

// publisherConn is the connection of who published p, if it is here.
func (l *loop) publisherConn(p *publication) *conn {
	if cl := l.client(p.publisher); cl != nil {
		return cl.conn
	}
	return nil
}

// keep writes p and its deliveries to durable sessions, wherever they are. It
// reports whether p may be taken.
func (l *loop) keep(p *publication, r *router.Route) bool {
	for _, subs := range r.Loops {
		for i := range subs {
			s := &subs[i]
			if s.Ref == p.publisher {
				own, ok := s.Own()
				if !ok {
					continue
				}
				s = &own
			}
			if !l.keepFor(p, s) {
				return false
			}
		}
	}
	return true
}

// keepFor writes p's delivery by s, if that is one that must survive.
func (l *loop) keepFor(p *publication, s *router.Subscriber) bool {
	qos := min(p.qos, s.QoS)
	if qos == 0 {
		return true
	}
	id := l.b.durable.named(s.Ref)
	if id == 0 {
		return true
	}
	if l.refusing() {
		return false
	}
	m := l.own(p)
	b := l.change(l.publisherConn(p))
	if m.Stored == 0 {
		m.Stored = l.b.durable.draw()
		l.putMessage(b, m)
	}
	l.ids = s.AppendIDs(l.ids[:0])
	b.Deliver(id, store.Position(m.Stored), &store.Delivery{Message: store.MessageID(m.Stored), QoS: qos,
		Retain: p.retain && s.Flags&router.RetainAsPublished != 0, IDs: l.ids})
	return true
}

func (l *loop) putMessage(b *store.Batch, m *message.Message) {
	r := l.record(m)
	b.PutMessage(store.MessageID(m.Stored), &r)
}

func (l *loop) record(m *message.Message) store.Message {
	return store.Message{Topic: m.Topic, Payload: m.Payload, Properties: m.Properties, Publisher: m.Publisher,
		Expires: l.b.durable.wall(m.Expires), QoS: m.QoS, Retained: m.Retained}
}

// unkeep ends a delivery that does not reach its session's queue.
func (l *loop) unkeep(cl *client, p *publication) {
	if cl.stored != 0 && p.msg != nil && p.msg.Stored != 0 {
		l.change(nil).Finish(cl.stored, store.Position(p.msg.Stored), store.MessageID(p.msg.Stored))
	}
}

// finish ends a delivery of a session's.
func (l *loop) finish(cl *client, o *session.Outbound) {
	if cl.stored == 0 || o.Stored == 0 {
		return
	}
	m := store.MessageID(o.Stored)
	if o.Message == nil {
		m = 0
	}
	l.change(nil).Finish(cl.stored, store.Position(o.Stored), m)
}

// progress writes that o was sent as packet id, or got its PUBREC.
func (l *loop) progress(cl *client, o *session.Outbound, id uint16, s store.State) {
	if cl.stored == 0 || o.Stored == 0 {
		return
	}
	d := store.Delivery{Message: store.MessageID(o.Stored), QoS: o.QoS, Retain: o.Retain, State: s, PacketID: id, IDs: o.IDs()}
	release := store.MessageID(0)
	if s == store.AwaitPubcomp {
		release, d.Message, d.IDs = d.Message, 0, nil
	}
	at := store.Position(o.Stored)
	l.change(cl.conn).Advance(cl.stored, at, at, &d, release)
}

// sending is the state of a delivery whose PUBLISH is sent.
func sending(q codec.QoS) store.State {
	if q == 2 {
		return store.AwaitPubrec
	}
	return store.AwaitPuback
}

// keepReplay writes the delivery of a retained message that is sent at once.
func (l *loop) keepReplay(cl *client, m *message.Message, o *session.Outbound) {
	if l.b.durable == nil || cl.stored == 0 || o.QoS == 0 {
		return
	}
	o.Stored = l.b.durable.draw()
	b, r := l.change(nil), l.record(m)
	b.PutMessage(store.MessageID(o.Stored), &r)
	b.Deliver(cl.stored, store.Position(o.Stored), &store.Delivery{Message: store.MessageID(o.Stored), QoS: o.QoS,
		Retain: true, IDs: o.IDs()})
}

// keepSession writes cl's own record, and makes a session durable that is to
// outlive its connection.
func (l *loop) keepSession(cl *client) {
	d := l.b.durable
	if d == nil || cl.stored == 0 && cl.expiry == 0 {
		return
	}
	if cl.stored == 0 {
		cl.stored = store.SessionID(d.draw())
		d.name(cl.ref, cl.stored)
	}
	s := store.Session{ClientID: cl.ClientID, Expiry: cl.expiry}
	if x := cl.ext; x != nil {
		s.UserName = x.userName
		if a := x.away; a != nil {
			s.EndsAt = d.wall(a.endAt)
		}
		if w := x.will; w != nil {
			s.Will = &store.Will{Message: l.record(w.message), Delay: w.delay, Expiry: w.expiry, HasExpiry: w.hasExpiry}
			if a := x.away; a != nil {
				s.Will.At = d.wall(a.willAt)
			}
		}
	}
	l.change(cl.conn).PutSession(cl.stored, &s)
}

// keepSubscription writes one subscription.
func (l *loop) keepSubscription(cl *client, s *subscription) {
	if cl.stored == 0 {
		return
	}
	options := byte(s.qos)
	if s.noLocal {
		options |= 1 << 2
	}
	if s.retainAsPublished {
		options |= 1 << 3
	}
	l.change(cl.conn).PutSubscription(cl.stored, &store.Subscription{Filter: s.filter, Options: options, Identifier: s.id})
}

// keepRetained writes the retained message of a topic; nil: it has none now.
func (l *loop) keepRetained(name string, m *message.Message, by *publication) {
	if l.b.durable == nil {
		return
	}
	var c *conn
	if by != nil {
		c = l.publisherConn(by)
	}
	b := l.change(c)
	if m == nil {
		b.DeleteRetained([]byte(name))
		return
	}
	r := l.record(m)
	b.PutRetained(&r)
}
