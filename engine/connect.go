package engine

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/directory"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router"
)

// connecting is what a CONNECT asked for, from its arrival to the CONNACK. It
// owns all it holds.
type connecting struct {
	hook.Connect
	assigned        bool // ClientID was made up here
	expiry          uint32
	expiryCapped    bool
	keepAlive       uint16 // in force
	keepAliveCapped bool
	receiveMaximum  uint16
	aliasMaximum    uint16
	maximumPacket   uint32
	noProblemInfo   bool
	wantsResponse   bool
	method          string
	will            *will
	reply           []byte         // Authentication Data for CONNACK
	replaces        uint32         // of the loop when it came
	admitted        bool           // counted as a connect of its client
	terms           *hook.Decision // what a hook decided; nil: nothing
}

// connect handles CONNECT (MQTT 5.0 section 3.1.4).
func (c *conn) connect(body []byte) {
	var p codec.Connect
	err := codec.ParseConnect(&p, body)
	c.version = p.Version
	if err != nil {
		c.failWith(err)
		return
	}
	if limit, ok := p.Properties.Uint(codec.MaximumPacketSize); ok {
		c.ext = &connExt{maximumPacket: limit} // a refusal keeps to it too
	}
	if b := c.loop.b; int(b.open.Load()) > b.options().MaxConnections {
		c.refuse(codec.ServerBusy, "as many connections as allowed") // B-busy
		return
	}
	if c.enterLate(); c.unwanted != codec.Success {
		c.refuse(c.unwanted, unwantedText[c.unwanted])
		return
	}
	c.loop.probe()
	cn, code, detail := c.describe(&p)
	if code.Failure() {
		c.refuse(code, detail)
		return
	}
	if code, detail := c.banned(cn); code.Failure() { // before anybody hashes a password
		c.refuse(code, detail)
		return
	}
	if c.loop.turnsAway(cn) {
		c.refuse(codec.ServerBusy, "the broker is busy: come back later")
		return
	}
	if cn.method != "" {
		c.beginAuth(cn)
		return
	}
	if code := c.authenticate(cn); code.Failure() {
		c.refuse(code, "not let in")
		return
	}
	c.decide(cn)
}

// describe checks what the decoder cannot know and copies what is kept.
func (c *conn) describe(p *codec.Connect) (*connecting, codec.ReasonCode, string) {
	o := c.loop.b.options()
	cn := &connecting{Connect: hook.Connect{
		ClientID: string(p.ClientID), UserName: string(p.UserName), Password: append([]byte(nil), p.Password...),
		HasUserName: p.HasUserName, HasPassword: p.HasPassword, Version: p.Version,
		CleanStart: p.CleanStart, KeepAlive: p.KeepAlive, RemoteAddr: c.sock.RemoteAddr(), LocalAddr: c.sock.LocalAddr(),
		Listener: c.door().name, Anonymous: c.door().Anonymous, TLS: c.sock.TLS(), Proxied: c.proxied(),
	}, keepAlive: p.KeepAlive, replaces: c.loop.replaces}
	if code, detail := c.identify(cn); code.Failure() {
		return nil, code, detail
	}
	if cn.ClientID == "" && (o.EmptyClientID || p.Version == codec.V31 || p.Version == codec.V311 && !p.CleanStart) {
		return nil, codec.ClientIdentifierNotValid, "an empty client identifier is not allowed here" // [MQTT-3.1.3-8], M31-emptyid
	}
	if w := p.Will; w != nil {
		switch {
		case w.QoS > *o.MaximumQoS:
			return nil, codec.QoSNotSupported, "will QoS" // [MQTT-3.2.2-12]
		case w.Retain && o.NoRetained:
			return nil, codec.RetainNotSupported, "retained will" // [MQTT-3.2.2-13]
		case topic.Levels(w.Topic) > o.MaxTopicLevels:
			c.loop.counters.Limited[metrics.TopicLevels]++
			return nil, codec.TopicNameInvalid, "will topic has too many levels"
		case len(w.Topic) > o.MaxTopicLength:
			c.loop.counters.Limited[metrics.TopicLength]++
			return nil, codec.TopicNameInvalid, "will topic is too long"
		}
		cn.will = newWill(w)
		cn.Will = &hook.Will{Topic: string(w.Topic), QoS: w.QoS, Retain: w.Retain}
	}
	c.describeProperties(cn, p)
	return cn, codec.Success, ""
}

