package engine

import (
	"fmt"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// Sections 2.1, fixed header, and 2.4, reason codes.

// smallest are well-formed packets of each type without their first byte, 3.x and 5.0.
var smallest = map[codec.PacketType][2]string{
	codec.CONNACK:     {"{00 00}", "{00 00 {}}"},
	codec.PUBACK:      {"{0001}", "{0001}"},
	codec.PUBREC:      {"{0001}", "{0001}"},
	codec.PUBREL:      {"{0001}", "{0001}"},
	codec.PUBCOMP:     {"{0001}", "{0001}"},
	codec.SUBSCRIBE:   {"{0001 ('f') 00}", "{0001 {} ('f') 00}"},
	codec.SUBACK:      {"{0001 00}", "{0001 {} 00}"},
	codec.UNSUBSCRIBE: {"{0001 ('f')}", "{0001 {} ('f')}"},
	codec.UNSUBACK:    {"{0001}", "{0001 {} 00}"},
	codec.PINGREQ:     {"{}", "{}"},
	codec.PINGRESP:    {"{}", "{}"},
	codec.DISCONNECT:  {"{}", "{}"},
	codec.AUTH:        {"{}", "{18 {15 ('m')}}"},
}

func TestReservedFlagsAreRefused(t *testing.T) {
	covers(t, "MQTT-2.1.3-1")
	h := newHarness(t, 1, Options{})
	for typ, body := range smallest {
		right := byte(0)
		if typ == codec.PUBREL || typ == codec.SUBSCRIBE || typ == codec.UNSUBSCRIBE {
			right = 2
		}
		for flags := range byte(16) {
			if flags == right {
				continue
			}
			first := fmt.Sprintf("%02X ", byte(typ)<<4|flags)
			h.ends(codec.V311, first+body[0], codec.MalformedPacket)
			h.ends(codec.V5, first+body[1], codec.MalformedPacket)
		}
	}
	for flags := range byte(15) { // a connection whose version is not known yet
		first := fmt.Sprintf("%02X ", byte(codec.CONNECT)<<4|(flags+1))
		h.first(codec.V311, first+"{('MQTT') 04 02 0000 ('c')}", "end")
		h.first(codec.V5, first+"{('MQTT') 05 02 0000 {} ('c')}", "end")
	}
	for _, v := range []codec.Version{codec.V311, codec.V5} {
		h.ends(v, "36 {('t') 0001 {} 'p'}", codec.MalformedPacket) // both QoS bits
	}
}

// What the broker sends has the right flags itself.
func TestFlagsOfTheBroker(t *testing.T) {
	covers(t, "MQTT-2.1.3-1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p := h.dial(v)
			f := func(want byte, packet []byte) {
				t.Helper()
				p.send(packet)
				got := p.frame()
				if got == nil || got[0] != want {
					t.Fatalf("version %v: got % X, want a packet that begins with %02X", v, got, want)
				}
			}
			f(0x20, connectPacket(v, "flags", true))
			f(0x90, subscribePacket(v, 1, filter("t", 2)))
			f(0xB0, unsubscribePacket(v, 1, "none"))
			f(0x40, publishPacket(v, "x", "", 1, 1))
			f(0x50, publishPacket(v, "x", "", 2, 2))
			f(0x70, ackPacket(v, codec.PUBREL, 2, 0))
			f(0xD0, pingreq)
			f(0x34, publishPacket(v, "t", "", 2, 3))
			p.frame() // PUBREC
			f(0x62, ackPacket(v, codec.PUBREC, 1, 0))
			p.cut()
		}
	})
}

func TestTypesOfTheWrongDirection(t *testing.T) {
	covers(t, "U5-2.1.2-type")
	h := newHarness(t, 1, Options{})
	for _, v := range versions {
		i := 0
		if v == codec.V5 {
			i = 1
		}
		h.ends(v, "00 00", codec.MalformedPacket)
		h.ends(v, "20 "+smallest[codec.CONNACK][i], codec.ProtocolError)
		h.ends(v, "90 "+smallest[codec.SUBACK][i], codec.ProtocolError)
		h.ends(v, "B0 "+smallest[codec.UNSUBACK][i], codec.ProtocolError)
		h.ends(v, "D0 "+smallest[codec.PINGRESP][i], codec.ProtocolError)
		h.first(v, "00 00", "end")
	}
	h.ends(codec.V31, "F0 00", codec.MalformedPacket)
	h.ends(codec.V311, "F0 00", codec.MalformedPacket)
}

