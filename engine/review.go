package engine

import (
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"slices"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
)

// A review is a PUBLISH or SUBSCRIBE that hooks off the loops think about. The
// packets behind it wait, so there is one at a time and the client's order stands.
type review struct {
	topic    []byte // of a PUBLISH
	packetID uint16
	qos      codec.QoS
}

// What those get whose hooks do not decide.
var (
	reviewLate   = hook.Outcome{Stop: true, Code: codec.ImplementationSpecificError, Reason: "no decision in time"}
	reviewBusy   = hook.Outcome{Stop: true, Code: codec.QuotaExceeded, Reason: "too many wait for a decision"}
	reviewFailed = hook.Outcome{Stop: true, Code: codec.ImplementationSpecificError, Reason: "no decision possible now"}
	reviewPanic  = hook.Outcome{Close: true, Code: codec.ImplementationSpecificError, Reason: "a hook failed"}
)

// wait begins a review: c reads no packet until resume.
func (c *conn) wait(r *review) *review {
	c.deaf = true
	c.extend().review = r
	return r
}

func (c *conn) underReview() bool { return c.ext != nil && c.ext.review != nil }

// resume ends r. It reports false when r's connection is gone, or has lost its session.
func (c *conn) resume(r *review) bool {
	if c.ext == nil || c.ext.review != r {
		return false
	}
	c.ext.review = nil
	c.deaf = c.throttled()
	return true
}

// carryOn takes the packets that waited, and ends a connection that hung up
// behind the last of them.
func (c *conn) carryOn() {
	c.resumeReading()
	if _, gone := c.sock.(*goneSocket); gone && !c.underReview() && c.state == connOpen {
		c.sock.Close()
	}
}

// abandon ends a review without an outcome, with the session cl: the message is
// not published, and a client that sends it again shall not be taken at its word.
func (c *conn) abandon(cl *client) {
	r := c.ext.review
	c.ext.review = nil
	c.deaf = c.throttled()
	if r.topic == nil {
		return
	}
	if r.qos == 2 {
		cl.Forget(r.packetID)
	}
	c.loop.drop(hook.DropIntercepted, nil, r.topic)
}

// hangUp keeps c, whose peer is gone, until what it sent before is handled: who
// publishes and leaves at once would lose the message, and its will would be
// published in spite of its DISCONNECT. It takes HookTimeout at most.
func (c *conn) hangUp() {
	s := c.sock
	c.sock = &goneSocket{c: c, listener: s.Listener(), remote: s.RemoteAddr(), local: s.LocalAddr(), tls: s.TLS(), proxied: s.Proxied()}
	c.arm(timerClosing, c.loop.b.options().HookTimeout)
}

// A goneSocket stands for the socket of a peer that is gone.
type goneSocket struct {
	c             *conn
	listener      any
	remote, local net.Addr
	tls           *tls.ConnectionState
	proxied       *transport.Proxied
}

func (*goneSocket) Write([]byte)                  {}
func (*goneSocket) SetReading(bool)               {}
func (*goneSocket) Buffered() int                 { return 0 }
func (s *goneSocket) Close()                      { s.c.Closed(nil) }
func (*goneSocket) CloseWrite() error             { return net.ErrClosed }
func (s *goneSocket) Listener() any               { return s.listener }
func (s *goneSocket) RemoteAddr() net.Addr        { return s.remote }
func (s *goneSocket) LocalAddr() net.Addr         { return s.local }
func (s *goneSocket) TLS() *tls.ConnectionState   { return s.tls }
func (s *goneSocket) Proxied() *transport.Proxied { return s.proxied }

// reviewPublish asks the reviewers about the client's message.
func (c *conn) reviewPublish(id uint16, qos codec.QoS, p *publication) {
	r := c.wait(&review{topic: slices.Clone(p.topic), packetID: id, qos: qos})
	c.loop.review(c.cl.identity(), p, func(p *publication, out hook.Outcome) {
		defer c.endOnPanic()
		if !c.resume(r) {
			return
		}
		if out.Ends() {
			c.stopPublish(id, qos, r.topic, out)
		} else {
			c.publishAllowed(id, qos, p)
		}
		c.carryOn()
	})
}

