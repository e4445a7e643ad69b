package engine

import (
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/router"
)

// fanOut delivers p to subs, which are all on this loop.
func (l *loop) fanOut(p *publication, subs []router.Subscriber) {
	for i := range subs {
		s := &subs[i]
		if s.Ref == p.publisher {
			own, ok := s.Own()
			if ok { // [MQTT-3.8.3-3]
				l.deliverOne(p, &own, nil, false)
			}
			continue
		}
		l.deliverOne(p, s, nil, false)
	}
}

// sendToMember delivers p to one member of a shared subscription.
func (l *loop) sendToMember(p *publication, m *router.Member) {
	if p.qos > 0 && l.b.durable != nil {
		l.keepOne(p, &m.Subscriber, true)
	}
	if m.Loop == l.id {
		l.deliverOne(p, &m.Subscriber, m, false)
		return
	}
	if !l.credit(m.Loop, p) {
		return
	}
	msg := l.own(p)
	msg.Retain()
	l.outboxes[m.Loop].add(item{kind: itemOne, msg: msg, one: m.Subscriber, origin: m, publisher: p.publisher})
}

// redispatch gives a message that a leaving member did not acknowledge to
// another member of its group. The caller keeps its reference.
func (l *loop) redispatch(from *router.Member, o session.Outbound) {
	p := publication{}
	o.Message.Retain()
	p.fromMessage(o.Message, 0)
	l.passOn(&p, from)
	l.done(&p)
}

// passOn delivers p to another member of the group than from, which has left.
func (l *loop) passOn(p *publication, from *router.Member) {
	m, ok := from.Group().Pick(0, xxhash.Sum64(p.topic), from.Ref)
	if !ok {
		l.drop(hook.DropSessionEnded, nil, p.topic)
		return
	}
	l.sendToMember(p, m)
}

// deliverOne delivers p to one session of this loop. forwarded says that it was
// routed to the session's place before this one (takeover.go).
func (l *loop) deliverOne(p *publication, s *router.Subscriber, origin *router.Member, forwarded bool) {
	cl := l.client(s.Ref)
	if cl == nil { // the session ended while the message was on its way
		if origin != nil {
			l.passOn(p, origin)
		}
		return
	}
	if p.expires != 0 && p.expires < l.now { // between loops, or held for a session on the move
		l.unkeep(cl, p)
		l.drop(hook.DropExpired, cl, p.topic) // [MQTT-3.3.2-5]
		return
	}
	if x := cl.ext; x != nil {
		if x.move != nil && l.hold(cl, p, s, origin, forwarded) {
			return
		}
		if x.local != nil {
			x.local.offer(l, p, min(p.qos, s.QoS), p.retain)
			return
		}
	}
	if l.checksDelivery(cl) && !l.mayGet(cl, p.topic) {
		l.unkeep(cl, p)
		return
	}
	retain := p.retain && s.Flags&router.RetainAsPublished != 0
	qos := min(p.qos, s.QoS)
	if l.asks&onDelivery != 0 {
		changed, ok := l.interceptDelivery(cl, p, qos, retain)
		if !ok {
			l.unkeep(cl, p)
			return
		}
		if changed != nil {
			l.unkeep(cl, p)
			if cl.stored != 0 {
				l.keepOne(changed, s, origin != nil)
			}
			l.deliverAs(cl, changed, s, origin, qos, retain)
			l.done(changed)
			return
		}
	}
	if qos == 0 { // Fast path: deliverAs without the call
		l.deliverQoS0(cl, p, s, retain)
		return
	}
	l.deliverAs(cl, p, s, origin, qos, retain)
}

// deliverAs delivers p to cl once it is settled how.
func (l *loop) deliverAs(cl *client, p *publication, s *router.Subscriber, origin *router.Member, qos codec.QoS, retain bool) {
	if qos == 0 {
		l.deliverQoS0(cl, p, s, retain)
		return
	}
	o := session.Outbound{Message: l.own(p), QoS: qos, Retain: retain}
	if origin != nil || s.HasIDs() {
		o.Extra = l.extra(s, origin)
	}
	l.offer(cl, o)
}

// deliverQoS0 sends now or drops.
func (l *loop) deliverQoS0(cl *client, p *publication, s *router.Subscriber, retain bool) {
	c := cl.conn
	switch {
	case c == nil:
		l.drop(hook.DropQoS0Offline, cl, p.topic) // B-qos0-offline
		return
	case c.congested:
		l.drop(c.whySlow(), cl, p.topic)
		return
	}
	d := codec.Delivery{Retain: retain}
	if s.HasIDs() {
		l.ids = s.AppendIDs(l.ids[:0])
		d.SubscriptionIDs = l.ids
	}
	if c.sendPublish(&d, p.topic, p.payload, p.properties, int64(p.expires)) && l.asks&onDelivered != 0 {
		l.tellDelivered(c, hook.Delivery{Topic: p.topic, Payload: p.payload, Properties: p.properties, Retain: retain, From: p.from}, 0)
	}
	c.relieve()
}

