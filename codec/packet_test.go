package codec

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// A packet is any packet in its parsed form, for tests that treat all types alike.
type packet interface {
	encode(dst []byte, v Version) []byte
}

type (
	ackPacket struct {
		Ack
		Type PacketType
	}
	pingPacket struct{ Type PacketType }
)

func (p *Publish) encode(dst []byte, v Version) []byte {
	d := Delivery{PacketID: p.PacketID, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain, TopicAlias: p.TopicAlias,
		MessageExpiry: p.MessageExpiry, HasMessageExpiry: p.HasMessageExpiry}
	return AppendPublish(dst, v, &d, p.Topic, p.Payload, p.Properties)
}

func (p ackPacket) encode(dst []byte, v Version) []byte {
	return AppendAck(dst, v, p.Type, p.PacketID, p.Code, p.Properties)
}

func (p pingPacket) encode(dst []byte, _ Version) []byte {
	if p.Type == PINGREQ {
		return AppendPingreq(dst)
	}
	return AppendPingresp(dst)
}

func (c *Connect) encode(dst []byte, _ Version) []byte     { return c.Append(dst) }
func (c *Connack) encode(dst []byte, v Version) []byte     { return c.Append(dst, v) }
func (s *Subscribe) encode(dst []byte, v Version) []byte   { return s.Append(dst, v) }
func (s *Suback) encode(dst []byte, v Version) []byte      { return s.Append(dst, v) }
func (u *Unsubscribe) encode(dst []byte, v Version) []byte { return u.Append(dst, v) }
func (u *Unsuback) encode(dst []byte, v Version) []byte    { return u.Append(dst, v) }
func (d *Disconnect) encode(dst []byte, v Version) []byte  { return d.Append(dst, v) }
func (a *Auth) encode(dst []byte, _ Version) []byte        { return a.Append(dst) }

// decode parses one whole packet as a broker or client would. It works on a copy of wire.
func decode(wire string, v Version, from Side) (packet, error) {
	h, ok, err := ReadHeader([]byte(wire))
	if err != nil {
		return nil, err
	}
	if !ok || h.Size+h.Remaining != len(wire) {
		return nil, fmt.Errorf("the test's packet has a wrong Remaining Length: %d bytes, header %+v", len(wire), h)
	}
	if err := h.CheckFlags(v); err != nil {
		return nil, err
	}
	return decodeBody(h.Type, h.Flags, []byte(wire[h.Size:]), v, from)
}

// decodeBody parses a body by its type.
func decodeBody(t PacketType, flags uint8, body []byte, v Version, from Side) (packet, error) {
	switch t {
	case CONNECT:
		c := new(Connect)
		return c, ParseConnect(c, body)
	case CONNACK:
		c, err := ParseConnack(body, v)
		return &c, err
	case PUBLISH:
		p := new(Publish)
		return p, ParsePublish(p, flags, body, v, from)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		a, err := ParseAck(t, body, v)
		return ackPacket{a, t}, err
	case SUBSCRIBE:
		s := new(Subscribe)
		return s, ParseSubscribe(s, body, v)
	case SUBACK:
		s := new(Suback)
		return s, ParseSuback(s, body, v)
	case UNSUBSCRIBE:
		u := new(Unsubscribe)
		return u, ParseUnsubscribe(u, body, v)
	case UNSUBACK:
		u := new(Unsuback)
		return u, ParseUnsuback(u, body, v)
	case DISCONNECT:
		d, err := ParseDisconnect(body, v, from)
		return &d, err
	case AUTH:
		a, err := ParseAuth(body, from)
		return &a, err
	default:
		return pingPacket{t}, nil
	}
}

// show prints a packet with all its fields; absent and empty slices look the same.
func show(p packet) string {
	if c, ok := p.(*Connect); ok && c.Will != nil {
		without := *c
		without.Will = nil
		return fmt.Sprintf("%+v will %+v", without, *c.Will)
	}
	return fmt.Sprintf("%T%+v", p, p)
}

// checkGolden expects wire and p to be each other's encoding.
func checkGolden(t *testing.T, v Version, from Side, wire string, p packet) {
	t.Helper()
	checkDecode(t, v, from, wire, p)
	prefix := []byte("before")
	if got := p.encode(slices.Clip(prefix), v); string(got) != "before"+wire {
		t.Errorf("encoded % X\nwant    % X", got[len(prefix):], wire)
	}
}

// checkDecode expects wire to parse as p, though p may be encoded otherwise.
func checkDecode(t *testing.T, v Version, from Side, wire string, p packet) {
	t.Helper()
	got, err := decode(wire, v, from)
	if err != nil {
		t.Errorf("decode(% X): %v", wire, err)
	} else if show(got) != show(p) {
		t.Errorf("decode(% X)\n= %s\nwant %s", wire, show(got), show(p))
	}
}

// checkRefused expects wire to be refused with that code, and every shorter beginning of its body,
// with the length corrected, to be refused or parsed, but not to panic.
func checkRefused(t *testing.T, v Version, from Side, wire string, want ReasonCode) {
	t.Helper()
	_, err := decode(wire, v, from)
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("decode(% X): error %v, want %v", wire, err, want)
	} else if e.Code != want {
		t.Errorf("decode(% X): %v, want code %v", wire, err, want)
	}
	checkPrefixes(wire, v, from)
}

// checkPrefixes parses every beginning of the body of wire.
func checkPrefixes(wire string, v Version, from Side) {
	h, ok, _ := ReadHeader([]byte(wire))
	for n := 0; ok && h.Size+n < len(wire); n++ {
		body := append([]byte(nil), wire[h.Size:h.Size+n]...)
		decodeBody(h.Type, h.Flags, body, v, from)
	}
}

// wire puts a fixed header with that first byte before body.
func wire(first byte, body string) string {
	return string(appendVarint([]byte{first}, len(body))) + body
}

// field returns s as a string or binary field.
func field(s string) string { return string(appendField(nil, s)) }

// props returns encoded properties after their Property Length.
func props(encoded string) string { return string(appendProperties(nil, V5, Properties(encoded))) }
