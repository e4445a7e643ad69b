package engine

import (
	"bytes"
	"context"
	"net"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/wheel"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router"
	"github.com/wheelmq/wheelmq/router/retained"
)

// What a program reads of the broker while it runs. Loops answer some sessions
// a turn, between their other work, so nothing stands still for it; what is read
// is true of each session at its moment, not of all at one.

// Ping returns when each loop has taken a turn: nothing holds any of them up.
// Any goroutine but a loop's.
func (b *Broker) Ping(ctx context.Context) error {
	for _, l := range b.loops {
		if _, err := callLoop(ctx, b, l, func(*loop) struct{} { return struct{}{} }); err != nil {
			return err
		}
	}
	return nil
}

// A SessionStatus says how one session stands.
type SessionStatus struct {
	ClientID  string
	UserName  string
	Connected bool

	// of the connection, if there is one
	Version      codec.Version
	Listener     string
	RemoteAddr   net.Addr
	ConnectedFor time.Duration
	KeepAlive    uint16 // seconds, in force

	SessionExpiry  uint32 // seconds; 0xFFFFFFFF: never
	Subscriptions  int
	InFlight       int // QoS 1 and 2 sent and not finished
	QueuedMessages int // waiting
	QueuedBytes    int
	HasWill        bool
}

// isSession reports whether cl is a session, here: not one on its way to
// another loop or from there, and no in-process subscription.
func (cl *client) isSession() bool {
	if cl == nil {
		return false
	}
	x := cl.ext
	return x == nil || x.local == nil && (x.move == nil || !x.move.departed && !x.move.arriving)
}

func (l *loop) status(cl *client) SessionStatus {
	s := SessionStatus{ClientID: cl.ClientID, SessionExpiry: cl.expiry, Subscriptions: len(cl.subs), InFlight: cl.InFlight()}
	s.QueuedMessages, s.QueuedBytes = cl.Queued()
	if x := cl.ext; x != nil {
		s.UserName, s.HasWill = x.userName, x.will != nil
	}
	if c := cl.conn; c != nil {
		s.Connected, s.Version, s.Listener, s.RemoteAddr = true, c.version, c.door().name, c.sock.RemoteAddr()
		s.ConnectedFor, s.KeepAlive = time.Duration(l.ticks-c.openedAt)*wheel.Tick, c.keepAlive
	}
	return s
}

// inspectChunk is how many slots one turn looks at.
const inspectChunk = 512

// Sessions calls visit for each session, connected or not, in no order, until
// it returns false. visit runs on the caller's goroutine and may take its time.
// Any goroutine but a loop's.
func (b *Broker) Sessions(ctx context.Context, visit func(SessionStatus) bool) error {
	type part struct {
		sessions []SessionStatus
		more     bool
	}
	for _, l := range b.loops {
		for from, more := 0, true; more; from += inspectChunk {
			got, err := callLoop(ctx, b, l, func(l *loop) (p part) {
				end := min(from+inspectChunk, len(l.slots))
				for _, cl := range l.slots[min(from, end):end] {
					if cl.isSession() {
						p.sessions = append(p.sessions, l.status(cl))
					}
				}
				p.more = end < len(l.slots)
				return p
			})
			if err != nil {
				return err
			}
			for _, s := range got.sessions {
				if !visit(s) {
					return nil
				}
			}
			more = got.more
		}
	}
	return nil
}

