package engine

import (
	"bytes"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router"
)

// A publication is a message on its way through one turn. Its slices are
// borrowed, from the network buffer or from msg; what outlives the turn takes
// own, which copies once.
type publication struct {
	topic, payload []byte
	properties     codec.Properties
	expires        clock.Time // 0 never
	qos            codec.QoS
	retain         bool
	will           bool       // a Will Message
	sys            bool       // below $SYS: the broker's own
	unkept         bool       // refused because the store takes nothing
	publisher      router.Ref // whose session; 0: nobody's
	from           string     // its client identifier
	msg            *message.Message
}

// fromMessage makes p a view of m, whose reference it takes over.
func (p *publication) fromMessage(m *message.Message, publisher router.Ref) {
	*p = publication{topic: m.Topic, payload: m.Payload, properties: m.Properties, expires: m.Expires,
		qos: m.QoS, retain: m.Retained, publisher: publisher, from: m.Publisher, msg: m}
}

// own returns p's message with p's own reference: who keeps it retains it.
func (l *loop) own(p *publication) *message.Message {
	if p.msg == nil {
		m := l.pool.New(p.topic, p.payload, p.properties)
		m.Expires, m.QoS, m.Retained, m.Publisher = p.expires, p.qos, p.retain, p.from
		p.msg = m
	}
	return p.msg
}

// done gives p's reference back.
func (l *loop) done(p *publication) {
	if p.msg != nil {
		p.msg.Release(l.pool)
		p.msg = nil
	}
}

// publish handles the client's PUBLISH (MQTT 5.0 section 3.3).
func (c *conn) publish(flags uint8, body []byte) {
	l := c.loop
	in := &l.parsed
	if err := codec.ParsePublish(in, flags, body, c.version, codec.FromClient); err != nil {
		c.failWith(err)
		return
	}
	if in.TopicAlias != 0 && !c.resolveAlias(in) {
		return
	}
	if in.QoS == 2 {
		isNew, within := c.cl.Receive(in.PacketID, c.receiveMaximum())
		if !within {
			c.fail(codec.ReceiveMaximumExceeded, "more QoS 2 messages open than Receive Maximum") // [MQTT-3.3.4-7]
			return
		}
		if !isNew { // [MQTT-4.3.3-10]
			c.answer(codec.PUBREC, in.PacketID, codec.Success)
			return
		}
	}
	if code, detail := c.checkPublish(in); code.Failure() {
		c.refusePublish(in, code, detail)
		return
	}
	l.counters.PublishBytesReceived += uint64(len(in.Payload))
	p := publication{topic: in.Topic, payload: in.Payload, properties: in.Properties, qos: in.QoS, retain: in.Retain,
		publisher: c.cl.ref, from: c.cl.ClientID}
	if in.HasMessageExpiry {
		p.expires = l.now.Add(time.Duration(in.MessageExpiry) * time.Second)
	}
	id, qos, cl := in.PacketID, in.QoS, c.cl
	if l.asks&onPublish != 0 {
		if out := l.interceptPublish(cl.identity(), c, &p); out.Ends() {
			c.stopPublish(id, qos, p.topic, out)
			return
		}
	}
	if l.asks&onReview != 0 {
		c.reviewPublish(id, qos, &p)
		return
	}
	c.publishAllowed(id, qos, &p)
}

// publishAllowed publishes what the client sent as packet id with qos, and
// answers. It gives p's reference back.
func (c *conn) publishAllowed(id uint16, qos codec.QoS, p *publication) {
	l, cl := c.loop, c.cl
	code := l.publish(p)
	if l.asks&onPublished != 0 && !code.Failure() {
		l.tellPublished(cl.identity(), c, p, code)
	}
	unkept := p.unkept
	l.done(p)
	if c.state != connOpen { // delivering to itself can close a connection
		return
	}
	switch {
	case unkept && qos > 0 && c.version != codec.V5: // an acknowledgement would say that it is kept
		cl.Forget(id)
		c.fail(code, "the store takes no messages now")
	case qos == 1:
		c.answer(codec.PUBACK, id, code)
	case qos == 2:
		if code.Failure() {
			cl.Forget(id) // [MQTT-4.3.3-9]
		} else if cl.stored != 0 {
			l.change(c).Receive(cl.stored, id) // in the batch of the message
		}
		c.answer(codec.PUBREC, id, code)
	}
}

