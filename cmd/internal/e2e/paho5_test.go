package e2e

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// A paho5Client is a connection of Eclipse paho.golang, which speaks 5.0.
type paho5Client struct {
	*paho.Client
	conn         net.Conn
	packets      chan *paho.Publish
	disconnected chan byte // reason code of the broker's DISCONNECT
}

func patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// paho5Connect connects; s.filter and s.qos are not used.
func paho5Connect(t *testing.T, b *broker, s subscription) *paho5Client {
	t.Helper()
	c, _, err := paho5TryConnect(t, b, s)
	if err != nil {
		t.Fatalf("paho.golang: CONNECT: %v", err)
	}
	return c
}

// paho5TryConnect may fail; a refusal has its reason code.
func paho5TryConnect(t *testing.T, b *broker, s subscription) (c *paho5Client, code byte, err error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.address, patience)
	if err != nil {
		return nil, 0, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	c = &paho5Client{conn: conn, packets: make(chan *paho.Publish, deliveryQueue), disconnected: make(chan byte, 1)}
	c.Client = paho.NewClient(paho.ClientConfig{
		ClientID:      s.clientID,
		Conn:          conn,
		PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			c.packets <- r.Packet
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { c.disconnected <- d.ReasonCode },
	})
	connect := &paho.Connect{ClientID: s.clientID, KeepAlive: 60, CleanStart: !s.keep}
	if s.keep {
		expiry := uint32(sessionExpiry)
		connect.Properties = &paho.ConnectProperties{SessionExpiryInterval: &expiry}
	}
	if w := s.will; w != nil {
		connect.WillMessage = &paho.WillMessage{Topic: w.topic, Payload: w.payload, QoS: w.qos, Retain: w.retained}
	}
	ctx, cancel := patient()
	defer cancel()
	connack, err := c.Connect(ctx, connect)
	if connack != nil {
		code = connack.ReasonCode
	}
	return c, code, err
}

func (c *paho5Client) mustSubscribe(t *testing.T, options paho.SubscribeOptions) {
	t.Helper()
	ctx, cancel := patient()
	defer cancel()
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{options}}); err != nil {
		t.Fatalf("paho.golang: SUBSCRIBE: %v", err)
	}
}

func (c *paho5Client) mustPublish(t *testing.T, p publication) {
	t.Helper()
	ctx, cancel := patient()
	defer cancel()
	packet := &paho.Publish{Topic: p.topic, Payload: p.payload, QoS: p.qos, Retain: p.retained}
	if _, err := c.Publish(ctx, packet); err != nil {
		t.Fatalf("paho.golang: PUBLISH: %v", err)
	}
}

func (c *paho5Client) mustDisconnect(t *testing.T) {
	t.Helper()
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Errorf("paho.golang: DISCONNECT: %v", err)
	}
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Errorf("paho.golang: still connected %v after DISCONNECT", patience)
	}
}

func paho5Subscribe(t *testing.T, b *broker, _ version, s subscription) *subscriber {
	t.Helper()
	c := paho5Connect(t, b, s)
	sub := &subscriber{
		received:   make(chan delivery, deliveryQueue),
		disconnect: func() { c.mustDisconnect(t) },
		abort:      func() { _ = c.conn.Close() },
	}
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		for {
			select {
			case p := <-c.packets:
				sub.received <- delivery{topic: p.Topic, payload: p.Payload, qos: p.QoS, retained: p.Retain}
			case <-done:
				return
			}
		}
	}()
	c.mustSubscribe(t, paho.SubscribeOptions{Topic: s.filter, QoS: s.qos})
	return sub
}

func paho5Publish(t *testing.T, b *broker, _ version, p publication) {
	t.Helper()
	c := paho5Connect(t, b, subscription{clientID: newClientID()})
	c.mustPublish(t, p)
	c.mustDisconnect(t)
}

// tryPublish publishes, and returns the reason code of the answer; -1 where none comes.
func (c *paho5Client) tryPublish(p publication) int {
	ctx, cancel := patient()
	defer cancel()
	go func() {
		select {
		case <-c.Done(): // no answer comes any more
			cancel()
		case <-ctx.Done():
		}
	}()
	r, err := c.Publish(ctx, &paho.Publish{Topic: p.topic, Payload: p.payload, QoS: p.qos, Retain: p.retained})
	switch {
	case r != nil:
		return int(r.ReasonCode)
	case err != nil:
		return -1
	default:
		return 0
	}
}
