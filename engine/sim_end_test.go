package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/message"
)

// drain lets every client come back and finish what it has begun, and checks
// that everything that had to happen has.
func (s *sim) drain() {
	s.calm = true
	s.did("calm")
	for _, c := range s.conns {
		c.stalled = false
	}
	for _, cl := range s.clients {
		if cl.cur != nil && cl.cur.keepAlive > 0 {
			cl.lose()
		}
	}
	idle := 0
	for round := 0; idle < 3; round++ {
		if round > 3000 {
			s.fail("the broker and its clients do not come to rest")
		}
		if s.round() {
			idle = 0
		} else {
			idle++
		}
		s.pass(tick)
		for i := range s.envs {
			s.tick(i)
		}
	}
	s.checkAtRest()
	for _, cl := range s.clients {
		if cl.session != nil {
			s.checkDelivered(cl.session)
		}
	}
	s.checkLosses()
	s.checkShared()
	s.checkPublished()
	s.checkRetained()
}

// round lets everybody do what there is to do. It reports whether there was anything.
func (s *sim) round() (busy bool) {
	for _, cl := range s.clients {
		if cl.cur == nil {
			busy = true
			cn := cl.connecting()
			cn.keepAlive = 0
			switch {
			case cn.version == codec.V5:
				cn.clean, cn.expiry = false, 600
			case cn.version == codec.V311 || cl.stays:
				cn.clean, cn.expiry = false, uint32(s.opts.SessionExpiryLimit)
			}
			cl.connect(cn)
		}
		if c := cl.cur; c.live {
			busy = busy || len(c.owed) > 0
			cl.acknowledge(len(c.owed))
		}
	}
	for _, c := range slices.Clone(s.conns) {
		for len(c.up) > 0 && !c.gone && c.conn.state != connClosing {
			busy = true
			s.hand(c, len(c.up))
		}
		if c.lost && !c.gone {
			busy = true
			s.notice(c)
		}
	}
	for s.runSome() {
		busy = true
	}
	for _, c := range slices.Clone(s.conns) {
		if !c.lost && (len(c.down) > 0 || c.closed) {
			busy = true
			c.read(len(c.down))
		}
	}
	return busy
}

// checkAtRest compares the engine's sessions with the model's.
func (s *sim) checkAtRest() {
	f := func(what string, got, want int) {
		s.t.Helper()
		if got != want {
			s.fail("%s: %d, want %d", what, got, want)
		}
	}
	sessions, plain, shared := 0, 0, 0
	for _, cl := range s.clients {
		ec, moving := s.engineSession(cl.id)
		if cl.session == nil || ec == nil || moving || ec.conn != cl.cur.conn || cl.session.conn != cl.cur {
			s.fail("%s: session of the model %v, engine %v, moving %v", cl.id, cl.session != nil, ec != nil, moving)
		}
		sessions++
		f("subscriptions of "+cl.id, len(ec.subs), len(cl.session.subs))
		for _, sub := range cl.session.subs {
			got := ec.find([]byte(sub.filter))
			if got == nil || got.qos != sub.qos || got.id != sub.id || got.noLocal != sub.noLocal || got.retainAsPublished != sub.rap {
				s.fail("%s: subscription %q is %+v, want %+v", cl.id, sub.filter, got, sub)
			}
			if sub.share != nil {
				shared++
			} else {
				plain++
			}
		}
		queued, bytes := ec.Queued()
		open := 0
		for _, fl := range cl.session.flights {
			if !fl.discardable(cl) {
				open++
			}
		}
		if ec.InFlight() != 0 || queued != 0 || bytes != 0 || open != 0 {
			s.fail("%s: %d in flight and %d queued at rest, model %d", cl.id, ec.InFlight(), queued, open)
		}
	}
	sum := s.b.stats()
	f("sessions", int(sum.Sessions), sessions)
	f("clients connected", int(sum.Connected), sessions)
	f("directory", s.b.directory.Len(), sessions)
	f("subscriptions", s.b.router.Subscriptions(), plain)
	f("shared subscriptions", s.b.router.SharedSubscriptions(), shared)
	f("messages queued", int(sum.QueuedMessages), 0)
	f("bytes queued", int(sum.QueuedBytes), 0)
}

// checkDelivered checks that the session got all it had to.
func (s *sim) checkDelivered(ses *simSession) {
	cl := ses.client
	for _, r := range ses.records {
		if r.sent || r.expired(s.now()) || s.tooLarge(cl, r.simPublish, len(r.ids)) {
			continue
		}
		if r.qos > 0 || r.conn == ses.conn && s.moved(r) {
			s.missing = append(s.missing, cl.id+": "+r.simPublish.String())
		} else if r.conn != nil && r.conn == ses.conn && !r.conn.slow {
			s.fail("%s did not get %v, published at %v", cl.id, r.simPublish, time.Duration(r.at))
		}
	}
	for _, r := range ses.replays {
		if r.by != nil {
			continue
		}
		for _, k := range r.must {
			if s.opts.MaxQueuedMessages != Unlimited && len(ses.byKey[k.key()]) > 0 {
				continue // not to be told from the live message, which may have been dropped
			}
			qos := min(k.simMessage.qos, r.sub.qos)
			if r.seen[k.topic] || r.maybe[k.topic] || k.expired(s.now()) || s.tooLarge(cl, k.simPublish, 1) || qos == 0 && (r.conn != ses.conn || r.conn.slow) {
				continue
			}
			s.fail("%s did not get retained %v for %q", cl.id, k.simPublish, r.sub.filter)
		}
	}
	for key, n := range ses.delivered {
		if (&simFlight{key: key}).discardable(cl) {
			continue
		}
		if got := ses.app[key]; key[0] == '1' && got < n || key[0] == '2' && got != n {
			s.fail("%s: the application got %q %d times, want %d", cl.id, key, got, n)
		}
	}
}