func TestRemainingLengthFitsTheContent(t *testing.T) {
	covers(t, "U5-2.1.4-len")
	h := newHarness(t, 1, Options{})
	for _, v := range versions {
		h.ends(v, "C0 01 00", codec.MalformedPacket) // PINGREQ with a body
		for _, first := range []string{"40", "50", "62", "70"} {
			h.ends(v, first+" 00", codec.MalformedPacket)
			h.ends(v, first+" 01 00", codec.MalformedPacket)
		}
		h.ends(v, "30 01 00", codec.MalformedPacket)
		h.ends(v, "32 {('t') 00}", codec.MalformedPacket) // half a packet identifier
		h.ends(v, "82 00", codec.MalformedPacket)
		h.ends(v, "A2 01 00", codec.MalformedPacket)
		h.open(v, "C0 00 C0 00", "PINGRESP, PINGRESP")
	}
	for _, v := range []codec.Version{codec.V31, codec.V311} {
		h.ends(v, "40 {0001 00}", 0)
		h.ends(v, "50 {0001 00}", 0)
		h.ends(v, "62 {0001 00}", 0)
		h.ends(v, "70 {0001 00}", 0)
		h.ends(v, "E0 {00}", 0)
		h.ends(v, "82 {0001 0002 'f'}", 0)    // half a filter
		h.ends(v, "82 {0001 ('f')}", 0)       // no QoS
		h.ends(v, "82 {0001 ('f') 00 00}", 0) // a second filter that ends at once
		h.ends(v, "A2 {0001 ('f') 00}", 0)
	}
	h.ends(codec.V5, "40 {0001 00 {} 00}", codec.MalformedPacket)
	h.ends(codec.V5, "50 {0001 00 {} 00}", codec.MalformedPacket)
	h.ends(codec.V5, "62 {0001 00 {} 00}", codec.MalformedPacket)
	h.ends(codec.V5, "70 {0001 00 {} 00}", codec.MalformedPacket)
	h.ends(codec.V5, "E0 {00 {} 00}", codec.MalformedPacket)
	h.ends(codec.V5, "F0 {18 {15 ('m')} 00}", codec.MalformedPacket)
	h.ends(codec.V5, "82 {0001 {} 0002 'f'}", codec.MalformedPacket)
	h.ends(codec.V5, "82 {0001 {} ('f')}", codec.MalformedPacket)
	h.ends(codec.V5, "82 {0001 {} ('f') 00 00}", codec.MalformedPacket)
	h.ends(codec.V5, "A2 {0001 {} ('f') 00}", codec.MalformedPacket)
	h.first(codec.V5, "10 {('MQTT') 05 02 0000 {} ('c') 00}", "CONNACK sp=0 81, end")
	h.first(codec.V311, "10 {('MQTT') 04 02 0000 ('c') 00}", "end")
	h.first(codec.V31, "10 {('MQIsdp') 03 02 0000 ('c') 00}", "end")
}

func TestReasonCodesOfThePeer(t *testing.T) {
	covers(t, "U5-2.4")
	h := newHarness(t, 1, Options{})
	for _, first := range []string{"40", "50", "62", "70"} {
		h.ends(codec.V5, first+" {0001 55}", codec.ProtocolError)
		h.ends(codec.V5, first+" {0001 FF}", codec.ProtocolError)
		h.ends(codec.V5, first+" {0001 04}", codec.ProtocolError) // of another packet
	}
	h.ends(codec.V5, "E0 {55}", codec.ProtocolError)
	h.ends(codec.V5, "F0 {55 {15 ('m')}}", codec.ProtocolError)

	// Below 0x80 the exchange goes on, from 0x80 it has failed.
	sub := h.client(codec.V5, "sub").subscribed(filter("t", 2))
	pub := h.client(codec.V5, "pub")
	pub.send(publishPacket(codec.V5, "t", "1", 2, 1), publishPacket(codec.V5, "t", "2", 2, 2))
	sub.expect(`PUBLISH q2 r0 d0 id=1 "t" "1"`, `PUBLISH q2 r0 d0 id=2 "t" "2"`)
	sub.send(wire("50 {0001 10}"))
	sub.expect("PUBREL 1 00")
	sub.send(wire("50 {0002 80}"))
	sub.expect()
	sub.send(wire("50 {0002 00}")) // its identifier is free
	sub.expect("PUBREL 2 92")
}
