package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

func TestMaximumPacketSizePerSubscriber(t *testing.T) {
	covers(t, "B-maxpkt-out")
	each(t, Options{}, func(t *testing.T, h *harness) {
		limit := with(codec.MaximumPacketSize, 60)
		pub := h.client(codec.V5, "pub")
		publish := func(payload string, retained bool) {
			edit := func(d *codec.Delivery) { d.Retain = retained }
			pub.send(publishPacket(codec.V5, "t", payload, 0, 0, edit), publishPacket(codec.V5, "t", payload, 1, 1, edit))
			pub.serve()
		}
		large := strings.Repeat("l", 60)
		free := h.client(codec.V5, "free").subscribed(filter("t", 1))
		tight := h.client(codec.V5, "tight", keepFor(60), limit).subscribed(filter("t", 1))
		publish("small", false)
		publish(large, false)
		free.expectServed("small small " + large + " " + large)
		tight.expectServed("small small")

		tight.cut() // the queue and the retained message go by the limit of the connection that gets them
		publish(large, false)
		publish("small", false)
		publish(large, true)
		tight = h.back(codec.V5, "tight", keepFor(60), limit)
		tight.expectServed("small")
		tight.subscribed(filter("t", 1))
		tight.expectServed("")
		publish("again", false)
		tight.expectServed("again again")
		wide := h.back(codec.V5, "tight", keepFor(60))
		wide.subscribed(filter("t", 1))
		wide.expectServed(large)

		// an alias makes a packet fit, a Subscription Identifier makes it too large
		f := func(name string, size int, id uint32, fits bool) {
			t.Helper()
			p := h.client(codec.V5, "p", with(codec.MaximumPacketSize, 60), with(codec.TopicAliasMaximum, 1))
			s := codec.Subscribe{PacketID: 1, SubscriptionID: id, Filters: []codec.Subscription{filter(name, 0)}}
			p.send(s.Append(nil, codec.V5))
			p.expect("SUBACK 1 [00]")
			pub.send(publishPacket(codec.V5, name, "1", 0, 0), publishPacket(codec.V5, name, strings.Repeat("2", size), 0, 0))
			if got := len(p.serve()); got != 1+bit(fits) {
				t.Errorf("%d bytes, identifier %d: %d deliveries, want %d", size, id, got, 1+bit(fits))
			}
			p.cut()
		}
		topic := strings.Repeat("n", 40)
		f(topic, 52, 0, true) // header 2, no name 2, properties with alias 1+3, payload 52
		f(topic, 53, 0, false)
		f(topic, 50, 5, true)
		f(topic, 51, 5, false)
	})
}

func TestReasonStringGoesFirst(t *testing.T) {
	covers(t, "B-maxpkt-trim", "B-rpi")
	each(t, Options{MaxSubscriptions: 1}, func(t *testing.T, h *harness) {
		f := func(want string, edit ...func(*codec.Connect)) {
			t.Helper()
			p := h.client(codec.V5, "p", edit...)
			p.send(publishPacket(codec.V5, "$SYS/x", "", 1, 9))
			got := p.read()
			if !strings.HasPrefix(got, "PUBACK 9 87") || strings.Contains(got, "ReasonString") != (want == "told") {
				t.Errorf("got %s, want it %s", got, want)
			}
			p.send(subscribePacket(codec.V5, 1, filter("a", 0), filter("b", 0)))
			if got := p.read(); !strings.HasPrefix(got, "SUBACK 1 [00 97]") || want != "told" && strings.Contains(got, "{") {
				t.Errorf("got %s", got)
			}
			p.send(unsubscribePacket(codec.V5, 2, "c"))
			p.expect("UNSUBACK 2 [11]")
			p.cut()
		}
		f("told")
		f("told", with(codec.RequestProblemInformation, 1))
		f("not told", with(codec.RequestProblemInformation, 0))
		f("told", with(codec.MaximumPacketSize, 60))
		f("not told", with(codec.MaximumPacketSize, 20))

		// DISCONNECT and CONNACK may always say why, if it fits
		g := func(edit ...func(*codec.Connect)) bool {
			p := h.client(codec.V5, "p", edit...)
			p.send(publishWith("t", "", 0, 0, nil, alias(99)))
			f := append([]byte(nil), p.frame()...)
			p.expectEnd()
			hd, _, _ := codec.ReadHeader(f)
			d, err := codec.ParseDisconnect(f[hd.Size:], codec.V5, codec.FromServer)
			must(t, err)
			_, told := d.Properties.Bytes(codec.ReasonString)
			if d.Code != codec.TopicAliasInvalid {
				t.Errorf("got DISCONNECT %02X", byte(d.Code))
			}
			return told
		}
		if !g() || !g(with(codec.RequestProblemInformation, 0)) || g(with(codec.MaximumPacketSize, 20)) {
			t.Error("DISCONNECT: the reason is told wrongly")
		}
	})
}

