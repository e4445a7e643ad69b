package engine

import (
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/directory"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/router"
)

// A session follows its client to the loop of the new connection. The order of
// each publisher's messages holds on the way:
//
//	new loop N                      old loop P                     every other loop A
//	claim in the directory
//	fetch  ---------------------->  depart: end the old connection,
//	                                re-point the subscriptions,
//	arrive <----------------------  send the session,
//	CONNACK; hold what is           forward what still comes,
//	routed here                     fence -----------------------> answer in order:
//	                                fenced <---------------------- nothing for the old
//	settle <----------------------  after the last answer            place is behind it
//	deliver what was held
//
// Mailboxes keep the order of each sender. So when P has every answer, all
// that was routed to the old place has reached P and was forwarded to N ahead
// of settle; only then N lets out what was routed to the new place, whoever
// routed it: P's own are behind the session in one mailbox, but their publisher
// may have come to P since, and be overtaken by what N holds of it from before.
// Claims that arrive while a session is on its way wait for it: the directory
// orders them, each names the claimant before it.
//
// Subscriptions are re-pointed one by one: a message that another loop routes
// just then may reach a session with overlapping subscriptions by both places,
// in two copies instead of one, which MQTT 5.0 section 3.3.4 allows.
type move struct {
	// arriving: the session is still elsewhere. conn waits for it, nil when
	// that connection is gone; its CONNECT is in connExt.connecting.
	arriving bool
	conn     *conn

	// holding: the session is here, but older messages for it may still be on
	// their way through the loop it came from.
	holding bool
	held    []heldMessage

	// claim is the next loop's, to be served when the session has settled.
	claim *claim

	// departed: the session is on another loop, as to; here only a stub
	// forwards. acks counts the other loops that answered the fence.
	departed bool
	to       router.Ref
	acks     int
}

type claim struct {
	to    router.Ref
	clean bool
}

// heldMessage is a delivery that waits; it holds one reference.
type heldMessage struct {
	message   *message.Message
	sub       router.Subscriber
	publisher router.Ref
	origin    *router.Member
}

// moved is what goes from loop to loop.
type moved struct {
	session  session.Session
	subs     []subscription
	replays  *replayQueue
	will     *will // delayed; goes on if the new connection is gone before it has the session
	userName string
	grant    grant
	expiry   uint32
	shares   bool
	stored   store.SessionID
}

func (cl *client) moving() *move {
	if cl.ext == nil {
		return nil
	}
	return cl.ext.move
}

// fetch asks the loop that had the session for it; c waits.
func (l *loop) fetch(c *conn, cn *connecting, cl *client, old router.Ref) {
	m := &move{arriving: true}
	cl.extend().move = m
	l.wait(c, cn, m)
	to, clean := cl.ref, cn.CleanStart
	l.callOn(refLoop(old), func(p *loop) { p.depart(old, claim{to, clean}) })
}

// wait makes c wait for the session that m brings.
func (l *loop) wait(c *conn, cn *connecting, m *move) {
	m.conn = c
	c.ext = &connExt{connecting: cn, move: m}
	if c.state != connResume {
		c.become(connResume)
	}
}

// stopWaiting forgets the CONNECT of a connection that ends while it waits for
// a decision or its session, and tells a session on its way.
func (c *conn) stopWaiting() {
	if c.state != connResume && c.state != connDeciding || c.ext == nil || c.ext.connecting == nil {
		return
	}
	if cn := c.ext.connecting; cn.will != nil {
		cn.will.message.Release(nil) // never accepted, never published [MQTT-3.1.2-7]
	}
	c.ext.connecting = nil
	if m := c.ext.move; m != nil && m.conn == c { // else another connection waits in its place
		m.conn = nil
	}
}

// depart gives the session to the loop that claimed it.
func (l *loop) depart(old router.Ref, to claim) {
	cl := l.client(old)
	if cl == nil {
		l.answer(to, nil)
		return
	}
	if m := cl.moving(); m != nil {
		m.claim = &to
		return
	}
	if !l.takeOver(cl, to.clean) {
		l.answer(to, nil)
		return
	}
	l.b.full.clear(cl)
	messages, bytes, inMemory := l.queueOf(cl)
	target := refLoop(to.to)
	if cl.stored != 0 {
		l.b.durable.name(to.to, cl.stored) // before anything is routed there
	}
	for i := range cl.subs {
		l.repoint(cl, &cl.subs[i], target, to.to)
	}
	what := &moved{session: cl.Session, subs: cl.subs, expiry: cl.expiry, shares: cl.shares, stored: cl.stored}
	if x := cl.ext; x != nil {
		what.replays, what.will, what.userName, what.grant = x.replays, x.will, x.userName, x.grant
	}
	id := cl.ClientID
	cl.Init(id, l.b.limits.Load())
	cl.subs, cl.stored = nil, 0
	l.recount(cl, messages, bytes, inMemory)
	cl.ext = &clientExt{move: &move{departed: true, to: to.to}}
	l.answer(to, what)
	for i := range l.outboxes {
		if i != l.id {
			l.callOn(i, func(a *loop) { a.callOn(l.id, func(p *loop) { p.fenced(old) }) })
		}
	}
}

// answer sends the session, or word that there is none.
func (l *loop) answer(to claim, what *moved) {
	l.callOn(refLoop(to.to), func(n *loop) { n.arrive(to.to, what) })
}

// fenced counts the loops that have nothing more for the old place.
func (l *loop) fenced(old router.Ref) {
	cl := l.client(old)
	if cl == nil {
		return
	}
	m := cl.ext.move
	m.acks++
	if m.acks == len(l.outboxes)-1 {
		to := m.to
		l.callOn(refLoop(to), func(n *loop) { n.settle(to) })
		l.vacate(cl)
	}
}

