package engine

import (
	"fmt"
	"strings"

	"github.com/wheelmq/wheelmq/codec"
)

// A simClient is a scripted client. What it keeps between connections is in
// its session (simSession), as the client's end of it.
type simClient struct {
	s         *sim
	id        string
	share     string // its one filter if it is a shared one: several copies could not be told apart
	versions  []codec.Version
	maxPacket uint32
	receive   uint16
	aliasMax  uint16
	stays     bool // keeps its session
	cur       *simConn
	next      uint16 // packet identifier used last
	numbers   int    // of its messages

	// model
	session   *simSession
	lastClaim int  // claim of its connection that came last
	waits     bool // a session of it is on its way between loops
	cleaned   bool // a CONNECT with Clean Start was handled and may not have its session yet
}

// owed is an acknowledgement to be sent.
type owed struct {
	kind codec.PacketType
	id   uint16
	code codec.ReasonCode
}

// outgoing is a message of the client that the broker has not finished.
type outgoing struct {
	id       uint16
	pub      *simPublish
	received bool // PUBREC came
}

func (s *sim) newClient(i int) *simClient {
	cl := &simClient{s: s, id: fmt.Sprint("c", i), stays: s.maybe(2, 3)}
	cl.versions = []codec.Version{versions[s.rng.IntN(3)]}
	if s.maybe(1, 4) {
		cl.versions = []codec.Version{codec.V311, codec.V5}
	} else if s.maybe(1, 2) {
		cl.versions = []codec.Version{codec.V5}
		cl.maxPacket = uint32(s.one(0, 0, 90, 150))
	}
	cl.receive, cl.aliasMax = uint16(s.one(0, 1, 2, 5)), uint16(s.one(0, 0, 1, 3))
	if s.maybe(1, 3) {
		cl.share = fmt.Sprintf("$share/g%d/%s", s.rng.IntN(2), simShareFilters[s.rng.IntN(2)])
	}
	return cl
}

// connecting makes up a CONNECT.
func (cl *simClient) connecting() simConnect {
	s := cl.s
	cn := simConnect{version: cl.versions[s.rng.IntN(len(cl.versions))], receive: cl.receive, maxPacket: cl.maxPacket,
		aliasMax: cl.aliasMax, keepAlive: uint16(s.one(0, 0, 0, 2, 5))}
	cn.clean = !cl.stays && s.maybe(1, 2) || s.maybe(1, 8)
	if cn.version == codec.V31 {
		cn.clean = !cl.stays
	}
	if cn.version == codec.V5 {
		cn.expiry = uint32(s.one(0, 1, 3, 10))
		if cl.stays {
			cn.expiry = uint32(s.one(3, 60, 60, 600))
		}
	} else if !cn.clean {
		cn.expiry = uint32(s.opts.SessionExpiryLimit) // 3.x: as long as the broker allows
	}
	if s.maybe(1, 3) && s.b.options().Overflow != RejectPublisher {
		cn.will = &simWill{qos: codec.QoS(s.rng.IntN(3)), retain: s.maybe(1, 2)}
		if cn.version == codec.V5 {
			cn.will.delay = uint32(s.one(0, 0, 1, 2, 5, 20))
			cn.will.expiry = uint32(s.one(0, 0, 3))
		}
	}
	return cn
}

