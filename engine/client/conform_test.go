package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// covers names the requirements that the calling test observes; TestRequirements reads the calls.
func covers(testing.TB, ...string) {}

// A script is the broker's side of a conversation that a test writes itself.
type script struct {
	t *testing.T
	l net.Listener
	v codec.Version
}

func newScript(t *testing.T, v codec.Version) *script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &script{t, l, v}
}

func (s *script) options() client.Options {
	return client.Options{Servers: []string{"mqtt://" + s.l.Addr().String()}, Version: s.v, ClientID: "me", MinPause: time.Millisecond, MaxPause: time.Millisecond}
}

// accept takes the next connection and its CONNECT, and answers ack.
func (s *script) accept(ack codec.Connack) (*enginetest.Client, codec.Connect) {
	s.t.Helper()
	_ = s.l.(*net.TCPListener).SetDeadline(time.Now().Add(enginetest.Patience))
	conn, err := s.l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	c := enginetest.Over(s.t, conn, s.v)
	body := s.expect(c, codec.CONNECT)
	var p codec.Connect
	if err := codec.ParseConnect(&p, body); err != nil {
		s.t.Fatal(err)
	}
	c.Send(ack.Append(nil, s.v))
	return c, p
}

// begin makes a client that is connected, and its other end.
func (s *script) begin(o client.Options, ack codec.Connack) (*client.Client, *enginetest.Client) {
	s.t.Helper()
	c, err := client.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	result := make(chan error, 1)
	ctx := within(s.t)
	go func() { result <- c.Connect(ctx) }()
	other, _ := s.accept(ack)
	if err := <-result; err != nil {
		s.t.Fatal(err)
	}
	return c, other
}

// expect reads a packet of type t and returns its body.
func (s *script) expect(c *enginetest.Client, t codec.PacketType) []byte {
	s.t.Helper()
	h, body, err := c.Packet()
	if err != nil || h.Type != t {
		s.t.Fatalf("%v, %v; want %v", h.Type, err, t)
	}
	if err := h.CheckFlags(s.v); err != nil {
		s.t.Fatal(err)
	}
	return body
}

// publish reads a PUBLISH.
func (s *script) publish(c *enginetest.Client, payload string) codec.Publish {
	s.t.Helper()
	h, body, err := c.Packet()
	if err != nil || h.Type != codec.PUBLISH {
		s.t.Fatalf("%v, %v; want PUBLISH", h.Type, err)
	}
	var p codec.Publish
	if err := codec.ParsePublish(&p, h.Flags, body, s.v, codec.FromClient); err != nil {
		s.t.Fatal(err)
	}
	if string(p.Payload) != payload {
		s.t.Fatalf("payload %q, want %q", p.Payload, payload)
	}
	return p
}

// ack reads an acknowledgement and returns its identifier and code.
func (s *script) ack(c *enginetest.Client, t codec.PacketType) codec.Ack {
	s.t.Helper()
	a, err := codec.ParseAck(t, s.expect(c, t), s.v)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *script) send(c *enginetest.Client, d codec.Delivery, topic, payload string) {
	s.t.Helper()
	c.Send(codec.AppendPublish(nil, s.v, &d, []byte(topic), []byte(payload), nil))
}

// closed expects the end of the connection.
func (s *script) closed(c *enginetest.Client) {
	s.t.Helper()
	if h, _, err := c.Packet(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Fatalf("%v, %v; want the end", h.Type, err)
	}
}

