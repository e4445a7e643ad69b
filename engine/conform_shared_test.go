package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

func TestSharedFilterRefused(t *testing.T) {
	covers(t, "MQTT-4.8.2-1", "MQTT-4.8.2-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		p, pub := h.client(codec.V5, "p"), h.client(codec.V5, "pub")
		for _, f := range []string{"$share//t", "$share/g", "$share/g/", "$share/g+/t", "$share/+/t", "$share/#/t",
			"$share/g#/t", "$share/", "$share/g/t#", "$share/g/t/#/u", "$share//"} {
			p.send(subscribePacket(codec.V5, 1, filter(f, 0)))
			p.expect("SUBACK 1 [8F]")
		}
		pub.send(publishPacket(codec.V5, "t", "m", 1, 1))
		pub.expect("PUBACK 1 10")
		for _, f := range []string{"$share/g/t", "$share/g g/t", "$share/$g/t", "$share/g/#", "$share/g/+/t", "$share/g//t", "$share/\u00e9/t"} {
			p.subscribed(filter(f, 0))
		}
	})
}

func TestSharedMemberKeepsItsQoS(t *testing.T) {
	covers(t, "MQTT-4.8.2-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		members := make(map[codec.QoS]*peer)
		for qos := codec.QoS(0); qos <= 2; qos++ {
			members[qos] = h.client(codec.V5, fmt.Sprint("member", qos)).subscribed(filter("$share/g/t", qos))
		}
		pub := h.client(codec.V5, "pub")
		for published := codec.QoS(0); published <= 2; published++ {
			for i := range 9 {
				pub.send(publishPacket(codec.V5, "t", "m", published, uint16(i+1)))
			}
			for granted, p := range members {
				got := p.all()
				if len(got) == 0 {
					t.Errorf("member with QoS %d got nothing", granted)
				}
				for _, line := range got {
					if want := fmt.Sprintf("PUBLISH q%d ", min(granted, published)); !strings.HasPrefix(line, want) {
						t.Errorf("published %d, granted %d: %s", published, granted, line)
					}
				}
			}
		}
	})
}

// pair makes two members of $share/g/t that may go away, and a publisher; the
// first QoS 2 message went to the member that is returned first.
func (h *harness) sharedPair(seconds uint32) (taker, other *peer, takerID string) {
	h.t.Helper()
	a := h.client(codec.V5, "a", keepFor(seconds)).subscribed(filter("$share/g/t", 2))
	b := h.client(codec.V5, "b", keepFor(seconds)).subscribed(filter("$share/g/t", 2))
	pub := h.client(codec.V5, "pub")
	pub.send(publishPacket(codec.V5, "t", "m", 2, 1))
	const line = `PUBLISH q2 r0 d0 id=1 "t" "m"`
	switch got := [2]string{strings.Join(a.all(), ","), strings.Join(b.all(), ",")}; got {
	case [2]string{line, ""}:
		return a, b, "a"
	case [2]string{"", line}:
		return b, a, "b"
	default:
		h.t.Fatalf("the message went to %v", got)
		return nil, nil, ""
	}
}

func TestSharedQoS2EndsWhereItBegan(t *testing.T) {
	covers(t, "MQTT-4.8.2-4")
	each(t, Options{}, func(t *testing.T, h *harness) {
		taker, other, id := h.sharedPair(60) // cut before PUBREC
		taker.cut()
		h.advance(time.Second)
		other.expect()
		taker = h.back(codec.V5, id, keepFor(60))
		taker.expect(`PUBLISH q2 r0 d1 id=1 "t" "m"`)
		taker.send(ackPacket(codec.V5, codec.PUBREC, 1, 0)) // and after it
		taker.expect("PUBREL 1 00")
		taker.cut()
		h.advance(time.Second)
		other.expect()
		taker = h.back(codec.V5, id, keepFor(60))
		taker.expect("PUBREL 1 00")
		taker.send(ackPacket(codec.V5, codec.PUBCOMP, 1, 0))
		taker.expect()
		taker.cut()
		taker = h.back(codec.V5, id)
		taker.expect()
		other.expect()
	})
}

