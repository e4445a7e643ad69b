package client

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
)

// A Subscription is a topic filter and who gets its messages.
type Subscription struct {
	Filter            string
	QoS               codec.QoS
	NoLocal           bool  // V5
	RetainAsPublished bool  // V5
	RetainHandling    uint8 // V5: 0 retained messages are sent, 1 where the subscription is new, 2 never

	// Handler gets the messages, one after the other. nil: Options.Handler.
	Handler func(*Message)
}

type subscription struct {
	Subscription
	id         uint32 // Subscription Identifier
	identified bool   // it was sent
	rest       string // the filter without $share/name/
	granted    bool
}

func (s *Subscription) validate() error {
	_, rest, _, ok := topic.ParseShared(s.Filter)
	switch {
	case !ok || !topic.ValidFilter(rest) || !validText(s.Filter):
		return fmt.Errorf("client: %q is not a topic filter", s.Filter)
	case s.QoS > 2:
		return fmt.Errorf("client: QoS %d: want 0, 1 or 2", s.QoS)
	case s.NoLocal && topic.HasSharePrefix(s.Filter): // [MQTT-3.8.3-4]
		return fmt.Errorf("client: %q: a shared subscription has no NoLocal", s.Filter)
	case s.RetainHandling > 2:
		return fmt.Errorf("client: RetainHandling %d: want 0, 1 or 2", s.RetainHandling)
	}
	return nil
}

// Subscribe subscribes, in one packet, and returns what was granted to each.
// The subscriptions are remembered: they are made again when a connection
// begins without the session. Where one is refused the error says so, and
// nothing is remembered of that one. It needs a connection, and waits for one.
func (c *Client) Subscribe(ctx context.Context, list ...Subscription) ([]codec.ReasonCode, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("client: nothing to subscribe to")
	}
	for i := range list {
		if err := list[i].validate(); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	if err := c.subscribable(list); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	made := make([]*subscription, len(list))
	for i, s := range list {
		made[i] = c.remember(s)
	}
	c.mu.Unlock()
	codes, props, err := c.request(ctx, "SUBSCRIBE", func() []byte { return c.subscribePacket(made) })
	if err != nil {
		return nil, err
	}
	return codes, c.granted(made, codes, props)
}

// subscribable reports what the broker has said it does not take. Under mu.
func (c *Client) subscribable(list []Subscription) error {
	if c.conn == nil {
		return nil
	}
	for _, s := range list {
		_, rest, shared, _ := topic.ParseShared(s.Filter)
		code := codec.Success
		switch {
		case shared && !c.conn.info.SharedAvailable:
			code = codec.SharedSubscriptionsNotSupported
		case strings.ContainsAny(rest, "+#") && !c.conn.info.WildcardAvailable:
			code = codec.WildcardSubscriptionsNotSupported
		default:
			continue
		}
		return &Refused{What: "SUBSCRIBE to " + s.Filter, Code: code, Reason: "the broker said so in CONNACK"}
	}
	return nil
}

// granted notes down what SUBACK says.
func (c *Client) granted(made []*subscription, codes []codec.ReasonCode, props codec.Properties) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for i, s := range made {
		if i < len(codes) && !codes[i].Failure() {
			s.granted = true
			continue
		}
		if at := slices.Index(c.subs, s); at >= 0 {
			c.subs = slices.Delete(c.subs, at, at+1)
		}
		if i < len(codes) && err == nil {
			err = &Refused{What: "SUBSCRIBE to " + s.Filter, Code: codes[i], Reason: reasonString(props)}
		}
	}
	return err
}

// remember adds a subscription, in the place of one to the same filter. Under mu.
func (c *Client) remember(s Subscription) *subscription {
	_, rest, _, _ := topic.ParseShared(s.Filter)
	n := &subscription{Subscription: s, rest: rest}
	for i, old := range c.subs {
		if old.Filter == s.Filter {
			n.id = old.id
			c.subs[i] = n
			return n
		}
	}
	c.nextSub++
	n.id = c.nextSub
	c.subs = append(c.subs, n)
	return n
}

