package engine

import (
	"slices"
	"strings"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
	"github.com/wheelmq/wheelmq/router"
)

// subscribe handles SUBSCRIBE (MQTT 5.0 section 3.8).
func (c *conn) subscribe(body []byte) {
	l := c.loop
	in := &l.sub
	if err := codec.ParseSubscribe(in, body, c.version); err != nil {
		c.failWith(err)
		return
	}
	if c.version != codec.V5 && slices.ContainsFunc(in.Filters, emptyFilter) { // [MQTT-4.7.3-1]
		c.fail(codec.MalformedPacket, "empty topic filter")
		return
	}
	if !c.fits(codesSize(len(in.Filters))) { // [MQTT-3.1.2-24]
		c.fail(codec.PacketTooLarge, "the SUBACK would be larger than the client takes")
		return
	}
	stopped := c.excess(in)
	if len(l.hooks.subscribers) > 0 {
		stopped = l.interceptSubscribe(c, in, stopped)
	}
	if len(l.hooks.subscribeReviewers) > 0 {
		c.reviewSubscribe(in, stopped)
		return
	}
	c.subscribeAllowed(in, stopped)
}

// excess refuses the filters of in that are more than one packet may have; nil
// when there are none.
func (c *conn) excess(in *codec.Subscribe) (stopped []codec.ReasonCode) {
	most := c.loop.b.options().MaxFilters
	if most == Unlimited || len(in.Filters) <= int(most) {
		return nil
	}
	stopped = make([]codec.ReasonCode, len(in.Filters))
	for i := int(most); i < len(stopped); i++ {
		stopped[i] = codec.QuotaExceeded
	}
	c.loop.counters.Limited[metrics.PacketFilters] += uint64(len(stopped) - int(most))
	return stopped
}

// subscribeAllowed makes the subscriptions of in, but for those that were
// stopped, and answers. stopped is nil where none was, and no hook was asked.
func (c *conn) subscribeAllowed(in *codec.Subscribe, stopped []codec.ReasonCode) {
	l := c.loop
	if c.version == codec.V31 && (slices.ContainsFunc(in.Filters, c.refuses) || slices.ContainsFunc(stopped, codec.ReasonCode.Failure)) { // M31-suback: 3.1 has no word for it
		c.drop("topic filter refused")
		return
	}
	codes := l.codes[:0]
	var replays []*replay
	for i := range in.Filters {
		var code codec.ReasonCode
		var r *replay
		if stopped != nil && stopped[i].Failure() {
			code = stopped[i]
		} else {
			code, r = c.subscribeOne(&in.Filters[i], in.SubscriptionID)
		}
		if code.Failure() && c.version != codec.V5 {
			code = codec.UnspecifiedError // the one failure code of 3.1.1
		}
		if r != nil {
			replays = append(replays, r)
		}
		codes = append(codes, code)
	}
	l.codes = codes
	ack := codec.Suback{PacketID: in.PacketID, Codes: codes}
	c.sent(codec.SUBACK)
	c.buffer().B = ack.Append(c.out.B, c.version)
	if len(replays) > 0 { // B-rh-ack: behind the SUBACK
		for _, r := range replays {
			c.cl.addReplay(r)
		}
		c.pump()
	}
}

func emptyFilter(s codec.Subscription) bool { return len(s.Filter) == 0 }

// codesSize is the size of a SUBACK or UNSUBACK of v5 with n codes and no properties.
func codesSize(n int) int {
	switch n += 3; {
	case n < 1<<7:
		return 2 + n
	case n < 1<<14:
		return 3 + n
	default:
		return 4 + n
	}
}

// refuses reports whether f is a filter the client may not subscribe to.
func (c *conn) refuses(f codec.Subscription) bool {
	_, _, code := c.checkFilter(string(f.Filter), 0)
	return code.Failure()
}

// subscribeOne makes or replaces one subscription. The replay is for the
// retained messages it is to get, nil if none.
func (c *conn) subscribeOne(f *codec.Subscription, id uint32) (codec.ReasonCode, *replay) {
	name := string(f.Filter)
	share, rest, code := c.checkFilter(name, id)
	if code.Failure() {
		return code, nil
	}
	return c.loop.makeSubscription(c.cl, f, id, share, rest)
}

// makeSubscription makes or replaces the subscription to f, which may be had.
func (l *loop) makeSubscription(cl *client, f *codec.Subscription, id uint32, share, rest string) (codec.ReasonCode, *replay) {
	s := cl.find(f.Filter)
	isNew := s == nil
	if isNew {
		limit := int(l.b.options().MaxSubscriptions)
		if own := cl.granted().maxSubscriptions; own != 0 {
			limit = own
		}
		if limit >= 0 && len(cl.subs) >= limit {
			l.counters.Limited[metrics.Subscriptions]++
			return codec.QuotaExceeded, nil
		}
		if cl.stored != 0 && l.full() {
			return codec.QuotaExceeded, nil
		}
		s = cl.addSubscription(string(f.Filter))
	}
	s.id, s.noLocal, s.retainAsPublished = id, f.NoLocal, f.RetainAsPublished
	s.qos = min(f.QoS, *l.b.options().MaximumQoS) // [MQTT-3.2.2-10]
	want := router.Subscription{Loop: l.id, Ref: cl.ref, QoS: s.qos, NoLocal: s.noLocal,
		RetainAsPublished: s.retainAsPublished, ID: id}
	l.keepSubscription(cl, s)
	if share != "" {
		s.member, _ = l.b.router.SubscribeShared(share, rest, l.b.options().SharedStrategy, want)
		cl.shares = true
		if cl.told == memberUnknown {
			cl.tellMembers()
		} else {
			cl.told.tell(s.member)
		}
		if len(l.hooks.subscriptions) > 0 {
			l.tellSubscribed(cl, s, f.RetainHandling)
		}
		return codec.ReasonCode(s.qos), nil // U5-4.8.2-retain: no retained messages
	}
	l.b.router.Subscribe(s.filter, want)
	if len(l.hooks.subscriptions) > 0 {
		l.tellSubscribed(cl, s, f.RetainHandling)
	}
	if f.RetainHandling == 2 || f.RetainHandling == 1 && !isNew {
		return codec.ReasonCode(s.qos), nil
	}
	cl.dropReplay(s.filter) // of the subscription before, also when nothing is retained now
	return codec.ReasonCode(s.qos), l.newReplay(s)
}

