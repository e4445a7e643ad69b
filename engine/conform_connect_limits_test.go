package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// Sections 3.1.2.11.4 and 3.1.2.11.5: what a client's CONNECT allows the broker.

func TestMaximumPacketSizeOfTheClient(t *testing.T) {
	covers(t, "MQTT-3.1.2-24")
	long := strings.Repeat("x", 200)
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", with(codec.MaximumPacketSize, 64)).subscribed(filter("t/#", 2))
		wide := h.client(codec.V5, "wide").subscribed(filter("t/#", 2))
		for _, v := range versions {
			pub := h.client(v, "pub")
			for qos := codec.QoS(0); qos <= 2; qos++ {
				pub.send(publishPacket(v, "t/long", long, qos, uint16(qos)))
				sub.expect()
				if got := wide.read(); !strings.Contains(got, long) {
					t.Errorf("who has no limit got %q", got)
				}
			}
			pub.send(publishPacket(v, "t/r", long, 1, 7, retain))
		}
		wide.all()
		// Properties, and a topic name in place of its alias, count.
		pub := h.client(codec.V5, "pub")
		pub.send(publishWith("t/p", "short", 1, 1, codec.AppendUserProperty(nil, "name", strings.Repeat("y", 60))))
		sub.expect()
		pub.send(publishPacket(codec.V5, "t/"+strings.Repeat("n", 60), "", 0, 0))
		sub.expect()
		// Nor as a retained message of a new subscription.
		sub.send(subscribePacket(codec.V5, 1, filter("t/r", 1)))
		sub.expect("SUBACK 1 [01]")
		pub.send(publishPacket(codec.V5, "t/r", "short", 0, 0))
		sub.expect(`PUBLISH q0 r0 d0 "t/r" "short"`)
	})
	// DISCONNECT keeps to it as well: its reason, and itself.
	h := newHarness(t, 1, Options{})
	for limit, want := range map[uint32]string{64: "DISCONNECT 82", 40: "DISCONNECT 82"} {
		p := h.client(codec.V5, "p", with(codec.MaximumPacketSize, limit))
		p.send(connectPacket(codec.V5, "p", true))
		if len(p.in) > int(limit) {
			t.Errorf("Maximum Packet Size %d: DISCONNECT of %d bytes", limit, len(p.in))
		}
		p.expectEnd(want)
	}
	// A CONNACK that would be too large is not sent; the client is told if it can be.
	for limit, want := range map[string]string{"00000006": "CONNACK sp=0 95, end", "00000004": "end"} {
		h.first(codec.V5, "10 {('MQTT') 05 02 0000 {27 "+limit+"} ('c')}", want)
	}
}

func TestOversizedDeliveryBlocksNothing(t *testing.T) {
	covers(t, "MQTT-3.1.2-25")
	long := strings.Repeat("x", 200)
	v := codec.V5
	each(t, Options{}, func(t *testing.T, h *harness) {
		limits := []func(*codec.Connect){with(codec.MaximumPacketSize, 64), with(codec.ReceiveMaximum, 1), keepFor(60)}
		sub := h.client(v, "sub", limits...).subscribed(filter("t", 2))
		pub := h.client(v, "pub")
		f := func(qos codec.QoS, payloads ...string) {
			for _, s := range payloads {
				pub.send(publishPacket(v, "t", s, qos, 1))
				if qos == 2 {
					pub.send(ackPacket(v, codec.PUBREL, 1, 0))
				}
			}
		}
		expect := func(payload string) { // and acknowledge
			t.Helper()
			line := sub.read()
			var qos, id int
			if _, err := fmt.Sscanf(line, "PUBLISH q%d r0 d0 id=%d", &qos, &id); err != nil || !strings.HasSuffix(line, payload+`"`) {
				t.Fatalf("got %q, want %q", line, payload)
			}
			sub.expect()
			if qos == 1 {
				sub.send(ackPacket(v, codec.PUBACK, uint16(id), 0))
				return
			}
			sub.send(ackPacket(v, codec.PUBREC, uint16(id), 0))
			if got := sub.frame(); got == nil || got[0] != 0x62 {
				t.Fatalf("got % X, want PUBREL", got)
			}
			sub.send(ackPacket(v, codec.PUBCOMP, uint16(id), 0))
		}
		for qos := codec.QoS(1); qos <= 2; qos++ {
			f(qos, long, long, "1") // with the quota free
			expect("1")
			f(qos, "2", long, long, "3", long, "4") // with the quota taken
			expect("2")
			expect("3")
			expect("4")
			sub.expect()
		}
		sub.cut() // while away
		f(1, long, "5", long, "6")
		sub = h.back(v, "sub", limits...)
		expect("5")
		expect("6")
		sub.expect()
	})
}

