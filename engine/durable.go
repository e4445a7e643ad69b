package engine

import (
	"log/slog"
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
	first  uint64        // identifier of this process's
	next   atomic.Uint64 // identifier to draw
	keeper keeper
	failed atomic.Int64 // clock.Time up to which durable messages are refused
	epoch  int64        // Unix nanoseconds of clock 0

	mu       sync.RWMutex
	sessions map[router.Ref]store.SessionID // of all durable sessions, wherever they are

	// retained is held while a batch with retained messages is completed and
	// handed over: what was set last is then handed over last, whichever loops
	// set it.
	retained sync.Mutex
}

func newDurable(s store.Store, c clock.Clock, loops int, log *slog.Logger) *durable {
	now := c.Now()
	d := &durable{keeper: keeper{store: s, clock: c, most: loops * failedBytes, log: log}, store: s, first: s.First(), epoch: time.Now().UnixNano() - int64(now), sessions: map[router.Ref]store.SessionID{}}
	d.next.Store(d.first)
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
	retained  []string     // topics whose retained message changed in this turn
	spare     []*store.Batch
	seq       uint64 // of batch
	committed uint64 // highest that is, or that nobody waits for any more
	gated     []*conn
	answers   []commitAnswer // of the program's own publications, in order
	expiring  *client        // whose queue is looked through
}

// A sealedBatch is a batch whose turn is over.
type sealedBatch struct {
	b   *store.Batch
	seq uint64
}

// A commitAnswer is told what became of a batch.
type commitAnswer struct {
	seq  uint64
	tell func(error)
}

// change returns the turn's batch. What c, if not nil, is told from now on
// waits for it, as long as its listener says.
func (l *loop) change(c *conn) *store.Batch {
	g := &l.commits
	if g.batch == nil {
		g.seq++
		if n := len(g.spare); n > 0 {
			g.batch, g.spare = g.spare[n-1], g.spare[:n-1]
		} else {
			g.batch = &store.Batch{}
		}
		g.batch.Level = store.Received
	}
	if c != nil {
		if level := c.door().Durability; level != store.Received {
			g.batch.Level = min(g.batch.Level, level)
			c.gate = g.seq
		}
	}
	return g.batch
}

// pending is the number of changes in the turn's batch.
func (l *loop) pending() int {
	if l.commits.batch == nil {
		return 0
	}
	return l.commits.batch.Len() + len(l.commits.retained)
}

// answerCommitted calls tell when the turn's batch, which there must be, is
// committed at level or could not be.
func (l *loop) answerCommitted(level store.Durability, tell func(error)) {
	g := &l.commits
	g.batch.Level = min(g.batch.Level, level)
	g.answers = append(g.answers, commitAnswer{g.seq, tell})
}

// commit hands the turn's batch to the store.
func (l *loop) commit() {
	g := &l.commits
	b := sealedBatch{g.batch, g.seq}
	if b.b == nil {
		return
	}
	g.batch = nil
	if len(g.retained) > 0 {
		l.b.durable.retained.Lock()
		defer l.b.durable.retained.Unlock()
		for i, name := range g.retained {
			l.putRetained(b.b, name)
			g.retained[i] = ""
		}
		g.retained = g.retained[:0]
	}
	l.b.durable.keeper.commit(l, b)
}

// committed lets out what waited for b, or ends the connections that wait for
// any: they may repeat what was not acknowledged. A batch that failed is the
// keeper's.
func (l *loop) committed(b sealedBatch, err error) {
	if err != nil {
		if !l.refusing() {
			l.b.log.Error("durable messages are refused: the store did not take changes", "error", err)
		}
		l.b.durable.failed.Store(int64(l.now.Add(storeRetry)))
	} else {
		l.reuse(b.b)
	}
	l.commits.committed = max(l.commits.committed, b.seq)
	l.letOut(err)
}

// reuse takes an empty batch back.
func (l *loop) reuse(b *store.Batch) {
	b.Reset()
	if g := &l.commits; len(g.spare) < 8 {
		g.spare = append(g.spare, b)
	}
}

