package engine

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// denyPrefix is an Authorizer that lets nobody publish below "no/", while on.
type denyPrefix struct{ on bool }

func (d *denyPrefix) Authorize(_ hook.Client, a hook.Action, name []byte) bool {
	return !d.on || a != hook.Publish || !bytes.HasPrefix(name, []byte("no/"))
}

func TestAnswerByQoS(t *testing.T) {
	covers(t, "MQTT-3.3.4-1", "MQTT-4.3.2-4", "MQTT-4.3.3-8")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			sub := h.client(v, "sub").subscribed(filter("t", 0))
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "t", "0", 0, 0))
			pub.expect()
			pub.send(publishPacket(v, "t", "1", 1, 65535))
			pub.expect("PUBACK 65535 00")
			pub.send(publishPacket(v, "t", "2", 2, 65534))
			pub.expect("PUBREC 65534 00")
			sub.expect(`PUBLISH q0 r0 d0 "t" "0"`, `PUBLISH q0 r0 d0 "t" "1"`, `PUBLISH q0 r0 d0 "t" "2"`)
		}
	})
}

func TestNoMatchingSubscribers(t *testing.T) {
	covers(t, "U5-3.3.4-nosub")
	each(t, Options{}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		sub := h.client(codec.V5, "sub").subscribed(filter("t", 1))
		pub.send(publishPacket(codec.V5, "unused", "x", 1, 1), publishPacket(codec.V5, "t", "x", 1, 2),
			publishPacket(codec.V5, "unused", "x", 2, 3), ackPacket(codec.V5, codec.PUBREL, 3, 0))
		pub.expect("PUBACK 1 10", "PUBACK 2 00", "PUBREC 3 10", "PUBCOMP 3 00")
		sub.send(unsubscribePacket(codec.V5, 1, "t"))
		pub.send(publishPacket(codec.V5, "t", "x", 1, 4))
		pub.expect("PUBACK 4 10")
	})
}

func TestAcknowledgementsUseOnlyTheirCodes(t *testing.T) {
	covers(t, "MQTT-3.4.2-1", "MQTT-3.5.2-1")
	deny := &denyPrefix{on: true}
	claim := codec.AppendUint(nil, codec.PayloadFormatIndicator, 1)
	h := newHarness(t, 1, Options{Hooks: []any{deny}, CheckPayloadFormat: true, MaxTopicLevels: 3,
		Overflow: RejectPublisher, MaxQueuedMessages: 1, MaxRetainedMessages: 1})
	h.client(codec.V5, "full", keepFor(100)).subscribed(filter("full", 1), filter("t", 0)).cut()
	pub := h.client(codec.V5, "pub")
	id := uint16(0)
	f := func(name, payload string, code byte, edit ...func(*codec.Delivery)) {
		t.Helper()
		id++
		pub.send(publishWith(name, payload, 1, id, claim, edit...))
		expectAcks(pub, fmt.Sprintf("PUBACK %d %02X", id, code))
		id++
		pub.send(publishWith(name, payload, 2, id, claim, edit...))
		expectAcks(pub, fmt.Sprintf("PUBREC %d %02X", id, code))
		wantRel := byte(0)
		if code >= 0x80 { // the identifier is not open
			wantRel = 0x92
		}
		pub.send(ackPacket(codec.V5, codec.PUBREL, id, 0))
		pub.expect(strings.TrimSpace(fmt.Sprintf("PUBCOMP %d %02X", id, wantRel)))
	}
	f("t", "x", 0x00)
	f("other", "x", 0x10)
	f("no/t", "x", 0x87)
	f("$SYS/x", "x", 0x87)
	f("a/b/c/d", "x", 0x90)
	f("t", "\xc3", 0x99)
	f("r1", "x", 0x10, retain)
	f("r2", "x", 0x97, retain)
	pub.send(publishPacket(codec.V5, "full", "x", 1, 99))
	expectAcks(pub, "PUBACK 99 00")
	f("full", "x", 0x97)
}

