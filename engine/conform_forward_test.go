package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// forwardedAlike publishes with props, whose description in a delivery is want,
// by every way a message takes: at once, out of the queue of an absent session,
// and as a retained message.
func forwardedAlike(t *testing.T, props codec.Properties, want string) {
	t.Helper()
	each(t, Options{}, func(t *testing.T, h *harness) {
		away := h.client(codec.V5, "away", keepFor(100)).subscribed(filter("t", 1))
		away.cut()
		live := h.client(codec.V5, "live").subscribed(filter("t", 2))
		old := h.client(codec.V311, "old").subscribed(filter("t", 0))
		pub := h.client(codec.V5, "pub")
		for qos := codec.QoS(0); qos <= 2; qos++ {
			pub.send(publishWith("t", "x", qos, 1, props, func(d *codec.Delivery) { d.Retain = qos == 2 }))
		}
		live.expect(`PUBLISH q0 r0 d0 "t" "x"`+want, `PUBLISH q1 r0 d0 id=1 "t" "x"`+want, `PUBLISH q2 r0 d0 id=2 "t" "x"`+want)
		old.expect(slices.Repeat([]string{`PUBLISH q0 r0 d0 "t" "x"`}, 3)...)
		away = h.back(codec.V5, "away")
		away.expect(`PUBLISH q1 r0 d0 id=1 "t" "x"`+want, `PUBLISH q1 r0 d0 id=2 "t" "x"`+want)
		h.client(codec.V5, "late").subscribed(filter("t", 0)).expect(`PUBLISH q0 r1 d0 "t" "x"` + want)
	})
}

func TestPublisherPropertiesAreForwardedUnaltered(t *testing.T) {
	covers(t, "MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-20")
	forwardedAlike(t, nil, "")
	forwardedAlike(t, codec.AppendUint(nil, codec.PayloadFormatIndicator, 0), " {PayloadFormatIndicator=0}")
	forwardedAlike(t, codec.AppendUint(nil, codec.PayloadFormatIndicator, 1), " {PayloadFormatIndicator=1}")
	forwardedAlike(t, codec.AppendBytes(nil, codec.ResponseTopic, "reply/to"), ` {ResponseTopic="reply/to"}`)
	forwardedAlike(t, codec.AppendBytes(nil, codec.ContentType, "text/plain; ü"), ` {ContentType="text/plain; ü"}`)
	forwardedAlike(t, codec.AppendBytes(nil, codec.CorrelationData, ""), ` {CorrelationData=""}`)
	forwardedAlike(t, codec.AppendBytes(nil, codec.CorrelationData, "\x00\xff\xfe"), ` {CorrelationData="\x00\xff\xfe"}`)
	var pairs codec.Properties
	var want []string
	for i, name := range []string{"b", "a", "b", "", "c", "a", "z", "b", "a", "b"} {
		pairs = codec.AppendUserProperty(pairs, name, fmt.Sprint(i))
		want = append(want, fmt.Sprintf(`UserProperty=%q:"%d"`, name, i))
	}
	forwardedAlike(t, pairs, " {"+strings.Join(want, " ")+"}")
}

func TestExpiredMessageIsNotDelivered(t *testing.T) {
	covers(t, "MQTT-3.3.2-5")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", keepFor(100)).subscribed(filter("#", 2))
		sub.cut()
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "a", "short", 1, 1, expiry(1)), publishPacket(codec.V5, "a", "long", 1, 2, expiry(60)),
			publishPacket(codec.V5, "a", "short", 2, 3, expiry(1)), publishPacket(codec.V5, "a", "ever", 2, 4),
			publishPacket(codec.V5, "r", "kept", 0, 0, retain, expiry(1)))
		h.client(codec.V5, "early").subscribed(filter("r", 0)).expect(`PUBLISH q0 r1 d0 "r" "kept" expiry=1`)
		h.advance(2 * time.Second)
		h.back(codec.V5, "sub").expect(`PUBLISH q1 r0 d0 id=1 "a" "long" expiry=58`, `PUBLISH q2 r0 d0 id=2 "a" "ever"`)
		h.client(codec.V5, "late").subscribed(filter("r", 0)).expect()
		h.client(codec.V311, "old").subscribed(filter("r", 0)).expect()
	})
}

func TestRemainingLifetimeIsForwarded(t *testing.T) {
	covers(t, "MQTT-3.3.2-6")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", keepFor(100)).subscribed(filter("t", 1))
		sub.cut()
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "x", 1, 1, retain, expiry(10)))
		h.client(codec.V5, "now").subscribed(filter("t", 1)).expect(`PUBLISH q1 r1 d0 id=1 "t" "x" expiry=10`)
		h.advance(3 * time.Second)
		h.back(codec.V5, "sub").expect(`PUBLISH q1 r0 d0 id=1 "t" "x" expiry=7`)
		h.client(codec.V5, "late").subscribed(filter("t", 1)).expect(`PUBLISH q1 r1 d0 id=1 "t" "x" expiry=7`)
	})
}

