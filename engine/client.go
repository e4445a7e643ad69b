package engine

import (
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/directory"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/internal/wheel"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/router"
)

// A client is one session, with or without a connection, on the loop where it
// last was. Loop-owned; it moves between loops as a whole (takeover.go).
type client struct {
	session.Session
	ref    router.Ref
	conn   *conn           // nil while absent
	subs   []subscription  // in no order; see subscriptions.go
	ext    *clientExt      // what most sessions do not need; nil for these
	stored store.SessionID // in the store; 0: ends with its connection, or there is no store
	expiry uint32          // Session Expiry Interval, seconds; expiryNever
	shares bool            // has, or had, shared subscriptions
	told   memberState     // what these were told last
	known  bool            // hooks were told that it exists
}

// memberState is what the shared subscriptions are to know of their member.
type memberState uint8

const (
	memberUnknown memberState = iota
	memberOffline
	memberBusy  // what comes now has to wait
	memberReady // takes a message at once
)

// expiryNever is the Session Expiry Interval of a session that does not end.
const expiryNever = 0xFFFFFFFF

// clientExt is the part of a client that only some need.
type clientExt struct {
	userName string
	grant
	will     *will
	away     *away
	move     *move
	local    *local            // an in-process subscription, not a session; nil for all others
	replays  *replayQueue      // nil: none
	byFilter map[string]uint32 // index of subs; nil while there are few, made when it is needed
}

// A will is the Will Message of a session.
type will struct {
	message   *message.Message
	expiry    uint32 // Message Expiry Interval, counted from publication; with hasExpiry
	delay     uint32 // Will Delay Interval, seconds
	hasExpiry bool
}

// away holds the timers of a session without a connection.
type away struct {
	timer  wheel.Node[client]
	willAt clock.Time // 0: no will waits
	endAt  clock.Time // 0: the session does not end
}

func (cl *client) extend() *clientExt {
	if cl.ext == nil {
		cl.ext = &clientExt{}
	}
	return cl.ext
}

// identity is who hooks are told acts.
func (cl *client) identity() hook.Client {
	id := hook.Client{ClientID: cl.ClientID}
	if cl.ext != nil {
		id.UserName, id.Data = cl.ext.userName, cl.ext.data
	}
	if c := cl.conn; c != nil {
		id.Version, id.Listener, id.RemoteAddr = c.version, c.door().name, c.sock.RemoteAddr()
	}
	return id
}

// unlink takes the session off its connection, and nothing else.
func (c *conn) unlink() *client {
	c.note("client disconnected", codec.Success, "")
	cl := c.cl
	if c.underReview() {
		c.abandon(cl)
	}
	c.cl = nil
	cl.conn = nil
	cl.Detach()
	cl.tellMembers()
	c.loop.counters.Connected--
	c.loop.counters.Disconnects++
	return cl
}

// leave ends the session's connection, if c has a session: it stays for its
// expiry interval, or ends. will says whether the end is one that publishes
// the will.
func (c *conn) leave(will bool) {
	if c.cl == nil {
		c.stopWaiting()
		c.loop.parting = parting{} // nobody is told
		return
	}
	cl := c.unlink()
	c.loop.tellDisconnected(c, cl, will && cl.ext != nil && cl.ext.will != nil, cl.expiry == 0)
	if !will {
		cl.forgetWill()
	}
	if cl.expiry == 0 {
		c.loop.endSession(cl)
		return
	}
	c.loop.goAway(cl)
}

// tellMembers tells the shared subscriptions whether their member can take
// messages, if that changed (B-share-balance).
func (cl *client) tellMembers() {
	if !cl.shares {
		return
	}
	now := memberReady
	switch {
	case cl.conn == nil:
		now = memberOffline
	case cl.conn.congested || cl.Blocked():
		now = memberBusy
	}
	if now == cl.told {
		return
	}
	cl.told = now
	for i := range cl.subs {
		if m := cl.subs[i].member; m != nil {
			now.tell(m)
		}
	}
}

