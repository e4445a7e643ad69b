package client

import (
	"context"
	"fmt"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/inflight"
)

// outputHigh is how many bytes may wait to be written before Publish waits.
const outputHigh = 256 << 10

// Publish publishes m. At QoS 0 it returns when the message is on its way to
// the network; at QoS 1 and 2 when the broker has acknowledged it. Where there
// is no connection it waits for one, with the message queued. When ctx ends a
// message of QoS 1 or 2 goes on being delivered. m's slices may be used again
// when Publish returns.
func (c *Client) Publish(ctx context.Context, m Message) (Result, error) {
	if m.QoS == 0 {
		return Result{}, c.publish0(ctx, &m)
	}
	t, err := c.take(ctx, &m, true)
	if err != nil {
		return Result{}, err
	}
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	c.arrived.recheck()
	return t.Wait(ctx)
}

// PublishAsync publishes m and does not wait: the token tells the outcome.
// Without room it fails with ErrQueueFull at once. m's slices may be used again.
func (c *Client) PublishAsync(m Message) (*Token, error) {
	return c.take(noWait, &m, m.QoS > 0)
}

// publish0 encodes m straight into the output, where nothing is ahead of it.
func (c *Client) publish0(ctx context.Context, m *Message) error {
	if err := m.validate(); err != nil {
		return err
	}
	for {
		c.mu.Lock()
		if err := c.closedError(); err != nil {
			c.mu.Unlock()
			return err
		}
		cn := c.conn
		if cn == nil || len(c.queue) > 0 {
			c.mu.Unlock()
			t, err := c.take(ctx, m, false)
			if err != nil {
				return err
			}
			_, err = t.Wait(ctx)
			return err
		}
		if len(cn.out) < outputHigh {
			err := cn.append0(m)
			c.mu.Unlock()
			return err
		}
		full := cn.full()
		c.mu.Unlock()
		select {
		case <-full:
		case <-cn.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// append0 encodes a message of QoS 0. Under mu.
func (cn *conn) append0(m *Message) error {
	if m.Retain && !cn.info.RetainAvailable { // [MQTT-3.2.2-14]
		return &Refused{What: "PUBLISH", Code: codec.RetainNotSupported, Reason: "the broker said so in CONNACK"}
	}
	d := codec.Delivery{Retain: m.Retain}
	cn.props = cn.props[:0]
	if cn.c.o.Version == V5 {
		cn.props = m.appendProperties(cn.props)
		if m.Expiry > 0 {
			d.HasMessageExpiry, d.MessageExpiry = true, seconds(m.Expiry)
		}
	}
	topic := append(cn.topic[:0], m.Topic...)
	cn.topic = topic
	if err := cn.fits(codec.PublishSize(cn.c.o.Version, &d, len(topic), len(m.Payload), len(cn.props))); err != nil {
		return err
	}
	if cn.fits(codec.PublishSize(cn.c.o.Version, &d, len(topic), len(m.Payload), len(cn.props))+4) == nil { // an alias takes 3 bytes and may make the length longer
		cn.alias(&d, m.Topic)
	}
	cn.out = codec.AppendPublish(cn.out, cn.c.o.Version, &d, topic, m.Payload, cn.props)
	cn.poke()
	return nil
}

func (cn *conn) fits(size int) error {
	if most := cn.info.MaximumPacketSize; most > 0 && uint32(size) > most {
		return &Refused{What: "PUBLISH", Code: codec.PacketTooLarge, Reason: fmt.Sprintf("the broker takes packets of up to %d bytes, this has %d", most, size)}
	}
	return nil
}

// alias gives d a topic alias, where the broker takes some. Under mu.
func (cn *conn) alias(d *codec.Delivery, topic string) {
	most := cn.info.TopicAliasMaximum
	if most == 0 {
		return
	}
	if a, ok := cn.aliases[topic]; ok {
		d.TopicAlias, d.OmitTopic = a, true
		return
	}
	if len(cn.aliases) >= int(most) {
		return
	}
	if cn.aliases == nil {
		cn.aliases = make(map[string]uint16)
	}
	d.TopicAlias = uint16(len(cn.aliases) + 1)
	cn.aliases[topic] = d.TopicAlias
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(1, (d+time.Second-1)/time.Second), 1<<32-1))
}

// noWait stands for not waiting at all.
var noWait = context.WithValue(context.Background(), noWaitKey{}, true)

type noWaitKey struct{}

// take copies m and sends it, or queues it. ctx noWait: without waiting for room.
func (c *Client) take(ctx context.Context, m *Message, acknowledged bool) (*Token, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	var props codec.Properties
	if c.o.Version == V5 {
		props = m.appendProperties(nil)
	}
	g := &outgoing{what: "PUBLISH", topicLen: len(m.Topic), propsLen: len(props), qos: m.QoS, retain: m.Retain, token: newToken()}
	if m.Expiry > 0 && c.o.Version == V5 {
		g.expires = time.Now().Add(m.Expiry)
	}
	g.data = make([]byte, 0, len(m.Topic)+len(props)+len(m.Payload))
	g.data = append(append(append(g.data, m.Topic...), props...), m.Payload...)
	for {
		c.mu.Lock()
		if err := c.closedError(); err != nil {
			c.mu.Unlock()
			return nil, err
		}
		if c.conn != nil && len(c.queue) == 0 && (!acknowledged || c.open < c.conn.quota) && len(c.conn.out) < outputHigh {
			err := c.conn.send(g)
			c.mu.Unlock()
			return g.token, err
		}
		if len(c.queue) < c.o.MaxQueued {
			c.queue = append(c.queue, g)
			c.keep(g, 0, 0)
			c.mu.Unlock()
			return g.token, c.save()
		}
		switch {
		case c.o.Overflow == DropOldest:
			oldest := c.queue[0]
			c.queue = append(c.queue[1:len(c.queue):len(c.queue)], g)
			c.forget(oldest)
			c.keep(g, 0, 0)
			c.mu.Unlock()
			c.dropped("queue_full", 1)
			oldest.fail(ErrQueueFull)
			return g.token, c.save()
		case c.o.Overflow == DropNewest || ctx == noWait:
			c.mu.Unlock()
			c.dropped("queue_full", 1)
			return nil, ErrQueueFull
		}
		room := c.turn()
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *Client) dropped(reason string, n int) {
	if c.o.Metrics != nil {
		c.o.Metrics.Dropped(reason, n)
	}
}

// send puts g, which is no queue's, into the output. An error is g's own: the
// broker would not take it. Under mu.
func (cn *conn) send(g *outgoing) error {
	c := cn.c
	if !g.expires.IsZero() && time.Now().After(g.expires) {
		c.forget(g)
		go g.fail(&Refused{What: "PUBLISH", Code: codec.UnspecifiedError, Reason: "the message expired before it could be sent"})
		return nil
	}
	if g.qos > cn.info.MaximumQoS || g.retain && !cn.info.RetainAvailable {
		code := codec.QoSNotSupported
		if g.qos <= cn.info.MaximumQoS {
			code = codec.RetainNotSupported
		}
		c.forget(g)
		return &Refused{What: "PUBLISH", Code: code, Reason: "the broker said so in CONNACK"}
	}
	if g.packet == nil {
		if err := cn.fits(codec.PublishSize(c.o.Version, &codec.Delivery{PacketID: 1, QoS: g.qos, HasMessageExpiry: !g.expires.IsZero()}, g.topicLen, len(g.payload()), g.propsLen)); err != nil {
			c.forget(g)
			return err
		}
	}
	if g.qos == 0 && g.packet == nil {
		cn.encode(g, 0, false)
		g.token.settle(Result{}, nil)
		return nil
	}
	state := inflight.AwaitPuback
	switch {
	case g.packet != nil:
		state = awaitSuback
	case g.qos == 2:
		state = inflight.AwaitPubrec
	}
	id, ok := c.window.Add(g, state)
	if !ok {
		c.forget(g)
		return ErrQueueFull
	}
	if g.packet != nil {
		g.packet[cn.idAt(g.packet)], g.packet[cn.idAt(g.packet)+1] = byte(id>>8), byte(id)
		cn.out = append(cn.out, g.packet...)
		cn.poke()
		return nil
	}
	c.open++
	c.keep(g, id, state)
	cn.encode(g, id, false)
	return nil
}

// idAt is where a SUBSCRIBE or UNSUBSCRIBE has its packet identifier.
func (cn *conn) idAt(packet []byte) int {
	h, _, _ := codec.ReadHeader(packet)
	return h.Size
}

// encode appends the PUBLISH of g. Under mu.
func (cn *conn) encode(g *outgoing, id uint16, dup bool) {
	v := cn.c.o.Version
	d := codec.Delivery{PacketID: id, QoS: g.qos, Dup: dup, Retain: g.retain}
	if !g.expires.IsZero() {
		d.HasMessageExpiry, d.MessageExpiry = true, seconds(time.Until(g.expires))
	}
	cn.out = codec.AppendPublish(cn.out, v, &d, g.topic(), g.payload(), g.properties())
	g.tried = true
	if cn.c.o.RetryDelay > 0 {
		g.sent = time.Now()
	}
	cn.poke()
}

// pump sends what waits, as far as the broker takes it. Under mu.
func (cn *conn) pump() {
	c := cn.c
	n := 0
	for n < len(c.queue) && len(cn.out) < outputHigh {
		g := c.queue[n]
		if g.qos > 0 && g.packet == nil && c.open >= cn.quota {
			break
		}
		n++
		if err := cn.send(g); err != nil {
			go g.fail(err)
		}
	}
	if n == 0 {
		return
	}
	clear(c.queue[:n])
	c.queue = c.queue[n:]
	c.signal()
}

// acknowledged handles PUBACK, PUBREC and PUBCOMP. Under mu.
func (cn *conn) acknowledged(t codec.PacketType, a codec.Ack) error {
	c := cn.c
	if c.conn != cn {
		return nil // the client has ended, with what is in flight as it was
	}
	e := c.window.Get(a.PacketID)
	want := inflight.AwaitPuback
	switch t {
	case codec.PUBREC:
		want = inflight.AwaitPubrec
	case codec.PUBCOMP:
		want = inflight.AwaitPubcomp
	}
	switch {
	case e != nil && t == codec.PUBREC && e.State == inflight.AwaitPubcomp: // repeated: so is PUBREL
		cn.out = codec.AppendAck(cn.out, c.o.Version, codec.PUBREL, a.PacketID, codec.Success, nil)
		cn.poke()
		return nil
	case e == nil && t == codec.PUBREC: // of a session that we do not have: the exchange ends in good order
		cn.out = codec.AppendAck(cn.out, c.o.Version, codec.PUBREL, a.PacketID, codec.PacketIdentifierNotFound, nil)
		cn.poke()
		return nil
	case e == nil: // orphaned
		return nil
	case e.State != want:
		return &codec.Error{Code: codec.ProtocolError, Detail: t.String() + " for an exchange that awaits another packet"}
	}
	g := e.Value
	if t == codec.PUBREC && !a.Code.Failure() {
		e.State = inflight.AwaitPubcomp
		g.result(a)
		g.data = g.data[:0:0] // it is never sent again [MQTT-4.3.3-6]
		g.topicLen, g.propsLen = 0, 0
		if c.o.RetryDelay > 0 {
			g.sent, g.repeats = time.Now(), 0
		}
		c.keep(g, a.PacketID, inflight.AwaitPubcomp)
		cn.out = codec.AppendAck(cn.out, c.o.Version, codec.PUBREL, a.PacketID, codec.Success, nil)
		cn.poke()
		return nil
	}
	c.window.Remove(a.PacketID)
	c.open--
	c.forget(g)
	// PUBCOMP that does not know the identifier ends an exchange after a cut as well (MQTT 5.0 section 3.7.2.1).
	failed := a.Code.Failure() && !(t == codec.PUBCOMP && a.Code == codec.PacketIdentifierNotFound)
	if t == codec.PUBACK || failed {
		g.result(a)
	}
	r, err := g.token.result, error(nil)
	r.PacketID = a.PacketID
	if failed {
		err = &Refused{What: "PUBLISH", Code: a.Code, Reason: reasonString(a.Properties)}
	}
	g.token.settle(r, err)
	if len(cn.later) > 0 {
		if e := c.window.Get(cn.later[0]); e != nil {
			cn.encode(e.Value, e.PacketID, true)
		}
		cn.later = cn.later[1:]
	}
	cn.pump()
	c.signal()
	return nil
}

// result keeps what the broker said. Under mu.
func (g *outgoing) result(a codec.Ack) {
	g.token.result.Code, g.token.result.Properties = a.Code, userProperties(a.Properties)
}
