package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// publishMany publishes payloads first to last on topic t at qos, with
// whatever handshake the QoS asks of the publisher.
func publishMany(h *harness, pub *peer, qos codec.QoS, first, last int) {
	h.t.Helper()
	for i := first; i <= last; i++ {
		id := uint16(i)
		pub.send(publishPacket(pub.version, "t", fmt.Sprint(i), qos, id))
		switch qos {
		case 1:
			expectAcks(pub, fmt.Sprintf("PUBACK %d 00", id))
		case 2:
			expectAcks(pub, fmt.Sprintf("PUBREC %d 00", id))
			pub.send(ackPacket(pub.version, codec.PUBREL, id, 0))
			pub.expect(fmt.Sprintf("PUBCOMP %d 00", id))
		}
	}
}

// numbered is what describe says of the messages of publishMany; identifiers
// are as the payloads.
func numbered(qos codec.QoS, dup bool, first, last int) (lines []string) {
	for i := first; i <= last; i++ {
		lines = append(lines, fmt.Sprintf(`PUBLISH q%d r0 d%d id=%d "t" "%d"`, qos, bit(dup), i, i))
	}
	return lines
}

func TestServerStaysWithinTheClientsReceiveMaximum(t *testing.T) {
	covers(t, "MQTT-3.3.4-9", "MQTT-4.9.0-1", "MQTT-4.9.0-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for qos := codec.QoS(1); qos <= 2; qos++ {
			s := h.client(codec.V5, "s", with(codec.ReceiveMaximum, 2)).subscribed(filter("t", 2))
			zero := h.client(codec.V5, "zero", with(codec.ReceiveMaximum, 2)).subscribed(filter("t", 0))
			publishMany(h, h.client(codec.V5, "pub"), qos, 1, 10)
			if got := len(zero.all()); got != 10 { // QoS 0 costs no quota
				t.Errorf("%d messages of QoS 0, want 10", got)
			}
			s.expect(numbered(qos, false, 1, 2)...)
			for i := 1; i <= 10; i++ {
				if qos == 1 {
					s.send(ackPacket(codec.V5, codec.PUBACK, uint16(i), 0))
				} else {
					s.send(ackPacket(codec.V5, codec.PUBREC, uint16(i), 0))
					s.expect(fmt.Sprintf("PUBREL %d 00", i))
					s.send(ackPacket(codec.V5, codec.PUBCOMP, uint16(i), 0))
				}
				s.expect(numbered(qos, false, i+2, min(i+2, 10))...)
			}
		}
	})
}

func TestServerStaysWithinItsOwnBoundToo(t *testing.T) {
	covers(t, "MQTT-4.9.0-1")
	h := newHarness(t, 1, Options{MaxInflight: 3})
	for _, v := range deliveryVersions {
		s := h.client(v, "s").subscribed(filter("t", 1))
		publishMany(h, h.client(v, "pub"), 1, 1, 5)
		s.expect(numbered(1, false, 1, 3)...)
		s.send(ackPacket(v, codec.PUBACK, 2, 0))
		s.expect(numbered(1, false, 4, 4)...)
	}
}

func TestQuotaGrowsByAcknowledgementsOnly(t *testing.T) {
	covers(t, "U5-4.9-inc", "MQTT-4.9.0-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", with(codec.ReceiveMaximum, 1), keepFor(100)).subscribed(filter("t", 2))
		pub := h.client(codec.V5, "pub")
		publishMany(h, pub, 2, 1, 6)
		s.expect(numbered(2, false, 1, 1)...)
		s.send(ackPacket(codec.V5, codec.PUBREC, 1, 0)) // gives nothing back
		s.expect("PUBREL 1 00")
		s.send(ackPacket(codec.V5, codec.PUBREC, 1, 0)) // repeated: neither
		s.expect("PUBREL 1 00")
		s.send(ackPacket(codec.V5, codec.PUBCOMP, 1, 0))
		s.expect(numbered(2, false, 2, 2)...)
		s.send(ackPacket(codec.V5, codec.PUBREC, 2, codec.UnspecifiedError))
		s.expect(numbered(2, false, 3, 3)...)
		// never above its start: acknowledgements of nothing do not count
		s.send(ackPacket(codec.V5, codec.PUBCOMP, 1, 0), ackPacket(codec.V5, codec.PUBACK, 77, 0), ackPacket(codec.V5, codec.PUBCOMP, 2, 0))
		s.expect()
		s.cut()
		s = h.back(codec.V5, "s", with(codec.ReceiveMaximum, 2), keepFor(100)) // starts anew
		s.expect(append(numbered(2, true, 3, 3), numbered(2, false, 4, 4)...)...)
		s.send(ackPacket(codec.V5, codec.PUBREC, 3, 0), ackPacket(codec.V5, codec.PUBCOMP, 3, 0))
		s.expect(append([]string{"PUBREL 3 00"}, numbered(2, false, 5, 5)...)...)
	})
}

