package engine

import (
	"context"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
	"github.com/wheelmq/wheelmq/engine/internal/wheel"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router"
)

// A loop is one event loop and all it owns: its connections, the sessions that
// were last connected here, their timers, and the frames that wait to leave.
// Everything in it is touched by the loop's goroutine alone, but the mailbox
// and the cell.
type loop struct {
	b  *Broker
	id int

	hooks *hookSet   // of this turn
	asks  hookPoints // of hooks: what is on the path of each message
	now   clock.Time // of this turn
	ticks uint32     // of this turn: wheel ticks since start
	start clock.Time

	slots []*client // by slot number of a ref; nil: free
	free  []uint32  // free slots
	gen   uint32    // generation of the next ref

	conns      []*conn // open connections, in no order
	connTimers *wheel.Wheel[conn]
	awayTimers *wheel.Wheel[client]
	dirty      []*conn // with frames to write at the end of the turn
	congested  []*conn // whose peer does not read fast enough
	depth      int     // of begin
	flush      flushPolicy
	routes     *router.Cache
	pool       *message.Pool // free messages
	buffers    buffers       // free output buffers
	mailbox    mailbox
	spare      []item   // the slice the mailbox is swapped with
	outboxes   []outbox // by loop
	saturated  bool     // one of them waits for a loop that is far behind
	wakeAfter  func(time.Duration)
	polling    bool               // a congestion poll was asked for
	parsed     codec.Publish      // scratch
	found      []*message.Message // scratch
	sub        codec.Subscribe
	codes      []codec.ReasonCode
	ids        []uint32                    // scratch
	extras     map[extraKey]*session.Extra // shared by the messages that carry them
	counters   metrics.Counters
	cell       metrics.Cell
	sys        sysState         // loop 0 only
	shownIn    hook.Publication // scratch, for interceptors
	shownOut   hook.Delivery    // scratch, for interceptors
	late       lateness
	replaces   uint32                                     // how often rights were replaced
	replace    func(hook.Client, hook.Rights) hook.Rights // the last of them; nil: none
	commits    commitLog
	far        farReads
	later      []router.Ref // whose queues could not be read
	inMemory   int64        // bytes of waiting messages in memory
	stopping   bool
	parting    parting                 // why the connection being served ends
	doomed     []*conn                 // for which a hook panicked
	labels     *[works]context.Context // for the profiler; nil: none
}

// congestionPoll is how often a connection that does not read is looked at:
// gnet does not tell when its output was taken.
const congestionPoll = 5 * time.Millisecond

func newLoop(b *Broker, id int, now clock.Time) *loop {
	l := &loop{
		b: b, id: id, now: now, start: now, hooks: b.hooks.current.Load(),
		connTimers: wheel.New[conn](now),
		awayTimers: wheel.New[client](now),
		routes:     b.router.NewCache(routeCacheEntries),
		pool:       message.NewPool(&b.messages),
		extras:     make(map[extraKey]*session.Extra),
		outboxes:   make([]outbox, b.options().Loops),
	}
	if b.options().ProfileLabels {
		l.labels = newLabels(id)
	}
	return l
}

// routeCacheEntries bounds each loop's cache of routes.
const routeCacheEntries = 1 << 16

// begin starts a turn, or a part of one: end must follow.
func (l *loop) begin() {
	l.now = l.b.clock.Now()
	l.ticks = uint32(l.now.Sub(l.start) / wheel.Tick)
	if l.depth == 0 {
		l.flush.turn++
		l.hooks = l.b.hooks.current.Load()
		l.asks = l.hooks.points
	}
	l.depth++
}

// end closes what begin opened; the outermost one lets out what the turn made.
func (l *loop) end() {
	if l.depth > 1 {
		l.depth--
		return
	}
	if l.doomed != nil {
		l.endDoomed()
	}
	l.commit()
	l.postOutboxes()
	if l.flush.now(l) {
		l.flushDirty()
		l.commit()
		l.postOutboxes()
	}
	l.depth--
	l.at(workPoll)
}

// Opened implements transport.Loop.
func (l *loop) Opened(s transport.Socket) transport.Peer {
	if l.stopping {
		return nil
	}
	l.begin()
	defer l.end()
	l.counters.SocketsOpened++
	unwanted, counted := codec.Success, false
	if in := s.Listener().(*door); in.Proxy == nil {
		unwanted, counted = l.enter(in, s.RemoteAddr())
		if unwanted.Failure() && !l.tells(in) {
			l.counters.Refused++
			return nil
		}
	}
	l.b.open.Add(1)
	c := newConn(l, s)
	c.counted, c.unwanted = counted, unwanted
	c.index = uint32(len(l.conns))
	l.conns = append(l.conns, c)
	if len(l.hooks.connections) > 0 {
		l.tellAccepted(c)
	}
	return c
}

// forget takes a closed connection out of conns; the last one takes its place.
func (l *loop) forget(c *conn) {
	n := len(l.conns) - 1
	l.conns[c.index] = l.conns[n]
	l.conns[c.index].index = c.index
	l.conns[n] = nil
	l.conns = l.conns[:n]
}

// Woken implements transport.Loop: it empties the mailbox and writes what waits.
func (l *loop) Woken() {
	l.at(workMailbox)
	l.begin()
	defer l.end()
	l.flush.due = true
	items := l.mailbox.take(l.spare[:0])
	for i := range items {
		l.handle(&items[i])
		items[i] = item{}
	}
	l.spare = items
	if cap(l.spare) > mailboxKeep {
		l.spare = nil
	}
	l.pollCongested()
}

