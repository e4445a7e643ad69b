package engine

import (
	"errors"

	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/router"
)

// farReads is a loop's reading of what waits in the store alone, for clients
// whose queues run low. Loop-owned.
//
//	wanting   -> horizon drawn, a fence to every other loop: what was routed
//	             below the horizon has arrived when all have answered
//	          -> a commit of this loop's: all that has arrived is in the store,
//	             and what was sent or dropped is no longer queued there
//	ready     -> read off the loop, a piece at a time, until the horizon
//
// One horizon serves all that want one at the time. What was there before the
// process began is ready as it is.
type farReads struct {
	wanting []router.Ref
	drawing bool
	ready   []router.Ref
	reading int
}

const (
	farReading  = 8       // readings at once
	farMessages = 256     // of one reading
	farBytes    = 1 << 20 // of one reading, and one message more
)

// room reports whether waiting messages may take more memory on this loop.
func (l *loop) room() bool {
	limit := l.b.options().QueueMemory
	return limit == Unlimited || l.inMemory < int64(limit)/int64(len(l.b.loops)) || l.b.durable == nil || l.refusing()
}

// readFar has more of cl's queue read from the store, if there is more and it
// runs low.
func (l *loop) readFar(cl *client) {
	f := cl.Far()
	if f == nil || f.Pending || cl.moving() != nil {
		return
	}
	f.Pending = true
	if _, _, ready := f.Ready(); ready {
		l.far.ready = append(l.far.ready, cl.ref)
		l.readReady()
		return
	}
	l.far.wanting = append(l.far.wanting, cl.ref)
	l.drawHorizon()
}

// drawHorizon begins the way of those that want a horizon.
func (l *loop) drawHorizon() {
	if l.far.drawing || len(l.far.wanting) == 0 {
		return
	}
	l.far.drawing = true
	refs, at := l.far.wanting, l.b.durable.next.Load()
	l.far.wanting = nil
	for _, ref := range refs {
		if cl := l.client(ref); cl != nil {
			if f := cl.Far(); f != nil {
				cl.Draw(f, at)
			}
		}
	}
	left := len(l.outboxes) - 1
	if left == 0 {
		l.drawn(refs)
		return
	}
	for i := range l.outboxes {
		if i != l.id {
			l.callOn(i, func(a *loop) {
				a.callOn(l.id, func(l *loop) {
					if left--; left == 0 {
						l.drawn(refs)
					}
				})
			})
		}
	}
}

// drawn waits for the store to have what has arrived.
func (l *loop) drawn(refs []router.Ref) {
	l.change(nil)
	l.answerCommitted(store.Written, func(err error) {
		l.far.drawing = false
		for _, ref := range refs {
			cl := l.client(ref)
			if cl == nil || cl.moving() != nil { // gone: its new loop asks for itself
				continue
			}
			f := cl.Far()
			switch {
			case f == nil || !f.Pending:
			case err != nil || l.b.durable.keeper.behind.Load(): // a loop has changes that the store does not have yet
				f.Pending = false
				l.later = append(l.later, ref)
			default:
				f.Arrived()
				l.far.ready = append(l.far.ready, ref)
			}
		}
		l.readReady()
		l.drawHorizon()
	})
}

// readLater asks again for those that could not be read. At each tick.
func (l *loop) readLater() {
	refs := l.later
	l.later = nil
	for _, ref := range refs {
		if cl := l.client(ref); cl != nil {
			l.readFar(cl)
		}
	}
}

// readReady begins as many readings as may run.
func (l *loop) readReady() {
	for l.far.reading < farReading && len(l.far.ready) > 0 {
		ref := l.far.ready[0]
		l.far.ready = l.far.ready[1:]
		if cl := l.client(ref); cl != nil && cl.moving() == nil {
			if f := cl.Far(); f != nil && f.Pending {
				l.read(cl, f)
			}
		}
	}
}

