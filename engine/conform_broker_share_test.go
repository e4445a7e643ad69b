package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// serve takes all that is there as a good client does, with an answer to every
// step of QoS 1 and 2, and returns the payloads.
func (p *peer) serve() (payloads []string) {
	for f := p.frame(); f != nil; f = p.frame() {
		h, _, _ := codec.ReadHeader(f)
		body := append([]byte(nil), f[h.Size:]...)
		switch h.Type {
		case codec.PUBLISH:
			var d codec.Publish
			must(p.h.t, codec.ParsePublish(&d, h.Flags, body, p.version, codec.FromServer))
			payloads = append(payloads, string(d.Payload))
			switch d.QoS {
			case 1:
				p.send(ackPacket(p.version, codec.PUBACK, d.PacketID, 0))
			case 2:
				p.send(ackPacket(p.version, codec.PUBREC, d.PacketID, 0))
			}
		case codec.PUBREL, codec.PUBREC:
			ack, err := codec.ParseAck(h.Type, body, p.version)
			must(p.h.t, err)
			if !ack.Code.Failure() {
				p.send(ackPacket(p.version, map[codec.PacketType]codec.PacketType{
					codec.PUBREL: codec.PUBCOMP, codec.PUBREC: codec.PUBREL}[h.Type], ack.PacketID, 0))
			}
		}
	}
	return payloads
}

// expectServed is serve with the payloads to come, in order.
func (p *peer) expectServed(want string) {
	p.h.t.Helper()
	if got := strings.Join(p.serve(), " "); got != want {
		p.h.t.Fatalf("got %q, want %q", got, want)
	}
}

// numbers publishes the numbers from first to last on topic and takes the answers.
func (p *peer) numbers(topic string, qos codec.QoS, first, last int) {
	p.h.t.Helper()
	for i := first; i <= last; i++ {
		p.send(publishPacket(p.version, topic, fmt.Sprint(i), qos, uint16(i)))
		p.serve()
	}
}

func TestSharedSubscriptionPassesOverWhoCannotTake(t *testing.T) {
	covers(t, "B-share-balance")
	each(t, Options{}, func(t *testing.T, h *harness) {
		var m [3]*peer
		for i := range m {
			m[i] = h.client(codec.V5, fmt.Sprint("m", i), keepFor(60), with(codec.ReceiveMaximum, 2))
			m[i].subscribed(filter("$share/g/t", 1))
		}
		pub := h.client(codec.V5, "pub")
		pub.numbers("t", 1, 1, 6)
		m[0].expectServed("1 4")
		m[1].expectServed("2 5")
		m[2].expectServed("3 6")

		m[1].cut() // its session stays: passed over, not forgotten
		pub.numbers("t", 1, 7, 10)
		m[0].expectServed("7 9")
		m[2].expectServed("8 10")

		pub.numbers("t", 1, 11, 13) // m0 gets 11 and 13 and is then at its Receive Maximum
		pub.numbers("t", 1, 14, 14)
		m[2].expectServed("12 14")
		pub.numbers("t", 1, 15, 16)
		m[2].expectServed("15 16")
		m[0].expectServed("11 13")
		pub.numbers("t", 1, 17, 18)
		m[0].expectServed("17")
		m[2].expectServed("18")

		m[1] = h.back(codec.V5, "m1", keepFor(60))
		m[1].expectServed("")
		pub.numbers("t", 1, 19, 21)
		m[0].expectServed("19")
		m[1].expectServed("20")
		m[2].expectServed("21")
	})
}

// A member's Receive Maximum is one, whatever it is used up by.
func TestSharedSubscriptionSeesOtherTraffic(t *testing.T) {
	covers(t, "B-share-balance")
	each(t, Options{}, func(t *testing.T, h *harness) {
		busy := h.client(codec.V5, "busy", with(codec.ReceiveMaximum, 1))
		busy.subscribed(filter("$share/g/t", 2), filter("own", 2))
		other := h.client(codec.V5, "other").subscribed(filter("$share/g/t", 2))
		pub := h.client(codec.V5, "pub")
		pub.numbers("own", 2, 1, 1)
		pub.numbers("t", 2, 2, 4)
		other.expectServed("2 3 4")
		busy.expectServed("1")
		pub.numbers("t", 2, 5, 6)
		if got := len(busy.serve()) + len(other.serve()); got != 2 {
			t.Fatalf("%d deliveries, want 2", got)
		}
		pub.numbers("t", 2, 7, 8) // each of the two is ready again
		if a, b := len(busy.serve()), len(other.serve()); a != 1 || b != 1 {
			t.Fatalf("deliveries %d and %d, want one each", a, b)
		}

		other.send(disconnectPacket(codec.V5, 0))
		again := h.client(codec.V5, "again").subscribed(filter("$share/g/t", 0))
		again.stall()
		for range 5 { // over the bound of unread output: a slow reader is passed over as well
			pub.send(publishPacket(codec.V5, "t", strings.Repeat("x", 600<<10), 0, 0))
		}
		pub.send(publishPacket(codec.V5, "t", "to who reads", 0, 0))
		pub.send(publishPacket(codec.V5, "t", "to who reads", 0, 0))
		got := strings.Join(busy.serve(), " ")
		if n := strings.Count(got, "to who reads"); n != 2 {
			t.Fatalf("%d of 2 messages came to the member that reads", n)
		}
	})
}