// connect opens a connection and sends CONNECT.
func (cl *simClient) connect(cn simConnect) {
	s := cl.s
	if cl.cur != nil {
		cl.cur.lost = true
	}
	c := s.dial(cl, cn)
	cl.cur = c
	v5 := cn.version == codec.V5
	p := codec.Connect{Version: cn.version, ClientID: []byte(cl.id), CleanStart: cn.clean, KeepAlive: cn.keepAlive}
	property := func(id codec.PropertyID, v uint32) {
		if v5 && v != 0 {
			p.Properties = codec.AppendUint(p.Properties, id, v)
		}
	}
	property(codec.SessionExpiryInterval, cn.expiry)
	property(codec.ReceiveMaximum, uint32(cn.receive))
	property(codec.MaximumPacketSize, cn.maxPacket)
	property(codec.TopicAliasMaximum, uint32(cn.aliasMax))
	if !v5 {
		c.receive, c.maxPacket, c.aliasMax = 0, 0, 0
	}
	if w := cn.will; w != nil {
		w.payload = fmt.Sprint("w", c.number)
		p.Will = &codec.Will{Topic: []byte("w/" + cl.id), Payload: []byte(w.payload), QoS: w.qos, Retain: w.retain,
			DelayInterval: w.delay, MessageExpiry: w.expiry, HasMessageExpiry: w.expiry > 0}
	}
	s.did("%v connects: v%d clean %v expiry %d keep-alive %d receive %d packet %d alias %d will %+v", c, cn.version,
		cn.clean, cn.expiry, cn.keepAlive, cn.receive, cn.maxPacket, cn.aliasMax, cn.will)
	c.send(&upPacket{kind: codec.CONNECT}, p.Append(nil))
	if s.maybe(1, 4) { // without waiting for CONNACK
		cl.subscribe(c)
		cl.publish(c, 0)
	}
}

// act does one thing.
func (cl *simClient) act() {
	s, c := cl.s, cl.cur
	if c == nil {
		if s.maybe(1, 2) {
			cl.connect(cl.connecting())
		}
		return
	}
	if !c.live {
		if s.maybe(1, 30) {
			cl.connect(cl.connecting())
		}
		return
	}
	switch k := s.rng.IntN(100); {
	case k < 40:
		cl.acknowledge(1 + s.rng.IntN(4))
	case k < 70:
		cl.publish(c, codec.QoS(s.rng.IntN(3)))
	case k < 82:
		cl.subscribe(c)
	case k < 86:
		cl.unsubscribe(c)
	case k < 93:
		c.send(&upPacket{kind: codec.PINGREQ}, pingreq)
	case k < 96:
		cl.disconnect(c)
	default:
		if s.maybe(1, 3) {
			cl.connect(cl.connecting())
		}
	}
}

// lose ends the client's connection without a word.
func (cl *simClient) lose() {
	if c := cl.cur; c != nil {
		cl.s.did("%v: lost", c)
		c.lost = true
		cl.cur = nil
	}
}

// acknowledge sends up to n of the acknowledgements owed, in their order.
func (cl *simClient) acknowledge(n int) {
	c := cl.cur
	for ; n > 0 && len(c.owed) > 0; n-- {
		o := c.owed[0]
		c.owed = c.owed[1:]
		c.send(&upPacket{kind: o.kind, id: o.id, code: o.code}, ackPacket(c.version, o.kind, o.id, o.code))
	}
}

// disconnect says good-bye, or with the will.
func (cl *simClient) disconnect(c *simConn) {
	s := cl.s
	p := &upPacket{kind: codec.DISCONNECT, expiry: -1}
	d := codec.Disconnect{}
	if c.version == codec.V5 {
		if s.maybe(1, 3) {
			p.code = codec.DisconnectWithWill
			d.Code = p.code
		}
		if c.expiry > 0 && s.maybe(1, 4) {
			p.expiry = int64(s.one(0, 2, 30))
			d.Properties = codec.AppendUint(nil, codec.SessionExpiryInterval, uint32(p.expiry))
		}
	}
	s.did("%v disconnects: %02X expiry %d", c, byte(p.code), p.expiry)
	c.send(p, d.Append(nil, c.version))
	c.lost = true
	cl.cur = nil
}

// id returns a packet identifier that is not in use.
func (cl *simClient) packetID(c *simConn) uint16 {
	for {
		if cl.next++; cl.next > 50 { // soon used again
			cl.next = 1
		}
		if c.sess == nil || c.sess.find(cl.next) < 0 {
			return cl.next
		}
	}
}