func (s memberState) tell(m *router.Member) { m.SetState(s != memberOffline, s == memberBusy) }

func (cl *client) forgetWill() {
	if cl.ext != nil && cl.ext.will != nil {
		cl.ext.will.message.Release(nil)
		cl.ext.will = nil
	}
}

// goAway starts the timers of a session without a connection.
func (l *loop) goAway(cl *client) {
	var willAt, endAt clock.Time
	if cl.expiry != expiryNever {
		endAt = l.now.Add(time.Duration(cl.expiry) * time.Second)
	}
	if cl.ext != nil && cl.ext.will != nil {
		if cl.ext.will.delay == 0 {
			l.publishWill(cl)
		} else {
			willAt = l.now.Add(time.Duration(cl.ext.will.delay) * time.Second)
		}
	}
	if willAt == 0 && endAt == 0 {
		l.keepSession(cl)
		return
	}
	a := &away{willAt: willAt, endAt: endAt}
	a.timer.Owner = cl
	cl.extend().away = a
	l.awayTimers.Arm(&a.timer, a.next())
	l.keepSession(cl)
}

// awayTimes are the timers of a session without a connection; nil when none run.
func (cl *client) awayTimes() *away {
	if cl.ext == nil {
		return nil
	}
	return cl.ext.away
}

// next is the earlier of the two times that are set.
func (a *away) next() clock.Time {
	if a.willAt == 0 || a.endAt != 0 && a.endAt < a.willAt {
		return a.endAt
	}
	return a.willAt
}

// comeBack stops the timers.
func (l *loop) comeBack(cl *client) {
	if cl.ext != nil && cl.ext.away != nil {
		l.awayTimers.Cancel(&cl.ext.away.timer)
		cl.ext.away = nil
	}
}

// fireAway handles the timer of an absent session.
func (l *loop) fireAway(n *wheel.Node[client]) {
	cl := n.Owner
	a := cl.ext.away
	if a.endAt != 0 && a.endAt <= l.now {
		l.counters.SessionsExpired++
		l.tellSession(cl.ClientID, hook.SessionExpired)
		l.endSession(cl)
		return
	}
	if a.willAt != 0 && a.willAt <= l.now {
		a.willAt = 0
		l.publishWill(cl)
	}
	if at := a.next(); at != 0 {
		l.awayTimers.Arm(&a.timer, at)
	} else {
		cl.ext.away = nil
	}
}

// endSession forgets everything about cl, which has no connection: its will
// is published if it still has one, its subscriptions go, its messages are
// dropped, but for those that another member of a shared subscription may get.
func (l *loop) endSession(cl *client) {
	l.comeBack(cl)
	l.publishWill(cl)
	l.b.directory.Release(cl.ClientID, directory.Place(cl.ref))
	l.unsubscribeAll(cl)
	far, bytes := cl.Drain(func(o session.Outbound, sent bool) {
		if !sent {
			l.queued(cl, o, -1)
		}
		if m, ok := o.Origin().(*router.Member); ok && (o.QoS == 1 || !sent) {
			l.redispatch(m, o) // B-share-redeliver; a begun QoS 2 goes to nobody else [MQTT-4.8.2-5]
		} else {
			l.drop(hook.DropSessionEnded, cl, o.Message.Topic)
		}
		o.Message.Release(l.pool)
	})
	l.counters.QueuedMessages -= int64(far)
	l.counters.QueuedBytes -= int64(bytes)
	l.counters.Dropped[hook.DropSessionEnded] += uint64(far) // their topics are in the store
	if cl.stored != 0 {
		l.change(nil).DeleteSession(cl.stored)
	}
	l.b.full.clear(cl)
	l.endMove(cl)
	l.vacate(cl)
	if cl.known {
		l.tellSession(cl.ClientID, hook.SessionDeleted)
	}
}
