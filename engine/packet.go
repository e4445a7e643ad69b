package engine

import (
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/store"
)

// packet handles one whole packet; body is borrowed.
func (c *conn) packet(h codec.Header, body []byte) {
	l := c.loop
	c.lastSeen = l.ticks
	l.counters.PacketsReceived[h.Type]++
	if c.state == connOpen {
		c.openPacket(h, body)
		return
	}
	switch {
	case c.state == connAwaitConnect:
		c.connect(body) // header let nothing else through
	case h.Type == codec.AUTH:
		c.auth(body)
	case h.Type == codec.DISCONNECT:
		c.drop("client gave up authentication")
	default:
		c.fail(codec.ProtocolError, "only AUTH and DISCONNECT are allowed before CONNACK") // [MQTT-3.1.2-30]
	}
}

func (c *conn) openPacket(h codec.Header, body []byte) {
	switch h.Type {
	case codec.PUBLISH:
		c.publish(h.Flags, body)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		c.ack(h.Type, body)
	case codec.PINGREQ:
		if len(body) != 0 {
			c.fail(codec.MalformedPacket, "PINGREQ with a body")
			return
		}
		c.sent(codec.PINGRESP)
		c.buffer().B = codec.AppendPingresp(c.out.B)
	case codec.SUBSCRIBE:
		c.subscribe(body)
	case codec.UNSUBSCRIBE:
		c.unsubscribe(body)
	case codec.DISCONNECT:
		c.disconnected(body)
	case codec.AUTH:
		c.auth(body)
	case codec.CONNECT:
		c.fail(codec.ProtocolError, "second CONNECT") // [MQTT-3.1.0-2]
	default:
		c.fail(codec.ProtocolError, "a packet that only a server sends")
	}
	if c.ext != nil && c.ext.rate != nil && c.ext.rate.in.bounded() {
		c.spend(h)
	}
	c.relieve()
}

// ack handles PUBACK, PUBREC, PUBREL and PUBCOMP.
func (c *conn) ack(t codec.PacketType, body []byte) {
	a, err := codec.ParseAck(t, body, c.version)
	if err != nil {
		c.failWith(err)
		return
	}
	var o session.Outbound
	r := session.Unknown
	switch t {
	case codec.PUBACK:
		o, r = c.cl.Puback(a.PacketID)
	case codec.PUBREC:
		o, r = c.cl.Pubrec(a.PacketID, a.Code)
	case codec.PUBCOMP:
		o, r = c.cl.Pubcomp(a.PacketID)
	default:
		c.pubrel(a.PacketID)
		return
	}
	switch {
	case r == session.Done:
		c.loop.finish(c.cl, &o)
	case r == session.Continue && o.Message != nil:
		c.loop.progress(c.cl, &o, a.PacketID, store.AwaitPubcomp)
	}
	switch r {
	case session.WrongKind:
		c.fail(codec.ProtocolError, "an acknowledgement of the wrong kind") // B-wrong-ack
		return
	case session.Unknown:
		if t == codec.PUBREC { // U5-3.5-92; in 3.x a plain PUBREL ends the exchange
			c.answer(codec.PUBREL, a.PacketID, codec.PacketIdentifierNotFound)
		}
		return
	case session.Continue:
		c.answer(codec.PUBREL, a.PacketID, codec.Success)
		if o.Message != nil {
			c.cl.released(o)
			o.Message.Release(c.loop.pool)
		}
		return
	case session.Done:
		if c.loop.asks&onAck != 0 && t != codec.PUBREC {
			qos := codec.QoS(1)
			if t == codec.PUBCOMP {
				qos = 2
			}
			c.loop.tellAcknowledged(c, a.PacketID, qos)
		}
		if o.Message != nil {
			c.cl.released(o)
			o.Message.Release(c.loop.pool)
		}
	}
	c.pump()
}

// pubrel ends an inbound QoS 2 exchange [MQTT-4.3.3-11].
func (c *conn) pubrel(id uint16) {
	code := codec.Success
	if !c.cl.Forget(id) {
		code = codec.PacketIdentifierNotFound
	} else if c.cl.stored != 0 {
		c.loop.change(c).Forget(c.cl.stored, id)
	}
	c.answer(codec.PUBCOMP, id, code)
}

// answer sends one of the four acknowledgements.
func (c *conn) answer(t codec.PacketType, id uint16, code codec.ReasonCode) {
	c.sent(t)
	c.buffer().B = codec.AppendAck(c.out.B, c.version, t, id, code, nil)
}

// answerWhy is answer with a Reason String, where the client takes it
// [MQTT-3.1.2-29], [MQTT-3.4.2-2].
func (c *conn) answerWhy(t codec.PacketType, id uint16, code codec.ReasonCode, why string) {
	if c.version != codec.V5 || c.ext != nil && c.ext.noProblemInfo {
		c.answer(t, id, code)
		return
	}
	props := codec.AppendBytes(nil, codec.ReasonString, why)
	if !c.fits(6 + len(props)) {
		props = nil
	}
	c.sent(t)
	c.buffer().B = codec.AppendAck(c.out.B, c.version, t, id, code, props)
}

// disconnected handles the client's DISCONNECT.
func (c *conn) disconnected(body []byte) {
	d, err := codec.ParseDisconnect(body, c.version, codec.FromClient)
	if err != nil {
		c.failWith(err)
		return
	}
	if v, ok := d.Properties.Uint(codec.SessionExpiryInterval); ok {
		if c.cl.expiry == 0 && v != 0 { // U5-3.14.2.2.2
			c.fail(codec.ProtocolError, "DISCONNECT cannot give a session an expiry that CONNECT did not")
			return
		}
		if most := c.loop.b.options().SessionExpiryLimit; most != Unlimited && int64(v) > int64(most) {
			v = uint32(most)
		}
		c.cl.expiry = v
	}
	reason, _ := d.Properties.Bytes(codec.ReasonString)
	c.loop.part(hook.ByClient, d.Code, string(reason))
	c.leave(d.Code != codec.Success) // [MQTT-3.14.4-3], B-will-04
	c.writeOut()
	c.sock.Close() // at once: who says goodbye reads no more
}
