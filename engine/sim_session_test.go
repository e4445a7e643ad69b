package engine

import (
	"slices"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/router"
)

// A simSession is a Session as the standard has it, both ends.
type simSession struct {
	client *simClient
	conn   *simConn // attached; nil while absent
	ended  bool
	expiry uint32
	will   *simWill
	subs   []*simSub

	// while absent: when it ends and when its will is due. The broker may begin
	// to count anew when the session moves, so it may be as late as the second.
	endAt, endBy   clock.Time
	willAt, willBy clock.Time

	received map[uint16]bool       // QoS 2 identifiers of the client, between PUBLISH and PUBREL
	flights  map[uint16]*simFlight // deliveries not finished, by packet identifier
	records  []*simRecord          // what is to be delivered, in the order of routing
	byKey    map[string][]*simRecord
	last     map[orderKey]int // number of the record delivered last
	replays  []*simReplay
	groups   []*simGroup // it is or was in

	// the client's end
	out       []*outgoing
	returned  bool           // had a connection before this one
	delivered map[string]int // new deliveries of QoS 1 and 2, by QoS, topic and payload

	got map[uint16]bool // QoS 2 identifiers, between PUBLISH and PUBREL
	app map[string]int  // messages of QoS 1 and 2 the application got
}

type simWill struct {
	payload       string
	qos           codec.QoS
	retain        bool
	delay, expiry uint32
}

func (ses *simSession) find(id uint16) int {
	return slices.IndexFunc(ses.out, func(o *outgoing) bool { return o.id == id })
}

// simHook sees a will in the moment it is published.
type simHook struct{ s *sim }

func (h simHook) Authorize(c hook.Client, a hook.Action, name []byte) bool {
	if a == hook.PublishWill && string(name[:2]) == "w/" {
		h.s.willFired(c.ClientID, string(name))
	}
	return true
}

func (s *sim) clientOf(id string) *simClient {
	i := slices.IndexFunc(s.clients, func(cl *simClient) bool { return cl.id == id })
	return s.clients[i]
}

// claimed notes that the broker is about to handle c's CONNECT.
func (s *sim) claimed(c *simConn) {
	s.claims++
	c.claim = s.claims
	cl := c.client
	cl.lastClaim = c.claim
	cl.cleaned = cl.cleaned || c.clean
	s.doubtGroups()
}

// engineSession returns the engine's session of a client, and whether it is on the move.
func (s *sim) engineSession(id string) (cl *client, moving bool) {
	at, ok := s.b.directory.Lookup(id)
	if !ok {
		return nil, false
	}
	ref := router.Ref(at)
	if cl = s.b.loops[refLoop(ref)].client(ref); cl == nil {
		s.fail("directory has %s at a place that is empty", id)
	}
	return cl, cl.moving() != nil
}

// observe follows what connections and sessions did.
func (s *sim) observe() {
	for _, c := range s.conns {
		if c.attached && c.conn.cl == nil {
			s.detached(c)
		}
	}
	for _, c := range s.conns {
		if c.claim == 0 || c.attached || c.over {
			continue
		}
		switch {
		case c.conn.cl != nil:
			s.attached(c)
		case c.conn.state >= connClosing && c.first != nil:
			s.attached(c)
			s.detached(c)
		case c.conn.state >= connClosing:
			c.over = true
			if !s.mayLose(c) {
				s.fail("%v: closed without a reason before CONNACK", c)
			}
		}
	}
	s.conns = slices.DeleteFunc(s.conns, func(c *simConn) bool { return c.gone && c.lost })
	for _, cl := range s.clients {
		s.observeAbsent(cl)
	}
	s.doubtGroups()
}

