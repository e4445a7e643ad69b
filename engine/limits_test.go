package engine

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
)

// connect5 is a v5 CONNECT with Clean Start of the client id.
func connect5(id string) []byte { return connectPacket(codec.V5, id, true) }

func limited(h *harness, which metrics.Limit) (n uint64) {
	for _, l := range h.b.loops {
		n += l.counters.Limited[which]
	}
	return n
}

// hello is a client that was accepted.
func hello(h *harness, id string) *peer {
	h.t.Helper()
	p := h.dial(codec.V5)
	p.send(connect5(id))
	p.expect("CONNACK sp=0 00 {ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10}")
	return p
}

func publish5(topic string) []byte { return publishPacket(codec.V5, topic, "x", 0, 0) }

func publishOf(size int) []byte {
	return publishPacket(codec.V5, "t", strings.Repeat("x", size), 0, 0)
}

// Above its rate a client is not read from, and loses nothing.
func TestMessageRatePauses(t *testing.T) {
	each(t, Options{MessageRate: 4}, func(t *testing.T, h *harness) {
		sub, pub := hello(h, "sub"), hello(h, "pub")
		sub.hex("82 07 0001 00 0001 74 00")
		sub.all()
		for range 20 {
			pub.send(publish5("t"))
		}
		if n := len(sub.all()); n != 5 || !pub.paused {
			t.Fatalf("%d messages went out at once, paused %v; want 5, the last of them one too many", n, pub.paused)
		}
		h.advance(2 * time.Second)
		if n := len(sub.all()); n < 6 || n > 9 {
			t.Fatalf("%d messages in 2 s at 4 a second", n)
		}
		h.advance(3 * time.Second)
		if n := len(sub.all()); n == 0 || pub.paused {
			t.Fatalf("the last messages did not come (%d), or reading is paused (%v) for nothing", n, pub.paused)
		}
		pub.send(publish5("t"))
		sub.expect(`PUBLISH q0 r0 d0 "t" "x"`)
		if limited(h, metrics.RatePaused) == 0 {
			t.Fatal("not counted")
		}
	})
}

// What comes all the same of a client that is not read from has a bound.
func TestPausedClientIsBounded(t *testing.T) {
	h := newHarness(t, 1, Options{ByteRate: 100_000, MaximumPacketSize: 1 << 20})
	p := hello(h, "p")
	big := publishOf(300_000)
	for range 10 {
		p.send(big)
	}
	p.expectEnd(`DISCONNECT 96`)
}

func TestRateDisconnects(t *testing.T) {
	h := newHarness(t, 1, Options{MessageRate: 1, RateDisconnect: true})
	p := hello(h, "p")
	p.send(publish5("t"), publish5("t"))
	p.expectEnd(`DISCONNECT 96`)
	if limited(h, metrics.RateDisconnected) != 1 {
		t.Fatal("not counted")
	}
}

// A pause is not the client's silence, and too long a one is none.
func TestPauseAndKeepAlive(t *testing.T) {
	h := newHarness(t, 1, Options{ByteRate: 1000})
	p := h.dial(codec.V5)
	p.send(connectPacket(codec.V5, "p", true, func(c *codec.Connect) { c.KeepAlive = 1 }))
	p.all()
	p.send(publishOf(10_000))
	h.advance(9 * time.Second)
	p.expect()
	p.send(publishOf(100_000))
	h.advance(time.Second)
	p.expectEnd(`DISCONNECT 96`)
}

type rated struct{}

func (rated) Decide(context.Context, *hook.Connect) (hook.Decision, error) {
	return hook.Decision{Verdict: hook.Accept, MessageRate: 1}, nil
}

func TestRateOfDecision(t *testing.T) {
	h := newHarness(t, 1, Options{Hooks: []any{rated{}}, MessageRate: 1000})
	p := hello(h, "p")
	p.send(publish5("t"), publish5("t"))
	if !p.paused {
		t.Fatal("the decision's rate does not count")
	}
}

func TestAddressLimits(t *testing.T) {
	each(t, Options{AddressConnections: 2}, func(t *testing.T, h *harness) {
		a := hello(h, "a")
		hello(h, "b")
		c := h.dial(codec.V5)
		c.send(connect5("c"))
		c.expectEnd(`CONNACK sp=0 97 {ReasonString="as many connections of this address as allowed"}`)
		c.cut()
		a.cut()
		hello(h, "c")
		if limited(h, metrics.AddressConnections) != 1 {
			t.Fatal("not counted")
		}
	})
	h := newHarness(t, 1, Options{AddressConnectRate: 2})
	hello(h, "a")
	hello(h, "b")
	c := h.dial(codec.V5)
	c.send(connect5("c"))
	c.expectEnd(`CONNACK sp=0 9F {ReasonString="too many connect at once"}`)
	h.advance(time.Second)
	hello(h, "c")
}

