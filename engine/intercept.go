package engine

import (
	"runtime/debug"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// interceptPublish shows p, which comes from who by c, to the interceptors and
// changes it as they did. c is nil for wills and the program's own messages.
func (l *loop) interceptPublish(who hook.Client, c *conn, p *publication) (out hook.Outcome) {
	defer l.refuseOnPanic(c, &out)
	v := &l.shownIn // hooks do not come back to the loop, so there is one at a time
	*v = l.shown(p)
	for _, h := range l.hooks.interceptors {
		if out = h.InterceptPublish(who, v); out.Ends() {
			return out
		}
	}
	return l.adopt(who, v, p)
}

// adopt makes p what hooks made of it, if that is a message at all.
func (l *loop) adopt(who hook.Client, v *hook.Publication, p *publication) hook.Outcome {
	if len(v.Topic) == 0 || len(v.Topic) > codec.MaxFieldLength || !topic.ValidName(v.Topic) || v.QoS > 2 || isSys(v.Topic) ||
		len(v.Topic)+len(v.Payload)+len(v.Properties) > l.b.options().MaximumPacketSize {
		l.b.log.Error("a hook made a message that is not valid", "client", who.ClientID, "topic", string(v.Topic), "qos", v.QoS, "bytes", len(v.Payload))
		return hook.Outcome{Stop: true, Code: codec.ImplementationSpecificError, Reason: "the message was changed to one that is not valid"}
	}
	p.topic, p.payload, p.properties, p.qos, p.retain = v.Topic, v.Payload, v.Properties, v.QoS, v.Retain
	if v.HasExpiry {
		p.expires = l.now.Add(time.Duration(v.Expiry) * time.Second)
	} else {
		p.expires = 0
	}
	return hook.Outcome{}
}

// refuseOnPanic, deferred, makes an interceptor that panics refuse the message,
// and ends the connection it came by.
func (l *loop) refuseOnPanic(c *conn, out *hook.Outcome) {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		l.b.log.Error("a hook panicked", "panic", r, "stack", string(debug.Stack()))
		*out = hook.Outcome{Stop: true, Code: codec.ImplementationSpecificError, Reason: "a hook failed"}
		if c != nil {
			l.doomed = append(l.doomed, c)
		}
	}
}

// interceptSubscribe shows the filters of a SUBSCRIBE that are not stopped to
// the interceptors, which may change them. codes are failing for those that are
// refused, then or before.
func (l *loop) interceptSubscribe(c *conn, in *codec.Subscribe, stopped []codec.ReasonCode) (codes []codec.ReasonCode) {
	who := c.cl.identity()
	codes = make([]codec.ReasonCode, len(in.Filters))
	copy(codes, stopped)
	for i := range in.Filters {
		if codes[i].Failure() {
			continue
		}
		f := &in.Filters[i]
		s := shownFilter(f, in.SubscriptionID)
		code := codec.Success
		for _, h := range l.hooks.subscribers {
			if code = h.InterceptSubscribe(who, &s); code.Failure() {
				break
			}
		}
		if s.Filter != string(f.Filter) {
			f.Filter = []byte(s.Filter)
		}
		f.QoS = min(s.QoS, 2)
		codes[i] = code
	}
	return codes
}

// shownFilter is f as hooks see it.
func shownFilter(f *codec.Subscription, id uint32) hook.Subscription {
	return hook.Subscription{Filter: string(f.Filter), QoS: f.QoS, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
		RetainHandling: f.RetainHandling, ID: id}
}

// interceptUnsubscribe returns the filter that the interceptors want removed.
func (l *loop) interceptUnsubscribe(c *conn, filter []byte) ([]byte, codec.ReasonCode) {
	name := string(filter)
	who := c.cl.identity()
	for _, h := range l.hooks.unsubscribers {
		var code codec.ReasonCode
		if name, code = h.InterceptUnsubscribe(who, name); code.Failure() {
			return nil, code
		}
	}
	return []byte(name), codec.Success
}

// interceptDelivery shows a delivery of p to cl to the interceptors. changed is
// a publication for cl alone where they changed it; the caller calls done.
func (l *loop) interceptDelivery(cl *client, p *publication, qos codec.QoS, retain bool) (changed *publication, ok bool) {
	defer func() {
		if !ok {
			l.drop(hook.DropIntercepted, cl, p.topic)
		}
	}()
	defer l.denyOnPanic(cl, &ok)
	d := &l.shownOut
	*d = hook.Delivery{Topic: p.topic, Payload: p.payload, Properties: p.properties, QoS: qos, Retain: retain, From: p.from}
	who := cl.identity()
	for _, h := range l.hooks.deliverers {
		if !h.InterceptDelivery(who, d) {
			return nil, false
		}
	}
	if same(d.Topic, p.topic) && same(d.Payload, p.payload) && same(d.Properties, p.properties) {
		return nil, true
	}
	if len(d.Topic) == 0 || len(d.Topic) > codec.MaxFieldLength || !topic.ValidName(d.Topic) ||
		len(d.Topic)+len(d.Payload)+len(d.Properties) > l.b.options().MaximumPacketSize {
		l.b.log.Error("a hook made a delivery that is not valid", "client", cl.ClientID, "topic", string(d.Topic), "bytes", len(d.Payload))
		return nil, false
	}
	q := *p
	q.topic, q.payload, q.properties, q.msg = d.Topic, d.Payload, d.Properties, nil
	return &q, true
}

// same reports whether a and b are the same bytes in memory.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// interceptIn shows a packet from the client to the interceptors. It reports
// whether it is to be handled.
func (c *conn) interceptIn(h codec.Header, raw []byte) bool {
	who := c.identity()
	p := hook.Packet{Version: c.version, Header: h, Raw: raw}
	for _, i := range c.loop.hooks.packets {
		if !i.InterceptPacket(who, p) {
			return false
		}
	}
	return true
}

// interceptOut shows the packets in b, all of them whole, to the interceptors
// and returns those that are to be written.
func (c *conn) interceptOut(b []byte) (kept []byte) {
	defer c.loop.blame(c) // kept is what the hooks let through by then
	who := c.identity()
	kept = b[:0]
	for len(b) > 0 {
		h, _, _ := codec.ReadHeader(b)
		n := h.Size + h.Remaining
		write := true
		for _, i := range c.loop.hooks.packets {
			write = write && i.InterceptPacket(who, hook.Packet{Out: true, Version: c.version, Header: h, Raw: b[:n:n]})
		}
		if write {
			kept = append(kept, b[:n]...)
		}
		b = b[n:]
	}
	return kept
}
