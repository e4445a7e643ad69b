package engine

import (
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

func TestDisconnectByTheAdministrator(t *testing.T) {
	covers(t, "B-admin")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("w", 0))
		for _, v := range versions {
			p := h.client(v, "c", keepForIn(v, 60), willAfter(0, "will"))
			if !h.b.Disconnect("c", codec.AdministrativeAction) {
				t.Fatal("no such session")
			}
			h.run()
			if v == codec.V5 {
				p.expectEnd("DISCONNECT 98")
			} else {
				p.expectEnd()
			}
			watch.expectServed("will")
		}
		h.back(codec.V5, "c").send(disconnectPacket(codec.V5, 0)) // the session stayed
		if h.b.Disconnect("c", codec.AdministrativeAction) {
			t.Fatal("there is a session that has ended")
		}
	})
}

// The session may be on its way to another loop, or there already.
func TestDisconnectFollowsTheSession(t *testing.T) {
	for seed := range uint64(40) {
		s := newShuffle(t, seed, 3, Options{})
		s.source(0, 1)
		r := s.roamer("one", 1, "")
		for range 3 {
			s.connect(r, false, keepFor(1000))
			for range s.rng.IntN(6) {
				s.turn()
			}
		}
		for i, e := range s.envs { // close turns: the directory is to be asked between them
			if s.open[i] {
				s.open[i] = false
				e.loop.end()
			}
		}
		s.b.Disconnect("one", codec.AdministrativeAction)
		for s.turn() {
		}
		if n := r.alive(); n != 0 {
			s.fail("%d connections are left", n)
		}
		s.consistent()
	}
}

func TestShutdown(t *testing.T) {
	covers(t, "B-shutdown")
	each(t, Options{}, func(t *testing.T, h *harness) {
		var peers []*peer
		for i, v := range versions {
			peers = append(peers, h.client(v, string(rune('a'+i)), willAfter(0, "will")))
		}
		early := h.dial(codec.V5)
		watch := h.client(codec.V5, "watch", keepFor(60)).subscribed(filter("w", 1))
		for _, l := range h.b.loops {
			l.begin()
			l.farewell()
			l.end()
			h.run()
		}
		for _, p := range peers {
			if p.version == codec.V5 {
				p.expectEnd("DISCONNECT 8B")
			} else {
				p.expectEnd()
			}
		}
		early.expectEnd()
		lines := watch.all()
		if len(lines) == 0 || lines[len(lines)-1] != "DISCONNECT 8B" {
			t.Errorf("got %v", lines)
		}
		if len(h.envs) == 1 && len(lines) != 4 { // on other loops it may be gone before the wills
			t.Errorf("got %v, want three wills before the end", lines)
		}
		for i := range h.b.loops {
			if p := h.dialOn(i, codec.V5); !p.gone {
				t.Errorf("loop %d takes connections after the end", i)
			}
		}
		h.run()
	})
}