// letOut writes, or with an error ends, the connections that wait, and answers
// the program.
func (l *loop) letOut(err error) {
	g := &l.commits
	for len(g.answers) > 0 && (g.answers[0].seq <= g.committed || err != nil) {
		g.answers[0].tell(err)
		g.answers = append(g.answers[:0], g.answers[1:]...)
	}
	waiting := g.gated
	g.gated = nil
	for _, c := range waiting {
		c.gated = false
		switch {
		case c.state != connOpen: // its end is not held up
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

// full reports whether what is new and has to survive is refused: the store
// failed a moment ago, or has little room.
func (l *loop) full() bool {
	d := l.b.durable
	return l.refusing() || d.keeper.behind.Load() || d.store.Full()
}

// publisherConn is the connection of who published p, if it is here.
func (l *loop) publisherConn(p *publication) *conn {
	if cl := l.client(p.publisher); cl != nil {
		return cl.conn
	}
	return nil
}

// keep writes p and its deliveries to durable sessions, wherever they are. It
// reports whether p may be taken. The first is written when it is known whether
// there are more.
func (l *loop) keep(p *publication, r *router.Route) bool {
	var first router.Subscriber
	var only store.SessionID // of first, which is not written yet
	many := false
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
			id := l.survives(p, s)
			switch {
			case id == 0:
			case l.full():
				return false
			case only == 0:
				first, only = *s, id
			default:
				if !many {
					many = true
					l.keepFor(p, &first, only, false, false)
				}
				l.keepFor(p, s, id, false, false)
			}
		}
	}
	if only != 0 && !many {
		l.keepFor(p, &first, only, true, false)
	}
	return true
}

// survives is the session for which p's delivery by s must survive; 0: none.
func (l *loop) survives(p *publication, s *router.Subscriber) store.SessionID {
	if p.qos == 0 || s.QoS == 0 {
		return 0
	}
	return l.b.durable.named(s.Ref)
}

// keepOne writes p's delivery by s, of a shared subscription or for one client
// alone, if it must survive.
func (l *loop) keepOne(p *publication, s *router.Subscriber, shared bool) {
	if id := l.survives(p, s); id != 0 && !l.full() {
		l.keepFor(p, s, id, true, shared)
	}
}

// keepFor writes p's delivery by s, whose session is id: own, with its message.
func (l *loop) keepFor(p *publication, s *router.Subscriber, id store.SessionID, own, shared bool) {
	m := l.own(p)
	b := l.change(l.publisherConn(p))
	switch {
	case m.Stored != 0:
	case own:
		m.Stored, m.Own = l.b.durable.draw(), !shared
	default:
		m.Stored = l.b.durable.draw()
		l.putMessage(b, m)
	}
	l.ids = s.AppendIDs(l.ids[:0])
	d := store.Delivery{Message: store.MessageID(m.Stored), QoS: min(p.qos, s.QoS), Retain: p.retain && s.Flags&router.RetainAsPublished != 0,
		IDs: l.ids, Shared: shared, Own: own, Size: uint32(m.Length())}
	if !own {
		b.Deliver(id, store.Position(m.Stored), &d)
		return
	}
	r := l.record(m)
	b.DeliverOwn(id, store.Position(m.Stored), &d, &r)
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
		l.change(nil).Finish(cl.stored, store.Position(p.msg.Stored), store.MessageID(p.msg.Stored), p.msg.Own)
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
	l.change(nil).Finish(cl.stored, store.Position(o.Stored), m, o.Own)
}

// progress writes that o was sent as packet id, or got its PUBREC.
func (l *loop) progress(cl *client, o *session.Outbound, id uint16, s store.State) {
	if cl.stored == 0 || o.Stored == 0 {
		return
	}
	d := store.Delivery{Message: store.MessageID(o.Stored), QoS: o.QoS, Retain: o.Retain, Own: o.Own, State: s, PacketID: id, IDs: o.IDs()}
	release := store.MessageID(0)
	if s == store.AwaitPubcomp {
		release, d.Message, d.IDs = d.Message, 0, nil
	}
	l.change(cl.conn).Advance(cl.stored, store.Position(o.Stored), &d, release)
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
	o.Stored, o.Own = l.b.durable.draw(), true
	r := l.record(m)
	l.change(nil).DeliverOwn(cl.stored, store.Position(o.Stored), &store.Delivery{Message: store.MessageID(o.Stored), QoS: o.QoS,
		Retain: true, IDs: o.IDs(), Own: true, Size: uint32(m.Length())}, &r)
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

// keepRetained has the retained message of a topic written, as it is when the
// turn ends.
func (l *loop) keepRetained(name string, by *publication) {
	if l.b.durable == nil {
		return
	}
	var c *conn
	if by != nil {
		c = l.publisherConn(by)
	}
	l.change(c)
	l.commits.retained = append(l.commits.retained, name)
}

// putRetained writes what is retained for a topic now.
func (l *loop) putRetained(b *store.Batch, name string) {
	if !l.b.retained.index.Get(name, func(m *message.Message) {
		r := l.record(m)
		b.PutRetained(&r)
	}) {
		b.DeleteRetained([]byte(name))
	}
}