// offer gives the session one message of QoS 1 or 2. It takes a reference of
// its own when the session keeps the message.
func (l *loop) offer(cl *client, o session.Outbound) {
	c := cl.conn
	if cl.stored != 0 {
		o.Stored, o.Own = o.Message.Stored, o.Message.Own || o.Shared()
	}
	if c != nil && c.ext != nil && c.tooLarge(o) {
		l.finish(cl, &o)
		l.drop(hook.DropPacketTooLarge, cl, o.Message.Topic) // [MQTT-3.1.2-24]
		return
	}
	if cl.Full(o.Message.Size()) {
		l.commits.expiring = cl
		cl.Expire(l.now, l.dropExpired)
	}
	o.Message.Retain()
	hold, room := c != nil && c.congested, l.room()
	id, verdict, old := cl.Offer(o, hold, room)
	for verdict == session.Evicted {
		l.evicted(cl, old)
		id, verdict, old = cl.Offer(o, hold, room)
	}
	switch verdict {
	case session.Sent:
		l.progress(cl, &o, id, sending(o.QoS))
		c.sendOutbound(&o, id, false)
		c.relieve()
	case session.Queued:
		l.queued(cl, o, 1)
	case session.Stored:
		l.queued(cl, o, 1)
		l.inMemory -= int64(o.Message.Memory())
		o.Message.Release(l.pool)
		if c != nil || cl.Over() {
			l.readFar(cl)
		}
		return
	case session.Dropped:
		l.drop(hook.DropQueueFull, cl, o.Message.Topic)
		l.finish(cl, &o)
		o.Message.Release(l.pool)
		return
	}
	if m, ok := o.Origin().(*router.Member); ok {
		m.AddInflight(1)
	}
	cl.tellMembers()
}

// evicted lets go of the longest waiting message of a full queue.
func (l *loop) evicted(cl *client, o session.Outbound) {
	l.drop(hook.DropQueueFull, cl, o.Message.Topic)
	l.queued(cl, o, -1)
	l.finish(cl, &o)
	cl.released(o)
	o.Message.Release(l.pool)
}

// queued counts a message into a session's queue in memory, or out of it.
func (l *loop) queued(cl *client, o session.Outbound, n int64) {
	l.counters.QueuedMessages += n
	l.counters.QueuedBytes += n * int64(o.Message.Size())
	l.inMemory += n * int64(o.Message.Memory())
	l.b.full.update(cl)
}

// released settles the accounts of a message the session is done with.
func (cl *client) released(o session.Outbound) {
	if m, ok := o.Origin().(*router.Member); ok {
		m.AddInflight(-1)
	}
}

// pump sends what the session has for its connection, as far as quota and
// socket allow: what was in flight, what waits, and retained messages of new
// subscriptions, in turns.
func (c *conn) pump() {
	l := c.loop
	for c.state == connOpen && !c.congested {
		cl := c.cl
		l.commits.expiring = cl
		s, ok := cl.Next(l.now, l.dropExpired)
		l.b.full.update(cl) // what expired made room
		if ok {
			c.sendNext(&s)
		}
		replayed := c.state == connOpen && cl.ext != nil && cl.ext.replays != nil && l.replayStep(c)
		l.readFar(cl)
		if !ok && !replayed {
			cl.tellMembers()
			return
		}
		c.relieve()
	}
}

// sendNext encodes what the session returned, or settles it when it is too large.
func (c *conn) sendNext(s *session.Send) {
	l := c.loop
	if s.Message == nil {
		c.answer(codec.PUBREL, s.PacketID, codec.Success)
		return
	}
	if !s.Dup {
		l.queued(c.cl, s.Outbound, -1)
	}
	if c.ext != nil && c.tooLarge(s.Outbound) { // [MQTT-3.1.2-25]
		l.drop(hook.DropPacketTooLarge, c.cl, s.Message.Topic)
		o := c.cl.Discard(s.PacketID)
		l.finish(c.cl, &o)
		c.cl.released(o)
		o.Message.Release(l.pool)
		return
	}
	if !s.Dup {
		l.progress(c.cl, &s.Outbound, s.PacketID, sending(s.QoS))
	}
	c.sendOutbound(&s.Outbound, s.PacketID, s.Dup)
}