// receiveMaximum is what the client was told; 3.x has no such bound.
func (c *conn) receiveMaximum() uint16 {
	if c.version != codec.V5 {
		return 0
	}
	if c.ext != nil && c.ext.receiveMaximum > 0 {
		return c.ext.receiveMaximum
	}
	return c.loop.b.options().ReceiveMaximum
}

// resolveAlias puts the topic name in the place of an alias, or defines one
// (MQTT 5.0 section 3.3.2.3.4).
func (c *conn) resolveAlias(in *codec.Publish) bool {
	most := c.loop.b.options().TopicAliasMaximum
	if in.TopicAlias > most { // [MQTT-3.2.2-17], [MQTT-3.2.2-18]
		c.fail(codec.TopicAliasInvalid, "topic alias above the maximum")
		return false
	}
	if c.ext == nil {
		c.ext = &connExt{}
	}
	if c.ext.aliasIn == nil {
		c.ext.aliasIn = make([][]byte, most)
	}
	known := &c.ext.aliasIn[in.TopicAlias-1]
	if len(in.Topic) > 0 {
		*known = append((*known)[:0], in.Topic...)
		return true
	}
	if len(*known) == 0 {
		c.fail(codec.ProtocolError, "topic alias was not defined") // [MQTT-3.3.2-7]
		return false
	}
	in.Topic = *known
	return true
}

// checkPublish applies what the broker, not the format, demands.
func (c *conn) checkPublish(in *codec.Publish) (codec.ReasonCode, string) {
	o := c.loop.b.options()
	switch {
	case in.QoS > *o.MaximumQoS:
		return codec.QoSNotSupported, "QoS above Maximum QoS"
	case in.Retain && o.NoRetained:
		return codec.RetainNotSupported, "retained messages are switched off"
	case in.IsChecked: // the topic name passed before
	case bytes.Count(in.Topic, slash) >= o.MaxTopicLevels:
		c.loop.counters.Limited[metrics.TopicLevels]++
		return codec.TopicNameInvalid, "topic name has too many levels"
	case len(in.Topic) > o.MaxTopicLength:
		c.loop.counters.Limited[metrics.TopicLength]++
		return codec.TopicNameInvalid, "topic name is too long"
	case in.Topic[0] == '$' && isSys(in.Topic):
		return codec.NotAuthorized, "$SYS is the broker's" // B-sys
	default:
		in.Checked = append(in.Checked[:0], in.Topic...)
	}
	switch {
	case o.CheckPayloadFormat && !payloadAsClaimed(in):
		return codec.PayloadFormatInvalid, "payload is not UTF-8"
	}
	if c.loop.mayBeAsked(c.cl) && !c.loop.mayPublish(c.cl, in.Topic, in.Retain) {
		return codec.NotAuthorized, "not allowed to publish there"
	}
	return codec.Success, ""
}

var slash = []byte{'/'}

func payloadAsClaimed(in *codec.Publish) bool {
	v, ok := in.Properties.Uint(codec.PayloadFormatIndicator)
	return !ok || v == 0 || utf8.Valid(in.Payload)
}

// refusePublish answers a PUBLISH that is well formed but not taken. What the
// client was told at CONNACK and ignored ends the connection; otherwise QoS 1
// and 2 are answered, in 3.x as if all were well, since it has no other answer.
func (c *conn) refusePublish(in *codec.Publish, code codec.ReasonCode, detail string) {
	switch code {
	case codec.QoSNotSupported, codec.RetainNotSupported:
		c.fail(code, detail)
		return
	case codec.TopicNameInvalid:
		if in.QoS == 0 || c.version != codec.V5 {
			c.fail(code, detail)
			return
		}
	case codec.NotAuthorized:
		c.loop.drop(hook.DropNotAuthorized, nil, in.Topic)
	default:
		c.loop.drop(hook.DropRefusedPublish, nil, in.Topic)
	}
	switch in.QoS {
	case 1:
		c.answerWhy(codec.PUBACK, in.PacketID, code, detail)
	case 2:
		if c.version == codec.V5 {
			c.cl.Forget(in.PacketID) // [MQTT-4.3.3-9]
		}
		c.answerWhy(codec.PUBREC, in.PacketID, code, detail)
	}
}