// checkFilter says whether the client may subscribe to filter, and takes a
// shared one apart.
func (c *conn) checkFilter(filter string, id uint32) (share, rest string, code codec.ReasonCode) {
	share, rest, code = c.loop.checkFilter(filter, id)
	if !code.Failure() && !c.mayRead(rest) {
		return "", "", codec.NotAuthorized
	}
	return share, rest, code
}

// checkFilter says whether filter can be subscribed to at all.
func (l *loop) checkFilter(filter string, id uint32) (share, rest string, code codec.ReasonCode) {
	o := l.b.options()
	share, rest, shared, ok := topic.ParseShared(filter)
	switch {
	case !ok: // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
		return "", "", codec.TopicFilterInvalid
	case !topic.ValidFilter(rest):
		return "", "", codec.TopicFilterInvalid
	case topic.Levels(rest) > o.MaxTopicLevels:
		l.counters.Limited[metrics.TopicLevels]++
		return "", "", codec.TopicFilterInvalid
	case len(rest) > o.MaxTopicLength:
		l.counters.Limited[metrics.TopicLength]++
		return "", "", codec.TopicFilterInvalid
	case shared && o.NoSharedSubscriptions:
		return "", "", codec.SharedSubscriptionsNotSupported
	case o.NoWildcardSubscriptions && strings.ContainsAny(rest, "+#"):
		return "", "", codec.WildcardSubscriptionsNotSupported
	case id != 0 && o.NoSubscriptionIdentifiers:
		return "", "", codec.SubscriptionIdentifiersNotSupported
	}
	return share, rest, codec.Success
}

// mayRead decides on a filter. Without an authorizer everything may be read
// but $SYS, which is a right of the listener.
func (c *conn) mayRead(filter string) bool {
	if c.loop.mayBeAsked(c.cl) {
		return c.loop.may(c.cl, hook.Subscribe, []byte(filter))
	}
	if isSys(filter) {
		return c.door().Sys
	}
	return true
}

// unsubscribe handles UNSUBSCRIBE (MQTT 5.0 section 3.10).
func (c *conn) unsubscribe(body []byte) {
	l := c.loop
	var in codec.Unsubscribe
	if err := codec.ParseUnsubscribe(&in, body, c.version); err != nil {
		c.failWith(err)
		return
	}
	if !c.fits(codesSize(len(in.Filters))) { // [MQTT-3.1.2-24]
		c.fail(codec.PacketTooLarge, "the UNSUBACK would be larger than the client takes")
		return
	}
	codes := l.codes[:0]
	for _, f := range in.Filters {
		if len(l.hooks.unsubscribers) > 0 {
			changed, code := l.interceptUnsubscribe(c, f)
			if code.Failure() {
				codes = append(codes, code)
				continue
			}
			f = changed
		}
		codes = append(codes, l.unsubscribeOne(c.cl, f))
	}
	l.codes = codes
	ack := codec.Unsuback{PacketID: in.PacketID, Codes: codes}
	c.sent(codec.UNSUBACK)
	c.buffer().B = ack.Append(c.out.B, c.version)
}

// unsubscribeOne removes the subscription with exactly this filter
// [MQTT-3.10.4-1].
func (l *loop) unsubscribeOne(cl *client, filter []byte) codec.ReasonCode {
	s := cl.find(filter)
	if s == nil {
		return codec.NoSubscriptionExisted
	}
	l.unroute(cl, s)
	cl.dropReplay(s.filter)
	if len(l.hooks.subscriptions) > 0 {
		l.tellUnsubscribed(cl, s.filter)
	}
	if cl.stored != 0 {
		l.change(cl.conn).DeleteSubscription(cl.stored, s.filter)
	}
	cl.removeSubscription(s)
	return codec.Success
}

func (l *loop) unsubscribeAll(cl *client) {
	for i := range cl.subs {
		l.unroute(cl, &cl.subs[i])
	}
	cl.clearSubscriptions()
	if cl.ext != nil {
		cl.ext.replays = nil
	}
}

// unroute takes a subscription out of the router.
func (l *loop) unroute(cl *client, s *subscription) {
	if s.member == nil {
		l.b.router.Unsubscribe(s.filter, l.id, cl.ref)
		return
	}
	share, rest, _, _ := topic.ParseShared(s.filter)
	l.b.router.UnsubscribeShared(share, rest, l.id, cl.ref)
}

// repoint makes the router send what is for s to another place.
func (l *loop) repoint(cl *client, s *subscription, loop int, to router.Ref) {
	if s.member == nil {
		l.b.router.Move(s.filter, l.id, cl.ref, loop, to)
		return
	}
	share, rest, _, _ := topic.ParseShared(s.filter)
	s.member = l.b.router.MoveShared(share, rest, l.id, cl.ref, loop, to)
}