func TestOversizedPacketIsRefusedAtItsHeader(t *testing.T) {
	covers(t, "B-maxpkt-in", "B-maxpkt-311")
	each(t, Options{}, func(t *testing.T, h *harness) {
		const header = "30 80 84 AF 5F" // 200,000,000 bytes
		p := h.client(codec.V5, "p")
		p.hex(header)
		p.expectEnd("DISCONNECT 95")
		for _, v := range []codec.Version{codec.V31, codec.V311} {
			p := h.client(v, "p")
			p.hex(header)
			p.expectEnd()
		}
	})
}

func TestReceiveMaximumOfTheServer(t *testing.T) {
	covers(t, "B-rm-in")
	each(t, Options{ReceiveMaximum: 2, MaxTopicLevels: 3}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p")
		send := func(id uint16) { p.send(publishPacket(codec.V5, "t", "", 2, id)) }
		send(1)
		send(2)
		send(2) // a repetition takes nothing
		p.expect("PUBREC 1 10", "PUBREC 2 10", "PUBREC 2 00")
		p.send(ackPacket(codec.V5, codec.PUBREL, 1, 0))
		p.expect("PUBCOMP 1 00")
		send(3)
		p.expect("PUBREC 3 10")
		p.send(ackPacket(codec.V5, codec.PUBREL, 3, 0))
		for id := range uint16(5) { // what is refused, and QoS 1, is answered at once
			p.send(publishPacket(codec.V5, "a/b/c/d", "", 2, 10+id))
			p.send(publishPacket(codec.V5, "t", "", 1, 20+id))
		}
		if got := codesOf(p); strings.Count(got, "PUBREC 1") != 5 || strings.Count(got, "PUBACK") != 5 {
			t.Fatalf("got %s", got)
		}
		send(4)
		send(5)
		p.expectEnd("PUBREC 4 10", "DISCONNECT 93")
	})
}

func TestReceiveMaximumOfTheClient(t *testing.T) {
	covers(t, "B-rm-out", "B-order-inflight")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", keepFor(60), with(codec.ReceiveMaximum, 1)).subscribed(filter("t", 2))
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "1", 1, 1), publishPacket(codec.V5, "t", "2", 2, 2),
			publishPacket(codec.V5, "t", "3", 1, 3), publishPacket(codec.V5, "t", "free", 0, 0))
		pub.serve()
		sub.expect(`PUBLISH q1 r0 d0 id=1 "t" "1"`, `PUBLISH q0 r0 d0 "t" "free"`)
		for range 3 { // lost before it was acknowledged: the same again, and nothing ahead of it
			sub.cut()
			sub = h.back(codec.V5, "sub", keepFor(60), with(codec.ReceiveMaximum, 1))
			sub.expect(`PUBLISH q1 r0 d1 id=1 "t" "1"`)
		}
		sub.send(ackPacket(codec.V5, codec.PUBACK, 1, 0))
		sub.expect(`PUBLISH q2 r0 d0 id=2 "t" "2"`)
		sub.cut()
		sub = h.back(codec.V5, "sub", keepFor(60), with(codec.ReceiveMaximum, 1))
		sub.expect(`PUBLISH q2 r0 d1 id=2 "t" "2"`)
		sub.send(ackPacket(codec.V5, codec.PUBREC, 2, 0))
		sub.expect("PUBREL 2 00")
		sub.send(ackPacket(codec.V5, codec.PUBCOMP, 2, 0))
		sub.expect(`PUBLISH q1 r0 d0 id=3 "t" "3"`)
	})
}

