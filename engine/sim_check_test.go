package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
)

// A downFrame is a packet of the broker on its way to the client.
type downFrame struct {
	kind codec.PacketType
	end  int // offset behind it
	id   uint16
	code codec.ReasonCode
	qos  codec.QoS
	key  string // of a PUBLISH: QoS, topic and payload
}

// A simFlight is a delivery of QoS 1 or 2 that is not finished.
type simFlight struct {
	key      string
	qos      codec.QoS
	conn     *simConn // on which its PUBLISH was written last
	received bool     // PUBREC was handled
}

// check compares what the broker wrote with the model.
func (s *sim) check() {
	wrote := s.wrote
	s.wrote = nil
	for _, w := range wrote {
		for b := w.b; len(b) > 0; {
			h, ok, err := codec.ReadHeader(b)
			if err != nil || !ok || len(b) < h.Size+h.Remaining {
				s.fail("%v: broker wrote a broken packet %x: %v", w.c, b, err)
			}
			n := h.Size + h.Remaining
			s.frame(w.c, h, b[h.Size:n:n])
			b = b[n:]
		}
	}
}

// frame checks one packet.
func (s *sim) frame(c *simConn, h codec.Header, body []byte) {
	n := h.Size + h.Remaining
	if c.maxPacket > 0 && n > int(c.maxPacket) {
		s.fail("%v: packet of %d bytes, the client takes %d", c, n, c.maxPacket)
	}
	c.written += n
	f := &downFrame{kind: h.Type, end: c.written}
	c.frames = append(c.frames, f)
	c.checked++
	if (c.checked == 1) != (h.Type == codec.CONNACK) {
		s.fail("%v: packet %d is %v", c, c.checked, h.Type)
	}
	switch h.Type {
	case codec.CONNACK, codec.PINGRESP:
	case codec.UNSUBACK:
		c.confirmed++
	case codec.PUBLISH:
		s.checkPublish(c, h, body, f)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		a, err := codec.ParseAck(h.Type, body, c.version)
		if err != nil {
			s.fail("%v: %v: %v", c, h.Type, err)
		}
		f.id, f.code = a.PacketID, a.Code
		s.checkAck(c, f)
	case codec.SUBACK:
		c.confirmed++
		var a codec.Suback
		if err := codec.ParseSuback(&a, body, c.version); err != nil {
			s.fail("%v: SUBACK: %v", c, err)
		}
		if want := c.granted[a.PacketID]; !slices.Equal(codes(a.Codes), want) {
			s.fail("%v: SUBACK %x, want %x", c, codes(a.Codes), want)
		}
	case codec.DISCONNECT:
		d, err := codec.ParseDisconnect(body, c.version, codec.FromServer)
		if err != nil || d.Code != codec.SessionTakenOver && d.Code != codec.KeepAliveTimeout {
			s.fail("%v: DISCONNECT %v %v", c, d.Code, err)
		}
	default:
		s.fail("%v: broker wrote %v", c, h.Type)
	}
}

// checkAck checks an acknowledgement of the broker.
func (s *sim) checkAck(c *simConn, f *downFrame) {
	if f.kind == codec.PUBREL {
		if fl := c.sess.flights[f.id]; !f.code.Failure() && (fl == nil || !fl.received) {
			s.fail("%v: PUBREL %d without PUBREC", c, f.id)
		}
		return
	}
	allowed := f.code == codec.Success || f.code == codec.NoMatchingSubscribers && f.kind != codec.PUBCOMP ||
		f.code == codec.QuotaExceeded && s.b.options().Overflow == RejectPublisher ||
		f.code == codec.PacketIdentifierNotFound && f.kind == codec.PUBCOMP
	if !allowed {
		s.fail("%v: %v %v", c, f.kind, f.code)
	}
}

