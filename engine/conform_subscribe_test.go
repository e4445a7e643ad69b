package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// fault sends what v does not allow on a connection with a will: the broker
// says code in v5 and nothing in 3.x, closes, and publishes the will.
func (h *harness) fault(v codec.Version, bytes string, code codec.ReasonCode) {
	h.t.Helper()
	watch := h.client(codec.V5, "watch").subscribed(filter("will/of/fault", 0))
	p := h.client(v, "fault", willOf(codec.Will{Topic: []byte("will/of/fault"), Payload: []byte("x")}))
	p.hex(bytes)
	if v == codec.V5 {
		p.expectEnd(fmt.Sprintf("DISCONNECT %02X", byte(code)))
	} else {
		p.expectEnd()
	}
	watch.expect(`PUBLISH q0 r0 d0 "will/of/fault" "x"`)
	h.advance(lingering + 2*tick)
	if !p.gone {
		h.t.Fatal("the connection is still up")
	}
	watch.send(disconnectPacket(codec.V5, 0))
}

// option is a filter with its options byte as on the wire.
func option(f string, options byte) codec.Subscription {
	return codec.Subscription{Filter: []byte(f), QoS: codec.QoS(options & 3), NoLocal: options&4 != 0,
		RetainAsPublished: options&8 != 0, RetainHandling: options >> 4 & 3}
}

// subscribeID is a SUBSCRIBE with a Subscription Identifier.
func subscribeID(packet uint16, id uint32, filters ...codec.Subscription) []byte {
	s := codec.Subscribe{PacketID: packet, SubscriptionID: id, Filters: filters}
	return s.Append(nil, codec.V5)
}

func TestSubscribeMalformed(t *testing.T) {
	covers(t, "MQTT-3.8.1-1", "MQTT-3.8.3-1", "MQTT-3.8.3-2", "MQTT-3.8.3-4", "MQTT-3.8.3-5", "U5-3.8.3.1-rh3",
		"U5-3.8.2.1.2", "MQTT-4.13.1-1", "MQTT-4.13.2-1", "U5-4.13.1-send")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, f := range []string{"80", "81", "83", "86"} { // flags [MQTT-3.8.1-1]
			h.fault(codec.V5, f+" 07 0001 00 0001 61 00", 0x81)
			h.fault(codec.V311, f+" 06 0001 0001 61 00", 0)
			h.fault(codec.V31, f+" 06 0001 0001 61 00", 0)
		}
		h.fault(codec.V5, "8A 07 0001 00 0001 61 00", 0x81)
		h.fault(codec.V311, "8A 06 0001 0001 61 00", 0)

		for _, s := range []string{"C328", "FF61", "EDA080", "C1A1", "6100"} { // UTF-8, NUL
			n := len(s) / 2
			h.fault(codec.V5, fmt.Sprintf("82 %02X 0001 00 %04X %s 00", 6+n, n, s), 0x81)
			h.fault(codec.V311, fmt.Sprintf("82 %02X 0001 %04X %s 00", 5+n, n, s), 0)
		}

		h.fault(codec.V5, "82 03 0001 00", 0x82) // no filter
		h.fault(codec.V311, "82 02 0001", 0)
		h.fault(codec.V31, "82 02 0001", 0)
		h.fault(codec.V5, "82 06 0001 00 0001 61", 0x81) // no options
		h.fault(codec.V311, "82 05 0001 0001 61", 0)

		h.fault(codec.V5, "82 07 0001 00 0005 61 00", 0x81)                   // a field longer than the packet
		h.fault(codec.V5, "82 10 0001 00 000A 2473686172652F672F74 04", 0x82) // No Local on $share/g/t

		for opt, code := range map[byte]codec.ReasonCode{0x40: 0x81, 0x80: 0x81, 0xC1: 0x81, 0x30: 0x82, 0x03: 0x82, 0x3C: 0x82} {
			h.fault(codec.V5, fmt.Sprintf("82 07 0001 00 0001 61 %02X", opt), code)
		}
		for _, opt := range []byte{0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x05} {
			h.fault(codec.V311, fmt.Sprintf("82 06 0001 0001 61 %02X", opt), 0)
		}

		h.fault(codec.V5, "82 0B 0001 04 0B010B02 0001 61 00", 0x82) // two Subscription Identifiers
		h.fault(codec.V5, "82 09 0001 02 0B00 0001 61 00", 0x82)     // Subscription Identifier 0
	})
}