// dropExpired lets go of a queued message whose time has run out.
func (l *loop) dropExpired(o session.Outbound) {
	l.drop(hook.DropExpired, nil, o.Message.Topic) // [MQTT-3.3.2-5]
	l.finish(l.commits.expiring, &o)
	l.counters.QueuedMessages--
	l.counters.QueuedBytes -= int64(o.Message.Size())
	l.inMemory -= int64(o.Message.Memory())
	if m, ok := o.Origin().(*router.Member); ok {
		m.AddInflight(-1)
	}
	o.Message.Release(l.pool)
}

func (c *conn) sendOutbound(o *session.Outbound, id uint16, dup bool) {
	d := codec.Delivery{PacketID: id, QoS: o.QoS, Dup: dup, Retain: o.Retain, SubscriptionIDs: o.IDs()}
	m := o.Message
	if c.sendPublish(&d, m.Topic, m.Payload, m.Properties, int64(m.Expires)) && c.loop.asks&onDelivered != 0 {
		c.loop.tellDelivered(c, shownDelivery(o), id)
	}
}

// sendPublish appends one PUBLISH to the output, if the client takes packets of its size.
func (c *conn) sendPublish(d *codec.Delivery, topic, payload []byte, props codec.Properties, expires int64) bool {
	l := c.loop
	if expires != 0 {
		d.HasMessageExpiry, d.MessageExpiry = true, remaining(expires-int64(l.now))
	}
	if c.ext != nil {
		define := c.alias(d, topic)
		if !c.fits(codec.PublishSize(c.version, d, len(topic), len(payload), len(props))) {
			l.drop(hook.DropPacketTooLarge, c.cl, topic) // only QoS 0 comes here: the others were asked before
			return false
		}
		if define {
			c.ext.aliasOut[string(topic)] = d.TopicAlias // B-alias-queue
		}
	}
	out := c.buffer()
	before := len(out.B)
	out.B = codec.AppendPublish(out.B, c.version, d, topic, payload, props)
	c.sent(codec.PUBLISH)
	l.counters.PublishBytesSent += uint64(len(payload))
	if c.ext != nil && c.ext.rate != nil && c.ext.rate.out.bounded() {
		c.spendSent(len(out.B) - before)
	}
	return true
}

// remaining is the Message Expiry Interval to forward, from nanoseconds left
// [MQTT-3.3.2-6]: whole seconds, rounded up. A message that was sent before it
// expired keeps going at 0 [MQTT-4.3.3-7].
func remaining(ns int64) uint32 {
	if ns <= 0 {
		return 0
	}
	return uint32((ns + int64(time.Second) - 1) / int64(time.Second))
}

// alias gives d the topic alias to use, if the client takes aliases. define
// reports that it is a new one, which counts once the packet is sent.
func (c *conn) alias(d *codec.Delivery, topic []byte) (define bool) {
	x := c.ext
	if x.aliasOutMax == 0 {
		return false
	}
	if a, ok := x.aliasOut[string(topic)]; ok {
		d.TopicAlias, d.OmitTopic = a, true
		return false
	}
	if len(x.aliasOut) >= int(x.aliasOutMax) {
		return false
	}
	if x.aliasOut == nil {
		x.aliasOut = make(map[string]uint16)
	}
	d.TopicAlias = uint16(len(x.aliasOut) + 1)
	return true
}

// tooLarge reports whether o's PUBLISH would exceed the client's Maximum Packet Size.
func (c *conn) tooLarge(o session.Outbound) bool {
	if c.ext.maximumPacket == 0 {
		return false
	}
	m := o.Message
	d := codec.Delivery{PacketID: 1, QoS: o.QoS, Retain: o.Retain, SubscriptionIDs: o.IDs(), HasMessageExpiry: m.Expires != 0}
	c.alias(&d, m.Topic)
	return !c.fits(codec.PublishSize(c.version, &d, len(m.Topic), len(m.Payload), len(m.Properties)))
}

// extra returns what deliveries to s carry beside the message, made once for
// each Subscription Identifier and each member of a shared subscription.
func (l *loop) extra(s *router.Subscriber, origin *router.Member) *session.Extra {
	l.ids = s.AppendIDs(l.ids[:0])
	key := extraKey{origin: origin}
	switch len(l.ids) {
	case 0:
	case 1:
		key.id = l.ids[0]
	default: // of an overlap, which is never shared
		return &session.Extra{IDs: append([]uint32(nil), l.ids...)}
	}
	x, ok := l.extras[key]
	if !ok {
		if len(l.extras) >= extrasKept {
			clear(l.extras)
		}
		x = &session.Extra{}
		if origin != nil {
			x.Origin = origin
		}
		if key.id != 0 {
			x.IDs = []uint32{key.id}
		}
		l.extras[key] = x
	}
	return x
}

// An extraKey is a single Subscription Identifier, 0 for none, and a member of
// a shared subscription, nil for none.
type extraKey struct {
	origin *router.Member
	id     uint32
}

// extrasKept bounds the extras that are kept for the next message.
const extrasKept = 4096