func TestReasonStringOnlyWhereItFits(t *testing.T) {
	covers(t, "MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3")
	h := newHarness(t, 1, Options{})
	refused := func(p *peer, qos codec.QoS) []byte {
		t.Helper()
		p.send(publishPacket(codec.V5, "$SYS/x", "x", qos, 1))
		frame := p.frame()
		if frame == nil {
			t.Fatal("no answer")
		}
		if got, want := describe(t, frame, codec.V5), fmt.Sprintf("%v 1 87", []codec.PacketType{1: codec.PUBACK, 2: codec.PUBREC}[qos]); !strings.HasPrefix(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
		return frame
	}
	for qos := codec.QoS(1); qos <= 2; qos++ {
		long := refused(h.client(codec.V5, "long"), qos)
		if !strings.Contains(describe(t, long, codec.V5), "ReasonString=") {
			t.Errorf("QoS %d: no Reason String for a client without a limit: % x", qos, long)
		}
		exact := refused(h.client(codec.V5, "exact", with(codec.MaximumPacketSize, uint32(len(long)))), qos)
		if !bytes.Equal(exact, long) {
			t.Errorf("QoS %d: % x for a client where it just fits, want % x", qos, exact, long)
		}
		short := refused(h.client(codec.V5, "short", with(codec.MaximumPacketSize, uint32(len(long)-1))), qos)
		if len(short) != 5 {
			t.Errorf("QoS %d: % x for a client with a limit of %d bytes, want 5 bytes", qos, short, len(long)-1)
		}
	}
}

func TestPubrelAndPubcompCarryNoProperties(t *testing.T) {
	covers(t, "MQTT-3.6.2-1", "MQTT-3.6.2-2", "MQTT-3.6.2-3", "MQTT-3.7.2-1", "MQTT-3.7.2-2", "MQTT-3.7.2-3", "U5-3.5-92")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", with(codec.MaximumPacketSize, 32)).subscribed(filter("t", 2))
		h.client(codec.V5, "pub").send(publishPacket(codec.V5, "t", "x", 2, 1))
		sub.expect(`PUBLISH q2 r0 d0 id=1 "t" "x"`)
		f := func(send, want string) {
			t.Helper()
			sub.hex(send)
			if got := fmt.Sprintf("% x", sub.frame()); got != want {
				t.Errorf("answer to %s: %s, want %s", send, got, want)
			}
		}
		f("50 02 0001", "62 02 00 01")
		f("50 02 0001", "62 02 00 01")    // repeated
		f("50 02 03e7", "62 03 03 e7 92") // unknown identifier
		f("62 02 03e7", "70 03 03 e7 92")
		f("62 03 03e7 92", "70 03 03 e7 92")
		sub.hex("70 02 0001")
		sub.hex("70 03 03e7 92") // unknown too: nothing to say
		sub.hex("40 02 03e7")
		sub.send(pingreq)
		sub.expect("PINGRESP")
		sub.send(publishPacket(codec.V5, "u", "x", 2, 5))
		sub.expect("PUBREC 5 10")
		f("62 02 0005", "70 02 00 05")
	})
}

func TestUnknownIdentifiersInVersion3(t *testing.T) {
	covers(t, "MQTT-4.3.3-11")
	h := newHarness(t, 1, Options{})
	p := h.client(codec.V311, "p")
	p.hex("62 02 03e7")
	p.expect("PUBCOMP 999 00")
	p.hex("50 02 03e7")
	p.expect("PUBREL 999 00")
	p.hex("40 02 03e7")
	p.hex("70 02 03e7")
	p.expect()
}

func TestPubrelFlags(t *testing.T) {
	covers(t, "MQTT-3.6.1-1")
	h := newHarness(t, 1, Options{})
	for _, bad := range []string{"60", "61", "63", "64", "66", "6a", "6f"} {
		refusedTwin(h, codec.V311, "62 02 0001", bad+" 02 0001", 0)
		refusedTwin(h, codec.V5, "62 02 0001", bad+" 02 0001", codec.MalformedPacket)
	}
	sub := h.client(codec.V5, "sub").subscribed(filter("t", 2))
	h.client(codec.V5, "pub").send(publishPacket(codec.V5, "t", "x", 2, 1))
	sub.frame()
	sub.hex("50 02 0001")
	if f := sub.frame(); len(f) == 0 || f[0] != 0x62 {
		t.Errorf("the broker's PUBREL is % x, want 62 first", f)
	}
}

func TestShortAcknowledgementsAreAccepted(t *testing.T) {
	covers(t, "U5-3.4.2-short")
	each(t, Options{}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", with(codec.ReceiveMaximum, 1)).subscribed(filter("t", 2))
		pub := h.client(codec.V5, "pub")
		for qos := codec.QoS(1); qos <= 2; qos++ {
			publishMany(h, pub, qos, 1, 4)
		}
		want := func(qos codec.QoS, id int) {
			t.Helper()
			s.expect(fmt.Sprintf(`PUBLISH q%d r0 d0 id=%d "t" "%d"`, qos, id, (id-1)%4+1))
		}
		want(1, 1)
		s.hex("40 02 0001")
		want(1, 2)
		s.hex("40 03 0002 00")
		want(1, 3)
		s.hex("40 04 0003 00 00")
		want(1, 4)
		s.hex("40 07 0004 00 03 1f0000") // an empty Reason String
		for i, form := range []string{"02 %04x", "03 %04x 00", "04 %04x 00 00", "0d %04x 00 09 26 0001 6b 0003 766c75"} {
			id := 5 + i
			want(2, id)
			s.hex("50" + fmt.Sprintf(form, id))
			s.expect(fmt.Sprintf("PUBREL %d 00", id))
			s.hex("70" + fmt.Sprintf(form, id))
			pub.send(publishPacket(codec.V5, "u", "x", 2, uint16(id)))
			pub.hex("62" + fmt.Sprintf(form, id))
			pub.expect(fmt.Sprintf("PUBREC %d 10", id), fmt.Sprintf("PUBCOMP %d 00", id))
		}
		s.expect()
	})
}