// moved reports whether r may have been held for a session on its way between
// loops, which takes as many messages as a queue, of QoS 0 too.
func (s *sim) moved(r *simRecord) bool {
	return len(s.envs) > 1 && s.opts.MaxQueuedMessages != Unlimited && r.conn != nil && !r.conn.slow
}

// tooLarge reports whether the client may be unable to take p: an upper bound.
func (s *sim) tooLarge(cl *simClient, p *simPublish, ids int) bool {
	return cl.maxPacket > 0 && 30+4*ids+len(p.topic)+len(p.payload)+len(p.from.id) > int(cl.maxPacket)
}

// checkLosses compares what is missing with the queues that were full.
func (s *sim) checkLosses() {
	if full := s.b.stats().Dropped[hook.DropQueueFull]; len(s.missing) > int(full) {
		s.fail("%d messages are missing, %d were dropped by full queues:\n%s", len(s.missing), full, strings.Join(s.missing, "\n"))
	}
}

// checkShared checks that each message to a group reached one of its members.
func (s *sim) checkShared() {
	var missing []string
	for _, p := range s.sent {
		for _, g := range s.shared[p.key()] {
			if g.to != nil || g.simMessage.qos == 0 || g.group.left || g.expired(s.now()) || g.number <= g.group.doubt ||
				g.simMessage.qos == 2 && g.number <= g.group.ended || // the member had it in flight, unseen here
				slices.ContainsFunc(s.clients, func(cl *simClient) bool { return s.tooLarge(cl, p, 1) }) {
				continue
			}
			missing = append(missing, g.group.filter+": "+p.String())
		}
	}
	if full := s.b.stats().Dropped[hook.DropQueueFull]; len(missing) > int(full) {
		s.fail("no member got\n%s", strings.Join(missing, "\n"))
	}
}

// checkPublished checks that what the broker acknowledged was routed, and
// QoS 2 once.
func (s *sim) checkPublished() {
	for _, p := range s.sent {
		if p.done && !p.refused && (p.routed == 0 || p.qos == 2 && p.routed != 1) {
			s.fail("%v was routed %d times", p, p.routed)
		}
	}
	for _, cl := range s.clients {
		if n := len(cl.session.out); n > 0 {
			s.fail("%s: %d messages were not acknowledged, first %v", cl.id, n, cl.session.out[0].pub)
		}
	}
}

// checkRetained compares the retained messages. One that expired may be there or not.
func (s *sim) checkRetained() {
	for _, name := range slices.Concat(simTopics, s.willTopics()) {
		var got *message.Message
		s.b.retained.index.Get(name, func(m *message.Message) { got = m })
		want := s.kept(name)
		switch {
		case got == nil && want == nil, got == nil && want.expired(s.now()):
		case got == nil:
			s.fail("nothing is retained for %s, want %v", name, want.simPublish)
		case want == nil || string(got.Payload) != want.payload || got.QoS != want.simMessage.qos || got.Expires != want.expires:
			s.fail("%q q%d is retained for %s, want %+v", got.Payload, got.QoS, name, want)
		}
	}
	for _, name := range simSharedTopics {
		if s.b.retained.index.Get(name, func(*message.Message) {}) || !topic.ValidName(name) {
			s.fail("something is retained for %s", name)
		}
	}
}

// leave lets every client go, in one of the ways there are, and all sessions expire.
func (s *sim) leave() {
	s.did("all leave")
	for _, cl := range s.clients {
		if s.maybe(1, 2) {
			cl.disconnect(cl.cur)
		} else {
			cl.lose()
		}
	}
	for range 5 {
		for _, c := range slices.Clone(s.conns) {
			for len(c.up) > 0 && !c.gone && c.conn.state != connClosing {
				s.hand(c, len(c.up))
			}
			if !c.gone {
				s.notice(c)
			}
		}
		for s.runSome() {
		}
		s.pass(seconds(uint32(s.opts.SessionExpiryLimit) + 1))
		for i := range s.envs {
			s.tick(i)
		}
	}
}

// empty checks that nothing is left of clients that are all gone.
func (s *sim) empty() {
	f := func(what string, got int) {
		s.t.Helper()
		if got != 0 {
			s.fail("%s: %d are left", what, got)
		}
	}
	live := 0
	for _, l := range s.b.loops {
		live += l.pool.Live()
		for _, cl := range l.slots {
			if cl != nil {
				s.fail("session of %s is left", cl.ClientID)
			}
		}
		f("free slots", len(l.free)-len(l.slots))
		f("connections", len(l.conns))
		f("timers of connections", l.connTimers.Len())
		f("timers of sessions", l.awayTimers.Len())
		f("connections to write", len(l.dirty))
		f("connections that do not read", len(l.congested))
		f("mailbox", len(l.mailbox.items))
		f("mailbox bytes", l.mailbox.waiting())
	}
	f("messages referenced", live)
	sum := s.b.stats()
	f("gauge Connected", int(sum.Connected))
	f("gauge Sessions", int(sum.Sessions))
	f("gauge QueuedMessages", int(sum.QueuedMessages))
	f("gauge QueuedBytes", int(sum.QueuedBytes))
	f("directory", s.b.directory.Len())
	f("subscriptions", s.b.router.Subscriptions())
	f("shared subscriptions", s.b.router.SharedSubscriptions())
	f("full sessions", int(s.b.full.count.Load()))
	f("sessions of the model", len(slices.DeleteFunc(slices.Clone(s.clients), func(cl *simClient) bool { return cl.session == nil })))
}
