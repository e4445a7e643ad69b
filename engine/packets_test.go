package engine

import (
	"fmt"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// Packets that tests send, made with the codec. Malformed ones are written in hex.

func connectPacket(v codec.Version, id string, clean bool, edit ...func(*codec.Connect)) []byte {
	c := codec.Connect{Version: v, ClientID: []byte(id), CleanStart: clean}
	for _, e := range edit {
		e(&c)
	}
	return c.Append(nil)
}

// keepFor asks for a session that outlives the connection by seconds (v5).
func keepFor(seconds uint32) func(*codec.Connect) {
	return func(c *codec.Connect) {
		c.Properties = codec.AppendUint(c.Properties, codec.SessionExpiryInterval, seconds)
	}
}

// with adds an integer property to CONNECT.
func with(id codec.PropertyID, v uint32) func(*codec.Connect) {
	return func(c *codec.Connect) { c.Properties = codec.AppendUint(c.Properties, id, v) }
}

func keepAlive(seconds uint16) func(*codec.Connect) {
	return func(c *codec.Connect) { c.KeepAlive = seconds }
}

func willOf(w codec.Will) func(*codec.Connect) {
	return func(c *codec.Connect) { c.Will = &w }
}

func login(user, password string) func(*codec.Connect) {
	return func(c *codec.Connect) {
		c.HasUserName, c.UserName, c.HasPassword, c.Password = true, []byte(user), true, []byte(password)
	}
}

func publishPacket(v codec.Version, topic, payload string, qos codec.QoS, id uint16, edit ...func(*codec.Delivery)) []byte {
	d := codec.Delivery{QoS: qos, PacketID: id}
	for _, e := range edit {
		e(&d)
	}
	return codec.AppendPublish(nil, v, &d, []byte(topic), []byte(payload), nil)
}

func publishWith(topic, payload string, qos codec.QoS, id uint16, props codec.Properties, edit ...func(*codec.Delivery)) []byte {
	d := codec.Delivery{QoS: qos, PacketID: id}
	for _, e := range edit {
		e(&d)
	}
	return codec.AppendPublish(nil, codec.V5, &d, []byte(topic), []byte(payload), props)
}

func retain(d *codec.Delivery) { d.Retain = true }
func dup(d *codec.Delivery)    { d.Dup = true }
func expiry(seconds uint32) func(*codec.Delivery) {
	return func(d *codec.Delivery) { d.HasMessageExpiry, d.MessageExpiry = true, seconds }
}
func alias(a uint16) func(*codec.Delivery) {
	return func(d *codec.Delivery) { d.TopicAlias = a }
}

func ackPacket(v codec.Version, t codec.PacketType, id uint16, code codec.ReasonCode) []byte {
	return codec.AppendAck(nil, v, t, id, code, nil)
}

func subscribePacket(v codec.Version, id uint16, filters ...codec.Subscription) []byte {
	s := codec.Subscribe{PacketID: id, Filters: filters}
	return s.Append(nil, v)
}

func filter(f string, qos codec.QoS) codec.Subscription {
	return codec.Subscription{Filter: []byte(f), QoS: qos}
}

func unsubscribePacket(v codec.Version, id uint16, filters ...string) []byte {
	u := codec.Unsubscribe{PacketID: id}
	for _, f := range filters {
		u.Filters = append(u.Filters, []byte(f))
	}
	return u.Append(nil, v)
}

func disconnectPacket(v codec.Version, code codec.ReasonCode) []byte {
	d := codec.Disconnect{Code: code}
	return d.Append(nil, v)
}

var pingreq = codec.AppendPingreq(nil)

// connackLine is what describe says of the default broker's CONNACK.
func connackLine(v codec.Version, present bool) string {
	s := fmt.Sprintf("CONNACK sp=%d 00", bit(present && v != codec.V31))
	if v == codec.V5 {
		s += " {ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10}"
	}
	return s
}

// client connects with Clean Start on the next loop and checks the CONNACK.
func (h *harness) client(v codec.Version, id string, edit ...func(*codec.Connect)) *peer {
	h.t.Helper()
	p := h.dial(v)
	p.send(connectPacket(v, id, true, edit...))
	p.expectConnack(false)
	return p
}

// back connects without Clean Start on the next loop; the session must be there.
func (h *harness) back(v codec.Version, id string, edit ...func(*codec.Connect)) *peer {
	h.t.Helper()
	p := h.dial(v)
	p.send(connectPacket(v, id, false, edit...))
	p.expectConnack(true)
	return p
}

// expectConnack takes the CONNACK, which must accept.
func (p *peer) expectConnack(present bool) {
	p.h.t.Helper()
	f := p.frame()
	if f == nil {
		p.h.t.Fatal("no CONNACK")
	}
	h, _, _ := codec.ReadHeader(f)
	ack, err := codec.ParseConnack(append([]byte(nil), f[h.Size:]...), p.version)
	if err != nil || h.Type != codec.CONNACK || ack.Code != 0 {
		p.h.t.Fatalf("got %s, %v, want CONNACK 00", describe(p.h.t, f, p.version), err)
	}
	if ack.SessionPresent != (present && p.version != codec.V31) {
		p.h.t.Fatalf("session present %v, want %v", ack.SessionPresent, present)
	}
}

// subscribed subscribes and checks that all filters were granted.
func (p *peer) subscribed(filters ...codec.Subscription) *peer {
	p.h.t.Helper()
	p.send(subscribePacket(p.version, 900, filters...))
	want := ""
	for i, f := range filters {
		if i > 0 {
			want += " "
		}
		want += fmt.Sprintf("%02X", byte(f.QoS))
	}
	f := p.frame()
	if got := describe(p.h.t, f, p.version); got != "SUBACK 900 ["+want+"]" {
		p.h.t.Fatalf("got %s, want SUBACK 900 [%s]", got, want)
	}
	return p
}

var versions = []codec.Version{codec.V31, codec.V311, codec.V5}

func TestMainJob(t *testing.T) {
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			for qos := codec.QoS(0); qos <= 2; qos++ {
				sub := h.client(v, "sub").subscribed(filter("a/#", qos))
				pub := h.client(v, "pub")
				pub.send(publishPacket(v, "a/b", "hello", qos, 7))
				switch qos {
				case 0:
					sub.expect(`PUBLISH q0 r0 d0 "a/b" "hello"`)
					pub.expect()
				case 1:
					sub.expect(`PUBLISH q1 r0 d0 id=1 "a/b" "hello"`)
					pub.expect("PUBACK 7 00")
					sub.send(ackPacket(v, codec.PUBACK, 1, 0))
					sub.expect()
				case 2:
					sub.expect(`PUBLISH q2 r0 d0 id=1 "a/b" "hello"`)
					pub.expect("PUBREC 7 00")
					pub.send(ackPacket(v, codec.PUBREL, 7, 0))
					pub.expect("PUBCOMP 7 00")
					sub.send(ackPacket(v, codec.PUBREC, 1, 0))
					sub.expect("PUBREL 1 00")
					sub.send(ackPacket(v, codec.PUBCOMP, 1, 0))
					sub.expect()
				}
				sub.send(disconnectPacket(v, 0))
				sub.expectEnd()
				pub.cut()
			}
		}
	})
}