// callLoop lets f run on l and returns what it returned.
func callLoop[T any](ctx context.Context, b *Broker, l *loop, f func(*loop) T) (v T, err error) {
	answer := make(chan T, 1)
	l.post(func(l *loop) { answer <- f(l) })
	select {
	case v = <-answer:
		return v, nil
	case <-b.stopped:
		return v, ErrClosed
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// onSession lets f run where the session of clientID is, and reports whether
// there is one. It follows a session that moves.
func onSession[T any](ctx context.Context, b *Broker, clientID string, f func(*loop, *client) T) (v T, found bool, err error) {
	type result struct {
		v     T
		found bool
	}
	for {
		at, ok := b.directory.Lookup(clientID)
		if !ok {
			return v, false, nil
		}
		ref := router.Ref(at)
		r, err := callLoop(ctx, b, b.loops[refLoop(ref)], func(l *loop) (r result) {
			if cl := l.client(ref); cl.isSession() {
				r.v, r.found = f(l, cl), true
			}
			return r
		})
		if err != nil || r.found {
			return r.v, r.found, err
		}
		if now, ok := b.directory.Lookup(clientID); ok && now == at { // on its way there
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return v, false, ctx.Err()
			}
		}
	}
}

// Session returns how the session of clientID stands, with its subscriptions.
// found is false when there is none. Any goroutine but a loop's.
func (b *Broker) Session(ctx context.Context, clientID string) (s SessionStatus, subs []hook.Subscription, found bool, err error) {
	s, found, err = onSession(ctx, b, clientID, func(l *loop, cl *client) SessionStatus {
		for i := range cl.subs {
			x := &cl.subs[i]
			subs = append(subs, hook.Subscription{Filter: x.filter, QoS: x.qos, NoLocal: x.noLocal,
				RetainAsPublished: x.retainAsPublished, ID: x.id})
		}
		return l.status(cl)
	})
	return s, subs, found, err
}

// DeleteSession ends the session of clientID, as if it had expired: a connected
// client is told with DISCONNECT 0x98, a will is published. It reports whether
// there was one. Any goroutine but a loop's.
func (b *Broker) DeleteSession(ctx context.Context, clientID string) (found bool, err error) {
	_, found, err = onSession(ctx, b, clientID, func(l *loop, cl *client) struct{} {
		if c := cl.conn; c != nil {
			cl.expiry = 0 // it ends with its connection
			c.disconnect(codec.AdministrativeAction, "session deleted", true)
		} else {
			l.endSession(cl)
		}
		return struct{}{}
	})
	return found, err
}

// SubscribeClient makes subscriptions for the session of clientID, as if it had
// sent them in a SUBSCRIBE, and returns the codes. No Authorizer and no
// interceptor is asked. Any goroutine but a loop's.
func (b *Broker) SubscribeClient(ctx context.Context, clientID string, subs ...hook.Subscription) (codes []codec.ReasonCode, found bool, err error) {
	return onSession(ctx, b, clientID, func(l *loop, cl *client) (codes []codec.ReasonCode) {
		for i := range subs {
			s := &subs[i]
			f := codec.Subscription{Filter: []byte(s.Filter), QoS: min(s.QoS, 2), NoLocal: s.NoLocal,
				RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling}
			share, rest, code := l.checkFilter(s.Filter, s.ID)
			if code.Failure() {
				codes = append(codes, code)
				continue
			}
			code, r := l.makeSubscription(cl, &f, s.ID, share, rest)
			codes = append(codes, code)
			if r != nil {
				cl.addReplay(r)
			}
		}
		if cl.conn != nil {
			cl.conn.pump()
		}
		return codes
	})
}

// UnsubscribeClient removes subscriptions of the session of clientID and
// returns the codes. Any goroutine but a loop's.
func (b *Broker) UnsubscribeClient(ctx context.Context, clientID string, filters ...string) (codes []codec.ReasonCode, found bool, err error) {
	return onSession(ctx, b, clientID, func(l *loop, cl *client) (codes []codec.ReasonCode) {
		for _, f := range filters {
			codes = append(codes, l.unsubscribeOne(cl, []byte(f)))
		}
		return codes
	})
}

// RetainedMessages calls visit for each retained message whose topic matches
// filter, in the order of their topics, until it returns false; $SYS only where
// the filter names it. Messages that come or go meanwhile may be seen or not.
// Any goroutine, loops included.
func (b *Broker) RetainedMessages(filter string, visit func(Message) bool) {
	b.eachRetained(filter, func(m *message.Message) bool {
		return visit(Message{Topic: string(m.Topic), Payload: bytes.Clone(m.Payload), Properties: bytes.Clone(m.Properties),
			QoS: m.QoS, Retain: true, From: m.Publisher, Expiry: left(m.Expires, b.clock.Now())})
	})
}

func (b *Broker) eachRetained(filter string, visit func(*message.Message) bool) {
	if !topic.ValidFilter(filter) {
		return
	}
	var cursor retained.Cursor
	now := b.clock.Now()
	for done := false; !done; {
		var found []*message.Message
		done = b.retained.index.Match(filter, &cursor, replayChunk, func(_ string, m *message.Message) { found = append(found, m) })
		for _, m := range found {
			if !m.Expired(now) && !visit(m) {
				return
			}
		}
	}
}

// ClearRetained removes the retained messages whose topics match filter and
// returns how many there were; $SYS is left alone. Any goroutine but a loop's.
func (b *Broker) ClearRetained(ctx context.Context, filter string) (n int, err error) {
	var names []string
	b.eachRetained(filter, func(m *message.Message) bool {
		if !isSys(m.Topic) {
			names = append(names, string(m.Topic))
		}
		return true
	})
	for len(names) > 0 {
		part := names[:min(len(names), replayChunk)]
		names = names[len(part):]
		gone, err := callLoop(ctx, b, b.loops[0], func(l *loop) (gone int) {
			for _, name := range part {
				if l.clearRetained(name) {
					l.keepRetained(name, nil)
					gone++
				}
			}
			return gone
		})
		n += gone
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Stats are figures of the broker since its start, at most a quarter of a
// second old.
type Stats struct {
	Connections                            int // open network connections
	Connected, Sessions                    int // clients behind CONNACK; sessions, connected or not
	Subscriptions, SharedSubscriptions     int
	RetainedMessages, RetainedBytes        int64
	QueuedMessages, QueuedBytes            int64 // waiting in sessions
	MailboxEntries                         int64 // waiting between loops
	BytesReceived, BytesSent               uint64
	PacketsReceived, PacketsSent           [16]uint64 // by codec.PacketType
	PublishBytesReceived, PublishBytesSent uint64     // payload only
	Connects, Disconnects, Refused         uint64
	SocketsOpened                          uint64
	OutputOverflows                        uint64 // connections closed because they did not read
	SessionsExpired, SessionsTakenOver     uint64
	Dropped                                map[hook.DropReason]uint64 // every reason
	EventsDropped                          uint64                     // of hook.EventHandlers
}

// Stats returns the figures. Any goroutine.
func (b *Broker) Stats() Stats {
	c := b.stats()
	s := Stats{
		Connections: b.Connections(), Connected: int(c.Connected), Sessions: b.directory.Len(),
		RetainedMessages: b.retained.messages(), RetainedBytes: b.retained.bytes.Load(),
		QueuedMessages: c.QueuedMessages, QueuedBytes: c.QueuedBytes, MailboxEntries: c.Mailbox,
		BytesReceived: c.BytesReceived, BytesSent: c.BytesSent, PacketsReceived: c.PacketsReceived, PacketsSent: c.PacketsSent,
		PublishBytesReceived: c.PublishBytesReceived, PublishBytesSent: c.PublishBytesSent,
		Connects: c.Connects, Disconnects: c.Disconnects, Refused: c.Refused, SocketsOpened: c.SocketsOpened,
		OutputOverflows: c.OutputOverflows, SessionsExpired: c.SessionsExpired, SessionsTakenOver: c.SessionsTakenOver,
		Dropped: make(map[hook.DropReason]uint64, hook.NumDropReasons), EventsDropped: b.eventsDropped.Load(),
	}
	s.Subscriptions, s.SharedSubscriptions = b.router.Subscriptions(), b.router.SharedSubscriptions()
	for d := range hook.NumDropReasons {
		s.Dropped[d] = c.Dropped[d]
	}
	return s
}
