package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// staying connects with a new session that outlives the connection.
func staying(h *harness, v codec.Version, id string) *peer {
	h.t.Helper()
	h.client(v, id).cut() // ends what was there
	p := h.dial(v)
	if v == codec.V5 {
		p.send(connectPacket(v, id, false, keepFor(3600)))
	} else {
		p.send(connectPacket(v, id, false))
	}
	p.expectConnack(false)
	return p
}

// again connects to the session that staying made, in one of three ways: after
// a network failure, after a DISCONNECT, or by taking it over.
func again(h *harness, p *peer, id string, how int) *peer {
	h.t.Helper()
	switch how {
	case 0:
		p.cut()
	case 1:
		p.send(disconnectPacket(p.version, 0))
		p.cut()
	}
	v := p.version
	if v == codec.V5 {
		return h.back(v, id, keepFor(3600))
	}
	return h.back(v, id)
}

// eachWay runs f with one and three loops, in both versions, for each way of coming back.
func eachWay(t *testing.T, f func(t *testing.T, h *harness, v codec.Version, how int)) {
	t.Helper()
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			for how := range 3 {
				f(t, h, v, how)
			}
		}
	})
}

func TestUnacknowledgedQoS1IsSentAgainOnReturn(t *testing.T) {
	covers(t, "MQTT-3.3.1-1", "MQTT-4.3.2-1", "MQTT-4.3.2-2", "MQTT-4.3.2-3", "MQTT-4.4.0-1")
	eachWay(t, func(t *testing.T, h *harness, v codec.Version, how int) {
		s := staying(h, v, "s").subscribed(filter("t", 1))
		publishMany(h, h.client(v, "pub"), 1, 1, 3)
		s.expect(numbered(1, false, 1, 3)...)
		s.send(ackPacket(v, codec.PUBACK, 2, 0))
		s = again(h, s, "s", how)
		s.expect(append(numbered(1, true, 1, 1), numbered(1, true, 3, 3)...)...)
		s.send(ackPacket(v, codec.PUBACK, 1, 0), ackPacket(v, codec.PUBACK, 3, 0))
		s = again(h, s, "s", how)
		s.expect()
	})
}

func TestUnacknowledgedQoS2IsSentAgainOnReturn(t *testing.T) {
	covers(t, "MQTT-3.3.1-1", "MQTT-4.3.3-1", "MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6", "MQTT-4.4.0-1")
	eachWay(t, func(t *testing.T, h *harness, v codec.Version, how int) {
		s := staying(h, v, "s").subscribed(filter("t", 2))
		publishMany(h, h.client(v, "pub"), 2, 1, 3)
		s.expect(numbered(2, false, 1, 3)...)
		s.send(ackPacket(v, codec.PUBREC, 2, 0))
		s.expect("PUBREL 2 00")
		s = again(h, s, "s", how)
		s.expect(append(append(numbered(2, true, 1, 1), "PUBREL 2 00"), numbered(2, true, 3, 3)...)...)
		s.send(ackPacket(v, codec.PUBREC, 1, 0))
		s.expect("PUBREL 1 00")
		s.send(ackPacket(v, codec.PUBCOMP, 2, 0))
		s = again(h, s, "s", how)
		s.expect(append([]string{"PUBREL 1 00"}, numbered(2, true, 3, 3)...)...)
		s.send(ackPacket(v, codec.PUBCOMP, 1, 0), ackPacket(v, codec.PUBREC, 3, 0), ackPacket(v, codec.PUBCOMP, 3, 0))
		s.expect("PUBREL 3 00")
		s = again(h, s, "s", how)
		s.expect()
	})
}

func TestNothingIsSentAgainWithinAConnection(t *testing.T) {
	covers(t, "MQTT-4.4.0-1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", keepFor(7200)).subscribed(filter("t", 2))
		pub := h.client(codec.V5, "pub")
		publishMany(h, pub, 1, 1, 1)
		publishMany(h, pub, 2, 2, 3)
		s.expect(append(numbered(1, false, 1, 1), numbered(2, false, 2, 3)...)...)
		s.send(ackPacket(codec.V5, codec.PUBREC, 3, 0))
		s.expect("PUBREL 3 00")
		h.advance(time.Hour)
		publishMany(h, pub, 1, 4, 4)
		s.expect(numbered(1, false, 4, 4)...)
		s.cut()
		h.back(codec.V5, "s").expect(append(append(append(numbered(1, true, 1, 1), numbered(2, true, 2, 2)...), "PUBREL 3 00"),
			numbered(1, true, 4, 4)...)...)
	})
}

func TestRefusingAcknowledgementIsAnAcknowledgement(t *testing.T) {
	covers(t, "MQTT-4.4.0-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, code := range []codec.ReasonCode{codec.UnspecifiedError, codec.ImplementationSpecificError, codec.NotAuthorized,
			codec.TopicNameInvalid, codec.PacketIdentifierInUse, codec.QuotaExceeded, codec.PayloadFormatInvalid} {
			s := staying(h, codec.V5, "s").subscribed(filter("t", 2))
			pub := h.client(codec.V5, "pub")
			publishMany(h, pub, 1, 1, 1)
			publishMany(h, pub, 2, 2, 2)
			s.expect(append(numbered(1, false, 1, 1), numbered(2, false, 2, 2)...)...)
			s.send(ackPacket(codec.V5, codec.PUBACK, 1, code), ackPacket(codec.V5, codec.PUBREC, 2, code))
			s.expect() // no PUBREL either
			again(h, s, "s", 0).expect()
		}
	})
}