func newWill(w *codec.Will) *will {
	m := message.NewLasting(w.Topic, w.Payload, w.Properties)
	m.QoS, m.Retained = w.QoS, w.Retain
	return &will{message: m, delay: w.DelayInterval, expiry: w.MessageExpiry, hasExpiry: w.HasMessageExpiry}
}

// describeProperties reads the CONNECT properties, or what stands for them in 3.x.
func (c *conn) describeProperties(cn *connecting, p *codec.Connect) {
	o := c.loop.b.options()
	cn.receiveMaximum = 65535
	if p.Version == codec.V5 {
		cn.Properties = append(codec.Properties(nil), p.Properties...)
		if v, ok := p.Properties.Uint(codec.SessionExpiryInterval); ok {
			cn.expiry = v
		}
		if v, ok := p.Properties.Uint(codec.ReceiveMaximum); ok {
			cn.receiveMaximum = uint16(v)
		}
		if v, ok := p.Properties.Uint(codec.TopicAliasMaximum); ok {
			cn.aliasMaximum = min(uint16(v), o.TopicAliases)
		}
		cn.maximumPacket, _ = p.Properties.Uint(codec.MaximumPacketSize)
		if v, ok := p.Properties.Uint(codec.RequestProblemInformation); ok {
			cn.noProblemInfo = v == 0
		}
		v, _ := p.Properties.Uint(codec.RequestResponseInformation)
		cn.wantsResponse = v == 1
		if m, ok := p.Properties.Bytes(codec.AuthenticationMethod); ok {
			cn.method = string(m)
		}
		if most := uint16(o.KeepAliveMaximum / time.Second); most > 0 && (cn.keepAlive == 0 || cn.keepAlive > most) {
			cn.keepAlive, cn.keepAliveCapped = most, true // B-ska
		}
	} else if !p.CleanStart {
		cn.expiry = expiryNever
	}
	if most := o.SessionExpiryLimit; most != Unlimited && int64(cn.expiry) > int64(most) {
		cn.expiry, cn.expiryCapped = uint32(most), true
	}
}

// authenticate asks whether the client may come in.
func (c *conn) authenticate(cn *connecting) codec.ReasonCode {
	h := c.loop.hooks
	for _, a := range h.authenticators {
		if code := a.Authenticate(&cn.Connect); code.Failure() {
			return code
		}
	}
	if len(h.authenticators) == 0 && len(h.deciders) == 0 && !c.door().Anonymous && !cn.Identified { // nobody can tell who it is
		return codec.NotAuthorized
	}
	return codec.Success
}

// refuse answers a CONNECT that is not accepted, as far as the version has an
// answer for it, and closes.
func (c *conn) refuse(code codec.ReasonCode, detail string) { c.refuseWith(code, detail, nil) }

// refuseWith is refuse with further properties, which go first when the client
// takes no packet that large.
func (c *conn) refuseWith(code codec.ReasonCode, detail string, props codec.Properties) {
	c.loop.counters.Refused++
	c.note("connection refused", code, detail)
	if len(c.loop.hooks.connections) > 0 {
		c.loop.tellRefused(c, code, detail)
	}
	ack := codec.Connack{Code: code}
	switch c.version {
	case 0:
		c.drop(detail)
		return
	case codec.V5:
		if !connackCode(code) {
			c.drop(detail)
			return
		}
		ack.Properties = codec.AppendBytes(props, codec.ReasonString, detail)
		limit := c.announcedLimit()
		tooLarge := func() bool { return limit != 0 && len(ack.Append(nil, c.version)) > int(limit) }
		if tooLarge() { // [MQTT-3.2.2-19]
			ack.Properties = nil
		}
		if tooLarge() { // [MQTT-3.1.2-24]
			c.drop(detail)
			return
		}
	default:
		v3, ok := codec.ConnackV3(code)
		if !ok {
			c.drop(detail)
			return
		}
		ack.Code = codec.ReasonCode(v3)
	}
	c.sent(codec.CONNACK)
	c.buffer().B = ack.Append(c.out.B, c.version)
	c.stopWaiting()
	c.closeAfterOutput()
}