// stopPublish answers a PUBLISH that an interceptor stopped.
func (c *conn) stopPublish(id uint16, qos codec.QoS, topic []byte, out hook.Outcome) {
	c.loop.drop(hook.DropIntercepted, nil, topic)
	if out.Close {
		code := out.Code
		if !code.Failure() {
			code = codec.AdministrativeAction
		}
		c.fail(code, out.Reason)
		return
	}
	if qos == 2 && out.Code.Failure() && c.version == codec.V5 {
		c.cl.Forget(id) // [MQTT-4.3.3-9]
	}
	ack := codec.PUBACK
	if qos == 2 {
		ack = codec.PUBREC
	}
	switch {
	case qos == 0:
	case out.Reason == "":
		c.answer(ack, id, out.Code)
	default:
		c.answerWhy(ack, id, out.Code, out.Reason)
	}
}

// publish routes p and returns what its publisher is to be told. p's slices
// are borrowed; the caller calls p.done.
func (l *loop) publish(p *publication) codec.ReasonCode {
	r := l.route(p)
	if p.qos > 0 && (l.b.full.any() && l.b.full.blocks(r) || l.saturated && l.saturates(r)) {
		l.drop(hook.DropRefusedPublish, nil, p.topic)
		return codec.QuotaExceeded
	}
	if p.retain && !p.sys && l.b.durable != nil && (l.refusing() || len(p.payload) > 0 && l.full()) {
		p.unkept = true
		return codec.QuotaExceeded
	}
	if p.qos > 0 && l.b.durable != nil && !l.keep(p, r) {
		p.unkept = true
		l.drop(hook.DropRefusedPublish, nil, p.topic)
		return codec.QuotaExceeded
	}
	if p.retain {
		if !l.storeRetained(p) {
			return codec.QuotaExceeded // B-ret-limit
		}
		r = l.route(p)
	}
	matched := false
	for i, subs := range r.Loops {
		if len(subs) == 0 {
			continue
		}
		matched = true
		if i == l.id {
			l.fanOut(p, subs)
		} else {
			l.fanOutTo(i, p, subs)
		}
	}
	if len(r.Shared) > 0 && l.publishShared(p, r.Shared) {
		matched = true
	}
	if !matched {
		if l.asks&onUnconsumed != 0 {
			l.tellUnconsumed(p)
		}
		return codec.NoMatchingSubscribers
	}
	return codec.Success
}

// route returns the route of p's topic name, borrowed from the cache until the
// next call. A connection that breaks at a write ends while a message goes
// out, and its will comes in between: that has a route of its own.
func (l *loop) route(p *publication) *router.Route {
	if p.will {
		r := new(router.Route)
		l.b.router.Match(p.topic, r)
		return r
	}
	return l.routes.Route(p.topic)
}

// fanOutTo puts one entry for all subscribers of loop i into its mailbox.
func (l *loop) fanOutTo(i int, p *publication, subs []router.Subscriber) {
	if !l.credit(i, p) {
		return
	}
	m := l.own(p)
	m.Retain()
	l.outboxes[i].add(item{kind: itemFan, msg: m, subs: subs, publisher: p.publisher})
}

// credit reports whether loop i's mailbox takes p: QoS 0 is dropped at its bound.
func (l *loop) credit(i int, p *publication) bool {
	if p.qos == 0 && l.outboxes[i].waiting+l.outboxes[i].bytes > l.b.options().MailboxBytes {
		l.drop(hook.DropMailboxFull, nil, p.topic)
		return false
	}
	return true
}

// publishShared chooses one member of each group.
func (l *loop) publishShared(p *publication, groups []*router.Group) (matched bool) {
	topicHash, clientHash := xxhash.Sum64(p.topic), uint64(0)
	if cl := l.client(p.publisher); cl != nil {
		clientHash = xxhash.Sum64String(cl.ClientID)
	}
	for _, g := range groups {
		m, ok := g.Pick(clientHash, topicHash, 0)
		if !ok {
			continue
		}
		matched = true
		l.sendToMember(p, m)
	}
	return matched
}
