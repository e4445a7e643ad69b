package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// numberedFilter is a SUBSCRIBE of one filter with a Subscription Identifier.
func numberedFilter(id uint32, s codec.Subscription) []byte {
	p := codec.Subscribe{PacketID: 1, SubscriptionID: id, Filters: []codec.Subscription{s}}
	return p.Append(nil, codec.V5)
}

// keep publishes a retained message of QoS 2 in its own connection.
func (h *harness) keep(topic, payload string, edit ...func(*codec.Delivery)) {
	h.t.Helper()
	p := h.client(codec.V5, "keeper")
	p.send(publishPacket(codec.V5, topic, payload, 2, 1, append(edit, retain)...))
	p.serve()
	p.send(disconnectPacket(codec.V5, 0))
}

func TestRetainedOfWildcards(t *testing.T) {
	covers(t, "B-rh-wild", "B-rh-ack", "B-rh-qos")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.keep("a/1", "1")
		h.keep("a/2", "2")
		h.keep("a/3", "3")
		h.keep("b", "no")
		for _, v := range versions {
			for qos := codec.QoS(0); qos <= 2; qos++ {
				p := h.client(v, "p")
				p.send(subscribePacket(v, 1, filter("a/#", qos)))
				lines := p.all()
				if len(lines) == 0 || lines[0] != fmt.Sprintf("SUBACK 1 [%02X]", byte(qos)) {
					t.Fatalf("got %v, want SUBACK first", lines)
				}
				slices.Sort(lines[1:])
				var want []string
				for i := 1; i <= 3; i++ {
					s := fmt.Sprintf(`PUBLISH q%d r1 d0 id=%d "a/%d" "%d"`, qos, i, i, i)
					if qos == 0 {
						s = fmt.Sprintf(`PUBLISH q0 r1 d0 "a/%d" "%d"`, i, i)
					}
					want = append(want, s)
				}
				if !slices.Equal(lines[1:], want) {
					t.Errorf("version %v: got %v, want %v", v, lines[1:], want)
				}
				p.cut()
			}
		}
	})
}

func TestRetainedOfOverlaps(t *testing.T) {
	covers(t, "B-rh-overlap", "B-subid-retained")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.keep("a/b", "x")
		p := h.client(codec.V5, "p")
		p.send(numberedFilter(9, filter("a/#", 0)))
		p.expect("SUBACK 1 [00]", `PUBLISH q0 r1 d0 "a/b" "x" {SubscriptionIdentifier=9}`)
		p.send(numberedFilter(7, filter("a/b", 0)))
		p.expect("SUBACK 1 [00]", `PUBLISH q0 r1 d0 "a/b" "x" {SubscriptionIdentifier=7}`)
		p.send(subscribePacket(codec.V5, 1, filter("+/b", 0), filter("#", 0)))
		p.expect("SUBACK 1 [00 00]", `PUBLISH q0 r1 d0 "a/b" "x"`, `PUBLISH q0 r1 d0 "a/b" "x"`)
	})
}

func TestRetainHandlingAfterResume(t *testing.T) {
	covers(t, "B-rh-resub")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.keep("a", "x")
		once := codec.Subscription{Filter: []byte("a"), RetainHandling: 1}
		p := h.client(codec.V5, "p", keepFor(10)).subscribed(once)
		p.expectServed("x")
		p.cut()
		p = h.back(codec.V5, "p", keepFor(10)).subscribed(once)
		p.expectServed("")
		p.cut()
		h.advance(12 * time.Second)
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", false))
		p.expectConnack(false)
		p.subscribed(once).expectServed("x")
	})
}

func TestRetainedExpires(t *testing.T) {
	covers(t, "B-ret-expiry", "B-ret-props")
	each(t, Options{}, func(t *testing.T, h *harness) {
		props := codec.AppendUint(nil, codec.PayloadFormatIndicator, 1)
		props = codec.AppendBytes(props, codec.ContentType, "text")
		props = codec.AppendBytes(props, codec.ResponseTopic, "answers")
		props = codec.AppendBytes(props, codec.CorrelationData, []byte{1, 2})
		props = codec.AppendUserProperty(codec.AppendUserProperty(props, "k", "2"), "k", "1")
		pub := h.client(codec.V5, "pub")
		pub.send(publishWith("a", "x", 1, 1, props, retain, expiry(2), alias(3)))
		pub.serve()
		const all = ` {PayloadFormatIndicator=1 ContentType="text" ResponseTopic="answers" CorrelationData="\x01\x02"` +
			` UserProperty="k":"2" UserProperty="k":"1"}`
		h.advance(time.Second)
		p := h.client(codec.V5, "p").subscribed(filter("a", 0))
		p.expect(`PUBLISH q0 r1 d0 "a" "x" expiry=1` + all)
		h.advance(2 * time.Second)
		late := h.client(codec.V5, "late").subscribed(filter("a", 0))
		late.expect()
	})
}