// review asks the reviewers about p, which comes from who, and then calls then
// with what they made of it, in a later turn. p stays the caller's.
func (l *loop) review(who hook.Client, p *publication, then func(*publication, hook.Outcome)) {
	type answer struct {
		p   hook.Publication
		out hook.Outcome
	}
	asked := kept(l.shown(p))
	own := *p
	own.msg, own.topic, own.payload, own.properties = nil, asked.Topic, asked.Payload, asked.Properties
	hooks := l.hooks.publishReviewers
	ok := askOff(l, answer{out: reviewLate},
		func(ctx context.Context) (a answer) {
			a.p = asked
			defer l.b.closeOnPanic(&a.out)
			for _, h := range hooks {
				var err error
				if a.out, err = h.ReviewPublish(ctx, who, &a.p); err != nil {
					l.b.log.Error("a hook could not decide on a message", "client", who.ClientID, "topic", string(asked.Topic), "error", err)
					a.out = reviewFailed
				}
				if a.out.Ends() {
					break
				}
			}
			return a
		},
		func(a answer) {
			out := a.out
			if expires := own.expires; !out.Ends() {
				out = l.adopt(who, &a.p, &own)
				if a.p.HasExpiry && a.p.Expiry == asked.Expiry {
					own.expires = expires // the time it waited counts
				}
			}
			then(&own, out)
		})
	if !ok {
		l.post(func(*loop) { then(&own, reviewBusy) })
	}
}

// closeOnPanic, deferred, makes a reviewer that panics cost its client the connection.
func (b *Broker) closeOnPanic(out *hook.Outcome) {
	if r := recover(); r != nil {
		b.log.Error("a hook panicked", "panic", r, "stack", string(debug.Stack()))
		*out = reviewPanic
	}
}

// reviewSubscribe asks the reviewers about the filters of in, which is borrowed,
// but for those that are stopped already.
func (c *conn) reviewSubscribe(in *codec.Subscribe, stopped []codec.ReasonCode) {
	type answer struct {
		subs  []hook.Subscription
		codes []codec.ReasonCode // nil: out says it for all
		out   hook.Outcome
	}
	l := c.loop
	own := codec.Subscribe{PacketID: in.PacketID, SubscriptionID: in.SubscriptionID, Filters: slices.Clone(in.Filters)}
	codes := make([]codec.ReasonCode, len(in.Filters))
	copy(codes, stopped)
	subs := make([]hook.Subscription, len(in.Filters))
	for i := range own.Filters {
		f := &own.Filters[i]
		f.Filter = slices.Clone(f.Filter)
		subs[i] = shownFilter(f, in.SubscriptionID)
	}
	r := c.wait(&review{packetID: in.PacketID})
	who, hooks := c.cl.identity(), l.hooks.subscribeReviewers
	decided := func(a answer) {
		defer c.endOnPanic()
		if !c.resume(r) {
			return
		}
		for i := range own.Filters {
			if a.codes == nil {
				codes[i] = a.out.Code
				continue
			}
			own.Filters[i].Filter, own.Filters[i].QoS = []byte(a.subs[i].Filter), min(a.subs[i].QoS, 2)
			codes[i] = a.codes[i]
		}
		if a.out.Close {
			c.fail(a.out.Code, a.out.Reason)
			return
		}
		c.subscribeAllowed(&own, codes)
		c.carryOn()
	}
	ok := askOff(l, answer{out: reviewLate}, func(ctx context.Context) (a answer) {
		defer l.b.closeOnPanic(&a.out)
		a.subs = subs
		asked := slices.Clone(codes)
		for i := range a.subs {
			asked[i] = l.b.consultSubscribe(ctx, hooks, who, &a.subs[i], asked[i])
		}
		a.codes = asked
		return a
	}, decided)
	if !ok {
		l.post(func(*loop) { decided(answer{out: reviewBusy}) })
	}
}

// consultSubscribe asks hooks about s until one fails it; code is what was said
// of it so far. Off the loops.
func (b *Broker) consultSubscribe(ctx context.Context, hooks []hook.SubscribeReviewer, who hook.Client, s *hook.Subscription, code codec.ReasonCode) codec.ReasonCode {
	for _, h := range hooks {
		if code.Failure() {
			break
		}
		var err error
		if code, err = h.ReviewSubscribe(ctx, who, s); err != nil {
			b.log.Error("a hook could not decide on a subscription", "client", who.ClientID, "filter", s.Filter, "error", err)
			return codec.ImplementationSpecificError
		}
	}
	return code
}