// arrive takes the session in, or begins a new one.
func (l *loop) arrive(ref router.Ref, what *moved) {
	cl := l.client(ref)
	m := cl.ext.move
	c := m.conn
	m.arriving, m.conn = false, nil
	if what == nil {
		cl.ext.move = nil
	} else {
		m.holding, cl.known = true, true
		cl.Session, cl.subs, cl.expiry, cl.shares = what.session, what.subs, what.expiry, what.shares
		cl.stored = what.stored
		cl.ext.replays, cl.ext.will, cl.ext.userName, cl.ext.grant = what.replays, what.will, what.userName, what.grant
		l.recount(cl, 0, 0, 0)
		cl.StopReading()
		l.b.full.update(cl)
	}
	switch {
	case what == nil && (c == nil || m.claim != nil): // nobody here, or a newer connection elsewhere
		if c != nil {
			c.drop("session taken over")
		}
		l.serve(m.claim, nil)
		l.endSession(cl)
		return
	case c == nil:
		l.goAway(cl)
	default:
		l.arriveFor(c, cl, what != nil)
	}
}

// arriveFor opens the connection that waited.
func (l *loop) arriveFor(c *conn, cl *client, present bool) {
	cn := c.ext.connecting
	switch {
	case !present || !cn.CleanStart:
		l.open(c, cn, cl, present)
	default:
		l.openAnew(c, cn, cl)
	}
	c.resumeReading()
}

// openAnew ends a session that came for another connection than c, which
// wants a new one. Messages for the old one are still on their way to its
// reference, so the new one has its own. Newer connections may have the client
// identifier by then, whether their claim has come here or not: c gives way.
func (l *loop) openAnew(c *conn, cn *connecting, old *client) {
	cl := &client{}
	cl.Init(cn.ClientID, l.b.limits.Load())
	l.allocate(cl)
	owns := l.b.directory.Replace(cl.ClientID, directory.Place(old.ref), directory.Place(cl.ref))
	l.endSession(old)
	if !owns {
		l.vacate(cl)
		c.drop("session taken over")
		return
	}
	l.open(c, cn, cl, false)
}

// settle lets out what was held, and serves the next claim.
func (l *loop) settle(ref router.Ref) {
	cl := l.client(ref)
	if cl == nil {
		return
	}
	m := cl.ext.move
	cl.ext.move = nil
	for i := range m.held {
		h := &m.held[i]
		p := publication{}
		p.fromMessage(h.message, h.publisher)
		l.deliverOne(&p, &h.sub, h.origin, false)
		l.done(&p)
	}
	if m.claim != nil {
		l.depart(ref, *m.claim)
	} else if cl.conn != nil {
		cl.conn.pump() // what waits in the store could not be read until now
	}
}

func (l *loop) serve(cl *claim, what *moved) {
	if cl != nil {
		l.answer(*cl, what)
	}
}

// endMove answers who waits for a session that has ended.
func (l *loop) endMove(cl *client) {
	m := cl.moving()
	if m == nil {
		return
	}
	l.serve(m.claim, nil)
	cl.ext.move = nil
	for i := range m.held {
		h := &m.held[i]
		p := publication{}
		p.fromMessage(h.message, h.publisher)
		if h.origin != nil {
			l.passOn(&p, h.origin)
		} else {
			l.drop(hook.DropSessionEnded, cl, p.topic)
		}
		l.done(&p)
	}
}

// hold keeps, forwards or lets through a message for a session on the move.
// It reports whether it took the message.
func (l *loop) hold(cl *client, p *publication, sub *router.Subscriber, origin *router.Member, forwarded bool) bool {
	m := cl.ext.move
	switch {
	case m.departed:
		one := *sub
		one.Ref = m.to
		msg := l.own(p)
		msg.Retain()
		l.outboxes[refLoop(m.to)].add(item{kind: itemForwarded, msg: msg, one: one, origin: origin,
			publisher: p.publisher})
	case m.holding && forwarded:
		return false
	case l.b.limits.Load().Messages >= 0 && len(m.held) >= l.b.limits.Load().Messages:
		l.unkeep(cl, p)
		l.drop(hook.DropQueueFull, cl, p.topic)
	default:
		msg := l.own(p)
		msg.Retain()
		m.held = append(m.held, heldMessage{msg, *sub, p.publisher, origin})
	}
	return true
}

// takeOver ends the session's connection for a new one. It reports whether the
// session goes on; a session that ends with its connection, or is not wanted,
// has ended then.
func (l *loop) takeOver(cl *client, clean bool) bool {
	ends := clean
	if c := cl.conn; c != nil {
		l.counters.SessionsTakenOver++
		ends = ends || cl.expiry == 0
		l.tellSession(cl.ClientID, hook.SessionTakenOver)
		c.unlink()
		l.part(hook.ByTakeover, codec.SessionTakenOver, "")
		l.tellDisconnected(c, cl, cl.ext != nil && cl.ext.will != nil, ends)
		c.disconnect(codec.SessionTakenOver, "another connection has the client identifier", true) // [MQTT-3.1.4-3]
	}
	if a := cl.awayTimes(); a != nil && a.endAt != 0 && a.endAt <= l.now { // its timer is due with the next tick
		l.counters.SessionsExpired++
		l.tellSession(cl.ClientID, hook.SessionExpired)
		ends = true
	}
	if ends {
		l.endSession(cl)
		return false
	}
	l.comeBack(cl)
	if cl.ext != nil && cl.ext.will != nil && cl.ext.will.delay == 0 {
		l.publishWill(cl) // B-will-takeover
	}
	return true
}