// observeAbsent follows a session without a connection.
func (s *sim) observeAbsent(cl *simClient) {
	if cl.session == nil && !cl.waits && !cl.cleaned {
		return
	}
	ec, moving := s.engineSession(cl.id)
	if moving {
		cl.waits = true
		return
	}
	ses := cl.session
	if cl.waits && ses != nil && ses.conn == nil { // it came to rest on another loop
		ses.endBy = s.now().Add(seconds(ses.expiry))
		if ses.will != nil {
			ses.willBy = s.now().Add(seconds(ses.will.delay))
		}
	}
	if ses != nil && ec == nil {
		if ses.conn != nil {
			s.fail("session of %s ended while %v has it", cl.id, ses.conn)
		}
		if s.now() < ses.endAt && !cl.cleaned {
			s.fail("session of %s ended at %v, not due before %v", cl.id, time.Duration(s.now()), time.Duration(ses.endAt))
		}
		s.end(ses)
	}
	if ses == nil && ec != nil {
		s.fail("there is a session of %s that should have ended", cl.id)
	}
	cl.waits, cl.cleaned = false, false
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// mayLose reports whether there is a reason for c to lose its session now.
func (s *sim) mayLose(c *simConn) bool {
	return s.losing == c || c.left || c.client.lastClaim > c.claim ||
		c.sess == nil && s.now() >= c.opened.Add(s.opts.ConnectTimeout) ||
		c.keepAlive > 0 && s.now() >= c.heard.Add(keepAliveGrace(c.keepAlive))
}

// attached gives a session to c.
func (s *sim) attached(c *simConn) {
	cl := c.client
	present := s.sessionPresent(c)
	old := cl.session
	if old != nil && old.conn != nil {
		s.fail("%v gets the session that %v has", c, old.conn)
	}
	if present && (old == nil || c.clean) {
		s.fail("%v: session present 1, but there is none", c)
	}
	if !present && old != nil && !c.clean && !cl.cleaned && s.now() < old.endAt {
		s.fail("%v: session present 0, but there is one", c)
	}
	s.did("%v gets its session, present %v", c, present)
	c.heard = s.now() // the keep-alive begins with the CONNACK
	if !present {
		if old != nil {
			s.end(old)
		}
		cl.session = &simSession{client: cl, received: make(map[uint16]bool), flights: make(map[uint16]*simFlight),
			byKey: make(map[string][]*simRecord), last: make(map[orderKey]int), got: make(map[uint16]bool),
			app: make(map[string]int), delivered: make(map[string]int)}
	}
	ses := cl.session
	ses.returned = present
	ses.conn, ses.expiry, ses.will = c, c.expiry, c.will
	c.sess, c.attached = ses, true
	waiting := c.waiting
	c.waiting = nil
	for _, p := range waiting {
		s.apply(c, p)
	}
}

// sessionPresent reads c's CONNACK, which the broker has made and perhaps not
// written. In 3.1 it does not tell, but a client of 3.1 always asks for the
// same kind of session.
func (s *sim) sessionPresent(c *simConn) bool {
	f := c.first
	if f == nil {
		f = c.conn.out.B
	}
	h, _, err := codec.ReadHeader(f)
	if err != nil || h.Type != codec.CONNACK {
		s.fail("%v: first packet is %x, want CONNACK", c, f)
	}
	ack, err := codec.ParseConnack(slices.Clone(f[h.Size:h.Size+h.Remaining]), c.version)
	if err != nil || ack.Code != 0 {
		s.fail("%v: CONNACK %v %v", c, ack.Code, err)
	}
	if c.version != codec.V31 {
		return ack.SessionPresent
	}
	return !c.clean && c.client.session != nil
}

// detached takes c's session away.
func (s *sim) detached(c *simConn) {
	s.did("%v loses its session", c)
	if !s.mayLose(c) {
		s.fail("%v: lost its session without a reason", c)
	}
	c.attached, c.over = false, true
	ses := c.sess
	if ses.ended {
		return
	}
	ses.conn = nil
	if w := ses.will; w != nil {
		if w.delay == 0 || ses.expiry == 0 {
			s.fail("%v: will was not published when the connection ended", c)
		}
		ses.willAt = s.now().Add(seconds(w.delay))
		ses.willBy = ses.willAt
	}
	if ses.expiry == 0 {
		s.end(ses)
		return
	}
	ses.endAt = s.now().Add(seconds(ses.expiry))
	ses.endBy = ses.endAt
}

// end ends a session.
func (s *sim) end(ses *simSession) {
	s.did("session of %s ends", ses.client.id)
	if ses.will != nil {
		s.fail("session of %s ended without its will being published", ses.client.id)
	}
	ses.ended = true
	ses.client.session = nil
	for _, sub := range ses.subs {
		if sub.share != nil {
			sub.share.ended = s.messages
		}
		s.leaveGroup(ses, sub)
	}
	ses.subs = nil
}

// willFired notes that the broker is publishing a client's will.
func (s *sim) willFired(id, name string) {
	s.applyPending()
	cl := s.clientOf(id)
	ses := cl.session
	s.did("will of %s", id)
	if ses == nil || ses.will == nil || name != "w/"+id {
		s.fail("will of %s published to %q, but it has none", id, name)
	}
	w := ses.will
	if c := ses.conn; c != nil {
		if !s.mayLose(c) || w.delay > 0 && ses.expiry > 0 && !cl.cleaned {
			s.fail("will of %s published while its connection stands, or before its delay", id)
		}
	} else if s.now() < ses.willAt && s.now() < ses.endAt && !cl.cleaned {
		s.fail("will of %s published at %v, not due before %v", id, time.Duration(s.now()), time.Duration(min(ses.willAt, ses.endAt)))
	}
	ses.will = nil
	s.route(ses, &simPublish{from: cl, topic: name, payload: w.payload, qos: w.qos, retain: w.retain, expiry: w.expiry, will: true}, true)
}

// overdue checks after a tick of loop i that nothing waits any longer there
// that is due.
func (s *sim) overdue(i int) {
	for _, cl := range s.clients {
		ses := cl.session
		if ses == nil || cl.waits {
			continue
		}
		ec, _ := s.engineSession(cl.id)
		if ec == nil || refLoop(ec.ref) != i {
			continue
		}
		if c := ses.conn; c != nil {
			if c.keepAlive > 0 && s.now() > c.heard.Add(keepAliveGrace(c.keepAlive)+2*simSlack) {
				s.fail("%v: nothing heard since %v and still open", c, time.Duration(c.heard))
			}
			continue
		}
		if s.now() > ses.endBy.Add(simSlack) {
			s.fail("session of %s should have ended at %v", cl.id, time.Duration(ses.endBy))
		}
		if ses.will != nil && s.now() > min(ses.willBy, ses.endBy).Add(simSlack) {
			s.fail("will of %s was due at %v", cl.id, time.Duration(ses.willBy))
		}
	}
}