func TestResentPublishCountsAgainstTheNewQuota(t *testing.T) {
	covers(t, "U5-4.9-resend")
	each(t, Options{}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", keepFor(100)).subscribed(filter("t", 2))
		publishMany(h, h.client(codec.V5, "pub"), 2, 1, 10)
		s.expect(numbered(2, false, 1, 10)...)
		for id := uint16(4); id <= 6; id++ {
			s.send(ackPacket(codec.V5, codec.PUBREC, id, 0))
			s.expect(fmt.Sprintf("PUBREL %d 00", id))
		}
		s.cut()
		s = h.back(codec.V5, "s", with(codec.ReceiveMaximum, 2))
		s.expect(append(numbered(2, true, 1, 2), "PUBREL 4 00", "PUBREL 5 00", "PUBREL 6 00")...)
		s.send(ackPacket(codec.V5, codec.PUBCOMP, 4, 0)) // its PUBLISH was of another connection
		s.expect()
		s.send(ackPacket(codec.V5, codec.PUBREC, 1, 0), ackPacket(codec.V5, codec.PUBCOMP, 1, 0))
		s.expect(append([]string{"PUBREL 1 00"}, numbered(2, true, 3, 3)...)...)
	})
}

func TestFullWindowDelaysOnlyPublish(t *testing.T) {
	covers(t, "MQTT-3.3.4-10", "MQTT-4.9.0-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", with(codec.ReceiveMaximum, 1)).subscribed(filter("t", 2))
		pub := h.client(codec.V5, "pub")
		publishMany(h, pub, 2, 1, 3)
		s.expect(numbered(2, false, 1, 1)...)
		s.send(pingreq)
		s.expect("PINGRESP")
		s.send(subscribePacket(codec.V5, 2, filter("u", 0)), unsubscribePacket(codec.V5, 3, "v"))
		s.expect("SUBACK 2 [00]", "UNSUBACK 3 [11]")
		s.send(publishPacket(codec.V5, "w", "x", 1, 4), publishPacket(codec.V5, "w", "x", 2, 5), ackPacket(codec.V5, codec.PUBREL, 5, 0))
		s.expect("PUBACK 4 10", "PUBREC 5 10", "PUBCOMP 5 00")
		s.send(ackPacket(codec.V5, codec.PUBREC, 1, 0))
		s.expect("PUBREL 1 00")
		pub.send(publishPacket(codec.V5, "u", "y", 0, 0))
		s.expect(`PUBLISH q0 r0 d0 "u" "y"`)
	})
}

func TestClientBeyondTheReceiveMaximumIsDisconnected(t *testing.T) {
	covers(t, "MQTT-3.3.4-7", "U5-3.3.4-rmax", "MQTT-4.9.0-2")
	each(t, Options{ReceiveMaximum: 2}, func(t *testing.T, h *harness) {
		h.client(codec.V5, "sub").subscribed(filter("t", 0))
		pub := h.client(codec.V5, "pub", keepFor(100))
		// what is finished, refused or of QoS 1 does not stay open
		publishMany(h, pub, 2, 1, 5)
		publishMany(h, pub, 1, 1, 5)
		pub.send(publishPacket(codec.V5, "$SYS/x", "x", 2, 9))
		expectAcks(pub, "PUBREC 9 87")
		pub.send(publishPacket(codec.V5, "t", "x", 2, 1), publishPacket(codec.V5, "t", "x", 2, 2), publishPacket(codec.V5, "t", "x", 2, 1, dup))
		pub.expect("PUBREC 1 00", "PUBREC 2 00", "PUBREC 1 00")
		pub.send(publishPacket(codec.V5, "t", "x", 2, 3))
		pub.expectEnd("DISCONNECT 93")
		// on a new connection the client's quota begins anew
		pub = h.back(codec.V5, "pub", keepFor(100))
		pub.send(ackPacket(codec.V5, codec.PUBREL, 1, 0), publishPacket(codec.V5, "t", "x", 2, 3), publishPacket(codec.V5, "t", "x", 2, 4))
		pub.expect("PUBCOMP 1 00", "PUBREC 3 00", "PUBREC 4 00")

		old := h.client(codec.V311, "old") // knows no such bound
		for id := uint16(1); id <= 20; id++ {
			old.send(publishPacket(codec.V311, "t", "x", 2, id))
			old.expect(fmt.Sprintf("PUBREC %d 00", id))
		}
	})
}