// checkPublish checks one delivery.
func (s *sim) checkPublish(c *simConn, h codec.Header, body []byte, f *downFrame) {
	var p codec.Publish
	if err := codec.ParsePublish(&p, h.Flags, body, c.version, codec.FromServer); err != nil {
		s.fail("%v: PUBLISH: %v", c, err)
	}
	s.resolveAlias(c, &p)
	key := string(p.Topic) + "\x00" + string(p.Payload)
	f.id, f.qos, f.key = p.PacketID, p.QoS, fmt.Sprint(p.QoS, key)
	s.did("%v <- %q %q q%d r%v id %d dup %v", c, p.Topic, p.Payload, p.QoS, p.Retain, p.PacketID, p.Dup)
	if p.QoS == 0 {
		if p.Dup {
			s.fail("%v: QoS 0 with DUP", c)
		}
		s.account(c, &p, key)
		return
	}
	ses := c.sess
	c.outstanding++
	if limit := s.window(c); c.outstanding > limit {
		s.fail("%v: %d messages in flight, the client takes %d", c, c.outstanding, limit)
	}
	fl := ses.flights[p.PacketID]
	if fl != nil && !p.Dup && fl.conn != c && fl.discardable(c.client) {
		fl = nil
	}
	switch {
	case fl == nil && p.Dup && !ses.returned:
		s.fail("%v: first delivery under %d has DUP", c, p.PacketID)
	case fl == nil: // with DUP: sent before, but it never reached the socket
		ses.flights[p.PacketID] = &simFlight{key: f.key, qos: p.QoS, conn: c}
		ses.delivered[f.key]++
		s.account(c, &p, key)
	case !p.Dup:
		s.fail("%v: packet identifier %d is in use for %q", c, p.PacketID, fl.key)
	case fl.conn == c || fl.received || fl.key != f.key:
		s.fail("%v: %d sent again: on this connection %v, after PUBREC %v, was %q", c, p.PacketID, fl.conn == c, fl.received, fl.key)
	default:
		fl.conn = c
	}
}

// discardable reports whether the broker may have given the delivery up: what
// fitted when a topic alias stood for its topic may be too large to be sent again.
func (fl *simFlight) discardable(cl *simClient) bool {
	return cl.maxPacket > 0 && 60+len(fl.key) > int(cl.maxPacket)
}

// window is how many messages of QoS 1 and 2 may be in flight to c.
func (s *sim) window(c *simConn) int {
	n := int(s.opts.MaxInflight)
	if c.receive > 0 {
		n = min(n, int(c.receive))
	}
	return n
}

func (s *sim) resolveAlias(c *simConn, p *codec.Publish) {
	if p.TopicAlias == 0 {
		return
	}
	if p.TopicAlias > c.aliasMax {
		s.fail("%v: topic alias %d, the client takes %d", c, p.TopicAlias, c.aliasMax)
	}
	if len(p.Topic) > 0 {
		c.aliases[p.TopicAlias] = string(p.Topic)
		return
	}
	name, ok := c.aliases[p.TopicAlias]
	if !ok {
		s.fail("%v: topic alias %d was not defined", c, p.TopicAlias)
	}
	p.Topic = []byte(name)
}

// account finds the reason of a delivery that is not a repetition.
func (s *sim) account(c *simConn, p *codec.Publish, key string) {
	r := s.record(c, p, key)
	k := s.replayed(c, p, key)
	either := r != nil && k != nil && r.qos == 0 && r.conn != c
	if either {
		r.unsure = true
		r = nil // QoS 0 that was lost, or was between loops when c began
	}
	switch {
	case either && k.conn != c: // not to be told apart, and neither is owed
		s.checkForwarded(c, p, s.keptAs(string(p.Topic), string(p.Payload)))
	case r != nil:
		r.sent = true
		s.checkForwarded(c, p, r.simMessage)
		if k == nil && !r.unsure { // else it may be the other one
			s.checkOrder(c, r)
		}
	case k != nil:
		s.sawReplay(c, k, p, key)
		s.checkForwarded(c, p, s.keptAs(string(p.Topic), string(p.Payload)))
	default:
		g := s.sharedFor(c, p, key)
		if g == nil {
			s.fail("%v: %q %q q%d retain %v must not be delivered: %s", c, p.Topic, p.Payload, p.QoS, p.Retain, s.why(c, p, key))
		}
		g.to, g.qos = c.sess, p.QoS
		s.checkForwarded(c, p, g.simMessage)
	}
}

