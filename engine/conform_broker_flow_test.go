package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

func TestAliasOfAPublisher(t *testing.T) {
	covers(t, "B-alias-in")
	o := Options{Hooks: []any{rules(func(_ hook.Client, a hook.Action, topic string) bool {
		return a == hook.Publish && topic == "denied"
	})}}
	each(t, o, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", with(codec.TopicAliasMaximum, 10)).subscribed(filter("#", 0))
		pub := h.client(codec.V5, "pub")
		pub.send(publishWith("denied", "", 1, 1, nil, alias(7)), publishWith("", "", 1, 2, nil, alias(7)))
		if got := codesOf(pub); got != "PUBACK 1 87,PUBACK 2 87" {
			t.Errorf("got %s", got)
		}
		pub.send(publishWith("t", "1", 0, 0, nil, alias(7)), publishWith("", "2", 0, 0, nil, alias(7), retain),
			publishWith("u", "3", 0, 0, nil, alias(7)), publishWith("", "4", 0, 0, nil, alias(7)))
		sub.expect(`PUBLISH q0 r0 d0 "t" "1" alias=1`, `PUBLISH q0 r0 d0 "" "2" alias=1`,
			`PUBLISH q0 r0 d0 "u" "3" alias=2`, `PUBLISH q0 r0 d0 "" "4" alias=2`)
		late := h.client(codec.V5, "late").subscribed(filter("t", 0))
		late.expect(`PUBLISH q0 r1 d0 "t" "2"`)
	})
}

func TestAliasTowardASubscriber(t *testing.T) {
	covers(t, "B-alias-out", "B-alias-queue")
	each(t, Options{}, func(t *testing.T, h *harness) {
		edit := []func(*codec.Connect){keepFor(60), with(codec.TopicAliasMaximum, 2), with(codec.MaximumPacketSize, 50)}
		sub := h.client(codec.V5, "sub", edit...).subscribed(filter("#", 1))
		pub := h.client(codec.V5, "pub")
		publish := func(topic, payload string) {
			pub.send(publishPacket(codec.V5, topic, payload, 1, 1))
			pub.serve()
		}
		publish("a", strings.Repeat("x", 50)) // too large: its alias was never defined
		publish("a", "1")
		publish("b", "2")
		publish("c", "3")
		publish("a", "4")
		publish("c", "5")
		sub.expect(`PUBLISH q1 r0 d0 id=1 "a" "1" alias=1`, `PUBLISH q1 r0 d0 id=2 "b" "2" alias=2`,
			`PUBLISH q1 r0 d0 id=3 "c" "3"`, `PUBLISH q1 r0 d0 id=4 "" "4" alias=1`, `PUBLISH q1 r0 d0 id=5 "c" "5"`)
		sub.send(ackPacket(codec.V5, codec.PUBACK, 1, 0), ackPacket(codec.V5, codec.PUBACK, 2, 0), ackPacket(codec.V5, codec.PUBACK, 3, 0))
		sub.cut()
		sub = h.back(codec.V5, "sub", edit...)
		sub.expect(`PUBLISH q1 r0 d1 id=4 "a" "4" alias=1`, `PUBLISH q1 r0 d1 id=5 "c" "5" alias=2`)
		sub.cut()
		sub = h.back(codec.V5, "sub", keepFor(60))
		sub.expect(`PUBLISH q1 r0 d1 id=4 "a" "4"`, `PUBLISH q1 r0 d1 id=5 "c" "5"`)
	})
}

// TestOrderFromRetainedToLive subscribes in the middle of a numbered stream of
// retained messages.
func TestOrderFromRetainedToLive(t *testing.T) {
	covers(t, "B-order-mixed")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for qos := codec.QoS(0); qos <= 2; qos++ {
			pub := h.client(codec.V5, "pub")
			var sub *peer
			last, first := 0, 0
			for i := 1; i <= 40; i++ {
				pub.send(publishPacket(codec.V5, "t", fmt.Sprint(i), qos, uint16(i), retain))
				pub.serve()
				switch {
				case i == 5:
					sub = h.client(codec.V5, "sub", keepFor(60)).subscribed(filter("t", qos))
				case i%10 == 0 && qos > 0:
					sub.cut()
					sub = h.back(codec.V5, "sub", keepFor(60))
				case i < 5:
					continue
				}
				for _, s := range sub.serve() {
					n := 0
					fmt.Sscan(s, &n)
					if first == 0 {
						first = n
					} else if n != last+1 {
						t.Fatalf("QoS %d: %d after %d", qos, n, last)
					}
					last = n
				}
			}
			if first != 5 || last != 40 {
				t.Fatalf("QoS %d: messages %d to %d, want 5 to 40", qos, first, last)
			}
			sub.send(disconnectPacket(codec.V5, 0))
			h.client(codec.V5, "sub").cut()
			pub.cut()
		}
	})
}

