package engine

import (
	"fmt"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// Section 2.2.1, packet identifiers.

func TestQoS0HasNoPacketIdentifier(t *testing.T) {
	covers(t, "MQTT-2.2.1-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			sub := h.client(v, "sub").subscribed(filter("a/b", 2))
			pub := h.client(v, "pub")
			if v == codec.V5 {
				pub.send(wire("30 {('a/b') {} 'xy'}"))
				sub.expectBytes("30 {('a/b') {} 'xy'}")
			} else {
				pub.send(wire("30 {('a/b') 'xy'}"))
				sub.expectBytes("30 {('a/b') 'xy'}")
			}
			pub.expect()
		}
	})
}

func TestPacketIdentifierZeroIsRefused(t *testing.T) {
	covers(t, "MQTT-2.2.1-3", "M31-msgid")
	h := newHarness(t, 1, Options{})
	for _, v := range versions {
		properties := ""
		if v == codec.V5 {
			properties = "{}"
		}
		h.ends(v, "82 {0000 "+properties+" ('f') 00}", codec.ProtocolError)
		h.ends(v, "A2 {0000 "+properties+" ('f')}", codec.ProtocolError)
		h.ends(v, "32 {('t') 0000 "+properties+" 'p'}", codec.ProtocolError)
		h.ends(v, "34 {('t') 0000 "+properties+" 'p'}", codec.ProtocolError)
	}
}

func TestAcknowledgementsRepeatTheIdentifier(t *testing.T) {
	covers(t, "MQTT-2.2.1-5", "MQTT-2.2.1-6")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			pub := h.client(v, "pub")
			for _, id := range []uint16{1, 0x1234, 0xFFFF} {
				pub.send(publishPacket(v, "t", "", 1, id))
				pub.expectAck("PUBACK", id)
				pub.send(publishPacket(v, "t", "", 2, id))
				pub.expectAck("PUBREC", id)
				pub.send(ackPacket(v, codec.PUBREL, id, 0))
				pub.expectAck("PUBCOMP", id)
				pub.send(subscribePacket(v, id, filter("s", 0)))
				pub.expect(fmt.Sprintf("SUBACK %d [00]", id))
				pub.send(unsubscribePacket(v, id, "s"))
				if f := pub.frame(); f == nil || f[0] != 0xB0 || uint16(f[2])<<8|uint16(f[3]) != id {
					t.Fatalf("version %v: got % X, want UNSUBACK %d", v, f, id)
				}
			}
			// The broker as the sender: PUBREL has the identifier of its PUBLISH.
			sub := h.client(v, "sub").subscribed(filter("t", 2))
			for id := uint16(1); id <= 3; id++ {
				pub.send(publishPacket(v, "t", "x", 2, id))
				sub.expect(fmt.Sprintf(`PUBLISH q2 r0 d0 id=%d "t" "x"`, id))
			}
			for _, id := range []uint16{2, 3, 1} {
				sub.send(ackPacket(v, codec.PUBREC, id, 0))
				sub.expect(fmt.Sprintf("PUBREL %d 00", id))
			}
			pub.cut()
			sub.cut()
		}
	})
}

// expectAck takes one acknowledgement with that identifier, of any success code.
func (p *peer) expectAck(typ string, id uint16) {
	p.h.t.Helper()
	var got string
	var gotID uint16
	line := p.read()
	if _, err := fmt.Sscanf(line, "%s %d", &got, &gotID); err != nil || got != typ || gotID != id {
		p.h.t.Fatalf("got %q, want %s %d", line, typ, id)
	}
}

// With every identifier in use all are distinct and not 0; acknowledged ones,
// and no others, are used again.
func TestIdentifiersOfDeliveriesAreFree(t *testing.T) {
	covers(t, "MQTT-2.2.1-4", "311:MQTT-2.3.1-3")
	for _, v := range versions {
		h := newHarness(t, 1, Options{MaxInflight: 65535, MaxQueuedMessages: 100})
		sub := h.client(v, "sub").subscribed(filter("t", 2))
		pub := h.client(v, "pub")
		open := make(map[uint16]bool)
		read := func(n int) {
			t.Helper()
			for range n {
				f := sub.frame()
				if f == nil || f[0] != 0x32 {
					t.Fatalf("version %v: got % X with %d open, want a PUBLISH of QoS 1", v, f, len(open))
				}
				id := uint16(f[5])<<8 | uint16(f[6]) // behind header and ('t')
				if id == 0 || open[id] {
					t.Fatalf("version %v: identifier %d with %d open", v, id, len(open))
				}
				open[id] = true
			}
			sub.expect()
		}
		send := func(n int) {
			for range n {
				pub.send(publishPacket(v, "t", "x", 1, 1))
				pub.in = pub.in[:0]
			}
		}
		send(65535)
		read(65535)
		send(3) // these wait
		sub.expect()
		for _, id := range []uint16{7, 65535, 300} {
			delete(open, id)
			sub.send(ackPacket(v, codec.PUBACK, id, 0))
			read(1)
			if !open[id] {
				t.Fatalf("version %v: %d was not used again", v, id)
			}
		}
		for id := range open { // free them all, in any order
			sub.send(ackPacket(v, codec.PUBACK, id, 0))
		}
		clear(open)
		send(1000)
		read(1000)
	}
}

// A packet sent again keeps its identifier, and nobody else gets it meanwhile.
func TestIdentifierIsKeptWhenSentAgain(t *testing.T) {
	covers(t, "311:MQTT-2.3.1-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		v := codec.V311
		pub := h.client(v, "pub")
		h.send(v, "sub", false, filter("t", 2)).cut()
		sub := h.back(v, "sub")
		pub.send(publishPacket(v, "t", "one", 1, 1), publishPacket(v, "t", "two", 2, 2))
		sub.expect(`PUBLISH q1 r0 d0 id=1 "t" "one"`, `PUBLISH q2 r0 d0 id=2 "t" "two"`)
		sub.cut()
		sub = h.back(v, "sub")
		sub.expect(`PUBLISH q1 r0 d1 id=1 "t" "one"`, `PUBLISH q2 r0 d1 id=2 "t" "two"`)
		pub.send(publishPacket(v, "t", "three", 1, 1))
		sub.expect(`PUBLISH q1 r0 d0 id=3 "t" "three"`)
		sub.send(ackPacket(v, codec.PUBREC, 2, 0))
		sub.expect("PUBREL 2 00")
		sub.cut()
		sub = h.back(v, "sub")
		sub.expect(`PUBLISH q1 r0 d1 id=1 "t" "one"`, "PUBREL 2 00", `PUBLISH q1 r0 d1 id=3 "t" "three"`)
		sub.send(ackPacket(v, codec.PUBACK, 1, 0), ackPacket(v, codec.PUBCOMP, 2, 0), ackPacket(v, codec.PUBACK, 3, 0))
		sub.expect()
		sub.cut()
		sub = h.back(v, "sub")
		sub.expect()
	})
}

// send connects and subscribes; clean as given.
func (h *harness) send(v codec.Version, id string, clean bool, filters ...codec.Subscription) *peer {
	h.t.Helper()
	p := h.dial(v)
	p.send(connectPacket(v, id, clean))
	p.expectConnack(false)
	return p.subscribed(filters...)
}