// Nothing of a SUBSCRIBE that ends the connection takes effect.
func TestSubscribeMalformedChangesNothing(t *testing.T) {
	covers(t, "MQTT-3.8.3-5", "MQTT-4.7.3-1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		f := func(v codec.Version, bytes string) {
			t.Helper()
			p := h.dial(v)
			p.send(connectPacket(v, "half", false, func(c *codec.Connect) {
				if v == codec.V5 {
					c.Properties = codec.AppendUint(nil, codec.SessionExpiryInterval, 100)
				}
			}))
			p.expectConnack(false)
			p.hex(bytes)
			p.all()
			if !p.closed {
				t.Fatal("the broker did not close the connection")
			}
			p = h.back(v, "half", keepForIn(v, 100))
			h.client(codec.V5, "pub").send(publishPacket(codec.V5, "a", "x", 0, 0))
			p.expect()
			p.send(disconnectPacket(v, 0))
			h.client(v, "half").send(disconnectPacket(v, 0))
		}
		f(codec.V5, "82 0B 0001 00 0001 61 00 0001 62 40")
		f(codec.V311, "82 0A 0001 0001 61 00 0001 62 40")
		f(codec.V311, "82 09 0001 0001 61 00 0000 00") // an empty filter behind a good one
	})
}

// keepForIn asks for a session that stays, where v has a property for it.
func keepForIn(v codec.Version, seconds uint32) func(*codec.Connect) {
	if v == codec.V5 {
		return keepFor(seconds)
	}
	return func(*codec.Connect) {}
}

func TestNoLocal(t *testing.T) {
	covers(t, "MQTT-3.8.3-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		a := h.client(codec.V5, "a").subscribed(option("t/0", 0x04), option("t/1", 0x05), option("both", 0))
		b := h.client(codec.V5, "b")
		for qos := codec.QoS(0); qos <= 1; qos++ {
			name := fmt.Sprintf("t/%d", qos)
			a.send(publishPacket(codec.V5, name, "own", qos, 5))
			a.send(publishPacket(codec.V5, "both", "own", 0, 0))
			b.send(publishPacket(codec.V5, name, "other", qos, 5))
			b.all()
			if qos == 0 {
				a.expect(`PUBLISH q0 r0 d0 "both" "own"`, `PUBLISH q0 r0 d0 "t/0" "other"`)
			} else {
				a.expect("PUBACK 5 00", `PUBLISH q0 r0 d0 "both" "own"`, `PUBLISH q1 r0 d0 id=1 "t/1" "other"`)
			}
		}
	})
}

func TestSubscribeAnswered(t *testing.T) {
	covers(t, "MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p, pub := h.client(v, "p"), h.client(v, "pub")
			for _, id := range []uint16{1, 0x1234, 65535} {
				p.send(subscribePacket(v, id, filter("a", 0)))
				p.expect(fmt.Sprintf("SUBACK %d [00]", id))
			}
			p.send(subscribePacket(v, 7, filter("x/+", 2), filter("y", 0), filter("z/#", 1)))
			p.expect("SUBACK 7 [02 00 01]")
			for _, name := range []string{"x/1", "y", "z"} {
				pub.send(publishPacket(v, name, "m", 0, 0))
				p.expect(fmt.Sprintf("PUBLISH q0 r0 d0 %q \"m\"", name))
			}
			if v == codec.V31 {
				continue // has no code for a refusal: M31-suback
			}
			p.send(subscribePacket(v, 8, filter("ok", 1), filter("a#", 2), filter("b", 2), filter("/+x", 0), filter("c", 0)))
			if v == codec.V5 {
				p.expect("SUBACK 8 [01 8F 02 8F 00]")
			} else {
				p.expect("SUBACK 8 [01 80 02 80 00]")
			}
		}
	})
}

func TestResubscribeReplaces(t *testing.T) {
	covers(t, "MQTT-3.8.4-3", "U5-3.8.2.1.2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p, pub := h.client(v, "p"), h.client(v, "pub")
			p.subscribed(filter("a/+", 0)).subscribed(filter("a/+", 2))
			pub.send(publishPacket(v, "a/b", "1", 2, 1))
			p.expect(`PUBLISH q2 r0 d0 id=1 "a/b" "1"`)
			p.subscribed(filter("a/+", 0))
			pub.send(publishPacket(v, "a/b", "2", 2, 2))
			p.expect(`PUBLISH q0 r0 d0 "a/b" "2"`)
		}
		p, pub := h.client(codec.V5, "p"), h.client(codec.V5, "pub")
		p.send(subscribeID(1, 11, option("a", 0), option("b/#", 0)))
		p.expect("SUBACK 1 [00 00]")
		pub.send(publishPacket(codec.V5, "a", "1", 0, 0), publishPacket(codec.V5, "b", "1", 0, 0)) // one identifier for all
		p.expect(`PUBLISH q0 r0 d0 "a" "1" {SubscriptionIdentifier=11}`, `PUBLISH q0 r0 d0 "b" "1" {SubscriptionIdentifier=11}`)
		p.send(subscribeID(2, 268435455, option("a", 0x04))) // new identifier, new options
		p.expect("SUBACK 2 [00]")
		p.send(publishPacket(codec.V5, "a", "own", 0, 0))
		pub.send(publishPacket(codec.V5, "a", "2", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "a" "2" {SubscriptionIdentifier=268435455}`)
		p.subscribed(option("a", 0)) // without one
		pub.send(publishPacket(codec.V5, "a", "3", 0, 0))
		p.send(publishPacket(codec.V5, "a", "own", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "a" "3"`, `PUBLISH q0 r0 d0 "a" "own"`)
	})
}