// mailboxKeep is the largest mailbox slice, in entries, that is kept for reuse.
const mailboxKeep = 1 << 14

// Ticked implements transport.Loop.
func (l *loop) Ticked(late time.Duration) {
	l.at(workTick)
	l.advance()
	l.late.note(l, late)
	l.counters.Mailbox = int64(l.mailbox.count())
	l.cell.Publish(&l.counters)
	l.buffers.trim()
}

// advance lets everything happen that is due by now.
func (l *loop) advance() {
	l.begin()
	defer l.end()
	l.flush.due = true
	l.connTimers.Advance(l.now, fireConn)
	l.awayTimers.Advance(l.now, l.fireAway)
	if l.id == 0 && l.b.durable != nil {
		l.b.durable.keeper.retry()
	}
	l.readLater()
	if l.id == 0 {
		l.sysTick()
		l.sweepRetained()
	}
}

func (l *loop) handle(it *item) {
	switch it.kind {
	case itemFan:
		p := publication{}
		p.fromMessage(it.msg, it.publisher)
		l.fanOut(&p, it.subs)
		l.done(&p)
	case itemOne, itemForwarded:
		p := publication{}
		p.fromMessage(it.msg, it.publisher)
		l.deliverOne(&p, &it.one, it.origin, it.kind == itemForwarded)
		l.done(&p)
	case itemCall:
		it.call(l)
	}
}

// postOutboxes hands over what this turn has for the other loops.
func (l *loop) postOutboxes() {
	l.saturated = false
	for i := range l.outboxes {
		o := &l.outboxes[i]
		if len(o.items) > 0 {
			o.waiting = l.b.loops[i].mailbox.post(o.items, o.bytes)
			clear(o.items)
			o.items, o.bytes = o.items[:0], 0
		} else if o.waiting > l.b.options().MailboxBytes {
			o.waiting = l.b.loops[i].mailbox.waiting()
		}
		l.saturated = l.saturated || o.waiting > mailboxRefuses*l.b.options().MailboxBytes
	}
}

// mailboxRefuses times MailboxBytes is where a mailbox takes no message of QoS
// 1 and 2 either: their publishers are told so.
const mailboxRefuses = 4

// saturates reports whether r leads to a loop that is that far behind.
func (l *loop) saturates(r *router.Route) bool {
	for i, subs := range r.Loops {
		if len(subs) > 0 && l.outboxes[i].waiting > mailboxRefuses*l.b.options().MailboxBytes {
			return true
		}
	}
	return false
}

// callOn runs f on loop i, after all this loop posted there before.
func (l *loop) callOn(i int, f func(*loop)) {
	l.outboxes[i].add(item{kind: itemCall, call: f})
}

// flushDirty writes each dirty connection's frames, one write each.
// Closing a connection on the way may make further ones dirty.
func (l *loop) flushDirty() {
	for i := 0; i < len(l.dirty); i++ {
		c := l.dirty[i]
		l.dirty[i] = nil
		c.dirty = false
		c.writeOut()
	}
	l.dirty = l.dirty[:0]
}

// pollCongested looks whether slow readers have read. Pumping one may add to
// the list: it, when it fills up again, or others.
func (l *loop) pollCongested() {
	l.polling = false
	keep := 0
	for i := 0; i < len(l.congested); i++ {
		c := l.congested[i]
		if c.state == connClosed || !c.congested {
			continue
		}
		if c.unsent() > l.b.options().OutboundBytes/4 {
			l.congested[keep] = c
			keep++
			continue
		}
		c.congested = false
		c.pump()
	}
	clear(l.congested[keep:])
	l.congested = l.congested[:keep]
	l.pollLater()
}

func (l *loop) pollLater() {
	if len(l.congested) > 0 && !l.polling {
		l.polling = true
		l.wakeAfter(congestionPoll)
	}
}

// allocate gives cl a slot and a reference that no other client had.
func (l *loop) allocate(cl *client) {
	var slot uint32
	if n := len(l.free); n > 0 {
		slot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		slot = uint32(len(l.slots))
		l.slots = append(l.slots, nil)
	}
	l.gen = (l.gen + 1) & refGenMask
	cl.ref = makeRef(l.id, slot, l.gen)
	l.slots[slot] = cl
	l.counters.Sessions++
}

// vacate frees cl's slot: its reference is dead from now on.
func (l *loop) vacate(cl *client) {
	slot := refSlot(cl.ref)
	if l.b.durable != nil {
		l.b.durable.forget(cl.ref)
	}
	l.slots[slot] = nil
	l.free = append(l.free, slot)
	l.counters.Sessions--
}

// client returns who ref means, or nil when it is gone.
func (l *loop) client(ref router.Ref) *client {
	slot := refSlot(ref)
	if int(slot) >= len(l.slots) {
		return nil
	}
	if cl := l.slots[slot]; cl != nil && cl.ref == ref {
		return cl
	}
	return nil
}

// A ref packs loop (8 bits), generation (24 bits) and slot (32 bits). The
// generation changes with each allocation of the loop, so that a reference
// kept by a mailbox or a route never means a later client in the same slot.
const (
	refGenBits = 24
	refGenMask = 1<<refGenBits - 1
)

func makeRef(loop int, slot, gen uint32) router.Ref {
	return router.Ref(uint64(loop)<<56 | uint64(gen)<<32 | uint64(slot))
}

func refLoop(r router.Ref) int    { return int(r >> 56) }
func refSlot(r router.Ref) uint32 { return uint32(r) }
