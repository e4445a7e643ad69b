package engine

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// greeting takes the CONNACK, which must be the only packet there.
func (p *peer) greeting() codec.Connack {
	p.h.t.Helper()
	f := p.frame()
	if f == nil || p.frame() != nil {
		p.h.t.Fatal("want one packet")
	}
	h, _, _ := codec.ReadHeader(f)
	ack, err := codec.ParseConnack(append([]byte(nil), f[h.Size:]...), p.version)
	must(p.h.t, err)
	return ack
}

func TestAssignedClientIdentifier(t *testing.T) {
	covers(t, "B-assign", "B-assign-clean")
	each(t, Options{}, func(t *testing.T, h *harness) {
		form := regexp.MustCompile(`^[0-9a-zA-Z-]{16,23}$`)
		known := make(map[string]bool)
		for i := range 50 {
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "", i%2 == 0, keepFor(60)))
			ack := p.greeting()
			id, ok := ack.Properties.Bytes(codec.AssignedClientIdentifier)
			if !ok || ack.SessionPresent || !form.Match(id) {
				t.Fatalf("assigned %q, session present %v", id, ack.SessionPresent)
			}
			for other := range known {
				same := 0
				for i := range id {
					same += bit(id[i] == other[i])
				}
				if same > len(id)/2 { // 19 characters of 32 kinds agree in two or three places
					t.Fatalf("%q can be guessed from %q", id, other)
				}
			}
			known[string(id)] = true
			if i == 0 { // it is an identifier as any other
				p.send(disconnectPacket(codec.V5, codec.DisconnectWithWill))
				p = h.back(codec.V5, string(id))
			}
			p.cut()
		}
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "mine", false))
		ack := p.greeting()
		if _, ok := ack.Properties.Bytes(codec.AssignedClientIdentifier); ok {
			t.Fatal("an identifier was assigned to a client that has one")
		}
	})
}

func TestServerKeepAlive(t *testing.T) {
	covers(t, "B-ska", "B-ska-311")
	f := func(v codec.Version, asked uint16, told bool, closed time.Duration) {
		t.Helper()
		h := newHarness(t, 1, Options{KeepAliveMaximum: time.Minute})
		p := h.dial(v)
		p.send(connectPacket(v, "c", true, keepAlive(asked)))
		ack := p.greeting()
		switch got, ok := ack.Properties.Uint(codec.ServerKeepAlive); {
		case v == codec.V5 && (ok != told || ok && got != 60):
			t.Errorf("asked %d, told %d, %v", asked, got, ok)
		}
		if closed == 0 {
			h.advance(48 * time.Hour)
			p.expect()
			return
		}
		h.advance(closed - time.Second)
		p.expect()
		h.advance(2 * time.Second)
		if v == codec.V5 {
			p.expectEnd("DISCONNECT 8D")
		} else {
			p.expectEnd()
		}
	}
	f(codec.V5, 3600, true, 90*time.Second)
	f(codec.V5, 0, true, 90*time.Second)
	f(codec.V5, 60, false, 90*time.Second)
	f(codec.V5, 30, false, 45*time.Second)
	f(codec.V311, 3600, false, 5400*time.Second) // 3.x cannot be told: what it asked for stands
	f(codec.V311, 0, false, 0)
	f(codec.V31, 0, false, 0)
}

func TestKeepAliveCountsWholePacketsOfTheClient(t *testing.T) {
	covers(t, "B-ka-any")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			silent := h.client(v, "silent", keepAlive(10)).subscribed(filter("t", 0))
			trickle := h.client(v, "trickle", keepAlive(10))
			acking := h.client(v, "acking", keepAlive(10))
			pub := h.client(v, "pub")
			rest := publishPacket(v, "t", strings.Repeat("x", 100), 0, 0)
			for i := range 20 {
				pub.send(publishPacket(v, "t", "flood", 0, 0))
				if !trickle.closed {
					trickle.send(rest[i : i+1])
				}
				if i%10 == 9 {
					acking.send(ackPacket(v, codec.PUBACK, 999, 0))
				}
				if i < 15 && (silent.closed || trickle.closed) || i > 16 && !(silent.closed && trickle.closed) {
					t.Fatalf("version %v: after %d s: closed %v, %v", v, i, silent.closed, trickle.closed)
				}
				h.advance(time.Second)
			}
			acking.expect()
			acking.cut()
		}
	})
}