func TestForbiddenPublish(t *testing.T) {
	covers(t, "U5-3.3.4-auth", "311:MQTT-3.3.5-2", "MQTT-4.3.3-9")
	deny := &denyPrefix{on: true}
	each(t, Options{Hooks: []any{deny}}, func(t *testing.T, h *harness) {
		deny.on = true
		for _, v := range deliveryVersions {
			sub := h.client(v, "sub").subscribed(filter("#", 2))
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "no/t", "x", 0, 0, retain))
			pub.expect()
			pub.send(publishPacket(v, "no/t", "x", 1, 1, retain), publishPacket(v, "no/t", "x", 2, 2, retain))
			if v == codec.V5 {
				expectAcks(pub, "PUBACK 1 87", "PUBREC 2 87")
			} else { // as if all were well
				pub.expect("PUBACK 1 00", "PUBREC 2 00")
				pub.send(ackPacket(v, codec.PUBREL, 2, 0))
				pub.expect("PUBCOMP 2 00")
			}
			sub.expect()
			expectRetained(h, v, "no/#")
			pub.send(publishPacket(v, "yes/t", "y", 2, 2)) // the identifier is free again
			pub.expect("PUBREC 2 00")
			sub.expect(`PUBLISH q2 r0 d0 id=1 "yes/t" "y"`)
		}
	})
}

func TestRefusedQoS2LeavesItsIdentifierFree(t *testing.T) {
	covers(t, "MQTT-4.3.3-9")
	deny := &denyPrefix{}
	each(t, Options{Hooks: []any{deny}}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("#", 0))
		pub := h.client(codec.V5, "pub", keepFor(100))
		deny.on = true
		for range 3 {
			pub.send(publishPacket(codec.V5, "no/t", "x", 2, 1))
			expectAcks(pub, "PUBREC 1 87")
		}
		sub.expect()
		deny.on = false
		pub.send(publishPacket(codec.V5, "no/t", "y", 2, 1))
		pub.expect("PUBREC 1 00")
		sub.expect(`PUBLISH q0 r0 d0 "no/t" "y"`)
		// what was taken stays taken when the right is lost: its repetition is no new message
		deny.on = true
		pub.cut()
		pub = h.back(codec.V5, "pub", keepFor(100))
		pub.send(publishPacket(codec.V5, "no/t", "y", 2, 1, dup), ackPacket(codec.V5, codec.PUBREL, 1, 0))
		pub.expect("PUBREC 1 00", "PUBCOMP 1 00")
		deny.on = false
		pub.send(publishPacket(codec.V5, "no/t", "z", 2, 1))
		pub.expect("PUBREC 1 00")
		sub.expect(`PUBLISH q0 r0 d0 "no/t" "z"`)
	})
}

func TestHandshakeGoesOnAfterTheMessageExpired(t *testing.T) {
	covers(t, "MQTT-4.3.3-7", "MQTT-4.3.3-13")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", keepFor(100)).subscribed(filter("t", 2))
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "x", 2, 1, expiry(1)), publishPacket(codec.V5, "t", "y", 2, 2, expiry(1)))
		pub.expect("PUBREC 1 00", "PUBREC 2 00")
		sub.expect(`PUBLISH q2 r0 d0 id=1 "t" "x" expiry=1`, `PUBLISH q2 r0 d0 id=2 "t" "y" expiry=1`)
		sub.send(ackPacket(codec.V5, codec.PUBREC, 1, 0))
		sub.expect("PUBREL 1 00")
		h.advance(3 * time.Second)
		pub.send(ackPacket(codec.V5, codec.PUBREL, 1, 0))
		pub.expect("PUBCOMP 1 00")
		sub.cut()
		sub = h.back(codec.V5, "sub")
		sub.expect("PUBREL 1 00", `PUBLISH q2 r0 d1 id=2 "t" "y" expiry=0`)
	})
}