func TestSharedQoS2GoesToNobodyElse(t *testing.T) {
	covers(t, "MQTT-4.8.2-5")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, received := range []bool{false, true} {
			taker, other, id := h.sharedPair(5)
			if received {
				taker.send(ackPacket(codec.V5, codec.PUBREC, 1, 0))
				taker.expect("PUBREL 1 00")
			}
			taker.cut()
			h.advance(7 * time.Second)
			other.expect()
			taker = h.dial(codec.V5)
			taker.send(connectPacket(codec.V5, id, false))
			taker.expect(connackLine(codec.V5, false))

			taker, other, id = h.sharedPair(5)
			taker.cut()
			h.client(codec.V5, id) // a new session in its place
			other.expect()
		}
	})
}

func TestSharedRefusedByMemberIsDropped(t *testing.T) {
	covers(t, "MQTT-4.8.2-6")
	each(t, Options{}, func(t *testing.T, h *harness) {
		taker, other, id := h.sharedPair(60)
		taker.send(ackPacket(codec.V5, codec.PUBREC, 1, codec.UnspecifiedError))
		taker.expect()
		other.expect()
		taker.cut()
		h.back(codec.V5, id).expect()
		other.expect()

		a := h.client(codec.V5, "a").subscribed(filter("$share/g/t", 1))
		b := h.client(codec.V5, "b").subscribed(filter("$share/g/t", 1))
		pub := h.client(codec.V5, "pub")
		for i := range 4 {
			pub.send(publishPacket(codec.V5, "t", fmt.Sprint(i), 1, 1))
		}
		n := 0
		for _, p := range []*peer{a, b} {
			for i := range p.all() {
				n++
				p.send(ackPacket(codec.V5, codec.PUBACK, uint16(i+1), codec.QuotaExceeded))
			}
		}
		if n != 4 {
			t.Errorf("%d deliveries of 4 messages", n)
		}
		a.expect()
		b.expect()
		a.send(disconnectPacket(codec.V5, 0))
		b.expect()
	})
}

func TestSharedGetsNoRetained(t *testing.T) {
	covers(t, "U5-4.8.2-retain")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.client(codec.V5, "pub").send(publishPacket(codec.V5, "t", "kept", 0, 0, retain))
		p := h.client(codec.V5, "p")
		for handling := byte(0); handling <= 2; handling++ {
			p.subscribed(option("$share/g/t", handling<<4))
			p.expect()
		}
		p.subscribed(filter("t", 0)) // a plain one gets it
		p.expect(`PUBLISH q0 r1 d0 "t" "kept"`)
	})
}

func TestSharedUnsubscribe(t *testing.T) {
	covers(t, "U5-4.8.2-unsub")
	each(t, Options{}, func(t *testing.T, h *harness) {
		p, pub := h.client(codec.V5, "p").subscribed(filter("$share/g/t", 0)), h.client(codec.V5, "pub")
		p.send(unsubscribePacket(codec.V5, 1, "t", "$share/h/t", "$share/g", "$share/g/t/"))
		p.expect("UNSUBACK 1 [11 11 11 11]")
		pub.send(publishPacket(codec.V5, "t", "m", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "t" "m"`)
		p.subscribed(filter("t", 0))
		pub.send(publishPacket(codec.V5, "t", "m", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "t" "m"`, `PUBLISH q0 r0 d0 "t" "m"`)
		p.send(unsubscribePacket(codec.V5, 2, "$share/g/t"))
		p.expect("UNSUBACK 2 [00]")
		pub.send(publishPacket(codec.V5, "t", "m", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "t" "m"`)
	})
}

func TestSharedOneCopyPerGroup(t *testing.T) {
	covers(t, "U5-4.8.2-one")
	each(t, Options{}, func(t *testing.T, h *harness) {
		groups := make(map[string][]*peer)
		for i := range 9 {
			name := []string{"$share/g/t/#", "$share/h/t/#", "t/#"}[i%3]
			groups[name] = append(groups[name], h.client(codec.V5, fmt.Sprint("m", i)).subscribed(filter(name, 1)))
		}
		pub := h.client(codec.V5, "pub")
		for round := range 12 {
			pub.send(publishPacket(codec.V5, fmt.Sprintf("t/%d", round%4), "m", codec.QoS(round%3), uint16(round+1)))
			for name, members := range groups {
				n, want := 0, 1
				if name == "t/#" {
					want = len(members)
				}
				for _, p := range members {
					n += len(p.all())
				}
				if n != want {
					t.Fatalf("round %d: %s got %d copies, want %d", round, name, n, want)
				}
			}
		}
	})
}