func TestInflightLimitOfOldVersions(t *testing.T) {
	covers(t, "B-inflight-311", "B-rm-queue")
	each(t, Options{MaxInflight: 20}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			sub := h.client(v, "sub").subscribed(filter("t", 1))
			pub := h.client(v, "pub")
			pub.numbers("t", 1, 1, 50)
			if got := len(sub.all()); got != 20 {
				t.Fatalf("version %v: %d deliveries are open, want 20", v, got)
			}
			for id := range uint16(20) {
				sub.send(ackPacket(v, codec.PUBACK, id+1, 0))
			}
			var want []string
			for i := 21; i <= 50; i++ {
				want = append(want, fmt.Sprint(i))
			}
			sub.expectServed(strings.Join(want, " "))
			sub.cut()
		}
	})
}

func TestResponseInformationAsConfigured(t *testing.T) {
	covers(t, "B-rr")
	f := func(configured string, edit ...func(*codec.Connect)) string {
		h := newHarness(t, 1, Options{ResponseInfo: configured})
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "c", true, edit...))
		ack := p.greeting()
		got, _ := ack.Properties.Bytes(codec.ResponseInformation)
		return string(got)
	}
	if got := f("answers/", with(codec.RequestResponseInformation, 1)); got != "answers/" {
		t.Errorf("asked: got %q", got)
	}
	if got := f("", with(codec.RequestResponseInformation, 1)); got != "" {
		t.Errorf("asked, none configured: got %q", got)
	}
	if got := f("answers/") + f("answers/", with(codec.RequestResponseInformation, 0)); got != "" {
		t.Errorf("not asked: got %q", got)
	}
}

func TestFullBrokerRefuses(t *testing.T) {
	covers(t, "B-busy")
	refused := func(h *harness, v codec.Version, id string, code byte) {
		h.t.Helper()
		p := h.dial(v)
		p.send(connectPacket(v, id, true))
		if got, want := codesOf(p), fmt.Sprintf("CONNACK sp=0 %02X", code); got != want || !p.closed {
			h.t.Errorf("version %v: got %s, closed %v, want %s", v, got, p.closed, want)
		}
	}
	each(t, Options{MaxSessions: 2}, func(t *testing.T, h *harness) {
		h.client(codec.V5, "a", keepFor(60)).cut()
		b := h.client(codec.V5, "b")
		refused(h, codec.V5, "c", 0x97)
		refused(h, codec.V311, "c", 0x03)
		refused(h, codec.V31, "c", 0x03)
		h.back(codec.V5, "a", keepFor(60)).cut() // who has a session comes in
		b.cut()
		h.client(codec.V5, "c")
	})
	each(t, Options{MaxConnections: 2}, func(t *testing.T, h *harness) {
		a := h.client(codec.V5, "a")
		h.client(codec.V5, "b")
		refused(h, codec.V5, "c", 0x89)
		h.advance(2 * time.Second) // the refused one is gone for good
		refused(h, codec.V311, "c", 0x03)
		h.advance(2 * time.Second)
		a.cut()
		h.client(codec.V31, "c")
		h.advance(2 * time.Second)
		refused(h, codec.V31, "d", 0x03)
	})
}