// A farPiece is what one reading brought.
type farPiece struct {
	messages []session.Outbound
	last     uint64 // position
	end      bool   // nothing more below the horizon
	err      error
}

func (l *loop) read(cl *client, f *session.Far) {
	l.far.reading++
	ref, id := cl.ref, cl.stored
	after, horizon, _ := f.Ready()
	l.b.off.spawn(func() {
		p := l.b.durable.readPiece(id, after, horizon)
		l.mailbox.post([]item{{kind: itemCall, call: func(l *loop) { l.took(ref, f, p) }}}, callBytes)
	})
}

// readPiece reads off the loops.
func (d *durable) readPiece(id store.SessionID, after, horizon uint64) farPiece {
	p := farPiece{last: after, end: true}
	size := 0
	p.err = d.store.ReadQueue(id, store.Position(after), func(at store.Position, e *store.Delivery, m *store.Message) bool {
		if uint64(at) >= horizon {
			return false
		}
		if len(p.messages) == farMessages || size >= farBytes {
			p.end = false
			return false
		}
		p.last = uint64(at)
		if e.Shared && uint64(at) >= d.first { // of this process's time, and so in memory
			return true
		}
		o := session.Outbound{Message: d.message(m), QoS: e.QoS, Retain: e.Retain, Stored: uint64(at), Own: e.Own}
		o.Message.Stored, o.Message.Own = uint64(e.Message), e.Own
		if len(e.IDs) > 0 {
			o.Extra = &session.Extra{IDs: e.IDs}
		}
		size += o.Message.Size()
		p.messages = append(p.messages, o)
		return true
	})
	return p
}

// message makes a message of a record. Any goroutine.
func (d *durable) message(m *store.Message) *message.Message {
	n := message.NewLasting(m.Topic, m.Payload, m.Properties)
	n.Expires, n.QoS, n.Retained, n.Publisher = d.time(m.Expires), m.QoS, m.Retained, m.Publisher
	return n
}

var errMissing = errors.New("messages that were queued are not in the store")

// took puts what was read for ref into its queue and goes on.
func (l *loop) took(ref router.Ref, f *session.Far, p farPiece) {
	l.far.reading--
	defer l.readReady()
	cl := l.client(ref)
	if cl == nil || cl.moving() != nil || cl.Far() != f { // it ended or left: nothing was changed in the store
		return
	}
	f.Pending = false
	if p.err != nil || p.end && l.b.durable.keeper.behind.Load() {
		if p.err != nil {
			l.b.log.Error("the queue of a client cannot be read now", "client", cl.ClientID, "error", p.err)
		}
		l.later = append(l.later, ref)
		return
	}
	messages, bytes, inMemory := l.queueOf(cl)
	missing := cl.Took(f, p.messages, p.last, p.end, func(o session.Outbound) { o.Message.Release(l.pool) })
	l.recount(cl, messages, bytes, inMemory)
	if missing > 0 {
		l.counters.Dropped[hook.DropLost] += uint64(missing)
		l.b.log.Error("a queue is shorter than it was", "client", cl.ClientID, "missing", missing, "error", errMissing)
	}
	for {
		o, over := cl.Evict()
		if !over {
			break
		}
		l.evicted(cl, o)
	}
	l.b.full.update(cl)
	if cl.conn != nil {
		cl.conn.pump()
	} else if cl.Over() {
		l.readFar(cl)
	}
}

// queueOf and recount settle the loop's accounts around a change of cl's queue.
func (l *loop) queueOf(cl *client) (messages, bytes, inMemory int) {
	messages, bytes = cl.Queued()
	return messages, bytes, cl.InMemory()
}

func (l *loop) recount(cl *client, messages, bytes, inMemory int) {
	n, b, m := l.queueOf(cl)
	l.counters.QueuedMessages += int64(n - messages)
	l.counters.QueuedBytes += int64(b - bytes)
	l.inMemory += int64(m - inMemory)
}
