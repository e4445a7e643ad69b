package router

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestTable puts children in and takes them out at random, for tags that spread and for tags that collide.
func TestTable(t *testing.T) {
	f := func(tagMask uint32, children int) {
		t.Helper()
		rng := rand.New(rand.NewPCG(uint64(tagMask), 0))
		s := &shard{}
		s.nodes.take()
		tags := map[uint32]uint32{}
		level := func(id uint32) string { return fmt.Sprint("level ", id) }
		check := func() {
			t.Helper()
			for id, tag := range tags {
				if got := s.child(0, tag, level(id)); got != id {
					t.Fatalf("mask %x: child %d found as %d", tagMask, id, got)
				}
				if got := s.child(1, tag, level(id)); got != 0 {
					t.Fatalf("mask %x: child %d found under another parent", tagMask, got)
				}
			}
		}
		for range children {
			id, n := s.nodes.take()
			n.setLevel(level(id))
			tag := rng.Uint32() & tagMask
			s.edges.insert(tag, id)
			tags[id] = tag
		}
		check()
		if got := len(s.edges.directory); got > 32*(1+children/segmentMax) {
			t.Errorf("mask %x: directory of %d for %d children", tagMask, got, children)
		}
		for id, tag := range tags {
			if rng.IntN(4) > 0 {
				s.edges.remove(tag, id)
				delete(tags, id)
			}
		}
		check()
		if s.edges.count != len(tags) {
			t.Errorf("mask %x: count %d, want %d", tagMask, s.edges.count, len(tags))
		}
	}
	f(^uint32(0), 100)
	f(^uint32(0), 20000)
	f(0, 2000)          // nothing can part them: one long segment
	f(0xFF, 4000)       // one directory entry for all
	f(0xFF000000, 5000) // one home slot in each segment
}