func TestTopicAliasesTowardTheClient(t *testing.T) {
	covers(t, "MQTT-3.1.2-26", "MQTT-3.1.2-27")
	f := func(most int, edit ...func(*codec.Connect)) {
		t.Helper()
		each(t, Options{}, func(t *testing.T, h *harness) {
			sub := h.client(codec.V5, "sub", edit...).subscribed(filter("t/#", 1))
			pub := h.client(codec.V5, "pub")
			known := map[uint16]string{}
			var seen []string
			for round := range 3 {
				for i := range 5 {
					name := fmt.Sprintf("t/%d", i)
					pub.send(publishPacket(codec.V5, name, "x", codec.QoS(i%2), uint16(i%2)))
					b := sub.frame()
					var p codec.Publish
					if err := codec.ParsePublish(&p, b[0]&15, append([]byte(nil), b[2:]...), codec.V5, codec.FromServer); err != nil {
						t.Fatal(err)
					}
					if p.QoS == 1 {
						sub.send(ackPacket(codec.V5, codec.PUBACK, p.PacketID, 0))
					}
					a := p.TopicAlias
					if int(a) > most || most == 0 && slices.Contains(b, 0x23) {
						t.Fatalf("Topic Alias %d where %d is the maximum: % X", a, most, b)
					}
					if a > 0 && len(p.Topic) > 0 {
						known[a] = string(p.Topic)
					}
					got := string(p.Topic)
					if got == "" {
						got = known[a]
					}
					if got != name {
						t.Fatalf("round %d: topic %q, want %q", round, got, name)
					}
				}
				seen = append(seen, fmt.Sprint(len(known)))
			}
			if len(known) != min(most, 5) {
				t.Errorf("%s aliases in use, want %d", seen, min(most, 5))
			}
		})
	}
	f(0)
	f(0, with(codec.TopicAliasMaximum, 0))
	f(1, with(codec.TopicAliasMaximum, 1))
	f(2, with(codec.TopicAliasMaximum, 2))
	f(65535, with(codec.TopicAliasMaximum, 65535))
}

func TestFirstPacketIsBounded(t *testing.T) {
	covers(t, "MQTT-3.1.4-1")
	f := func(o Options, v codec.Version, size int, want ...string) {
		t.Helper()
		h := newHarness(t, 1, o)
		var packet []byte
		for n := size; len(packet) != size; n-- {
			packet = connectPacket(v, strings.Repeat("x", n), true)
		}
		p := h.dial(v)
		p.send(packet)
		if len(want) == 0 {
			p.expectEnd()
			return
		}
		if got := p.read(); got != want[0] {
			t.Errorf("CONNECT of %d bytes: got %q, want %q", size, got, want[0])
		}
	}
	f(Options{}, codec.V311, 16<<10, "CONNACK sp=0 00")
	f(Options{}, codec.V311, 16<<10+1)
	f(Options{}, codec.V5, 16<<10, connackLine(codec.V5, false))
	f(Options{}, codec.V5, 16<<10+1, `CONNACK sp=0 95 {ReasonString="packet larger than the limit"}`)
	f(Options{MaximumConnectSize: 20 << 10}, codec.V311, 20<<10, "CONNACK sp=0 00")
	f(Options{MaximumConnectSize: 20 << 10}, codec.V311, 20<<10+1)
}
