package engine

import (
	"net"
	"runtime/debug"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/invariant"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/internal/wheel"
	"github.com/wheelmq/wheelmq/engine/message"
)

// What happens is told to observers here. Each tell function stands behind the
// length check of its point, so that nobody pays who has no hook there.

// blame, deferred where a hook is called, catches its panic: it is logged, and
// the connection it was called for, if any, ends with this turn. Ending it at
// once would change what the caller is in the middle of.
func (l *loop) blame(c *conn) {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		l.b.log.Error("a hook panicked", "panic", r, "stack", string(debug.Stack()))
		if c != nil {
			l.doomed = append(l.doomed, c)
		}
	}
}

// endDoomed ends the connections for which a hook panicked.
func (l *loop) endDoomed() {
	for len(l.doomed) > 0 {
		c := l.doomed[0]
		l.doomed = l.doomed[1:]
		if c.state < connClosing {
			c.drop("a hook panicked")
		}
	}
	l.doomed = nil
}

// identity is who c is, also before it has a session and after.
func (c *conn) identity() hook.Client {
	if c.cl != nil {
		return c.cl.identity()
	}
	id := hook.Client{Version: c.version, Listener: c.door().name, RemoteAddr: c.sock.RemoteAddr()}
	if c.ext != nil && c.ext.connecting != nil {
		id.ClientID, id.UserName = c.ext.connecting.ClientID, c.ext.connecting.UserName
	}
	return id
}

func (l *loop) tellAccepted(c *conn) {
	defer l.blame(c)
	for _, h := range l.hooks.connections {
		h.ConnectionAccepted(c.identity())
	}
}

func (l *loop) tellRefused(c *conn, code codec.ReasonCode, reason string) {
	defer l.blame(nil) // it ends anyway
	for _, h := range l.hooks.connections {
		h.ConnectionRefused(c.identity(), code, reason)
	}
}

func (l *loop) tellConnected(c *conn, cn *connecting, present bool) {
	defer l.blame(c)
	e := hook.Connected{SessionPresent: present, CleanStart: cn.CleanStart, KeepAlive: c.keepAlive, SessionExpiry: c.cl.expiry}
	for _, h := range l.hooks.clients {
		h.Connected(c.cl.identity(), e)
	}
}

// A parting is why the connection that is being served ends.
type parting struct {
	by     hook.By
	code   codec.ReasonCode
	reason string
	known  bool // the rest is set
}

// part notes why c ends, unless that was said before.
func (l *loop) part(by hook.By, code codec.ReasonCode, reason string) {
	if !l.parting.known {
		l.parting = parting{by, code, reason, true}
	}
}

// tellDisconnected tells that c lost the session cl. will says whether its will
// is published now or later, ends whether the session ends.
func (l *loop) tellDisconnected(c *conn, cl *client, will, ends bool) {
	why := l.parting
	l.parting = parting{}
	if len(l.hooks.clients) == 0 {
		return
	}
	defer l.blame(nil)
	who := cl.identity()
	who.Version, who.Listener, who.RemoteAddr = c.version, c.door().name, c.sock.RemoteAddr()
	e := hook.Disconnected{By: why.by, Code: why.code, Reason: why.reason, Will: will, Ended: ends,
		Connected: time.Duration(l.ticks-c.openedAt) * wheel.Tick}
	for _, h := range l.hooks.clients {
		h.Disconnected(who, e)
	}
}

func (l *loop) tellSubscribed(cl *client, s *subscription, handling uint8) {
	defer l.blame(cl.conn)
	e := hook.Subscription{Filter: s.filter, QoS: s.qos, NoLocal: s.noLocal, RetainAsPublished: s.retainAsPublished,
		RetainHandling: handling, ID: s.id}
	for _, h := range l.hooks.subscriptions {
		h.Subscribed(cl.identity(), e)
	}
}

func (l *loop) tellUnsubscribed(cl *client, filter string) {
	defer l.blame(cl.conn)
	for _, h := range l.hooks.subscriptions {
		h.Unsubscribed(cl.identity(), filter)
	}
}