func TestRetainedLimits(t *testing.T) {
	covers(t, "B-ret-limit")
	f := func(o Options, third string, v codec.Version, want string) {
		t.Helper()
		each(t, o, func(t *testing.T, h *harness) {
			h.keep("a", strings.Repeat("a", 400))
			h.keep("b", strings.Repeat("b", 400))
			pub := h.client(v, "pub")
			live := h.client(v, "live").subscribed(filter("#", 0))
			live.serve()
			pub.send(publishPacket(v, "c", third, 1, 1, retain))
			if got := codesOf(pub); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			live.expectServed("") // refused as a whole
			pub.send(publishPacket(v, "b", "B", 1, 2, retain))
			if got := codesOf(pub); got != "PUBACK 2 00" {
				t.Fatalf("replacing one: got %s", got)
			}
			pub.send(publishPacket(v, "a", "", 1, 3, retain), publishPacket(v, "c", "C", 1, 4, retain))
			if got := codesOf(pub); got != "PUBACK 3 00,PUBACK 4 00" {
				t.Fatalf("after clearing one: got %s", got)
			}
			all := h.client(codec.V5, "all").subscribed(filter("#", 0)).serve()
			slices.Sort(all)
			if got := strings.Join(all, " "); got != "B C" {
				t.Fatalf("retained: %q", got)
			}
			if n := h.b.retained.bytes.Load(); n < 4 || n > 300 {
				t.Fatalf("%d bytes are counted for two messages of two bytes", n)
			}
		})
	}
	f(Options{MaxRetainedMessages: 2}, "c", codec.V5, "PUBACK 1 97")
	f(Options{MaxRetainedMessages: 2}, "c", codec.V311, "PUBACK 1 00")
	f(Options{MaxRetainedBytes: 1000}, strings.Repeat("c", 400), codec.V5, "PUBACK 1 97")
	f(Options{MaxRetainedBytes: 1000}, strings.Repeat("c", 400), codec.V31, "PUBACK 1 00")
}

func TestRetainAsPublishedOfClears(t *testing.T) {
	covers(t, "B-rap-bridge", "B-rap-retained")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.keep("a", "x")
		f := func(as bool) *peer {
			p := h.client(codec.V5, fmt.Sprint("p", as)).subscribed(codec.Subscription{Filter: []byte("a"), RetainAsPublished: as})
			p.expect(`PUBLISH q0 r1 d0 "a" "x"`)
			return p
		}
		with, without := f(true), f(false)
		h.keep("a", "y")
		with.expect(`PUBLISH q0 r1 d0 "a" "y"`)
		without.expect(`PUBLISH q0 r0 d0 "a" "y"`)
		h.keep("a", "")
		with.expect(`PUBLISH q0 r1 d0 "a" ""`)
		without.expect(`PUBLISH q0 r0 d0 "a" ""`)
	})
}

func TestSubscriptionIdentifiersOfOverlaps(t *testing.T) {
	covers(t, "B-subid-overlap", "B-subid-session", "B-dup-sub")
	each(t, Options{}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p", keepFor(60))
		p.send(numberedFilter(5, filter("a/#", 0)), numberedFilter(5, filter("a/b", 2)), numberedFilter(6, filter("+/b", 1)))
		p.expect("SUBACK 1 [00]", "SUBACK 1 [02]", "SUBACK 1 [01]")
		pub := h.client(codec.V5, "pub")
		pub.numbers("a/b", 2, 1, 1)
		got := p.read() // one copy at the highest QoS, each identifier once
		if got != `PUBLISH q2 r0 d0 id=1 "a/b" "1" {SubscriptionIdentifier=5 SubscriptionIdentifier=6}` &&
			got != `PUBLISH q2 r0 d0 id=1 "a/b" "1" {SubscriptionIdentifier=6 SubscriptionIdentifier=5}` {
			t.Fatalf("got %s", got)
		}
		p.send(ackPacket(codec.V5, codec.PUBREC, 1, 0), ackPacket(codec.V5, codec.PUBCOMP, 1, 0))
		p.cut()
		pub.numbers("a/x", 2, 2, 2) // QoS 0 for an absent client
		pub.numbers("x/b", 2, 3, 3)
		p = h.back(codec.V5, "p", keepFor(60))
		p.expect(`PUBLISH q1 r0 d0 id=1 "x/b" "3" {SubscriptionIdentifier=6}`)
		for _, v := range []codec.Version{codec.V31, codec.V311} {
			old := h.client(v, "old").subscribed(filter("c/#", 0), filter("c/d", 1), filter("+/d", 0))
			pub.numbers("c/d", 2, 4, 4)
			old.expect(`PUBLISH q1 r0 d0 id=1 "c/d" "4"`)
			old.cut()
		}
	})
}

func TestNoLocalGoesByTheSession(t *testing.T) {
	covers(t, "B-nolocal-session", "B-nolocal-retained")
	each(t, Options{}, func(t *testing.T, h *harness) {
		mine := codec.Subscription{Filter: []byte("t"), QoS: 1, NoLocal: true}
		connect := func(clean bool) *peer {
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "c", clean, keepFor(60), willOf(codec.Will{Topic: []byte("t"), Payload: []byte("own will"), QoS: 1})))
			p.expectConnack(!clean)
			return p
		}
		p := connect(true).subscribed(mine)
		other := h.client(codec.V5, "other").subscribed(filter("t", 1))
		for range 4 { // over several loops
			p.send(publishPacket(codec.V5, "t", "own", 1, 1))
			p.expect("PUBACK 1 00")
			other.expectServed("own")
			p = connect(false) // the takeover publishes the will
			p.expectServed("")
			other.expectServed("own will")
			p.cut()
			other.expectServed("own will")
			other.send(publishPacket(codec.V5, "t", "other", 1, 1))
			other.serve()
			p = connect(false)
			p.expectServed("other")
		}
		// A retained message is its publisher's too: the rule has no exception for it.
		p.send(publishPacket(codec.V5, "t", "kept", 1, 2, retain))
		p.expect("PUBACK 2 00")
		p.subscribed(mine).expectServed("")
		other.serve()
		other.send(publishPacket(codec.V5, "t", "kept of other", 1, 3, retain))
		other.serve()
		p.serve()
		p.subscribed(mine).expectServed("kept of other")
	})
}