// subscribePacket encodes subscriptions; a Subscription Identifier goes along
// where there is one of them, since it holds for the whole packet. Under mu.
func (c *Client) subscribePacket(list []*subscription) []byte {
	p := codec.Subscribe{}
	for _, s := range list {
		if s.identified = len(list) == 1 && s.Handler != nil && c.o.Version == V5 && c.conn.info.IdentifiersAvailable; s.identified {
			p.SubscriptionID = s.id
		}
	}
	for _, s := range list {
		f := codec.Subscription{Filter: []byte(s.Filter), QoS: s.QoS}
		if c.o.Version == V5 {
			f.NoLocal, f.RetainAsPublished, f.RetainHandling = s.NoLocal, s.RetainAsPublished, s.RetainHandling
		}
		p.Filters = append(p.Filters, f)
	}
	return p.Append(nil, c.o.Version)
}

// Unsubscribe ends subscriptions. It needs a connection, and waits for one.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]codec.ReasonCode, error) {
	if len(filters) == 0 {
		return nil, fmt.Errorf("client: nothing to unsubscribe from")
	}
	p := codec.Unsubscribe{}
	for _, f := range filters {
		if err := (&Subscription{Filter: f}).validate(); err != nil {
			return nil, err
		}
		p.Filters = append(p.Filters, []byte(f))
	}
	codes, props, err := c.request(ctx, "UNSUBSCRIBE", func() []byte { return p.Append(nil, c.o.Version) })
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range filters {
		if i < len(codes) && codes[i].Failure() {
			err = &Refused{What: "UNSUBSCRIBE from " + f, Code: codes[i], Reason: reasonString(props)}
			continue
		}
		c.subs = slices.DeleteFunc(c.subs, func(s *subscription) bool { return s.Filter == f })
	}
	return codes, err
}

// Subscriptions are those that are remembered, in their order.
func (c *Client) Subscriptions() (list []Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.subs {
		if s.granted {
			list = append(list, s.Subscription)
		}
	}
	return list
}

// request sends a packet once there is a connection, and waits for its answer.
// packet makes it, under mu.
func (c *Client) request(ctx context.Context, what string, packet func() []byte) ([]codec.ReasonCode, codec.Properties, error) {
	if err := c.Connected(ctx); err != nil {
		return nil, nil, err
	}
	answered := make(chan struct{})
	var codes []codec.ReasonCode // and props: read after answered only, since the answer may come when nobody waits any more
	var props codec.Properties
	g := &outgoing{what: what}
	g.codes = func(got []codec.ReasonCode, p codec.Properties) {
		codes, props = got, p
		close(answered)
	}
	c.mu.Lock()
	cn := c.conn
	if cn == nil {
		c.mu.Unlock()
		return nil, nil, ErrLost
	}
	g.packet = packet()
	if err := cn.send(g); err != nil {
		c.mu.Unlock()
		return nil, nil, err
	}
	c.mu.Unlock()
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	c.arrived.recheck()
	select {
	case <-answered:
		if codes == nil {
			return nil, nil, ErrLost
		}
		return codes, props, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// Connected waits until there is a connection. The client must have been told
// to connect.
func (c *Client) Connected(ctx context.Context) error {
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if !started {
		return ErrNoSession
	}
	return c.awaitOnline(ctx)
}

// resubscribe makes remembered subscriptions, those that the session has
// excepted. Under mu.
func (c *Client) resubscribe(cn *conn, present bool) {
	var lost []*subscription
	for _, s := range c.subs {
		if s.granted && !present {
			lost = append(lost, s)
		}
	}
	for part := range slices.Chunk(lost, 100) {
		g := &outgoing{what: "SUBSCRIBE", packet: c.subscribePacket(part)}
		g.codes = func(codes []codec.ReasonCode, props codec.Properties) {
			if codes == nil {
				return // the connection is lost again
			}
			if err := c.granted(part, codes, props); err != nil {
				c.o.Logger.Error("a subscription could not be made again", "error", err)
			}
		}
		if err := cn.send(g); err != nil {
			c.o.Logger.Error("a subscription could not be made again", "error", err)
		}
	}
}
