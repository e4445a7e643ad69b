package engine

import (
	"fmt"
	"slices"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// A simPublish is a message as its publisher sends it, once or again.
type simPublish struct {
	from    *simClient
	topic   string
	payload string // unique, but for the empty one
	qos     codec.QoS
	retain  bool
	user    bool // has a User Property
	will    bool
	expiry  uint32 // seconds, 0 none
	routed  int    // times
	refused bool   // because a queue was full
	done    bool   // the broker took the responsibility and said so
}

func (p *simPublish) String() string {
	return fmt.Sprintf("%s %q q%d retain %v expiry %d", p.topic, p.payload, p.qos, p.retain, p.expiry)
}

func (p *simPublish) key() string { return p.topic + "\x00" + p.payload }

// A simMessage is a message the broker routed.
type simMessage struct {
	*simPublish
	by      *simSession
	at      clock.Time
	expires clock.Time // 0 never
	user    bool       // came with its User Property
}

func (m *simMessage) expired(now clock.Time) bool { return m.expires != 0 && now >= m.expires }

// A simSub is one subscription.
type simSub struct {
	filter  string
	share   *simGroup // nil if it is not shared
	match   string    // the filter behind the share name
	qos     codec.QoS
	noLocal bool
	rap     bool
	id      uint32
}

// A simRecord is one delivery that follows from the subscriptions at the time
// of routing.
type simRecord struct {
	*simMessage
	number int
	qos    codec.QoS
	retain bool
	ids    []uint32
	conn   *simConn // attached then
	sent   bool
	unsure bool // a replay of the same message was taken for it, or it for the replay
}

// orderKey names what keeps its order. A publisher that comes back without its
// session is another one.
type orderKey struct {
	by     *simSession
	topic  string
	qos    codec.QoS // as published
	queued bool      // delivered at QoS 1 or 2
	will   bool
}

// A simGroup is a shared subscription from its first member to its last.
type simGroup struct {
	filter  string // with share name
	match   string
	members []*simSession
	left    bool // the last one is gone
	ended   int  // message after which the session of a member ended last
	doubt   int  // message after which it may have been empty for a moment
}

// A simShared is one message to a group.
type simShared struct {
	*simMessage
	group  *simGroup
	number int
	qos    codec.QoS   // as delivered
	to     *simSession // who got it; nil: nobody yet
}

// A simKept is a retained message and when it was one.
type simKept struct {
	*simMessage
	until clock.Time // 0: still
	from  int        // s.messages when it came
}

// A simReplay is the delivery of retained messages that one SUBSCRIBE asked for.
type simReplay struct {
	sub         *simSub
	at          clock.Time
	conn        *simConn
	must        []*simKept
	seen, maybe map[string]bool // by topic: what it brought, what it may have brought
	from        int             // it begins behind this acknowledgement on conn
	by          *simConn
	to          int // it was ended, if by is not nil: before this acknowledgement on by
}

// apply tells the model a packet that c's session handled.
func (s *sim) apply(c *simConn, p *upPacket) {
	ses := c.sess
	switch p.kind {
	case codec.SUBSCRIBE:
		c.changes++
		for _, f := range p.subs {
			s.subscribe(c, f, p.subID)
		}
	case codec.UNSUBSCRIBE:
		c.changes++
		for _, f := range p.filters {
			if i := ses.sub(f); i >= 0 {
				s.leaveGroup(ses, ses.subs[i])
				c.dropReplays(f)
				ses.subs = slices.Delete(ses.subs, i, i+1)
			}
		}
	case codec.PUBLISH:
		s.published(c, p)
	case codec.PUBREL:
		delete(ses.received, p.id)
	case codec.PUBACK, codec.PUBCOMP:
		c.finish(p.id)
	case codec.PUBREC:
		if f := ses.flights[p.id]; f != nil {
			f.received = true
		}
	case codec.DISCONNECT:
		c.left = true
		if p.code == 0 {
			ses.will = nil
		}
		if p.expiry >= 0 {
			ses.expiry = uint32(p.expiry)
		}
	}
}

func (ses *simSession) sub(filter string) int {
	return slices.IndexFunc(ses.subs, func(sub *simSub) bool { return sub.filter == filter })
}

// dropReplays ends the replays of a filter, by the packet being handled: what
// they made before may be written until that is acknowledged.
func (c *simConn) dropReplays(filter string) {
	for _, r := range c.sess.replays {
		if r.sub.filter == filter && r.by == nil {
			r.by, r.to = c, c.changes
		}
	}
}

// finish ends a delivery.
func (c *simConn) finish(id uint16) {
	if f := c.sess.flights[id]; f != nil {
		delete(c.sess.flights, id)
		if f.conn == c {
			c.outstanding--
		}
	}
}

func (s *sim) subscribe(c *simConn, f codec.Subscription, id uint32) {
	ses := c.sess
	sub := &simSub{filter: string(f.Filter), qos: f.QoS, noLocal: f.NoLocal, rap: f.RetainAsPublished, id: id}
	share, rest, shared, _ := topic.ParseShared(sub.filter)
	sub.match = sub.filter
	i := ses.sub(sub.filter)
	if shared {
		sub.match = rest
		sub.share = s.joinGroup(ses, sub, share)
	}
	isNew := i < 0
	if isNew {
		ses.subs = append(ses.subs, sub)
	} else {
		ses.subs[i] = sub
	}
	if shared || f.RetainHandling == 2 || f.RetainHandling == 1 && !isNew {
		return
	}
	c.dropReplays(sub.filter)
	r := &simReplay{sub: sub, at: s.now(), conn: c, from: c.changes, seen: make(map[string]bool), maybe: make(map[string]bool)}
	for _, name := range slices.Concat(simTopics, s.willTopics()) {
		if k := s.kept(name); k != nil && topic.Match(sub.match, name) && !(sub.noLocal && k.simMessage.from == ses.client) {
			r.must = append(r.must, k)
		}
	}
	ses.replays = append(ses.replays, r)
}

func (s *sim) willTopics() (names []string) {
	for _, cl := range s.clients {
		names = append(names, "w/"+cl.id)
	}
	return names
}

func (s *sim) joinGroup(ses *simSession, sub *simSub, share string) *simGroup {
	i := slices.IndexFunc(s.groups, func(g *simGroup) bool { return g.filter == sub.filter })
	if i < 0 {
		i = len(s.groups)
		s.groups = append(s.groups, &simGroup{filter: sub.filter, match: sub.match})
	}
	g := s.groups[i]
	if !slices.Contains(g.members, ses) {
		g.members = append(g.members, ses)
	}
	if !slices.Contains(ses.groups, g) {
		ses.groups = append(ses.groups, g)
	}
	return g
}

// leaveGroup takes a session out of a group; without members it is forgotten.
func (s *sim) leaveGroup(ses *simSession, sub *simSub) {
	g := sub.share
	if g == nil {
		return
	}
	g.members = slices.DeleteFunc(g.members, func(m *simSession) bool { return m == ses })
	if len(g.members) == 0 {
		g.left = true
		s.groups = slices.DeleteFunc(s.groups, func(x *simGroup) bool { return x == g })
	}
}

// doubtGroups notes which groups may be empty: while a session is on its way
// between loops it may have ended.
func (s *sim) doubtGroups() {
	for _, g := range s.groups {
		sure := func(m *simSession) bool {
			return !m.client.waits && !m.client.cleaned && (m.conn != nil || s.now() < m.endAt)
		}
		if !slices.ContainsFunc(g.members, sure) {
			g.doubt = s.messages
		}
	}
}

// published handles a PUBLISH of the client.
func (s *sim) published(c *simConn, p *upPacket) {
	ses := c.sess
	if p.pub.qos == 2 {
		if ses.received[p.id] {
			return
		}
		ses.received[p.id] = true
	}
	if s.refused(c) {
		delete(ses.received, p.id)
		p.pub.refused = true // 3.x has no word for it
		return
	}
	s.route(ses, p.pub, c.version == codec.V5)
}

// refused reports whether the PUBLISH just handled was answered that a queue
// is full. It was the only packet handled then.
func (s *sim) refused(c *simConn) bool {
	if s.b.options().Overflow != RejectPublisher {
		return false
	}
	n := s.b.loops[c.loop].counters.Dropped[hook.DropRefusedPublish]
	was := s.rejected[c.loop]
	s.rejected[c.loop] = n
	return n != was
}

// route does what the broker does with a message; v5 says whether its
// properties were told: a client may send again in 3.x what it began in 5.0.
func (s *sim) route(by *simSession, p *simPublish, v5 bool) {
	m := &simMessage{simPublish: p, by: by, at: s.now(), user: p.user && v5}
	if p.expiry > 0 && v5 {
		m.expires = s.now().Add(seconds(p.expiry))
	}
	p.routed++
	s.messages++
	if p.retain {
		s.keep(m)
	}
	for _, cl := range s.clients {
		if cl.session != nil {
			cl.session.match(m)
		}
	}
	for _, g := range s.groups {
		if topic.Match(g.match, m.topic) {
			s.shared[m.key()] = append(s.shared[m.key()], &simShared{simMessage: m, group: g, number: s.messages})
		}
	}
}

// match notes the delivery of m to the session, if one is due.
func (ses *simSession) match(m *simMessage) {
	found := false
	r := &simRecord{simMessage: m, conn: ses.conn, number: len(ses.records)}
	for _, sub := range ses.subs {
		if sub.share != nil || sub.noLocal && m.from == ses.client || !topic.Match(sub.match, m.topic) {
			continue
		}
		found = true
		r.qos = max(r.qos, sub.qos)
		r.retain = r.retain || sub.rap && m.simPublish.retain
		if sub.id != 0 && !slices.Contains(r.ids, sub.id) {
			r.ids = append(r.ids, sub.id)
		}
	}
	if !found {
		return
	}
	r.qos = min(r.qos, m.simPublish.qos)
	ses.records = append(ses.records, r)
	ses.byKey[m.key()] = append(ses.byKey[m.key()], r)
}

// keep retains a message, or forgets the one there is.
func (s *sim) keep(m *simMessage) {
	if k := s.kept(m.topic); k != nil {
		k.until = s.now()
	}
	s.keptChanged(m.topic)
	if m.payload != "" {
		s.retained[m.topic] = append(s.retained[m.topic], &simKept{simMessage: m, from: s.messages})
	}
}

// keptChanged takes a topic out of what replays must still deliver: they may
// find the old value, the new one, or none.
func (s *sim) keptChanged(name string) {
	for _, cl := range s.clients {
		if cl.session == nil {
			continue
		}
		for _, r := range cl.session.replays {
			r.must = slices.DeleteFunc(r.must, func(k *simKept) bool { return k.topic == name })
		}
	}
}

// kept is the message retained for a topic now, or nil.
func (s *sim) kept(name string) *simKept {
	all := s.retained[name]
	if n := len(all); n > 0 && all[n-1].until == 0 {
		return all[n-1]
	}
	return nil
}