func TestSharedSubscriptionOfAbsentMembers(t *testing.T) {
	covers(t, "B-share-offline")
	each(t, Options{}, func(t *testing.T, h *harness) {
		a := h.client(codec.V5, "a", keepFor(60)).subscribed(filter("$share/g/t", 1))
		b := h.client(codec.V5, "b", keepFor(60)).subscribed(filter("$share/g/t", 1))
		a.cut()
		b.cut()
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "kept", 1, 1))
		pub.expect("PUBACK 1 00")
		a = h.back(codec.V5, "a", keepFor(60))
		b = h.back(codec.V5, "b", keepFor(60))
		if got := strings.Join(append(a.serve(), b.serve()...), " "); got != "kept" {
			t.Fatalf("got %q, want %q once", got, "kept")
		}
		for _, p := range []*peer{a, b} { // no session is left: nobody to wait for
			p.send(disconnectPacket(codec.V5, 0))
			h.client(codec.V5, map[*peer]string{a: "a", b: "b"}[p])
		}
		pub.send(publishPacket(codec.V5, "t", "dropped", 1, 2))
		pub.expect("PUBACK 2 10")
	})
}

func TestSharedSubscriptionRedelivers(t *testing.T) {
	covers(t, "B-share-redeliver")
	each(t, Options{}, func(t *testing.T, h *harness) {
		f := func(qos codec.QoS, want string) {
			t.Helper()
			dying := h.client(codec.V5, "dying").subscribed(filter("$share/g/t", qos))
			pub := h.client(codec.V5, "pub")
			pub.send(publishPacket(codec.V5, "t", "taken", qos, 1))
			if got := dying.read(); !strings.HasSuffix(got, `"t" "taken"`) {
				t.Fatalf("got %s", got)
			}
			staying := h.client(codec.V5, "staying").subscribed(filter("$share/g/t", qos))
			dying.cut() // its session ends with it
			staying.expectServed(want)
			staying.cut()
		}
		f(1, "taken")
		f(2, "")
	})
}

func TestSharedAndPlainWithOneFilter(t *testing.T) {
	covers(t, "B-share-same")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("t", 1), filter("$share/g/t", 1), filter("$share/h/t", 1))
		h.client(codec.V5, "pub").numbers("t", 1, 1, 1)
		sub.expectServed("1 1 1") // one for the plain subscription, one a group
	})
}

func TestSharedSubscriptionInOldVersions(t *testing.T) {
	covers(t, "B-share-311")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range []codec.Version{codec.V31, codec.V311} {
			a := h.client(v, "a").subscribed(filter("$share/g/t", 1))
			b := h.client(v, "b").subscribed(filter("$share/g/t", 1))
			h.client(v, "pub").numbers("t", 1, 1, 2)
			got := []string{strings.Join(a.serve(), " "), strings.Join(b.serve(), " ")}
			if s := strings.Join(got, ","); s != "1,2" && s != "2,1" {
				t.Errorf("version %v: deliveries %q, want one each", v, got)
			}
			a.cut()
			b.cut()
		}
	})
}

func TestSharedSubscriptionWithWildcards(t *testing.T) {
	covers(t, "B-share-wild")
	each(t, Options{SysInterval: 10 * tick}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("$share/g/#", 0), filter("$share/h/a/+/c", 0))
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "a/b/c", "both", 0, 0), publishPacket(codec.V5, "x", "one", 0, 0))
		sub.expectServed("both both one")
		h.advance(50 * tick) // $SYS is published meanwhile
		sub.expect()
		sub.subscribed(filter("$share/g/$SYS/#", 0))
		h.advance(50 * tick)
		if len(sub.serve()) == 0 {
			t.Fatal("a group of $SYS/# gets nothing")
		}
	})
}

func TestSharedSubscriptionOptionsAreTheMembers(t *testing.T) {
	covers(t, "B-share-subid")
	each(t, Options{}, func(t *testing.T, h *harness) {
		f := func(id string, number uint32, keep bool) *peer {
			p := h.client(codec.V5, id)
			s := codec.Subscribe{PacketID: 1, SubscriptionID: number, Filters: []codec.Subscription{
				{Filter: []byte("$share/g/t"), QoS: 1, RetainAsPublished: keep}}}
			p.send(s.Append(nil, codec.V5))
			p.expect("SUBACK 1 [01]")
			return p
		}
		a, b := f("a", 1, true), f("b", 2, false)
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "1", 1, 1, retain), publishPacket(codec.V5, "t", "2", 1, 2, retain))
		a.expect(`PUBLISH q1 r1 d0 id=1 "t" "1" {SubscriptionIdentifier=1}`)
		b.expect(`PUBLISH q1 r0 d0 id=1 "t" "2" {SubscriptionIdentifier=2}`)
	})
}

func TestPublishToShareIsRefused(t *testing.T) {
	covers(t, "B-share-name")
	each(t, Options{}, func(t *testing.T, h *harness) {
		all := h.client(codec.V5, "all").subscribed(filter("#", 0), filter("$share/g/t", 0))
		for qos := codec.QoS(0); qos <= 2; qos++ {
			p := h.client(codec.V5, "p")
			p.send(publishPacket(codec.V5, "$share/g/t", "x", qos, uint16(qos), retain))
			p.expectEnd("DISCONNECT 90")
		}
		old := h.client(codec.V311, "old")
		old.send(publishPacket(codec.V311, "$share/g/t", "x", 1, 1))
		old.expectEnd()
		will := h.dial(codec.V5)
		will.send(connectPacket(codec.V5, "will", true, willOf(codec.Will{Topic: []byte("$share/g/t")})))
		if got := codesOf(will); got != "CONNACK sp=0 90" || !will.closed {
			t.Errorf("got %s", got)
		}
		all.expect()
	})
}

// codesOf takes everything that is there, without properties.
func codesOf(p *peer) string {
	lines := p.all()
	for i, s := range lines {
		lines[i], _, _ = strings.Cut(s, " {")
	}
	return strings.Join(lines, ",")
}