func TestResubscribeLosesNothing(t *testing.T) {
	covers(t, "MQTT-3.8.4-4")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "kept", "old", 0, 0, retain))
			p := h.client(v, "p").subscribed(filter("#", 1))
			p.expect(`PUBLISH q0 r1 d0 "kept" "old"`)
			var live []string
			replays := 0
			for i := range 60 {
				pub.post(publishPacket(v, "live", fmt.Sprint(i), 0, 0)) // not yet across to p's loop
				if i%7 == 3 {
					p.post(subscribePacket(v, 5, filter("#", codec.QoS(i%3))))
				}
				if i%4 == 0 {
					h.run()
				}
			}
			h.run()
			for _, line := range p.all() {
				switch {
				case strings.Contains(line, `r1 d0 "kept" "old"`):
					replays++
				case strings.HasPrefix(line, "PUBLISH"):
					live = append(live, line)
				}
			}
			for i, line := range live {
				if line != fmt.Sprintf("PUBLISH q0 r0 d0 \"live\" \"%d\"", i) {
					t.Fatalf("%v: message %d is %s", v, i, line)
				}
			}
			if len(live) != 60 || replays != 9 {
				t.Fatalf("%v: %d live messages and %d retained ones, want 60 and 9", v, len(live), replays)
			}
		}
	})
}

func TestDeliveredQoSIsTheLower(t *testing.T) {
	covers(t, "MQTT-3.8.4-8")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			for granted := codec.QoS(0); granted <= 2; granted++ {
				p, pub := h.client(v, "p"), h.client(v, "pub")
				p.subscribed(filter("t", granted))
				for qos := codec.QoS(0); qos <= 2; qos++ {
					pub.send(publishPacket(v, "t", "m", qos, 3))
					line := p.read()
					if want := fmt.Sprintf("PUBLISH q%d ", min(qos, granted)); !strings.HasPrefix(line, want) {
						t.Errorf("%v: published %d, granted %d: %s", v, qos, granted, line)
					}
					p.expect()
				}
			}
		}
	})
}

func TestSubackWithinMaximumPacketSize(t *testing.T) {
	covers(t, "MQTT-3.9.2-1", "MQTT-3.9.2-2", "MQTT-3.11.2-1", "MQTT-3.11.2-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p", with(codec.MaximumPacketSize, 20))
		p.send(subscribePacket(codec.V5, 1, filter("a#", 0)))
		p.expect("SUBACK 1 [8F]")
		p.send(unsubscribePacket(codec.V5, 2, "none"))
		p.expect("UNSUBACK 2 [11]")
		p.send(subscribePacket(codec.V5, 3, slices.Repeat([]codec.Subscription{filter("a", 0)}, 15)...)) // 20 bytes
		p.expect("SUBACK 3 [" + strings.TrimSpace(strings.Repeat("00 ", 15)) + "]")
		p.send(subscribePacket(codec.V5, 4, slices.Repeat([]codec.Subscription{filter("a", 0)}, 16)...)) // 21 bytes
		p.expectEnd("DISCONNECT 95")
		p = h.client(codec.V5, "p", with(codec.MaximumPacketSize, 20))
		p.send(unsubscribePacket(codec.V5, 4, slices.Repeat([]string{"a"}, 16)...))
		p.expectEnd("DISCONNECT 95")
	})
}

func TestSubackCodes(t *testing.T) {
	covers(t, "MQTT-3.9.3-2", "311:MQTT-3.8.3-2")
	closed := []Listener{{Address: "harness:1883", Anonymous: true}}
	each(t, Options{Listeners: closed, NoWildcardSubscriptions: true, NoSharedSubscriptions: true,
		NoSubscriptionIdentifiers: true, MaxSubscriptions: 2, MaxTopicLevels: 3},
		func(t *testing.T, h *harness) {
			p := h.client(codec.V5, "p")
			p.send(subscribePacket(codec.V5, 1, filter("a", 2), filter("+", 0), filter("#", 0), filter("b/+/c", 0),
				filter("$share/g/t", 0), filter("$SYS/x", 0), filter("b+", 0), filter("a/b/c/d", 0), filter("b", 1), filter("c", 0)))
			p.expect("SUBACK 1 [02 A2 A2 A2 9E 87 8F 8F 01 97]")
			p.send(subscribeID(2, 5, filter("a", 0)))
			p.expect("SUBACK 2 [A1]")
			for _, v := range []codec.Version{codec.V31, codec.V311} {
				pub := h.client(v, "pub")
				for _, name := range []string{"+", "$share/g/t", "b+", "$SYS/x", "#"} {
					p := h.client(v, "p3")
					p.send(subscribePacket(v, 3, filter(name, 2)))
					if v == codec.V31 {
						p.expectEnd() // M31-suback
						continue
					}
					p.expect("SUBACK 3 [80]")
					pub.send(publishPacket(v, "t", "m", 0, 0))
					p.expect()
				}
			}
		})
}