var (
	simTopics       = []string{"t/a", "t/b", "t/a/b", "u/a", "u/c/b"}
	simSharedTopics = []string{"s/x", "s/y"}
	simFilters      = []string{"t/#", "t/+", "t/a", "t/+/b", "+/a", "#", "u/#", "w/#", "w/+", "s/+", "u/a"}
	simShareFilters = []string{"s/#", "s/x"}
)

// publish sends a new message.
func (cl *simClient) publish(c *simConn, qos codec.QoS) {
	s := cl.s
	if qos > 0 && (c.sess == nil || len(c.sess.out) >= int(s.opts.ReceiveMaximum)) {
		return
	}
	cl.numbers++
	p := &simPublish{from: cl, qos: qos, payload: fmt.Sprintf("%s.%d", cl.id, cl.numbers)}
	p.topic = simTopics[s.rng.IntN(len(simTopics))]
	if s.maybe(1, 3) {
		p.topic = simSharedTopics[s.rng.IntN(len(simSharedTopics))]
	} else {
		p.retain = s.maybe(1, 4)
	}
	if s.maybe(1, 5) {
		p.payload += strings.Repeat("x", s.rng.IntN(150))
	}
	if p.retain && s.maybe(1, 3) {
		p.payload = ""
	}
	if c.version == codec.V5 {
		p.user = s.maybe(1, 4)
		if s.maybe(1, 5) {
			p.expiry = uint32(1 + s.rng.IntN(10))
		}
	}
	s.sent = append(s.sent, p)
	var id uint16
	if qos > 0 {
		id = cl.packetID(c)
		c.sess.out = append(c.sess.out, &outgoing{id: id, pub: p})
	}
	c.sendPublish(p, id, false)
}

// sendPublish sends a message, by a topic alias at times.
func (c *simConn) sendPublish(p *simPublish, id uint16, again bool) {
	d := codec.Delivery{QoS: p.qos, PacketID: id, Dup: again, Retain: p.retain,
		HasMessageExpiry: p.expiry > 0, MessageExpiry: p.expiry}
	var props codec.Properties
	if c.version == codec.V5 {
		if p.user {
			props = codec.AppendUserProperty(nil, "from", p.from.id)
		}
		if a := c.own[p.topic]; a != 0 {
			d.TopicAlias, d.OmitTopic = a, c.s.maybe(2, 3)
		} else if len(c.own) < int(c.s.opts.TopicAliasMaximum) && c.live && c.s.maybe(1, 3) {
			d.TopicAlias = uint16(len(c.own) + 1)
			c.own[p.topic] = d.TopicAlias
		}
	} else {
		d.HasMessageExpiry = false
	}
	c.s.did("%v publishes %v id %d dup %v", c, p, id, again)
	c.send(&upPacket{kind: codec.PUBLISH, pub: p, id: id},
		codec.AppendPublish(nil, c.version, &d, []byte(p.topic), []byte(p.payload), props))
}

func (cl *simClient) subscribe(c *simConn) {
	s := cl.s
	cl.numbers++
	p := codec.Subscribe{PacketID: uint16(100 + cl.numbers%1000)}
	for range 1 + s.rng.IntN(2) {
		f := codec.Subscription{QoS: codec.QoS(s.rng.IntN(3))}
		if cl.share != "" {
			f.Filter = []byte(cl.share)
			f.QoS = codec.QoS(1 + s.rng.IntN(2))
		} else {
			f.Filter = []byte(simFilters[s.rng.IntN(len(simFilters))])
		}
		if c.version == codec.V5 {
			f.NoLocal, f.RetainAsPublished = cl.share == "" && s.maybe(1, 4), s.maybe(1, 4)
			f.RetainHandling = uint8(s.rng.IntN(3))
		}
		p.Filters = append(p.Filters, f)
		if cl.share != "" {
			break
		}
	}
	if c.version == codec.V5 && s.maybe(1, 2) {
		p.SubscriptionID = uint32(1 + s.rng.IntN(200))
	}
	for _, f := range p.Filters {
		c.granted[p.PacketID] = append(c.granted[p.PacketID], byte(f.QoS))
		s.did("%v subscribes %q q%d id %d %+v", c, f.Filter, f.QoS, p.SubscriptionID, f.RetainHandling)
	}
	c.send(&upPacket{kind: codec.SUBSCRIBE, subs: p.Filters, subID: p.SubscriptionID}, p.Append(nil, c.version))
}