// record finds the delivery among those that follow from subscriptions. Of
// several alike it is the first; rather one that is not expired and, at QoS 0,
// that this connection was there for; best one that does not expire at all.
func (s *sim) record(c *simConn, p *codec.Publish, key string) (first *simRecord) {
	var brief *simRecord
	for _, r := range c.sess.byKey[key] {
		if r.sent || r.qos != p.QoS || r.retain != p.Retain || c.version == codec.V5 && !sameIDs(p, r.ids) {
			continue
		}
		if (r.qos > 0 || r.conn == c) && !r.expired(s.now()) {
			if r.expires == 0 {
				return r
			}
			if brief == nil {
				brief = r
			}
		}
		if first == nil {
			first = r
		}
	}
	if brief != nil {
		return brief
	}
	return first
}

func sameIDs(p *codec.Publish, want []uint32) bool {
	n := 0
	for x := range p.Properties.All() {
		if x.ID == codec.SubscriptionIdentifier {
			if !slices.Contains(want, x.Uint) {
				return false
			}
			n++
		}
	}
	return n == len(want)
}

// replayed finds the SUBSCRIBE that asked for a retained message; of several
// the first one that must get it.
func (s *sim) replayed(c *simConn, p *codec.Publish, key string) (may *simReplay) {
	if !p.Retain {
		return nil
	}
	for _, r := range c.sess.replays {
		if r.seen[string(p.Topic)] || !s.replays(c, r, p, key) {
			continue
		}
		must := slices.ContainsFunc(r.must, func(k *simKept) bool { return k.key() == key })
		if must && (p.QoS > 0 || r.conn == c) {
			return r
		}
		if may == nil {
			may = r
		}
	}
	return may
}

// sawReplay notes that a retained message came, by k. One that is sent again
// may be of any SUBSCRIBE whose answer was lost, or of the one after it; one of
// QoS 0 may have been lost before, and now be of the next.
func (s *sim) sawReplay(c *simConn, k *simReplay, p *codec.Publish, key string) {
	name := string(p.Topic)
	if !p.Dup && (p.QoS > 0 || !slices.ContainsFunc(c.sess.replays, func(r *simReplay) bool {
		return r != k && !r.seen[name] && s.replays(c, r, p, key)
	})) {
		k.seen[name] = true
		return
	}
	for _, r := range c.sess.replays {
		if !r.seen[name] && s.replays(c, r, p, key) {
			r.maybe[name] = true
		}
	}
}

// replays reports whether p may come from r.
func (s *sim) replays(c *simConn, r *simReplay, p *codec.Publish, key string) bool {
	if c == r.conn && c.confirmed < r.from || r.by != nil && !p.Dup && (c != r.by || c.confirmed >= r.to) {
		return false
	}
	name := string(p.Topic)
	var ids []uint32
	if r.sub.id != 0 {
		ids = []uint32{r.sub.id}
	}
	if !topic.Match(r.sub.match, name) || c.version == codec.V5 && !sameIDs(p, ids) {
		return false
	}
	return slices.ContainsFunc(s.retained[name], func(k *simKept) bool {
		return k.key() == key && !(r.sub.noLocal && k.simMessage.from == c.client) && (k.until == 0 || k.until >= r.at) && min(r.sub.qos, k.simMessage.qos) == p.QoS
	})
}