func TestSessionExpiryIsCapped(t *testing.T) {
	covers(t, "B-exp-cap", "B-exp-311")
	each(t, Options{SessionExpiryLimit: 5}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("will", 0))
		f := func(v codec.Version, edit ...func(*codec.Connect)) {
			t.Helper()
			p := h.dial(v)
			p.send(connectPacket(v, "c", false, append(edit,
				willOf(codec.Will{Topic: []byte("will"), Payload: []byte("gone"), DelayInterval: 1000}))...))
			ack := p.greeting()
			if got, ok := ack.Properties.Uint(codec.SessionExpiryInterval); v == codec.V5 && (!ok || got != 5) {
				t.Errorf("told %d, %v", got, ok)
			}
			p.cut()
			if v != codec.V5 { // 3.x knows no delay of the will
				watch.expectServed("gone")
			}
			h.advance(4 * time.Second)
			h.back(v, "c", edit...).cut() // not gone yet; this connection has no will
			h.advance(4 * time.Second)
			p = h.back(v, "c", append(edit, willOf(codec.Will{Topic: []byte("will"), Payload: []byte("end"), DelayInterval: 1000}))...)
			p.cut()
			if v != codec.V5 {
				watch.expectServed("end")
			}
			h.advance(4 * time.Second)
			watch.expectServed("")
			h.advance(2 * time.Second)
			if v == codec.V5 {
				watch.expectServed("end")
			}
			p = h.dial(v)
			p.send(connectPacket(v, "c", false))
			if p.greeting().SessionPresent {
				t.Errorf("version %v: the session is still there", v)
			}
			p.send(disconnectPacket(v, 0))
			h.advance(10 * time.Second)
		}
		f(codec.V5, keepFor(3600))
		f(codec.V5, keepFor(0xFFFFFFFF))
		f(codec.V311)
		f(codec.V31)
	})
	h := newHarness(t, 1, Options{SessionExpiryLimit: Unlimited})
	h.client(codec.V311, "c").cut()
	p := h.dial(codec.V311)
	p.send(connectPacket(codec.V311, "c", false))
	p.cut()
	h.advance(48 * time.Hour)
	h.back(codec.V311, "c")
}

func TestSessionExpiryCountsFromTheLastConnection(t *testing.T) {
	covers(t, "B-exp-reconnect")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.client(codec.V5, "c", keepFor(10)).cut()
		for range 5 {
			h.advance(9 * time.Second)
			p := h.back(codec.V5, "c", keepFor(10))
			h.advance(time.Minute) // connected: nothing runs
			p.cut()
		}
		h.advance(9 * time.Second)
		p := h.back(codec.V5, "c", keepFor(100))
		p.cut()
		h.advance(99 * time.Second)
		p = h.back(codec.V5, "c", keepFor(2))
		p.cut()
		h.advance(3 * time.Second)
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "c", false))
		if p.greeting().SessionPresent {
			t.Fatal("the interval of the last CONNECT did not count")
		}
	})
}

func TestSessionChangesVersion(t *testing.T) {
	covers(t, "B-mixed-version")
	each(t, Options{}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		p := h.dial(codec.V311)
		p.send(connectPacket(codec.V311, "c", false))
		p.expect("CONNACK sp=0 00")
		p.subscribed(filter("t", 2))
		for i, v := range []codec.Version{codec.V5, codec.V311, codec.V31, codec.V5, codec.V31} {
			p.cut()
			pub.send(publishWith("t", fmt.Sprint(i), 2, 1, codec.AppendUserProperty(nil, "k", "v")))
			pub.serve()
			edit := []func(*codec.Connect){}
			if v == codec.V5 {
				edit = append(edit, keepFor(60))
			}
			p = h.back(v, "c", edit...)
			want := fmt.Sprintf(`PUBLISH q2 r0 d0 id=1 "t" "%d"`, i)
			if v == codec.V5 {
				want += ` {UserProperty="k":"v"}`
			}
			p.expect(want)
			p.send(ackPacket(v, codec.PUBREC, 1, 0))
			p.expect("PUBREL 1 00")
			p.send(ackPacket(v, codec.PUBCOMP, 1, 0))
		}
	})
}

func TestTakeoverEndsTheOldConnection(t *testing.T) {
	covers(t, "B-takeover-order", "B-8e")
	each(t, Options{OutboundBytes: 1 << 10}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		f := func(v codec.Version, stuck bool) {
			t.Helper()
			old := h.client(v, "c", keepForIn(v, 60)).subscribed(filter("t", 2))
			if v != codec.V5 { // 3.x keeps a session that was not begun with Clean Session
				old.cut()
				old = h.dial(v)
				old.send(connectPacket(v, "c", false))
				old.expectConnack(false)
				old.subscribed(filter("t", 2))
			}
			if stuck {
				old.stall()
			}
			pub.send(publishPacket(codec.V5, "t", strings.Repeat("1", 2000), 1, 1))
			pub.send(publishPacket(codec.V5, "t", strings.Repeat("2", 2000), 2, 2))
			pub.serve()
			now := h.back(v, "c", keepForIn(v, 60))
			lines := old.all()
			said := lines[len(lines)-1] == "DISCONNECT 8E"
			if said != (v == codec.V5) {
				t.Errorf("version %v: the old connection got %d packets, told %v", v, len(lines), said)
			}
			h.advance(1500 * time.Millisecond)
			if !old.gone {
				t.Errorf("version %v, stuck %v: the old socket is open after 1.5 s", v, stuck)
			}
			got := now.serve()
			if len(got) != 2 || got[0][0] != '1' || got[1][0] != '2' {
				t.Errorf("version %v: %d messages came to the new connection, want both in order", v, len(got))
			}
			now.send(disconnectPacket(v, 0))
			h.client(v, "c").cut()
		}
		for _, v := range versions {
			f(v, false)
			f(v, true)
		}
	})
}