// announcedLimit is the client's Maximum Packet Size, before or after CONNACK.
func (c *conn) announcedLimit() uint32 {
	switch {
	case c.ext == nil:
		return 0
	case c.ext.connecting != nil:
		return c.ext.connecting.maximumPacket
	default:
		return c.ext.maximumPacket
	}
}

// connackCode reports whether code may stand in a CONNACK that refuses [MQTT-3.2.2-8].
func connackCode(code codec.ReasonCode) bool {
	switch code {
	case codec.UnspecifiedError, codec.MalformedPacket, codec.ProtocolError, codec.ImplementationSpecificError,
		codec.UnsupportedProtocolVersion, codec.ClientIdentifierNotValid, codec.BadUserNameOrPassword,
		codec.NotAuthorized, codec.ServerUnavailable, codec.ServerBusy, codec.Banned, codec.BadAuthenticationMethod,
		codec.TopicNameInvalid, codec.PacketTooLarge, codec.QuotaExceeded, codec.PayloadFormatInvalid,
		codec.RetainNotSupported, codec.QoSNotSupported, codec.UseAnotherServer, codec.ServerMoved,
		codec.ConnectionRateExceeded:
		return true
	default:
		return false
	}
}

// accept finds the session of a client that may come in, wherever it is.
func (l *loop) accept(c *conn, cn *connecting) {
	if cn.ClientID == "" {
		cn.ClientID, cn.assigned = newClientID(), true
	}
	if !c.connackFits(cn) { // [MQTT-3.1.2-24]
		c.refuse(codec.PacketTooLarge, "Maximum Packet Size leaves no room for CONNACK")
		return
	}
	if code, detail := c.allowed(cn); code.Failure() {
		c.refuse(code, detail)
		return
	}
	at, ok := l.b.directory.Lookup(cn.ClientID)
	if ok && refLoop(router.Ref(at)) == l.id {
		if cl := l.client(router.Ref(at)); cl != nil {
			l.acceptHere(c, cn, cl)
			return
		}
	}
	if limit := l.b.options().MaxSessions; !ok && limit != Unlimited && l.b.directory.Len() >= int(limit) {
		c.refuse(codec.QuotaExceeded, "as many sessions as allowed")
		return
	}
	if !ok && cn.expiry > 0 && l.b.durable != nil && l.full() {
		c.refuse(codec.QuotaExceeded, "the store takes no new sessions now")
		return
	}
	cl := &client{}
	cl.Init(cn.ClientID, l.b.limits.Load())
	l.allocate(cl)
	if old, had := l.b.directory.Claim(cn.ClientID, directory.Place(cl.ref)); had {
		l.fetch(c, cn, cl, router.Ref(old))
		return
	}
	l.open(c, cn, cl, false)
}

// acceptHere takes over a session of this loop.
func (l *loop) acceptHere(c *conn, cn *connecting, cl *client) {
	if m := cl.moving(); m != nil && m.arriving {
		if m.conn != nil { // the connection that waits for the session loses it before it had it
			waiting := m.conn
			m.conn = nil
			waiting.drop("session taken over")
		}
		l.wait(c, cn, m)
		return
	}
	if !l.takeOver(cl, cn.CleanStart) {
		l.accept(c, cn) // the old session ended
		return
	}
	l.open(c, cn, cl, true)
}

// open gives the session to the connection and says so.
func (l *loop) open(c *conn, cn *connecting, cl *client, present bool) {
	c.cl, cl.conn = cl, c
	cl.expiry = cn.expiry
	c.keepAlive = cn.keepAlive
	c.become(connOpen)
	c.ext = nil
	if cn.Version == codec.V5 && (cn.aliasMaximum > 0 || cn.maximumPacket > 0 || cn.noProblemInfo || cn.method != "") {
		c.ext = &connExt{aliasOutMax: cn.aliasMaximum, maximumPacket: cn.maximumPacket,
			noProblemInfo: cn.noProblemInfo, method: cn.method}
	}
	l.applyTerms(c, cl, cn.terms)
	c.limitRate(cn)
	c.countUser(cn.UserName)
	if cn.HasUserName || cl.ext != nil {
		cl.extend().userName = cn.UserName
	}
	cl.forgetWill() // [MQTT-3.1.3-9]
	if cn.will != nil {
		cl.extend().will = cn.will
	}
	l.keepSession(cl)
	l.counters.Connects++
	l.counters.Connected++
	c.openedAt = l.ticks
	if !cl.known {
		cl.known = true
		l.tellSession(cl.ClientID, hook.SessionCreated)
	}
	c.note("client connected", codec.Success, "")
	if len(l.hooks.clients) > 0 {
		l.tellConnected(c, cn, present)
	}
	if cn.replaces != l.replaces {
		l.reauthorize(cl, l.replace) // it was decided by what stood before
	} else if present && cn.terms != nil && cn.terms.Rights != nil {
		l.recheck(cl)
	}
	c.connack(cn, present)
	inflight := l.b.options().MaxInflight
	if cn.terms != nil {
		inflight = cmp.Or(cn.terms.MaxInflight, inflight)
	}
	cl.Attach(min(cn.receiveMaximum, inflight))
	if c.keepAlive > 0 {
		c.arm(timerKeepAlive, keepAliveGrace(c.keepAlive)+transportTick)
	} else {
		l.connTimers.Cancel(&c.timer)
	}
	c.pump()
}