// keptAs finds a retained message by its text.
func (s *sim) keptAs(name, payload string) *simMessage {
	all := s.retained[name]
	i := slices.IndexFunc(all, func(k *simKept) bool { return k.payload == payload })
	return all[i].simMessage
}

// sharedFor finds the delivery among those to the groups of the session.
func (s *sim) sharedFor(c *simConn, p *codec.Publish, key string) *simShared {
	for _, again := range []bool{false, true} { // first what nobody got
		var late *simShared
		for _, g := range s.shared[key] {
			if !slices.Contains(c.sess.groups, g.group) || p.QoS > g.simMessage.qos || p.Retain && !g.simMessage.retain {
				continue
			}
			if !again && g.to == nil || again && g.to != nil && g.to != c.sess && g.to.mayHaveEnded() && g.qos == 1 {
				if !g.expired(s.now()) && !g.group.left && g.number > g.group.doubt {
					return g
				}
				late = g // not owed: any other is told first
			}
		}
		if late != nil {
			return late
		}
	}
	return nil
}

// mayHaveEnded reports whether the session is over, or a CONNECT may have found
// that without the model knowing yet.
func (ses *simSession) mayHaveEnded() bool {
	return ses.ended || ses.client.cleaned || ses.conn == nil && ses.client.s.now() >= ses.endAt
}

// checkOrder checks that the messages of one publisher, topic and QoS come in order.
func (s *sim) checkOrder(c *simConn, r *simRecord) {
	if r.payload == "" || r.routed > 1 {
		return // not to be told from others
	}
	k := orderKey{r.by, r.topic, r.simMessage.qos, r.qos > 0, r.will}
	if last, ok := c.sess.last[k]; ok && r.number < last {
		s.fail("%v: %v overtaken by %v", c, r.simPublish, c.sess.records[last].simPublish)
	}
	c.sess.last[k] = r.number
}

// checkForwarded checks what must be handed on unchanged, and the time left.
func (s *sim) checkForwarded(c *simConn, p *codec.Publish, m *simMessage) {
	if c.version != codec.V5 || m.payload == "" || m.routed > 1 { // not to be told from others
		return
	}
	user := ""
	for x := range p.Properties.All() {
		if x.ID == codec.UserProperty {
			user = string(x.Bytes) + "=" + string(x.Value)
		}
	}
	want := ""
	if m.user {
		want = "from=" + m.from.id
	}
	if user != want {
		s.fail("%v: User Property %q, want %q", c, user, want)
	}
	if p.HasMessageExpiry != (m.expires != 0) {
		s.fail("%v: Message Expiry Interval there %v, want %v", c, p.HasMessageExpiry, m.expires != 0)
	}
	if m.expires == 0 {
		return
	}
	left := time.Duration(p.MessageExpiry) * time.Second
	switch {
	case p.MessageExpiry == 0:
		s.fail("%v: %v delivered after its expiry", c, m)
	case left < m.expires.Sub(s.now()), left > time.Duration(m.expiry)*time.Second:
		s.fail("%v: Message Expiry Interval %v, left are %v", c, left, m.expires.Sub(s.now()))
	}
}

// why says what the model knows of a message.
func (s *sim) why(c *simConn, p *codec.Publish, key string) string {
	t := fmt.Sprintf("dup %v properties%s;", p.Dup, properties(p.Properties))
	for _, r := range c.sess.byKey[key] {
		t += fmt.Sprintf(" record %d q%d retain %v ids %v sent %v;", r.number, r.qos, r.retain, r.ids, r.sent)
	}
	for _, r := range c.sess.replays {
		t += fmt.Sprintf(" replay %q q%d id %d at %v seen %v;", r.sub.filter, r.sub.qos, r.sub.id, time.Duration(r.at), r.seen)
	}
	for _, g := range s.shared[key] {
		t += fmt.Sprintf(" group %q by %v;", g.group.filter, g.to != nil)
	}
	return t
}
