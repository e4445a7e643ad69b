package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
)

// Clients together meet the rate of their user, of their address and of their
// listener; others do not.
func TestSharedRates(t *testing.T) {
	four := Rates{Messages: 4}
	as := func(user string) func(*codec.Connect) { return login(user, "") }
	cases := map[string]Options{
		"user":     {UserRates: four},
		"address":  {AddressRates: four},
		"listener": {Listeners: []Listener{{Address: "harness:1883", Anonymous: true, Rates: four}}},
	}
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			each(t, o, func(t *testing.T, h *harness) {
				a, b := h.client(codec.V5, "a", as("ann")), h.client(codec.V5, "b", as("ann"))
				other := h.client(codec.V5, "c", as("otto"))
				a.send(publish5("t"), publish5("t"), publish5("t"))
				b.send(publish5("t"))
				if a.paused || b.paused {
					t.Fatal("paused within the rate")
				}
				b.send(publish5("t"))
				if a.paused || !b.paused {
					t.Fatal("the one that sends beyond the common rate goes on, or the other is paused before it sends")
				}
				if other.send(publish5("t")); other.paused != (name != "user") {
					t.Fatalf("another user is paused: %v", other.paused)
				}
				h.advance(2 * time.Second)
				if b.paused || other.paused {
					t.Fatal("still paused")
				}
				if limited(h, metrics.SharedRatePaused) == 0 || limited(h, metrics.RatePaused) != 0 {
					t.Fatal("counted wrongly")
				}
				b.send(publish5("t"), publish5("t"), publish5("t"), publish5("t"), publish5("t"))
				b.cut()
				b = h.client(codec.V5, "b", as("ann"))
				if b.send(publish5("t")); !b.paused {
					t.Fatal("who connects anew has paid")
				}
			})
		})
	}
}

// A client above the rate at which it may be sent to loses QoS 0, counted, and
// gets all else in time and in order.
func TestSendRate(t *testing.T) {
	for name, o := range map[string]Options{"messages": {SendRate: 4}, "bytes": {SendByteRate: 4 * 8},
		"address": {AddressRates: Rates{SendMessages: 4}}} {
		t.Run(name, func(t *testing.T) {
			each(t, o, func(t *testing.T, h *harness) {
				sub := hello(h, "sub").subscribed(filter("t", 1))
				pub := hello(h, "pub")
				for i := range 10 {
					pub.send(publishPacket(codec.V5, "t", fmt.Sprint(i), 1, uint16(i+1)))
				}
				for range 3 {
					pub.send(publish5("t"))
				}
				if n := len(sub.all()); n < 4 || n > 6 {
					t.Fatalf("%d messages at once, want about 4", n)
				}
				if n := h.dropped("rate"); n != 3 {
					t.Fatalf("%d messages of QoS 0 dropped for the rate, want 3", n)
				}
				got := 0
				for range 20 {
					h.advance(250 * time.Millisecond)
					got += len(sub.all())
				}
				if got < 4 || got > 6 {
					t.Fatalf("%d more came, want the rest of 10", got)
				}
				if pub.send(publish5("t")); len(sub.all()) != 1 {
					t.Fatal("nothing is sent although the rate allows it")
				}
				if limited(h, metrics.SendRatePaused) == 0 {
					t.Fatal("not counted")
				}
			})
		})
	}
}

// A connection that is held back for its rate can be taken over and can end.
func TestHeldConnectionEnds(t *testing.T) {
	each(t, Options{SendRate: 1}, func(t *testing.T, h *harness) {
		h.client(codec.V5, "sub", keepFor(100)).subscribed(filter("t", 1))
		pub := hello(h, "pub")
		for i := range 4 {
			pub.send(publishPacket(codec.V5, "t", fmt.Sprint(i), 1, uint16(i+1)))
		}
		sub := h.back(codec.V5, "sub", keepFor(100))
		sub.cut()
		h.advance(5 * time.Second)
		sub = h.back(codec.V5, "sub", keepFor(100))
		got := len(sub.all())
		for range 24 {
			h.advance(250 * time.Millisecond)
			got += len(sub.all())
		}
		if got != 4 {
			t.Fatalf("%d messages, want all 4", got)
		}
	})
}

func TestTopicLength(t *testing.T) {
	long := strings.Repeat("x", 11)
	each(t, Options{MaxTopicLength: 10}, func(t *testing.T, h *harness) {
		p := hello(h, "p")
		p.send(publishPacket(codec.V5, long, "", 1, 1), publishPacket(codec.V5, long[1:], "", 1, 2))
		p.expect(`PUBACK 1 90 {ReasonString="topic name is too long"}`, "PUBACK 2 10")
		p.send(subscribePacket(codec.V5, 3, filter(long, 0), filter(long[1:], 0), filter("$share/group/"+long[1:], 0)))
		p.expect("SUBACK 3 [8F 00 00]")
		p.send(publish5(long))
		p.expectEnd("DISCONNECT 90")
		w := h.dial(codec.V5)
		w.send(connectPacket(codec.V5, "w", true, willOf(codec.Will{Topic: []byte(long)})))
		w.expectEnd(`CONNACK sp=0 90 {ReasonString="will topic is too long"}`)
		if n := limited(h, metrics.TopicLength); n != 4 {
			t.Fatalf("%d counted, want 4", n)
		}
	})
}

func TestFiltersOfOnePacket(t *testing.T) {
	three := []codec.Subscription{filter("a", 0), filter("b", 1), filter("c", 1)}
	each(t, Options{MaxFilters: 2}, func(t *testing.T, h *harness) {
		p := hello(h, "p")
		p.send(subscribePacket(codec.V5, 1, three...))
		p.expect("SUBACK 1 [00 01 97]")
		old := h.client(codec.V311, "old")
		old.send(subscribePacket(codec.V311, 1, three...))
		old.expect("SUBACK 1 [00 01 80]")
		if n := limited(h, metrics.PacketFilters); n != 2 {
			t.Fatalf("%d counted, want 2", n)
		}
		oldest := h.client(codec.V31, "oldest")
		oldest.send(subscribePacket(codec.V31, 1, three...))
		oldest.expectEnd()
	})
}

// What one client has retained is bounded; what it replaces and clears makes
// room, also by others.
func TestClientRetained(t *testing.T) {
	o := Options{ClientRetainedMessages: 2, ClientRetainedBytes: 200}
	each(t, o, func(t *testing.T, h *harness) {
		a, b := hello(h, "a"), hello(h, "b")
		keep := func(p *peer, topic, payload, want string) {
			t.Helper()
			p.send(publishPacket(codec.V5, topic, payload, 1, 1, retain))
			p.expect("PUBACK 1 " + want)
		}
		keep(a, "1", "x", "10")
		keep(a, "2", "x", "10")
		keep(a, "3", "x", "97")
		keep(a, "2", "y", "10")
		keep(b, "2", "z", "10") // it is b's now
		keep(a, "3", "x", "10")
		keep(a, "2", "x", "97")
		keep(a, "3", "", "10") // cleared
		keep(a, "4", strings.Repeat("x", 300), "97")
		keep(a, "4", "x", "10")
		if n := limited(h, metrics.ClientRetained); n != 3 {
			t.Fatalf("%d counted, want 3", n)
		}
	})
}