func TestOverlappingSubscriptionsGiveOneCopyAtTheHighestQoS(t *testing.T) {
	covers(t, "MQTT-3.3.4-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			for _, order := range [][]codec.Subscription{
				{filter("a/#", 0), filter("a/b", 2), filter("+/b", 1)},
				{filter("a/b", 2), filter("+/b", 1), filter("a/#", 0)},
			} {
				s := h.client(v, "s").subscribed(order...)
				pub := h.client(v, "pub")
				pub.send(publishPacket(v, "a/b", "x", 2, 1))
				s.expect(`PUBLISH q2 r0 d0 id=1 "a/b" "x"`)
				pub.send(publishPacket(v, "c/b", "y", 2, 2))
				s.expect(`PUBLISH q1 r0 d0 id=2 "c/b" "y"`)
				pub.send(publishPacket(v, "a/c", "z", 2, 3))
				s.expect(`PUBLISH q0 r0 d0 "a/c" "z"`)
			}
		}
	})
}

func TestSubscriptionIdentifiersGoAlong(t *testing.T) {
	covers(t, "MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.3.4-5")
	identified := func(id uint32, f codec.Subscription) []byte {
		s := codec.Subscribe{PacketID: 5, Filters: []codec.Subscription{f}, SubscriptionID: id}
		return s.Append(nil, codec.V5)
	}
	each(t, Options{}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s")
		s.send(identified(7, filter("a/#", 0)), identified(9, filter("a/b", 1)))
		s.expect("SUBACK 5 [00]", "SUBACK 5 [01]")
		s.subscribed(filter("+/b", 0))
		pub := h.client(codec.V5, "pub")
		send := func(name string, qos codec.QoS) string {
			t.Helper()
			pub.send(publishPacket(codec.V5, name, "x", qos, 1))
			got := s.all()
			if len(got) != 1 {
				t.Fatalf("%q, want one combined copy", got)
			}
			return got[0]
		}
		if got, want := send("a/c", 0), `PUBLISH q0 r0 d0 "a/c" "x" {SubscriptionIdentifier=7}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := send("c/b", 0), `PUBLISH q0 r0 d0 "c/b" "x"`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for qos := codec.QoS(0); qos <= 1; qos++ {
			got := send("a/b", qos)
			if strings.Count(got, "SubscriptionIdentifier=") != 2 || !strings.Contains(got, "=7") || !strings.Contains(got, "=9") {
				t.Errorf("got %s, want identifiers 7 and 9", got)
			}
		}
		s.send(identified(8, filter("a/#", 0)))
		s.expect("SUBACK 5 [00]")
		if got, want := send("a/c", 0), `PUBLISH q0 r0 d0 "a/c" "x" {SubscriptionIdentifier=8}`; got != want {
			t.Errorf("after a new identifier got %s, want %s", got, want)
		}
	})
}

func TestSubscriptionIdentifiersOutliveTheQueue(t *testing.T) {
	covers(t, "MQTT-3.3.4-3", "MQTT-3.3.4-4")
	each(t, Options{}, func(t *testing.T, h *harness) {
		s := h.client(codec.V5, "s", keepFor(100))
		one := codec.Subscribe{PacketID: 1, Filters: []codec.Subscription{filter("a/#", 1)}, SubscriptionID: 1}
		two := codec.Subscribe{PacketID: 2, Filters: []codec.Subscription{filter("a/b", 2)}, SubscriptionID: 2}
		s.send(one.Append(nil, codec.V5), two.Append(nil, codec.V5))
		s.expect("SUBACK 1 [01]", "SUBACK 2 [02]")
		s.cut()
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "a/b", "x", 2, 1), publishPacket(codec.V5, "a/c", "y", 2, 2))
		s = h.back(codec.V5, "s", keepFor(100))
		first := s.read()
		if !strings.HasPrefix(first, `PUBLISH q2 r0 d0 id=1 "a/b" "x"`) || strings.Count(first, "SubscriptionIdentifier=") != 2 {
			t.Errorf("got %s", first)
		}
		s.expect(`PUBLISH q1 r0 d0 id=2 "a/c" "y" {SubscriptionIdentifier=1}`)
		s.cut()
		s = h.back(codec.V5, "s")
		if again, want := s.read(), strings.Replace(first, "d0", "d1", 1); again != want {
			t.Errorf("sent again: %s, want %s", again, want)
		}
		s.expect(`PUBLISH q1 r0 d1 id=2 "a/c" "y" {SubscriptionIdentifier=1}`)
	})
}