func TestStalledReaderHoldsUpNobody(t *testing.T) {
	covers(t, "B-slow")
	const bound = 64 << 10
	o := Options{OutboundBytes: bound, MaxQueuedMessages: 50, MaxInflight: 10}
	each(t, o, func(t *testing.T, h *harness) {
		for _, v := range versions {
			slow := h.client(v, "slow").subscribed(filter("q0", 0), filter("q1", 1))
			fast := h.client(v, "fast").subscribed(filter("q0", 0), filter("q1", 1))
			pub := h.client(v, "pub")
			slow.stall()
			payload := strings.Repeat("x", 1000)
			for i := range 300 {
				pub.send(publishPacket(v, "q0", payload, 0, 0), publishPacket(v, "q1", payload, 1, uint16(i+1)))
				if len(fast.serve()) != 2 || strings.Join(pub.all(), "") != fmt.Sprintf("PUBACK %d 00", i+1) {
					t.Fatalf("version %v: a stalled reader holds up others at message %d", v, i)
				}
			}
			if slow.held > bound+2*len(payload)+200 {
				t.Errorf("version %v: %d bytes wait for a client that does not read, bound %d", v, slow.held, bound)
			}
			h.b.loops[slow.env.loop.id].Ticked(0)
			if n := h.b.stats().QueuedMessages; n != 50 {
				t.Errorf("version %v: %d messages wait in the session, want 50", v, n)
			}
			slow.resume()
			var q0, q1 int
			for range 100 {
				for _, s := range slow.all() {
					var id uint16
					if n, _ := fmt.Sscanf(s, "PUBLISH q1 r0 d0 id=%d", &id); n == 1 {
						q1++
						slow.send(ackPacket(v, codec.PUBACK, id, 0))
					} else if strings.HasPrefix(s, "PUBLISH q0") {
						q0++
					}
				}
			}
			if q1 != 60 || q0 >= 300 || q0 < 20 { // those in flight and in the queue
				t.Errorf("version %v: %d and %d messages of QoS 0 and 1 came in the end", v, q0, q1)
			}
			slow.cut()
			fast.cut()
		}
	})
}

func TestQoS0ForTheAbsentIsDropped(t *testing.T) {
	covers(t, "B-qos0-offline")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.client(codec.V5, "c", keepFor(60)).subscribed(filter("zero", 2), filter("granted", 0), filter("one", 1)).cut()
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "zero", "published at 0", 0, 0), publishPacket(codec.V5, "granted", "subscribed at 0", 2, 1),
			publishPacket(codec.V5, "one", "kept", 1, 2))
		h.back(codec.V5, "c", keepFor(60)).expectServed("kept")
	})
}

func TestLevels(t *testing.T) {
	covers(t, "B-levels")
	each(t, Options{}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		f := func(f, name string, want bool) {
			t.Helper()
			p := h.client(codec.V5, "p").subscribed(filter(f, 0))
			pub.send(publishPacket(codec.V5, name, "x", 0, 0))
			if got := len(p.serve()) == 1; got != want {
				t.Errorf("filter %q, name %q: %v, want %v", f, name, got, want)
			}
			p.cut()
		}
		f("/+", "/a", true)
		f("+", "/a", false)
		f("+/a", "/a", true)
		f("+/+", "/", true)
		f("/", "/", true)
		f("a/+", "a/", true)
		f("a/+", "a", false)
		f("a/#", "a", true)
		f("a/#", "a/", true)
		f("a//b", "a//b", true)
		f("a/+/b", "a//b", true)
		f("a/b", "a//b", false)
		f("#", "/", true)
		f("/#", "a", false)
	})
}

func TestDepth(t *testing.T) {
	covers(t, "B-depth")
	each(t, Options{}, func(t *testing.T, h *harness) {
		deep := strings.Repeat("a/", 199) + "a"
		slashes := strings.Repeat("/", 65535)
		for _, name := range []string{deep, slashes} {
			p := h.client(codec.V5, "p")
			p.send(publishPacket(codec.V5, name, "", 1, 1))
			p.send(publishPacket(codec.V5, name, "", 2, 2, retain))
			p.send(subscribePacket(codec.V5, 3, filter(name, 0), filter("ok", 0)))
			if got := codesOf(p); got != "PUBACK 1 90,PUBREC 2 90,SUBACK 3 [8F 00]" {
				t.Errorf("%d bytes: got %s", len(name), got)
			}
			p.send(publishPacket(codec.V5, name, "", 0, 0))
			p.expectEnd("DISCONNECT 90")
			old := h.client(codec.V311, "old")
			old.send(subscribePacket(codec.V311, 3, filter(name, 0), filter("ok", 0)))
			old.expect("SUBACK 3 [80 00]")
			old.send(publishPacket(codec.V311, name, "", 1, 1))
			old.expectEnd()
		}
		most := strings.Repeat("a/", 127) + "a"
		p := h.client(codec.V5, "p").subscribed(filter(most, 0), filter("$share/g/"+most, 0))
		p.send(publishPacket(codec.V5, most, "x", 0, 0))
		p.expectServed("x x")
	})
}