func TestConnectOnTheWire(t *testing.T) {
	covers(t, "MQTT-1.5.5-1", "MQTT-2.2.2-1", "MQTT-3.1.0-1", "MQTT-3.1.2-1", "MQTT-3.1.2-3", "MQTT-3.1.2-4", "MQTT-3.1.2-9", "MQTT-3.1.2-11", "MQTT-3.1.2-12", "MQTT-3.1.2-13",
		"MQTT-3.1.2-16", "MQTT-3.1.2-17", "MQTT-3.1.2-18", "MQTT-3.1.2-19", "MQTT-3.1.3-1", "MQTT-3.1.3-3", "MQTT-3.1.3-4", "MQTT-3.1.3-11", "MQTT-3.1.3-12",
		"U5-3.1.2.11.2", "U5-3.1.2.11.3", "U5-3.1.2.11.4", "U5-3.1.2.11.6", "U5-3.1.2.11.7", "M31-name", "311:MQTT-3.1.2-22", "U5-1.5.6")
	for _, v := range versions {
		for _, full := range []bool{false, true} {
			s := newScript(t, v)
			o := s.options()
			if full {
				o.UserName, o.Password, o.CleanStart, o.KeepAlive = "user", []byte{0, 255}, true, 7*time.Second
				o.Will = &client.Will{Message: client.Message{Topic: "w", Payload: []byte{1, 0}, QoS: 2, Retain: true}}
				if v == client.V5 {
					o.SessionExpiry, o.ReceiveMaximum, o.MaximumPacketSize = 99, 5, 1000
				}
			}
			c, err := client.New(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx := within(t)
			result := make(chan error, 1)
			go func() { result <- c.Connect(ctx) }()
			_, p := s.accept(codec.Connack{})
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			if p.Version != v || string(p.ClientID) != "me" || p.CleanStart != full {
				t.Errorf("%v: %+v", v, p)
			}
			if full != (p.Will != nil) || full != p.HasUserName || full != p.HasPassword {
				t.Errorf("%v: %+v", v, p)
			}
			if full && (string(p.UserName) != "user" || string(p.Password) != "\x00\xff" || p.KeepAlive != 7 || string(p.Will.Topic) != "w" ||
				string(p.Will.Payload) != "\x01\x00" || p.Will.QoS != 2 || !p.Will.Retain) {
				t.Errorf("%v: %+v %+v", v, p, p.Will)
			}
			if full && v == client.V5 {
				for id, want := range map[codec.PropertyID]uint32{codec.SessionExpiryInterval: 99, codec.ReceiveMaximum: 5, codec.MaximumPacketSize: 1000} {
					if n, ok := p.Properties.Uint(id); !ok || n != want {
						t.Errorf("%v is %d, want %d", id, n, want)
					}
				}
			}
			c.Close()
		}
	}
}

func TestTextIsChecked(t *testing.T) {
	covers(t, "MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-1.5.7-1", "MQTT-3.3.2-1", "MQTT-3.3.2-2", "MQTT-3.3.2-13", "MQTT-3.3.2-14", "MQTT-3.3.2-19", "MQTT-3.8.3-1",
		"MQTT-3.8.3-2", "MQTT-3.8.3-4", "MQTT-3.8.3-5", "MQTT-3.10.3-1", "MQTT-3.10.3-2", "MQTT-4.7.0-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-1", "MQTT-4.7.3-2",
		"MQTT-4.7.3-3", "MQTT-4.8.2-1", "MQTT-4.8.2-2", "U5-3.8.3.1-rh3", "U5-3.1.3.3", "U5-3.3.2.3.2", "M31-clientid")
	bad := []string{"a\x00b", "\xed\xa0\x80", "\xc0\xaf", "a\xff", strings.Repeat("x", 65536)}
	for _, text := range bad {
		for i, o := range []client.Options{
			{ClientID: text}, {UserName: text}, {Properties: []client.Property{{Name: text}}}, {Properties: []client.Property{{Value: text}}},
			{Will: &client.Will{Message: client.Message{Topic: text}}},
		} {
			if c, err := client.New(o); err == nil {
				c.Close()
				t.Errorf("options %d with %.20q are taken", i, text)
			}
		}
	}
	for _, o := range []client.Options{{Will: &client.Will{}}, {Will: &client.Will{Message: client.Message{Topic: "a/#"}}},
		{Will: &client.Will{Message: client.Message{Topic: "a", QoS: 3}}}, {Version: client.V31, ClientID: strings.Repeat("x", 24)}} {
		if c, err := client.New(o); err == nil {
			c.Close()
			t.Errorf("%+v is taken", o)
		}
	}
	c, _ := newScript(t, client.V5).both()
	messages := []client.Message{{}, {Topic: "a/+"}, {Topic: "#"}, {Topic: "a", QoS: 3}, {Topic: "a", ResponseTopic: "a/#"}, {Topic: "a", Text: true, Payload: []byte{255}}}
	for _, text := range bad {
		messages = append(messages, client.Message{Topic: text}, client.Message{Topic: "a", ContentType: text}, client.Message{Topic: "a", ResponseTopic: text},
			client.Message{Topic: "a", Properties: []client.Property{{Name: "n", Value: text}}})
	}
	for i, m := range messages {
		for qos := range codec.QoS(2) {
			m.QoS = max(m.QoS, qos)
			if _, err := c.PublishAsync(m); err == nil {
				t.Errorf("message %d is taken: %.40q", i, fmt.Sprint(m))
			}
		}
	}
	filters := append([]string{"", "a#", "#/a", "a+", "+a/b", "$share//a", "$share/g", "$share/+/a", "$share/a#/b", "$share/g/"}, bad...)
	for _, f := range filters {
		if _, err := c.Subscribe(within(t), client.Subscription{Filter: f}); err == nil {
			t.Errorf("Subscribe to %.20q", f)
		}
		if _, err := c.Unsubscribe(within(t), f); err == nil {
			t.Errorf("Unsubscribe from %.20q", f)
		}
	}
	for _, s := range []client.Subscription{{Filter: "$share/g/a", NoLocal: true}, {Filter: "a", QoS: 3}, {Filter: "a", RetainHandling: 3}} {
		if _, err := c.Subscribe(within(t), s); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
	if _, err := c.Subscribe(within(t)); err == nil {
		t.Error("Subscribe to nothing")
	}
	if _, err := c.Unsubscribe(within(t)); err == nil {
		t.Error("Unsubscribe from nothing")
	}
}

func (s *script) both() (*client.Client, *enginetest.Client) {
	return s.begin(s.options(), codec.Connack{})
}

// TestMistakesOfTheBroker: each ends the connection; in 5.0 with a DISCONNECT that says why.
func TestMistakesOfTheBroker(t *testing.T) {
	covers(t, "MQTT-2.1.3-1", "MQTT-3.1.0-2", "MQTT-3.3.1-4", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1", "MQTT-3.15.1-1", "MQTT-3.4.2-1", "MQTT-3.5.2-1",
		"MQTT-3.6.2-1", "MQTT-3.7.2-1", "MQTT-3.14.2-1", "MQTT-3.15.2-1", "MQTT-4.12.0-7", "MQTT-4.13.1-1", "MQTT-4.13.2-1", "U5-1.5.5", "U5-2.1.2-type", "U5-2.1.4-len", "U5-2.2.2.2-id",
		"U5-2.2.2.2-dup", "U5-2.2.2.2-len", "U5-2.4", "U5-3.3.2.3.4-empty", "U5-3.3.2.3.8", "U5-3.12-len", "U5-3.15.2.2.2", "M31-msgid", "M31-utf", "B-cli-badserver")
	for _, m := range []struct {
		name, bytes string
		only5       bool
	}{
		{"type 0", "\x00\x00", false},
		{"CONNECT", "\x10\x00", false},
		{"a second CONNACK", "\x20\x02\x00\x00", false},
		{"SUBSCRIBE", "\x82\x06\x00\x01\x00\x01a\x00", false},
		{"UNSUBSCRIBE", "\xa2\x05\x00\x01\x00\x01a", false},
		{"PINGREQ", "\xc0\x00", false},
		{"PINGRESP with a body", "\xd0\x01\x00", false},
		{"PINGRESP with flags", "\xd1\x00", true},
		{"QoS 3", "\x36\x06\x00\x01a\x00\x01x", false},
		{"identifier 0", "\x32\x05\x00\x01a\x00\x00", false},
		{"a topic that is not UTF-8", "\x30\x03\x00\x01\xff", false},
		{"a wildcard in a topic", "\x30\x03\x00\x01#", false},
		{"a topic beyond the packet", "\x30\x03\x00\x09a", false},
		{"a length of five bytes", "\x30\xff\xff\xff\xff\x7f", false},
		{"PUBREL with other flags", "\x60\x02\x00\x01", false},
		{"PUBACK of one byte", "\x40\x01\x00", false},
		{"SUBACK without codes", "\x90\x02\x00\x01", false},
		{"an unknown property", "\x30\x06\x00\x01a\x02\x7f\x00", true},
		{"a property twice", "\x30\x08\x00\x01a\x04\x01\x00\x01\x00", true},
		{"a property of another packet", "\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01", true},
		{"properties beyond the packet", "\x30\x05\x00\x01a\x09\x01", true},
		{"no topic and no alias", "\x30\x03\x00\x00\x00", true},
		{"an alias above the maximum", "\x30\x07\x00\x01a\x03\x23\x00\x01", true},
		{"a subscription identifier 0", "\x30\x06\x00\x01a\x02\x0b\x00", true},
		{"PUBACK with a code of others", "\x40\x04\x00\x01\x9b\x00", true},
		{"PUBREC with a code of others", "\x50\x04\x00\x01\x9b\x00", true},
		{"PUBREL with a code of others", "\x62\x04\x00\x01\x80\x00", true},
		{"PUBCOMP with a code of others", "\x70\x04\x00\x01\x80\x00", true},
		{"DISCONNECT with a client's code", "\xe0\x02\x04\x00", true},
		{"DISCONNECT with flags", "\xe1\x00", true},
		{"AUTH without a method of ours", "\xf0\x02\x18\x00", true},
		{"AUTH with flags", "\xf1\x00", true},
	} {
		for _, v := range versions {
			if m.only5 && v != client.V5 {
				continue
			}
			t.Run(fmt.Sprint(m.name, " ", v), func(t *testing.T) {
				s := newScript(t, v)
				o := s.options()
				o.NoReconnect = true
				_, other := s.begin(o, codec.Connack{})
				other.Send([]byte(m.bytes))
				if v == client.V5 {
					d, err := codec.ParseDisconnect(s.expect(other, codec.DISCONNECT), v, codec.FromClient)
					if err != nil || !d.Code.Failure() {
						t.Fatalf("%v, %v", d.Code, err)
					}
				}
				s.closed(other)
			})
		}
	}
}

func TestMistakesInConnack(t *testing.T) {
	covers(t, "MQTT-3.2.2-1", "MQTT-3.2.2-4", "U5-3.2.2.3-zero", "MQTT-4.12.0-5", "U5-3.1.2.11.10")
	for _, bytes := range []string{
		"\x20\x03\x02\x00\x00", "\x20\x03\x01\x00\x00", "\x20\x06\x00\x00\x03\x21\x00\x00", "\x20\x08\x00\x00\x05\x27\x00\x00\x00\x00",
		"\x20\x05\x00\x00\x02\x24\x02", "\x20\x05\x00\x00\x02\x25\x02", "\x20\x05\x00\x00\x02\x28\x02", "\x30\x04\x00\x01a\x00",
	} {
		s := newScript(t, client.V5)
		o := s.options()
		o.CleanStart = true
		c, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		ctx := within(t)
		go func() { result <- c.Connect(ctx) }()
		conn, err := s.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		other := enginetest.Over(t, conn, s.v)
		s.expect(other, codec.CONNECT)
		other.Send([]byte(bytes))
		s.closed(other)
		if err := <-result; err == nil {
			t.Errorf("% x is accepted", bytes)
		}
		c.Close()
	}
}

func TestSendingOnTheWire(t *testing.T) {
	covers(t, "MQTT-2.2.1-2", "MQTT-2.2.1-3", "MQTT-2.2.1-5", "MQTT-3.3.1-1", "MQTT-3.3.1-2", "MQTT-3.3.4-6", "MQTT-4.3.1-1", "MQTT-4.3.2-1", "MQTT-4.3.2-2", "MQTT-4.3.2-3",
		"MQTT-4.3.3-1", "MQTT-4.3.3-2", "MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6", "MQTT-4.3.3-7", "MQTT-4.4.0-1", "MQTT-4.4.0-2", "MQTT-4.6.0-1", "MQTT-4.6.0-4",
		"311:MQTT-2.3.1-3", "MQTT-3.1.2-23", "MQTT-3.1.3-2", "U5-3.4.2-short", "B-cli-persist", "M31-retry", "M31-early", "B-exp-reconnect")
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			s := newScript(t, v)
			o := s.options()
			if v == client.V5 {
				o.SessionExpiry = 60
			}
			c, other := s.begin(o, codec.Connack{})
			publish := func(payload string, qos codec.QoS) *client.Token {
				token, err := c.PublishAsync(client.Message{Topic: "t", Payload: []byte(payload), QoS: qos, Expiry: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				return token
			}
			publish("0", 0)
			if p := s.publish(other, "0"); p.QoS != 0 || p.Dup || p.PacketID != 0 {
				t.Errorf("%+v", p)
			}
			seen := map[uint16]bool{}
			var ids []uint16
			var tokens []*client.Token
			for i, qos := range []codec.QoS{1, 2, 2, 1, 2, 1} {
				tokens = append(tokens, publish(fmt.Sprint(i), qos))
				p := s.publish(other, fmt.Sprint(i))
				if p.QoS != qos || p.Dup || p.PacketID == 0 || seen[p.PacketID] {
					t.Errorf("%+v", p)
				}
				seen[p.PacketID] = true
				ids = append(ids, p.PacketID)
			}
			other.Ack(codec.PUBREC, ids[2])
			other.Ack(codec.PUBREC, ids[1])
			for _, i := range []int{2, 1} { // in the order of PUBREC
				if a := s.ack(other, codec.PUBREL); a.PacketID != ids[i] || a.Code != 0 {
					t.Errorf("%+v, want %d", a, ids[i])
				}
			}
			other.Ack(codec.PUBACK, ids[0])
			if r, err := tokens[0].Wait(within(t)); err != nil || r.PacketID != ids[0] {
				t.Error(r, err)
			}
			other.Conn.Close()
			other, p := s.accept(codec.Connack{SessionPresent: v != client.V31})
			if n, _ := p.Properties.Uint(codec.SessionExpiryInterval); v == client.V5 && n != 60 || p.CleanStart || string(p.ClientID) != "me" {
				t.Errorf("%+v", p)
			}
			for i := 1; i < 6; i++ { // in the order of sending
				if i <= 2 {
					if a := s.ack(other, codec.PUBREL); a.PacketID != ids[i] {
						t.Errorf("%+v, want %d", a, ids[i])
					}
				} else if p := s.publish(other, fmt.Sprint(i)); p.PacketID != ids[i] || !p.Dup {
					t.Errorf("%+v, want %d", p, ids[i])
				}
			}
			for i, qos := range []codec.QoS{1, 2, 2, 1, 2, 1} {
				switch {
				case i == 0:
				case i <= 2:
					other.Ack(codec.PUBCOMP, ids[i])
				case qos == 1:
					other.Ack(codec.PUBACK, ids[i])
				default:
					other.Ack(codec.PUBREC, ids[i])
					s.ack(other, codec.PUBREL)
					other.Ack(codec.PUBCOMP, ids[i])
				}
				if _, err := tokens[i].Wait(within(t)); err != nil {
					t.Error(i, err)
				}
			}
		})
	}
}

func TestFlowControl(t *testing.T) {
	covers(t, "MQTT-3.3.4-7", "MQTT-3.3.4-8", "MQTT-4.9.0-1", "MQTT-4.9.0-2", "MQTT-4.9.0-3", "U5-4.9-inc", "MQTT-4.3.3-9")
	s := newScript(t, client.V5)
	c, other := s.begin(s.options(), codec.Connack{Properties: codec.AppendUint(nil, codec.ReceiveMaximum, 2)})
	for i, qos := range []codec.QoS{1, 2, 1, 2} {
		if _, err := c.PublishAsync(client.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: qos}); err != nil {
			t.Fatal(err)
		}
	}
	first, second := s.publish(other, "0"), s.publish(other, "1")
	ctx := within(t)
	go c.Subscribe(ctx, client.Subscription{Filter: "f"}) // it ends with the client
	s.expect(other, codec.SUBSCRIBE)                      // ahead of the third PUBLISH
	s.send(other, codec.Delivery{QoS: 1, PacketID: 9}, "x", "")
	s.ack(other, codec.PUBACK)
	other.Ack(codec.PUBREC, second.PacketID)
	s.ack(other, codec.PUBREL) // and no PUBLISH behind it
	other.Send(codec.AppendAck(nil, s.v, codec.PUBACK, first.PacketID, codec.QuotaExceeded, nil))
	third := s.publish(other, "2")
	other.Send(codec.AppendAck(nil, s.v, codec.PUBACK, third.PacketID, codec.Success, nil))
	fourth := s.publish(other, "3")
	other.Send(codec.AppendAck(nil, s.v, codec.PUBREC, fourth.PacketID, codec.QuotaExceeded, nil))
	if _, err := c.PublishAsync(client.Message{Topic: "t", Payload: []byte("4"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	s.publish(other, "4")
}

func TestReceivingOnTheWire(t *testing.T) {
	covers(t, "MQTT-3.3.4-1", "MQTT-4.3.2-4", "MQTT-4.3.2-5", "MQTT-4.3.3-8", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12", "MQTT-4.3.3-13", "MQTT-4.5.0-2", "U5-3.5-92", "MQTT-3.4.2-2", "MQTT-3.4.2-3",
		"MQTT-3.5.2-2", "MQTT-3.5.2-3", "MQTT-3.6.2-2", "MQTT-3.6.2-3", "MQTT-3.7.2-2", "MQTT-3.7.2-3", "MQTT-1.5.4-3", "MQTT-4.1.0-1", "B-pid-spaces")
	for _, v := range versions {
		s := newScript(t, v)
		o := s.options()
		var got collector
		o.Handler = got.add
		c, other := s.begin(o, codec.Connack{})
		if _, err := c.PublishAsync(client.Message{Topic: "t", QoS: 1}); err != nil {
			t.Fatal(err)
		}
		own := s.publish(other, "").PacketID // the same number is open the other way
		s.send(other, codec.Delivery{}, "\ufeffa", "zero")
		s.send(other, codec.Delivery{QoS: 1, PacketID: own}, "a", "one")
		if a := s.ack(other, codec.PUBACK); a.PacketID != own || len(a.Properties) > 0 {
			t.Errorf("%+v", a)
		}
		s.send(other, codec.Delivery{QoS: 1, PacketID: own, Dup: true}, "a", "two") // new, whatever DUP says
		s.ack(other, codec.PUBACK)
		d := codec.Delivery{QoS: 2, PacketID: 8}
		if v == client.V5 {
			d.MessageExpiry, d.HasMessageExpiry = 1, true
		}
		for range 2 {
			s.send(other, d, "a", "three")
			if a := s.ack(other, codec.PUBREC); a.PacketID != 8 || a.Code != 0 || len(a.Properties) > 0 {
				t.Errorf("%+v", a)
			}
			d.Dup = true
		}
		for _, want := range []codec.ReasonCode{codec.Success, codec.PacketIdentifierNotFound} {
			other.Ack(codec.PUBREL, 8)
			if a := s.ack(other, codec.PUBCOMP); a.PacketID != 8 || v == client.V5 && a.Code != want || len(a.Properties) > 0 {
				t.Errorf("%+v", a)
			}
		}
		s.send(other, codec.Delivery{QoS: 2, PacketID: 8}, "a", "four")
		s.ack(other, codec.PUBREC)
		var texts []string
		for _, m := range got.await(t, 5) {
			texts = append(texts, string(m.Payload))
		}
		if fmt.Sprint(texts) != "[zero one two three four]" || got.await(t, 1)[0].Topic != "\ufeffa" {
			t.Errorf("%q", texts)
		}
		c.Close()
	}
}

func TestAcknowledgementsByHandKeepTheOrder(t *testing.T) {
	covers(t, "MQTT-4.6.0-2", "MQTT-4.6.0-3", "B-cli-manualack")
	s := newScript(t, client.V5)
	o := s.options()
	o.ManualAck = true
	arrived := make(chan *client.Message, 8)
	o.Handler = func(m *client.Message) { arrived <- m }
	_, other := s.begin(o, codec.Connack{})
	var list []*client.Message
	for i := range uint16(4) {
		s.send(other, codec.Delivery{QoS: codec.QoS(1 + i%2), PacketID: i + 1}, "t", "")
		list = append(list, <-arrived)
	}
	for _, i := range []int{3, 1, 0, 2, 2} {
		list[i].Ack()
	}
	for i := range uint16(4) {
		p := codec.PUBACK
		if i%2 == 1 {
			p = codec.PUBREC
		}
		if a := s.ack(other, p); a.PacketID != i+1 {
			t.Errorf("%v for %d, want %d", p, a.PacketID, i+1)
		}
	}
}

func TestReceiveMaximumOfTheClient(t *testing.T) {
	covers(t, "U5-3.3.4-rmax")
	s := newScript(t, client.V5)
	o := s.options()
	o.ManualAck, o.ReceiveMaximum, o.NoReconnect = true, 2, true
	o.Handler = func(*client.Message) {}
	_, other := s.begin(o, codec.Connack{})
	for i := range uint16(3) {
		s.send(other, codec.Delivery{QoS: 1, PacketID: i + 1}, "t", "")
	}
	d, err := codec.ParseDisconnect(s.expect(other, codec.DISCONNECT), s.v, codec.FromClient)
	if err != nil || d.Code != codec.ReceiveMaximumExceeded {
		t.Errorf("%v, %v", d.Code, err)
	}
}

func TestTopicAliases(t *testing.T) {
	covers(t, "MQTT-3.2.2-17", "MQTT-3.2.2-18", "MQTT-3.3.2-7", "MQTT-3.3.2-8", "MQTT-3.3.2-9", "MQTT-3.3.2-10", "U5-3.3.2.3.4-dir", "B-alias-client", "MQTT-3.2.2-15")
	s := newScript(t, client.V5)
	o := s.options()
	o.TopicAliasMaximum = 3
	var got collector
	o.Handler = got.add
	props := codec.AppendUint(codec.AppendUint(nil, codec.TopicAliasMaximum, 2), codec.MaximumPacketSize, 100)
	c, other := s.begin(o, codec.Connack{Properties: props})
	send := func(topic string, payload int) error {
		_, err := c.Publish(within(t), client.Message{Topic: topic, Payload: make([]byte, payload)})
		return err
	}
	var refused *client.Refused
	if err := send("a", 100); !errors.As(err, &refused) || refused.Code != codec.PacketTooLarge {
		t.Errorf("a packet above the maximum: %v", err)
	}
	check := func(topic, wire string, alias uint16) {
		t.Helper()
		if err := send(topic, 0); err != nil {
			t.Fatal(err)
		}
		if p := s.publish(other, ""); string(p.Topic) != wire || p.TopicAlias != alias {
			t.Errorf("%q with alias %d, want %q with %d", p.Topic, p.TopicAlias, wire, alias)
		}
	}
	check("a", "a", 1)
	check("a", "", 1)
	check("b", "b", 2)
	check("c", "c", 0)
	check("b", "", 2)
	s.send(other, codec.Delivery{TopicAlias: 3}, "x", "")
	s.send(other, codec.Delivery{TopicAlias: 3, OmitTopic: true}, "x", "")
	s.send(other, codec.Delivery{TopicAlias: 3}, "y", "")
	s.send(other, codec.Delivery{TopicAlias: 3, OmitTopic: true}, "y", "")
	var topics []string
	for _, m := range got.await(t, 4) {
		topics = append(topics, m.Topic)
	}
	if fmt.Sprint(topics) != "[x x y y]" {
		t.Error(topics)
	}
	other.Conn.Close()
	other, _ = s.accept(codec.Connack{}) // it takes no alias
	if err := c.Connected(within(t)); err != nil {
		t.Fatal(err)
	}
	check("a", "a", 0)
}

func TestLimitsOfTheBroker(t *testing.T) {
	covers(t, "MQTT-3.2.2-11", "MQTT-3.2.2-14", "U5-3.2.2.3.2", "U5-3.2.2.3.11", "U5-3.2.2.3.12", "U5-3.2.2.3.13", "B-cli-limits")
	s := newScript(t, client.V5)
	o := s.options()
	o.SessionExpiry = 60
	var expiry uint32
	o.OnConnected = func(i client.Connected) { expiry = i.SessionExpiry }
	var props codec.Properties
	for _, id := range []codec.PropertyID{codec.MaximumQoS, codec.RetainAvailable, codec.WildcardSubscriptionAvailable, codec.SubscriptionIdentifiersAvailable, codec.SharedSubscriptionAvailable} {
		props = codec.AppendUint(props, id, 0)
	}
	c, other := s.begin(o, codec.Connack{Properties: codec.AppendUint(props, codec.SessionExpiryInterval, 5)})
	if expiry != 5 {
		t.Errorf("the session expires after %d s, want 5", expiry)
	}
	for _, f := range []string{"a/#", "+", "$share/g/a"} {
		if _, err := c.Subscribe(within(t), client.Subscription{Filter: f}); !errors.As(err, new(*client.Refused)) {
			t.Errorf("Subscribe to %s: %v", f, err)
		}
	}
	ctx := within(t)
	go c.Subscribe(ctx, client.Subscription{Filter: "a", Handler: func(*client.Message) {}}) // it ends with the client
	var p codec.Subscribe
	if err := codec.ParseSubscribe(&p, s.expect(other, codec.SUBSCRIBE), s.v); err != nil || p.SubscriptionID != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, m := range []client.Message{{Topic: "a", QoS: 1}, {Topic: "a", QoS: 2}, {Topic: "a", Retain: true}} {
		if _, err := c.Publish(within(t), m); !errors.As(err, new(*client.Refused)) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestDisconnectOnTheWire(t *testing.T) {
	covers(t, "MQTT-3.14.4-1", "MQTT-3.14.4-2", "U5-3.14.2.1-short", "MQTT-3.14.2-3", "MQTT-3.14.2-4")
	for _, v := range versions {
		s := newScript(t, v)
		c, other := s.both()
		done := make(chan error, 1)
		ctx := within(t)
		go func() { done <- c.Disconnect(ctx) }()
		if d, err := codec.ParseDisconnect(s.expect(other, codec.DISCONNECT), v, codec.FromClient); err != nil || d.Code != 0 || len(d.Properties) > 0 {
			t.Errorf("%+v, %v", d, err)
		}
		s.closed(other)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestDisconnectOfTheBroker(t *testing.T) {
	covers(t, "B-cli-discon", "U5-3.14.4-recv", "U5-3.2.2.3.16")
	s, elsewhere := newScript(t, client.V5), newScript(t, client.V5)
	o := s.options()
	lost := make(chan error, 1)
	o.OnLost = func(err error) { lost <- err }
	c, other := s.begin(o, codec.Connack{})
	props := codec.AppendBytes(nil, codec.ReasonString, "too many")
	props = codec.AppendBytes(props, codec.ServerReference, elsewhere.l.Addr().String())
	d := codec.Disconnect{Code: codec.UseAnotherServer, Properties: props}
	other.Send(d.Append(nil, s.v))
	s.closed(other)
	var refused *client.Refused
	if err := <-lost; !errors.As(err, &refused) || refused.Code != codec.UseAnotherServer || refused.Reason != "too many" {
		t.Errorf("%v", err)
	}
	elsewhere.accept(codec.Connack{})
	if err := c.Connected(within(t)); err != nil {
		t.Error(err)
	}
}

// TestServerReference: the first connection follows the reference of a refusal, but not for ever, and not from TLS to none.
func TestServerReference(t *testing.T) {
	refusal := func(reference string) codec.Connack {
		return codec.Connack{Code: codec.UseAnotherServer, Properties: codec.AppendBytes(nil, codec.ServerReference, reference)}
	}
	connecting := func(o client.Options) (*client.Client, chan error) {
		t.Helper()
		c, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		result, ctx := make(chan error, 1), within(t)
		go func() { result <- c.Connect(ctx) }()
		return c, result
	}
	s, elsewhere := newScript(t, client.V5), newScript(t, client.V5)
	_, result := connecting(s.options())
	s.accept(refusal(elsewhere.l.Addr().String() + " third.example:1883"))
	elsewhere.accept(codec.Connack{})
	if err := <-result; err != nil {
		t.Error(err)
	}

	_, result = connecting(s.options())
	for range 6 { // it names itself
		s.accept(refusal(s.l.Addr().String()))
	}
	var refused *client.Refused
	if err := <-result; !errors.As(err, &refused) || refused.Code != codec.UseAnotherServer {
		t.Error(err)
	}

	authority := certtest.New(t, "authority")
	for _, f := range []struct {
		scheme string
		want   string // what comes first
	}{{"", "\x16"}, {"mqtt://", ""}} { // a ClientHello; nothing
		secure := &script{t, s.l, client.V5}
		o := s.options()
		o.Servers[0] = "mqtts" + strings.TrimPrefix(o.Servers[0], "mqtt")
		o.TLS = &tls.Config{RootCAs: authority.Pool()}
		elsewhere := newScript(t, client.V5)
		_, result := connecting(o)
		conn, err := secure.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		other := enginetest.Over(t, tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{authority.Certificate(certtest.Request{})}}), client.V5)
		s.expect(other, codec.CONNECT)
		ack := refusal(f.scheme + elsewhere.l.Addr().String())
		other.Send(ack.Append(nil, client.V5))
		if f.want == "" {
			if err := <-result; !errors.As(err, &refused) || refused.Code != codec.UseAnotherServer {
				t.Error(err)
			}
			continue
		}
		_ = elsewhere.l.(*net.TCPListener).SetDeadline(time.Now().Add(enginetest.Patience))
		conn, err = elsewhere.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		if _, err := conn.Read(first); err != nil || string(first) != f.want {
			t.Errorf("%q comes first, %v; want %q", first, err, f.want)
		}
		conn.Close()
	}
}

// TestCredentialsAreFresh: user name and password are asked for at each connect, from a function and from a file that is
// exchanged; where there are none, the attempt fails and the next one asks again.
func TestCredentialsAreFresh(t *testing.T) {
	s := newScript(t, client.V5)
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0 // by the goroutine that connects
	o := s.options()
	o.UserName, o.Password = "not", []byte("used")
	o.Credentials = func(ctx context.Context) (string, []byte, error) {
		if asked++; asked == 2 {
			return "", nil, errors.New("the issuer is away")
		}
		user, token, err := client.TokenFile("$sat", file)(ctx)
		return fmt.Sprint(user, asked), token, err
	}
	write("first")
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	go func() { _ = c.Connect(context.Background()) }() // until the client is closed
	f := func(user, password string) *enginetest.Client {
		t.Helper()
		other, p := s.accept(codec.Connack{})
		if string(p.UserName) != user || string(p.Password) != password {
			t.Errorf("%q with %q, want %q with %q", p.UserName, p.Password, user, password)
		}
		return other
	}
	other := f("$sat1", "first")
	write("second")
	other.Conn.Close()
	f("$sat3", "second")
}

// TestPauses: pauses between attempts double, with up to a half taken off by chance; a broker that has too much to do is
// given more time, and one that refuses the client itself as much as there is.
func TestPauses(t *testing.T) {
	const least, most = 4 * time.Millisecond, 100 * time.Millisecond
	type attempt struct {
		n     int
		pause time.Duration
	}
	begin := func(v codec.Version) (*script, chan attempt) {
		s := newScript(t, v)
		attempts := make(chan attempt, 1000)
		o := s.options()
		o.FirstMayFail, o.MinPause, o.MaxPause = true, least, most
		o.OnAttempt = func(_ string, n int, pause time.Duration) { attempts <- attempt{n, pause} }
		c, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		go func() { _ = c.Connect(context.Background()) }() // until the client is closed
		return s, attempts
	}
	f := func(v codec.Version, code codec.ReasonCode, low, high time.Duration) {
		t.Helper()
		s, attempts := begin(v)
		s.accept(codec.Connack{Code: code})
		if first, second := <-attempts, <-attempts; first.pause != 0 || second.n != 2 || second.pause < low || second.pause > high {
			t.Errorf("%v, %v: attempt %d after %v, want 2 after %v to %v", v, code, second.n, second.pause, low, high)
		}
	}
	f(client.V5, codec.UnspecifiedError, least/2, least)
	f(client.V5, codec.ServerUnavailable, 2*least, 4*least)
	f(client.V5, codec.ServerBusy, 2*least, 4*least)
	f(client.V5, codec.ConnectionRateExceeded, 2*least, 4*least)
	f(client.V5, codec.NotAuthorized, most/2, most)
	f(client.V5, codec.Banned, most/2, most)
	f(client.V311, 3, 2*least, 4*least) // server unavailable
	f(client.V311, 5, most/2, most)     // not authorized

	s, attempts := begin(client.V5)
	s.l.Close()
	last, different := (<-attempts).pause, false
	for range 12 {
		a := <-attempts
		high := min(max(least, 2*last), most)
		if a.pause < high/2 || a.pause > high {
			t.Errorf("attempt %d after %v, want %v to %v", a.n, a.pause, high/2, high)
		}
		different = different || a.pause != high
		last = a.pause
	}
	if !different {
		t.Error("nothing is left to chance")
	}
}

func TestKeepAlive(t *testing.T) {
	covers(t, "MQTT-3.1.2-20", "MQTT-3.1.2-21", "MQTT-3.2.2-21", "B-cli-ping-timeout", "M31-keepalive")
	s := newScript(t, client.V5)
	o := s.options()
	o.Timeout = 2 * time.Second
	_, other := s.begin(o, codec.Connack{Properties: codec.AppendUint(nil, codec.ServerKeepAlive, 1)})
	s.expect(other, codec.PINGREQ)
	other.Send(codec.AppendPingresp(nil))
	s.expect(other, codec.PINGREQ)
	for { // no answer: PINGREQ may come again, and then the end
		if _, _, err := other.Packet(); err != nil {
			break
		}
	}
	s.accept(codec.Connack{})
}

func TestConnectTimesOut(t *testing.T) {
	covers(t, "B-cli-conn-timeout")
	s := newScript(t, client.V5)
	o := s.options()
	o.Timeout = 50 * time.Millisecond
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Connect(within(t)); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Connect: %v", err)
	}
}

func TestSubscribeOnTheWire(t *testing.T) {
	covers(t, "U5-3.8.2.1.2", "MQTT-3.2.2-5", "B-cli-resub")
	s := newScript(t, client.V5)
	c, other := s.both()
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := c.Subscribe(ctx, client.Subscription{Filter: "a/+", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Handler: func(*client.Message) {}})
		done <- err
	}()
	read := func() codec.Subscribe {
		t.Helper()
		var p codec.Subscribe
		if err := codec.ParseSubscribe(&p, s.expect(other, codec.SUBSCRIBE), s.v); err != nil {
			t.Fatal(err)
		}
		f := p.Filters[0]
		if string(f.Filter) != "a/+" || f.QoS != 1 || !f.NoLocal || !f.RetainAsPublished || f.RetainHandling != 2 || p.SubscriptionID == 0 || len(p.Filters) != 1 {
			t.Errorf("%+v", p)
		}
		return p
	}
	p := read()
	a := codec.Suback{PacketID: p.PacketID, Codes: []codec.ReasonCode{1}}
	other.Send(a.Append(nil, s.v))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	other.Conn.Close()
	other, _ = s.accept(codec.Connack{})
	read()
}

// stepper is an Authenticator that counts its steps, and fails at the data "bad".
type stepper struct{}

func (stepper) Method() string                        { return "count" }
func (stepper) Begin(context.Context) ([]byte, error) { return []byte("0"), nil }
func (stepper) Step(data []byte, success bool) ([]byte, error) {
	if string(data) == "bad" {
		return nil, errors.New("bad data")
	}
	return append([]byte("after "), data...), nil
}

func TestEnhancedAuthentication(t *testing.T) {
	covers(t, "MQTT-4.12.0-3", "MQTT-4.12.1-1", "MQTT-4.12.1-2", "U5-4.12-flow", "MQTT-3.15.2-2", "MQTT-3.15.2-3")
	s := newScript(t, client.V5)
	o := s.options()
	o.Auth, o.NoReconnect = stepper{}, true
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := within(t)
	result := make(chan error, 1)
	go func() { result <- c.Connect(ctx) }()
	conn, err := s.l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	other := enginetest.Over(t, conn, s.v)
	method := codec.AppendBytes(nil, codec.AuthenticationMethod, "count")
	read := func(want codec.ReasonCode, data string) {
		t.Helper()
		a, err := codec.ParseAuth(s.expect(other, codec.AUTH), codec.FromClient)
		if err != nil {
			t.Fatal(err)
		}
		m, _ := a.Properties.Bytes(codec.AuthenticationMethod)
		d, _ := a.Properties.Bytes(codec.AuthenticationData)
		_, reason := a.Properties.Bytes(codec.ReasonString)
		if a.Code != want || string(m) != "count" || string(d) != data || reason {
			t.Errorf("%v, method %q, data %q; want %v, %q", a.Code, m, d, want, data)
		}
	}
	say := func(code codec.ReasonCode, data string) {
		a := codec.Auth{Code: code, Properties: codec.AppendBytes(method[:len(method):len(method)], codec.AuthenticationData, data)}
		other.Send(a.Append(nil))
	}
	s.expect(other, codec.CONNECT)
	say(codec.ContinueAuthentication, "one")
	read(codec.ContinueAuthentication, "after one")
	ack := codec.Connack{Properties: method}
	other.Send(ack.Append(nil, s.v))
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if err := c.Reauthenticate(ctx); err != nil {
		t.Fatal(err)
	}
	read(codec.ReAuthenticate, "0")
	if _, err := c.Publish(ctx, client.Message{Topic: "a", Payload: []byte("meanwhile")}); err != nil {
		t.Fatal(err)
	}
	s.publish(other, "meanwhile")
	say(codec.ContinueAuthentication, "two")
	read(codec.ContinueAuthentication, "after two")
	say(codec.ContinueAuthentication, "bad")
	if h, _, err := other.Packet(); err == nil && h.Type != codec.DISCONNECT {
		t.Errorf("%v after a failed authentication", h.Type)
	}
}

// TestResendWithinTheQuota: what is sent again counts against the Receive Maximum of the new connection.
func TestResendWithinTheQuota(t *testing.T) {
	covers(t, "U5-4.9-resend")
	s := newScript(t, client.V5)
	o := s.options()
	o.SessionExpiry = 60
	c, other := s.begin(o, codec.Connack{})
	for i := range 5 {
		if _, err := c.PublishAsync(client.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: codec.QoS(1 + i%2)}); err != nil {
			t.Fatal(err)
		}
		s.publish(other, fmt.Sprint(i))
	}
	other.Conn.Close()
	other, _ = s.accept(codec.Connack{SessionPresent: true, Properties: codec.AppendUint(nil, codec.ReceiveMaximum, 2)})
	first, second := s.publish(other, "0"), s.publish(other, "1")
	ctx := within(t)
	go c.Subscribe(ctx, client.Subscription{Filter: "f"}) // it ends with the client
	s.expect(other, codec.SUBSCRIBE)                      // and no third PUBLISH before it
	other.Ack(codec.PUBACK, first.PacketID)
	third := s.publish(other, "2")
	other.Ack(codec.PUBREC, second.PacketID)
	s.ack(other, codec.PUBREL)
	other.Ack(codec.PUBACK, third.PacketID)
	s.publish(other, "3")
	other.Ack(codec.PUBCOMP, second.PacketID)
	s.publish(other, "4")
}

func TestWebSocketFrames(t *testing.T) {
	covers(t, "MQTT-6.0.0-1", "MQTT-6.0.0-2", "MQTT-6.0.0-3", "M31-ws")
	for v, want := range map[codec.Version]string{client.V31: "mqttv3.1", client.V311: "mqtt", client.V5: "mqtt"} {
		s := newScript(t, v)
		o := s.options()
		o.Servers, o.NoReconnect = []string{"ws://" + s.l.Addr().String()}, true
		o.Header = http.Header{"Cookie": {"a=b"}}
		c, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx := within(t)
		result := make(chan error, 1)
		go func() { result <- c.Connect(ctx) }()
		conn, err := s.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		cookie := ""
		u := ws.Upgrader{Protocol: func(b []byte) bool { return string(b) == want }, OnHeader: func(name, value []byte) error {
			if string(name) == "Cookie" {
				cookie += string(value)
			}
			return nil
		}}
		if hs, err := u.Upgrade(conn); err != nil || hs.Protocol != want || cookie != "a=b" {
			t.Fatalf("%q, %v, cookie %q; want %q", hs.Protocol, err, cookie, want)
		}
		if _, op, err := wsutil.ReadClientData(conn); err != nil || op != ws.OpBinary {
			t.Fatal(op, err)
		}
		ack := codec.Connack{}
		bytes := ack.Append(nil, v)
		d := codec.Delivery{}
		bytes = codec.AppendPublish(bytes, v, &d, []byte("a"), []byte("b"), nil)
		for _, part := range [][]byte{bytes[:1], bytes[1:6], bytes[6:]} {
			if err := wsutil.WriteServerBinary(conn, part); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if err := wsutil.WriteServerText(conn, []byte("text")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(enginetest.Patience))
		for {
			if _, _, err := wsutil.ReadClientData(conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("a text frame is taken")
			} else if err != nil {
				break
			}
		}
		conn.Close()
		c.Close()
	}
}