// connack accepts. In 3.1 the first byte is always 0 (M31-connack).
func (c *conn) connack(cn *connecting, present bool) {
	ack := codec.Connack{SessionPresent: present && c.version != codec.V31}
	if c.version == codec.V5 {
		ack.Properties = c.connackProperties(cn)
	}
	c.sent(codec.CONNACK)
	c.buffer().B = ack.Append(c.out.B, c.version)
}

// connackFits reports whether the client's Maximum Packet Size has room for the CONNACK.
func (c *conn) connackFits(cn *connecting) bool {
	if cn.maximumPacket == 0 {
		return true
	}
	ack := codec.Connack{Properties: c.connackProperties(cn)}
	return len(ack.Append(nil, c.version)) <= int(cn.maximumPacket)
}

// connackProperties tells what the client could not guess: values that differ
// from what their absence means.
func (c *conn) connackProperties(cn *connecting) codec.Properties {
	o := c.loop.b.options()
	var p codec.Properties
	flag := func(id codec.PropertyID, off bool) {
		if off {
			p = codec.AppendUint(p, id, 0)
		}
	}
	if cn.expiryCapped {
		p = codec.AppendUint(p, codec.SessionExpiryInterval, cn.expiry)
	}
	receive, size := o.ReceiveMaximum, uint32(o.MaximumPacketSize)
	if d := cn.terms; d != nil {
		receive, size = cmp.Or(d.ReceiveMaximum, receive), cmp.Or(d.MaximumPacketSize, size)
	}
	p = codec.AppendUint(p, codec.ReceiveMaximum, uint32(receive))
	if *o.MaximumQoS < 2 {
		p = codec.AppendUint(p, codec.MaximumQoS, uint32(*o.MaximumQoS))
	}
	flag(codec.RetainAvailable, o.NoRetained)
	p = codec.AppendUint(p, codec.MaximumPacketSize, size)
	if cn.assigned {
		p = codec.AppendBytes(p, codec.AssignedClientIdentifier, cn.ClientID)
	}
	if o.TopicAliasMaximum > 0 {
		p = codec.AppendUint(p, codec.TopicAliasMaximum, uint32(o.TopicAliasMaximum))
	}
	flag(codec.WildcardSubscriptionAvailable, o.NoWildcardSubscriptions)
	flag(codec.SubscriptionIdentifiersAvailable, o.NoSubscriptionIdentifiers)
	flag(codec.SharedSubscriptionAvailable, o.NoSharedSubscriptions)
	if cn.keepAliveCapped {
		p = codec.AppendUint(p, codec.ServerKeepAlive, uint32(cn.keepAlive))
	}
	if cn.wantsResponse && o.ResponseInfo != "" {
		p = codec.AppendBytes(p, codec.ResponseInformation, o.ResponseInfo)
	}
	if cn.method != "" {
		p = codec.AppendBytes(p, codec.AuthenticationMethod, cn.method)
		if len(cn.reply) > 0 {
			p = codec.AppendBytes(p, codec.AuthenticationData, cn.reply)
		}
	}
	if d := cn.terms; d != nil {
		if d.Reason != "" {
			p = codec.AppendBytes(p, codec.ReasonString, d.Reason)
		}
		p = append(p, d.UserProperties...)
	}
	return p
}

// newClientID makes an identifier of 21 characters that nobody can guess (B-assign).
func newClientID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return "w-" + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])[:19]
}