func TestAcceptedMessageReachesEverySession(t *testing.T) {
	covers(t, "MQTT-4.5.0-1")
	eachWay(t, func(t *testing.T, h *harness, v codec.Version, how int) {
		absent := staying(h, v, "absent").subscribed(filter("t", 2))
		if how < 2 {
			absent.cut()
		}
		live := h.client(v, "live").subscribed(filter("#", 1))
		pub := h.client(v, "pub")
		publishMany(h, pub, 1, 1, 2)
		publishMany(h, pub, 2, 3, 3)
		want := append(numbered(1, false, 1, 2), numbered(2, false, 3, 3)...)
		live.expect(numbered(1, false, 1, 3)...)
		if how < 2 {
			absent = again(h, absent, "absent", 0)
		}
		absent.expect(want...)
	})
}

func TestUnacknowledgedAreSentAgainInOrder(t *testing.T) {
	covers(t, "MQTT-4.6.0-1")
	eachWay(t, func(t *testing.T, h *harness, v codec.Version, how int) {
		for qos := codec.QoS(1); qos <= 2; qos++ {
			s := staying(h, v, "s").subscribed(filter("t", 2))
			pub := h.client(v, "pub")
			publishMany(h, pub, qos, 1, 10)
			s.expect(numbered(qos, false, 1, 10)...)
			for range 3 {
				s = again(h, s, "s", how)
				s.expect(numbered(qos, true, 1, 10)...)
			}
			publishMany(h, pub, qos, 11, 12) // behind them
			s = again(h, s, "s", how)
			s.expect(numbered(qos, true, 1, 12)...)
		}
	})
}

func TestIdentifiersStayInOrderAcrossTheirWrap(t *testing.T) {
	covers(t, "MQTT-4.6.0-1", "MQTT-4.3.2-1")
	h := newHarness(t, 1, Options{})
	s := staying(h, codec.V311, "s").subscribed(filter("t", 1))
	pub := h.client(codec.V311, "pub")
	for i, id := 1, uint16(0); id < 65530; i++ {
		pub.send(publishPacket(codec.V311, "t", "stuck", 1, 1))
		f := s.frame()
		if id = uint16(f[5])<<8 | uint16(f[6]); i != 3 { // the third stays open
			s.send(ackPacket(codec.V311, codec.PUBACK, id, 0))
		}
		pub.in, s.in = nil, nil
	}
	publishMany(h, pub, 1, 1, 20)
	first := s.all()
	seen := map[string]bool{"id=3": true}
	for i, line := range first {
		id := strings.Fields(line)[4]
		if seen[id] || !strings.HasSuffix(line, fmt.Sprintf(`"%d"`, i+1)) {
			t.Fatalf("message %d is %s, after %v", i+1, line, seen)
		}
		seen[id] = true
	}
	if len(first) != 20 || !seen["id=65535"] || !seen["id=1"] || seen["id=0"] {
		t.Fatalf("identifiers %v", seen)
	}
	want := []string{`PUBLISH q1 r0 d1 id=3 "t" "stuck"`}
	for _, line := range first {
		want = append(want, strings.Replace(line, "d0", "d1", 1))
	}
	again(h, s, "s", 0).expect(want...)
}

func TestRepeatedIdentifiersOfThePublisher(t *testing.T) {
	covers(t, "MQTT-4.3.2-5", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			sub := h.client(v, "sub").subscribed(filter("t", 0))
			pub := h.client(v, "pub")
			// QoS 1: after PUBACK each is a new message, whatever its DUP
			pub.send(publishPacket(v, "t", "a", 1, 1))
			pub.send(publishPacket(v, "t", "b", 1, 1, dup))
			pub.expect("PUBACK 1 00", "PUBACK 1 00")
			sub.expect(`PUBLISH q0 r0 d0 "t" "a"`, `PUBLISH q0 r0 d0 "t" "b"`)
			// QoS 2: one message until PUBREL, also over a new connection
			for range 2 {
				pub.send(publishPacket(v, "t", "c", 2, 1), publishPacket(v, "t", "c", 2, 1, dup), publishPacket(v, "t", "c", 2, 1, dup))
				pub.expect(slices.Repeat([]string{"PUBREC 1 00"}, 3)...)
				sub.expect(`PUBLISH q0 r0 d0 "t" "c"`)
				pub.send(ackPacket(v, codec.PUBREL, 1, 0))
				pub.expect("PUBCOMP 1 00")
			}
			pub.send(ackPacket(v, codec.PUBREL, 1, 0)) // repeated
			if v == codec.V5 {
				pub.expect("PUBCOMP 1 92")
			} else {
				pub.expect("PUBCOMP 1 00")
			}
			sub.expect()
		}
	})
}

func TestInboundQoS2OutlivesTheConnection(t *testing.T) {
	covers(t, "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12")
	eachWay(t, func(t *testing.T, h *harness, v codec.Version, how int) {
		sub := h.client(v, "sub").subscribed(filter("t", 0))
		pub := staying(h, v, "p")
		pub.send(publishPacket(v, "t", "x", 2, 7), publishPacket(v, "t", "y", 2, 8))
		pub.expect("PUBREC 7 00", "PUBREC 8 00")
		sub.expect(`PUBLISH q0 r0 d0 "t" "x"`, `PUBLISH q0 r0 d0 "t" "y"`)
		pub = again(h, pub, "p", how)
		pub.send(publishPacket(v, "t", "x", 2, 7, dup), ackPacket(v, codec.PUBREL, 8, 0), ackPacket(v, codec.PUBREL, 7, 0))
		pub.expect("PUBREC 7 00", "PUBCOMP 8 00", "PUBCOMP 7 00")
		sub.expect()
		pub.send(publishPacket(v, "t", "z", 2, 7))
		pub.expect("PUBREC 7 00")
		sub.expect(`PUBLISH q0 r0 d0 "t" "z"`)
	})
}
