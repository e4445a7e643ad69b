package client

import (
	"slices"
	"sync"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
)

// arrived are messages that wait for a handler.
type arrived struct {
	mu     sync.Mutex
	list   []*Message
	plain  int // of QoS 0
	taken  sync.Cond
	wake   chan struct{}
	closed bool
}

// put adds a message; one of QoS 0 waits for room, unless someone waits for an
// acknowledgement. It reports whether the message was taken.
func (a *arrived) put(m *Message, most int, waiters func() bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.taken.L == nil {
		a.taken.L = &a.mu
	}
	for m.QoS == 0 && a.plain >= most && !a.closed {
		if waiters() {
			return false
		}
		a.taken.Wait()
	}
	a.list = append(a.list, m)
	if m.QoS == 0 {
		a.plain++
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return true
}

// recheck has who waits for room look again who waits for what.
func (a *arrived) recheck() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken.Broadcast()
}

func (a *arrived) close() {
	a.mu.Lock()
	a.closed = true
	a.taken.Broadcast()
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// deliver calls handlers until the client has ended.
func (c *Client) deliver() {
	a := &c.arrived
	var batch []*Message
	for range a.wake {
		for {
			a.mu.Lock()
			batch, a.list = a.list, batch[:0]
			a.plain = 0
			closed := a.closed
			a.taken.Broadcast()
			a.mu.Unlock()
			if closed {
				return
			}
			if len(batch) == 0 {
				break
			}
			for i, m := range batch {
				batch[i] = nil
				c.handle(m)
			}
		}
	}
}

// handle gives a message to those who subscribed to it.
func (c *Client) handle(m *Message) {
	if c.response.take(m) {
		m.Ack()
		return
	}
	var handlers []func(*Message)
	c.mu.Lock()
	for _, s := range c.subs {
		if s.Handler == nil {
			continue
		}
		if s.identified && len(m.SubscriptionIDs) > 0 {
			if slices.Contains(m.SubscriptionIDs, s.id) {
				handlers = append(handlers, s.Handler)
			}
		} else if topic.Match(s.rest, m.Topic) {
			handlers = append(handlers, s.Handler)
		}
	}
	c.mu.Unlock()
	if len(handlers) == 0 && c.o.Handler != nil {
		handlers = append(handlers, c.o.Handler)
	}
	if len(handlers) == 0 {
		c.dropped("no_handler", 1)
		c.o.Logger.Debug("no handler for a message", "topic", m.Topic)
		m.Ack()
		return
	}
	for _, h := range handlers {
		h(m)
	}
	if !c.o.ManualAck {
		m.Ack()
	}
}

// packet handles one packet; body is borrowed.
func (cn *conn) packet(h codec.Header, body []byte) error {
	c := cn.c
	v := c.o.Version
	switch h.Type {
	case codec.PUBLISH:
		return cn.publish(h.Flags, body)
	case codec.PUBACK, codec.PUBREC, codec.PUBCOMP:
		a, err := codec.ParseAck(h.Type, body, v)
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return cn.acknowledged(h.Type, a)
	case codec.PUBREL:
		a, err := codec.ParseAck(h.Type, body, v)
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		code := codec.Success
		if c.received.Remove(a.PacketID) {
			c.change(Change{Kind: Released, ID: uint64(a.PacketID)})
			cn.inbound = max(0, cn.inbound-1)
		} else {
			code = codec.PacketIdentifierNotFound
		}
		cn.out = codec.AppendAck(cn.out, v, codec.PUBCOMP, a.PacketID, code, nil)
		cn.poke()
		return nil
	case codec.SUBACK:
		var a codec.Suback
		if err := codec.ParseSuback(&a, body, v); err != nil {
			return err
		}
		return cn.answered(a.PacketID, a.Codes, a.Properties)
	case codec.UNSUBACK:
		var a codec.Unsuback
		if err := codec.ParseUnsuback(&a, body, v); err != nil {
			return err
		}
		if v != V5 {
			a.Codes = []codec.ReasonCode{codec.Success}
		}
		return cn.answered(a.PacketID, a.Codes, a.Properties)
	case codec.PINGRESP:
		return nil
	case codec.DISCONNECT:
		d, err := codec.ParseDisconnect(body, v, codec.FromServer)
		if err != nil {
			return err
		}
		server, _ := d.Properties.Bytes(codec.ServerReference)
		return &Refused{What: "DISCONNECT", Code: d.Code, Reason: reasonString(d.Properties), Server: string(server)}
	case codec.AUTH:
		err := cn.authStep(body)
		c.mu.Lock()
		if len(cn.out) > 0 {
			cn.poke()
		}
		c.mu.Unlock()
		return err
	default:
		return &codec.Error{Code: codec.ProtocolError, Detail: h.Type.String() + " from a server"}
	}
}

// answered settles a SUBSCRIBE or UNSUBSCRIBE.
func (cn *conn) answered(id uint16, codes []codec.ReasonCode, props codec.Properties) error {
	c := cn.c
	c.mu.Lock()
	e := c.window.Get(id)
	if e == nil || e.State != awaitSuback {
		c.mu.Unlock()
		return nil // orphaned
	}
	g := e.Value
	c.window.Remove(id)
	c.mu.Unlock()
	g.codes(slices.Clone(codes), slices.Clone(props))
	return nil
}

// publish takes a PUBLISH in.
func (cn *conn) publish(flags uint8, body []byte) error {
	c := cn.c
	var in codec.Publish
	if err := codec.ParsePublish(&in, flags, body, c.o.Version, codec.FromServer); err != nil {
		return err
	}
	name, err := cn.name(&in)
	if err != nil {
		return err
	}
	m := &Message{Topic: name, Payload: slices.Clone(in.Payload), QoS: in.QoS, Retain: in.Retain, Dup: in.Dup, ID: in.PacketID}
	if len(in.Properties) > 0 {
		m.readProperties(in.Properties)
	}
	if in.HasMessageExpiry {
		m.Expiry = time.Duration(in.MessageExpiry) * time.Second
	}
	if in.QoS > 0 {
		if in.QoS == 2 && !cn.receive(in.PacketID, in.Dup) {
			return nil
		}
		a, err := cn.expect(in.PacketID, in.QoS)
		if err != nil {
			return err
		}
		m.ack = func() { cn.acknowledge(a) }
	}
	if !c.arrived.put(m, c.o.MaxArrived, func() bool { return c.waiters.Load() > 0 }) {
		c.dropped("not_taken", 1)
	}
	return nil
}

// receive reports whether a QoS 2 message is new. One that was acknowledged is
// acknowledged again; one that waits for its handler is not delivered twice.
// In 3.1 it is not known whether the session is the old one: only DUP tells a
// repeated message from a new one.
func (cn *conn) receive(id uint16, dup bool) bool {
	c := cn.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.received.Has(id) && (dup || c.o.Version != V31) {
		if !cn.handling.Has(id) {
			if cn.awaitsAck(id) {
				return false // on this connection already
			}
			cn.inbound++
			cn.acks = append(cn.acks, &pendingAck{id: id, qos: 2, done: true})
			cn.flushAcks()
		}
		return false
	}
	c.received.Add(id)
	cn.handling.Add(id)
	return true
}

// acknowledge says PUBACK, or PUBREC. An acknowledgement that comes too late for
// its connection is not sent: the broker sends the message again.
func (cn *conn) acknowledge(a *pendingAck) {
	c := cn.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != cn {
		return
	}
	a.done = true
	if a.qos == 2 {
		cn.handling.Remove(a.id)
	}
	cn.flushAcks()
}

// A pendingAck is an acknowledgement that a message of this connection needs.
type pendingAck struct {
	id   uint16
	qos  codec.QoS
	done bool // the message is handled
}

// expect notes down that a message needs its acknowledgement.
func (cn *conn) expect(id uint16, qos codec.QoS) (*pendingAck, error) {
	c := cn.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if cn.inbound++; c.o.Version == V5 && cn.inbound > int(c.o.ReceiveMaximum) { // MQTT 5.0 section 3.3.4
		return nil, &codec.Error{Code: codec.ReceiveMaximumExceeded, Detail: "more messages at once than the Receive Maximum"}
	}
	a := &pendingAck{id: id, qos: qos}
	cn.acks = append(cn.acks, a)
	return a, nil
}

// awaitsAck reports whether a QoS 2 message is in acks. Under mu.
func (cn *conn) awaitsAck(id uint16) bool {
	return slices.ContainsFunc(cn.acks, func(a *pendingAck) bool { return a.qos == 2 && a.id == id })
}

// flushAcks sends the acknowledgements whose turn it is: they leave in the order
// of the messages [MQTT-4.6.0-2] [MQTT-4.6.0-3]. Under mu.
func (cn *conn) flushAcks() {
	c := cn.c
	n := 0
	for ; n < len(cn.acks) && cn.acks[n].done; n++ {
		a := cn.acks[n]
		t := codec.PUBACK
		if a.qos == 2 {
			t = codec.PUBREC
			c.change(Change{Kind: Received, ID: uint64(a.id)})
		} else {
			cn.inbound--
		}
		cn.out = codec.AppendAck(cn.out, c.o.Version, t, a.id, codec.Success, nil)
	}
	if n > 0 {
		cn.acks = slices.Delete(cn.acks, 0, n)
		cn.poke()
	}
}

// name is the topic name of a PUBLISH, by its alias where it has one.
func (cn *conn) name(in *codec.Publish) (string, error) {
	if in.TopicAlias == 0 {
		return cn.text(in.Topic), nil
	}
	if int(in.TopicAlias) >= len(cn.aliasIn) {
		return "", &codec.Error{Code: codec.TopicAliasInvalid, Detail: "topic alias above the maximum"}
	}
	known := &cn.aliasIn[in.TopicAlias]
	if len(in.Topic) > 0 {
		*known = cn.text(in.Topic)
	}
	if *known == "" {
		return "", &codec.Error{Code: codec.ProtocolError, Detail: "topic alias was not defined"}
	}
	return *known, nil
}

// text makes the text of a topic name once.
func (cn *conn) text(b []byte) string {
	if s, ok := cn.names[string(b)]; ok {
		return s
	}
	if len(cn.names) >= namesKept {
		clear(cn.names)
	}
	s := string(b)
	cn.names[s] = s
	return s
}