func TestSlowReaderIsServedAgainEachTimeItReads(t *testing.T) {
	covers(t, "MQTT-4.5.0-1")
	each(t, Options{OutboundBytes: 4 << 10}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s").subscribed(filter("#", 1))
		pub := h.client(codec.V5, "pub")
		body := string(make([]byte, 80<<10)) // each is written early and fills the output
		s.stall()
		for i := range 6 {
			pub.send(publishPacket(codec.V5, "t", fmt.Sprint(i)+body, 1, 1))
		}
		for i := range 6 {
			got := s.all()
			if len(got) != 1 {
				t.Fatalf("after reading %d times: %d messages, want 1", i, len(got))
			}
			s.held = 0
			h.advance(time.Second)
		}
		s.expect()
	})
}

func TestRejectedPublisherIsLetInWhenTheQueueExpires(t *testing.T) {
	covers(t, "U5-3.3.4-auth")
	each(t, Options{Overflow: RejectPublisher, MaxQueuedMessages: 2}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", keepFor(100)).subscribed(filter("t", 1))
		s.cut()
		pub := h.client(codec.V5, "pub")
		for id := uint16(1); id <= 2; id++ {
			pub.send(publishPacket(codec.V5, "t", "x", 1, id, expiry(1)))
			pub.expect(fmt.Sprintf("PUBACK %d 00", id))
		}
		pub.send(publishPacket(codec.V5, "t", "x", 1, 3), publishPacket(codec.V5, "t", "x", 2, 4), publishPacket(codec.V5, "u", "x", 1, 5))
		pub.expect("PUBACK 3 97", "PUBREC 4 97", "PUBACK 5 10")
		h.advance(2 * time.Second)
		s = h.back(codec.V5, "s")
		s.expect()
		pub.send(publishPacket(codec.V5, "t", "x", 1, 6))
		pub.expect("PUBACK 6 00")
		s.expect(`PUBLISH q1 r0 d0 id=1 "t" "x"`)
	})
}

func TestDropOldestKeepsTheByteBound(t *testing.T) {
	covers(t, "MQTT-4.5.0-1")
	each(t, Options{Overflow: DropOldest, MaxQueuedBytes: 2000}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", keepFor(100)).subscribed(filter("t", 1))
		s.cut()
		pub := h.client(codec.V5, "pub")
		publishMany(h, pub, 1, 1, 20)
		large := string(make([]byte, 1500))
		pub.send(publishPacket(codec.V5, "t", large, 1, 21))
		pub.send(publishPacket(codec.V5, "t", large+large, 1, 22)) // never fits: it alone is dropped
		expectAcks(pub, "PUBACK 21 00", "PUBACK 22 00")
		var want []string
		for i := 15; i <= 20; i++ { // 67 bytes each beside the 1565 of the large one
			want = append(want, fmt.Sprintf(`"t" "%d"`, i))
		}
		dropped := uint64(0)
		for _, l := range h.b.loops {
			dropped += l.counters.Dropped[hook.DropQueueFull]
		}
		var got []string
		for _, line := range h.back(codec.V5, "s").all() {
			if len(line) < 100 {
				got = append(got, line[len(line)-len(`"t" "15"`):])
			}
		}
		if !slices.Equal(got, want) || dropped != 15 {
			t.Errorf("got %q with %d dropped, want %q with 15 dropped", got, dropped, want)
		}
	})
}