// Two that use one Client Identifier throw each other out until they are held back.
func TestTakeoverLoopIsHeldBack(t *testing.T) {
	each(t, Options{ClientConnectRate: 10}, func(t *testing.T, h *harness) {
		last := hello(h, "twin")
		for range 9 {
			last = hello(h, "twin")
		}
		refused := h.dial(codec.V5)
		refused.send(connect5("twin"))
		refused.expectEnd(`CONNACK sp=0 9F {ReasonString="this client connects too often"}`)
		last.expect()
		hello(h, "another")
		h.advance(10 * time.Second)
		hello(h, "twin")
	})
}

func TestBan(t *testing.T) {
	bans := map[string]Ban{
		"client":  {ClientID: "bad"},
		"network": {Address: netip.MustParsePrefix("127.0.0.0/8"), Until: time.Now().Add(time.Hour)},
	}
	for name, ban := range bans {
		t.Run(name, func(t *testing.T) {
			each(t, Options{}, func(t *testing.T, h *harness) {
				p := hello(h, "bad")
				must(t, h.b.Ban(ban))
				h.run()
				p.expectEnd(`DISCONNECT 98`)
				p = h.dial(codec.V5)
				p.send(connect5("bad"))
				p.expectEnd(`CONNACK sp=0 8A {ReasonString="banned"}`)
				if len(h.b.Bans()) != 1 || !h.b.Unban(ban) || h.b.Unban(ban) {
					t.Fatal("the list is wrong")
				}
				hello(h, "bad")
			})
		})
	}
	if newHarness(t, 1, Options{}).b.Ban(Ban{ClientID: "a", UserName: "b"}) == nil {
		t.Fatal("a ban of two things is taken")
	}
}

func TestUserConnections(t *testing.T) {
	each(t, Options{UserConnections: 2}, func(t *testing.T, h *harness) {
		ann := func(c *codec.Connect) { login("ann", "")(c); keepFor(1000)(c) }
		refused := func(id string) {
			t.Helper()
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, id, false, ann))
			p.expectEnd(`CONNACK sp=0 97 {ReasonString="as many connections of this user as allowed"}`)
		}
		first := h.client(codec.V5, "1", ann)
		h.client(codec.V5, "2", ann)
		refused("3")
		h.client(codec.V5, "3", login("otto", ""))
		hello(h, "4")
		again := h.back(codec.V5, "1", ann) // takes its own place
		first.cut()
		refused("5")
		again.cut()
		h.client(codec.V5, "5", ann)
		if n := limited(h, metrics.UserConnections); n != 2 {
			t.Fatalf("%d counted, want 2", n)
		}
	})
}

func TestUserConnectRate(t *testing.T) {
	each(t, Options{UserConnectRate: 2}, func(t *testing.T, h *harness) {
		ann := login("ann", "")
		h.client(codec.V5, "1", ann)
		h.client(codec.V5, "2", ann)
		c := h.dial(codec.V5)
		c.send(connectPacket(codec.V5, "3", false, ann))
		c.expectEnd(`CONNACK sp=0 9F {ReasonString="this user connects too often"}`)
		h.client(codec.V5, "3", login("otto", ""))
		h.advance(time.Second)
		h.client(codec.V5, "4", ann)
		if n := limited(h, metrics.UserConnectRate); n != 1 {
			t.Fatalf("%d counted, want 1", n)
		}
	})
}

func TestListenerConnectRate(t *testing.T) {
	h := newHarness(t, 1, Options{Listeners: []Listener{{Address: "harness:1883", Anonymous: true, ConnectRate: 2}}})
	hello(h, "a")
	hello(h, "b")
	c := h.dial(codec.V5)
	c.send(connect5("c"))
	c.expectEnd(`CONNACK sp=0 9F {ReasonString="too many connect at once"}`)
	h.advance(time.Second)
	hello(h, "c")
	if limited(h, metrics.ListenerConnectRate) != 1 {
		t.Fatal("not counted")
	}
}