// shown is p as hooks see it.
func (l *loop) shown(p *publication) hook.Publication {
	v := hook.Publication{Topic: p.topic, Payload: p.payload, Properties: p.properties, QoS: p.qos, Retain: p.retain,
		From: p.from, Will: p.will}
	if p.expires != 0 {
		v.HasExpiry, v.Expiry = true, remaining(int64(p.expires)-int64(l.now))
	}
	return v
}

func (l *loop) tellPublished(who hook.Client, c *conn, p *publication, code codec.ReasonCode) {
	defer l.blame(c)
	for _, h := range l.hooks.publishes {
		h.Published(who, l.shown(p), code)
	}
}

// tellUnconsumed tells of a message nobody subscribes to; the broker's own,
// below $SYS, are left out.
func (l *loop) tellUnconsumed(p *publication) {
	if p.sys {
		return
	}
	who, c := hook.Client{ClientID: p.from}, (*conn)(nil)
	if cl := l.client(p.publisher); cl != nil {
		who, c = cl.identity(), cl.conn
	}
	defer l.blame(c)
	for _, h := range l.hooks.unconsumed {
		h.NotConsumed(who, l.shown(p))
	}
}

func (l *loop) tellDelivered(c *conn, d hook.Delivery, id uint16) {
	defer l.blame(c)
	for _, h := range l.hooks.delivered {
		h.Delivered(c.cl.identity(), d, id)
	}
}

func (l *loop) tellAcknowledged(c *conn, id uint16, qos codec.QoS) {
	defer l.blame(c)
	for _, h := range l.hooks.acks {
		h.Acknowledged(c.cl.identity(), id, qos)
	}
}

// drop counts a message that does not reach to, nil for several or nobody in
// particular, and tells.
func (l *loop) drop(why hook.DropReason, to *client, topic []byte) {
	l.counters.Dropped[why]++
	if len(l.hooks.drops) == 0 {
		return
	}
	defer l.blame(nil)
	d := hook.Drop{Why: why, Topic: topic}
	if to != nil {
		d.To = to.ClientID
	}
	for _, h := range l.hooks.drops {
		h.Dropped(d)
	}
}

func (l *loop) tellSession(clientID string, e hook.SessionEvent) {
	if len(l.hooks.sessions) == 0 {
		return
	}
	defer l.blame(nil)
	for _, h := range l.hooks.sessions {
		h.SessionChanged(clientID, e)
	}
}

// tellRetained tells that the retained message of a topic is m now, nil for none.
func (l *loop) tellRetained(name string, m *message.Message) {
	if len(l.hooks.retained) == 0 || isSys(name) {
		return
	}
	defer l.blame(nil)
	var shown *hook.Publication
	if m != nil {
		p := publication{}
		p.fromMessage(m, 0)
		v := l.shown(&p)
		shown = &v
	}
	for _, h := range l.hooks.retained {
		h.RetainedChanged(name, shown)
	}
}

func (l *loop) tellWill(who hook.Client, p *publication) {
	defer l.blame(nil)
	for _, h := range l.hooks.wills {
		h.WillPublished(who, l.shown(p))
	}
}

// shownDelivery is o as hooks see it.
func shownDelivery(o *session.Outbound) hook.Delivery {
	m := o.Message
	return hook.Delivery{Topic: m.Topic, Payload: m.Payload, Properties: m.Properties, QoS: o.QoS, Retain: o.Retain, From: m.Publisher}
}

// tellLife tells of the broker's start and end. No loop.
func (b *Broker) tellLife(what func(hook.LifeObserver)) {
	for _, h := range b.hooks.current.Load().lives {
		b.shielded(func() { what(h) })
	}
}

// tellListener tells of a listener that opened, or closed. No loop.
func (b *Broker) tellListener(in *door, addr net.Addr, opened bool) {
	for _, h := range b.hooks.current.Load().listeners {
		b.shielded(func() {
			if opened {
				h.ListenerOpened(in.name, addr)
			} else {
				h.ListenerClosed(in.name, addr)
			}
		})
	}
}

// shielded calls f, and logs if it panics.
func (b *Broker) shielded(f func()) {
	defer func() {
		if r := recover(); r != nil {
			b.log.Error("a hook panicked", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}