func (cl *simClient) unsubscribe(c *simConn) {
	if c.sess == nil || len(c.sess.subs) == 0 {
		return
	}
	f := c.sess.subs[cl.s.rng.IntN(len(c.sess.subs))].filter
	cl.s.did("%v unsubscribes %q", c, f)
	c.send(&upPacket{kind: codec.UNSUBSCRIBE, filters: []string{f}}, unsubscribePacket(c.version, 99, f))
}

// read takes n bytes and handles the packets that are whole.
func (c *simConn) read(n int) {
	c.taken += n
	c.down = c.down[n:]
	for len(c.frames) > 0 && c.frames[0].end <= c.taken {
		f := c.frames[0]
		c.frames = c.frames[1:]
		c.handle(f)
	}
	if len(c.down) == 0 && c.closed && !c.lost {
		c.s.did("%v: reads the end", c)
		c.lost = true
		if c.client.cur == c {
			c.client.cur = nil
		}
	}
}

// handle is the client's answer to a packet.
func (c *simConn) handle(f *downFrame) {
	switch f.kind {
	case codec.CONNACK:
		c.live = true
		c.resume()
	case codec.PUBLISH:
		c.deliver(f)
	case codec.PUBREL:
		delete(c.sess.got, f.id)
		c.owed = append(c.owed, owed{kind: codec.PUBCOMP, id: f.id})
	case codec.PUBACK, codec.PUBREC, codec.PUBCOMP:
		c.acknowledged(f)
	}
}

// resume sends again what was not finished.
func (c *simConn) resume() {
	for _, o := range c.sess.out {
		if o.received {
			c.send(&upPacket{kind: codec.PUBREL, id: o.id}, ackPacket(c.version, codec.PUBREL, o.id, 0))
		} else {
			c.sendPublish(o.pub, o.id, true)
		}
	}
}

// deliver hands a message to the application, once if it is of QoS 2.
func (c *simConn) deliver(f *downFrame) {
	switch f.qos {
	case 1:
		c.sess.app[f.key]++
		c.owed = append(c.owed, owed{kind: codec.PUBACK, id: f.id})
	case 2:
		if !c.sess.got[f.id] {
			c.sess.got[f.id] = true
			c.sess.app[f.key]++
		}
		c.owed = append(c.owed, owed{kind: codec.PUBREC, id: f.id})
	}
}

// acknowledged goes on with a message the client published.
func (c *simConn) acknowledged(f *downFrame) {
	i := c.sess.find(f.id)
	if i < 0 {
		c.s.fail("%v: %v for packet identifier %d, which is not open", c, f.kind, f.id)
	}
	o := c.sess.out[i]
	if want := codec.PUBACK; (o.pub.qos == 1) != (f.kind == want) {
		c.s.fail("%v: %v for a message of QoS %d", c, f.kind, o.pub.qos)
	}
	if f.kind == codec.PUBREC && !f.code.Failure() {
		o.received = true
		c.send(&upPacket{kind: codec.PUBREL, id: o.id}, ackPacket(c.version, codec.PUBREL, o.id, 0))
		return
	}
	o.pub.done = f.kind == codec.PUBCOMP || !f.code.Failure()
	c.sess.out = append(c.sess.out[:i], c.sess.out[i+1:]...)
}