func TestRefusingPubrecEndsTheDelivery(t *testing.T) {
	covers(t, "B-pubrec-fail")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", keepFor(60), with(codec.ReceiveMaximum, 1)).subscribed(filter("t", 2))
		h.client(codec.V5, "pub").numbers("t", 2, 1, 2)
		sub.expect(`PUBLISH q2 r0 d0 id=1 "t" "1"`)
		sub.send(ackPacket(codec.V5, codec.PUBREC, 1, codec.QuotaExceeded))
		sub.expect(`PUBLISH q2 r0 d0 id=2 "t" "2"`)
		sub.cut()
		h.back(codec.V5, "sub", keepFor(60)).expect(`PUBLISH q2 r0 d1 id=2 "t" "2"`)
	})
}

func TestStrayAcknowledgements(t *testing.T) {
	covers(t, "B-stray-ack")
	each(t, Options{MaxInflight: 2}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			sub := h.client(v, "sub").subscribed(filter("t", 1))
			h.client(v, "pub").numbers("t", 1, 1, 9)
			sub.expect(`PUBLISH q1 r0 d0 id=1 "t" "1"`, `PUBLISH q1 r0 d0 id=2 "t" "2"`)
			sub.send(ackPacket(v, codec.PUBACK, 999, 0), ackPacket(v, codec.PUBCOMP, 998, 0))
			sub.expect()
			ack := ackPacket(v, codec.PUBACK, 1, 0)
			sub.send(ack, ack, ack)
			sub.expect(`PUBLISH q1 r0 d0 id=3 "t" "3"`) // one place became free, not three
			sub.cut()
		}
	})
}

// Each step answered with the packet of another one is a protocol error, and
// the delivery stays as it was.
func TestWrongAcknowledgement(t *testing.T) {
	covers(t, "B-wrong-ack")
	each(t, Options{}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		f := func(v codec.Version, qos codec.QoS, wrong codec.PacketType) {
			t.Helper()
			sub := h.client(v, "sub", keepForIn(v, 60)).subscribed(filter("t", qos))
			if v != codec.V5 {
				sub.cut()
				sub = h.dial(v)
				sub.send(connectPacket(v, "sub", false))
				sub.expectConnack(false)
				sub.subscribed(filter("t", qos))
			}
			pub.numbers("t", 2, 1, 1)
			sub.expect(fmt.Sprintf(`PUBLISH q%d r0 d0 id=1 "t" "1"`, qos))
			sub.send(ackPacket(v, wrong, 1, 0))
			if v == codec.V5 {
				sub.expectEnd("DISCONNECT 82")
			} else {
				sub.expectEnd()
			}
			sub = h.back(v, "sub", keepForIn(v, 60))
			sub.expect(fmt.Sprintf(`PUBLISH q%d r0 d1 id=1 "t" "1"`, qos))
			sub.send(disconnectPacket(v, 0))
			h.client(v, "sub").cut()
		}
		for _, v := range versions {
			f(v, 2, codec.PUBACK)
			f(v, 2, codec.PUBCOMP)
			f(v, 1, codec.PUBREC)
			f(v, 1, codec.PUBCOMP)
		}
	})
}

func TestPacketIdentifierOfAnOpenExchange(t *testing.T) {
	covers(t, "B-pid-in-use", "B-pid-spaces")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p := h.client(v, "p").subscribed(filter("t", 2))
			p.send(publishPacket(v, "t", "first", 2, 1))
			ours := `PUBLISH q2 r0 d0 id=1 "t" "first"` // the same number, the other direction
			if got := p.all(); len(got) != 2 || got[0] != ours && got[1] != ours {
				t.Fatalf("got %v", got)
			}
			p.send(publishPacket(v, "t", "second", 2, 1), publishPacket(v, "t", "second", 2, 1, dup))
			p.expect("PUBREC 1 00", "PUBREC 1 00") // taken for a repetition
			p.send(ackPacket(v, codec.PUBREC, 1, 0))
			p.expect("PUBREL 1 00")
			p.send(ackPacket(v, codec.PUBREL, 1, 0))
			p.expect("PUBCOMP 1 00")
			p.send(ackPacket(v, codec.PUBCOMP, 1, 0))
			p.send(publishPacket(v, "t", "third", 2, 1))
			p.expectServed("third")
			p.cut()
		}
	})
}

func TestInputInSmallPieces(t *testing.T) {
	covers(t, "B-half-close")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			sub := h.client(v, "sub").subscribed(filter("t", 2))
			p := h.dial(v)
			var all []byte
			for _, b := range [][]byte{connectPacket(v, "p", true, login("user", "password")), subscribePacket(v, 2, filter("own", 1)),
				publishPacket(v, "t", "one", 1, 3), publishPacket(v, "t", strings.Repeat("2", 300), 2, 4), pingreq} {
				all = append(all, b...)
			}
			for i := range all {
				p.send(all[i : i+1])
				if i%25 == 0 {
					h.advance(10 * time.Millisecond)
				}
			}
			p.expect(connackLine(v, false), "SUBACK 2 [01]", "PUBACK 3 00", "PUBREC 4 00", "PINGRESP")
			sub.expectServed("one " + strings.Repeat("2", 300))
			// the last bytes before the end of the stream count
			p.post(publishPacket(v, "t", "last", 1, 5), publishPacket(v, "t", "half", 1, 6)[:5])
			p.cut()
			sub.expectServed("last")
			sub.cut()
		}
	})
}
