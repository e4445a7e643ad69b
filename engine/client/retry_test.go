package client_test

import (
	"errors"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
)

// TestRetry: with MQTT 3.1 PUBLISH and PUBREL are sent again on the connection
// until they are answered, or have been sent often enough.
func TestRetry(t *testing.T) {
	s := newScript(t, client.V31)
	o := s.options()
	o.RetryDelay, o.RetryAttempts = 20*time.Millisecond, 1_000_000
	publish := func(c *client.Client, payload string, qos client.QoS) *client.Token {
		token, err := c.PublishAsync(client.Message{Topic: "t", QoS: qos, Payload: []byte(payload)})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	c, other := s.begin(o, codec.Connack{})
	token := publish(c, "answered late", 2)
	first, again := s.publish(other, "answered late"), s.publish(other, "answered late")
	if first.Dup || !again.Dup || first.PacketID != again.PacketID {
		t.Errorf("sent %v, then %v", first, again)
	}
	other.Ack(codec.PUBREC, first.PacketID)
	for h := range 2 { // whatever more of PUBLISH was on its way, then PUBREL twice
		for {
			header, _, err := other.Packet()
			if err != nil {
				t.Fatal(err)
			}
			if header.Type == codec.PUBREL {
				break
			}
			if header.Type != codec.PUBLISH || h > 0 {
				t.Fatalf("got %v", header.Type)
			}
		}
	}
	other.Ack(codec.PUBCOMP, first.PacketID)
	if _, err := token.Wait(within(t)); err != nil {
		t.Error(err)
	}
	o.RetryAttempts = 2
	c, other = s.begin(o, codec.Connack{})
	token = publish(c, "never answered", 1)
	if _, err := token.Wait(within(t)); !errors.Is(err, client.ErrNoAnswer) {
		t.Errorf("without an answer: %v", err)
	}
	sent := 0
	for sent < 3 {
		header, _, err := other.Packet()
		if err != nil {
			t.Fatalf("%v after %d", err, sent)
		}
		if header.Type == codec.PUBLISH {
			sent++
		}
	}
	for _, wrong := range []client.Options{{RetryDelay: time.Second}, {Version: client.V31, RetryDelay: -1}} {
		if _, err := client.New(wrong); err == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}
