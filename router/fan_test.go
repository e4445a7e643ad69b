package router

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

func TestSizes(t *testing.T) {
	f := func(what string, got, want uintptr) {
		t.Helper()
		if got != want {
			t.Errorf("%s has %d bytes, want %d", what, got, want)
		}
	}
	f("Subscriber", unsafe.Sizeof(Subscriber{}), 24)
	f("node", unsafe.Sizeof(node{}), 48)
	f("rare", unsafe.Sizeof(rare{}), 32)
	f("slot", unsafe.Sizeof(slot{}), 8)
	f("what a cache hit reads", unsafe.Offsetof(entry{}.stamp)+unsafe.Sizeof(stamp{}.epoch), 64)
}

// A snapshot is a list that somebody kept, with a copy of what it was.
type snapshot struct{ list, copy []Subscriber }

// TestList changes one list at random and keeps what routes were given on the way: none of it may change.
func TestList(t *testing.T) {
	f := func(seed uint64, refs, operations int) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 0))
		r := New(1)
		want := map[Ref]uint32{}
		var snapshots []snapshot
		var route Route
		for i := range operations {
			ref := Ref(1 + rng.IntN(refs))
			if rng.IntN(refs) >= len(want) {
				id := uint32(1 + rng.IntN(3))
				r.Subscribe("a/b", Subscription{Ref: ref, ID: id})
				want[ref] = id
			} else {
				r.Unsubscribe("a/b", 0, ref)
				delete(want, ref)
			}
			if i%7 != 0 {
				continue
			}
			r.Match([]byte("a/b"), &route)
			list := route.Loops[0]
			got := map[Ref]uint32{}
			for _, s := range list {
				got[s.Ref] = s.id
			}
			if !maps.Equal(got, want) || len(list) != len(want) {
				t.Fatalf("operation %d: list of %d is not the %d subscribers", i, len(list), len(want))
			}
			snapshots = append(snapshots, snapshot{list, slices.Clone(list)})
		}
		for i, s := range snapshots {
			if !slices.Equal(s.list, s.copy) {
				t.Fatalf("list %d changed after it was handed out", i)
			}
		}
	}
	f(1, 2, 200)
	f(2, 20, 2000)
	f(3, listChunk+2, 4000)
	f(4, 5*listChunk, 20000)
}

// TestListSpace sees that the list gives back what it held.
func TestListSpace(t *testing.T) {
	l := &list{}
	for i := range 3 * listChunk {
		l.put(Subscriber{Ref: Ref(i + 1)})
	}
	if len(l.chunks) != 3 || len(l.index) != 3*listChunk {
		t.Fatalf("%d chunks, %d in the index", len(l.chunks), len(l.index))
	}
	for i := range 3 * listChunk {
		if _, ok := l.remove(Ref(i + 1)); !ok {
			t.Fatalf("%d is missing", i+1)
		}
		if want := (l.count + listChunk - 1) / listChunk; len(l.chunks) != want {
			t.Fatalf("%d chunks for %d subscribers", len(l.chunks), l.count)
		}
	}
	if l.index != nil || l.count != 0 {
		t.Errorf("index %v, count %d", l.index, l.count)
	}
}

// TestJoinLarge merges lists that are long enough for the index.
func TestJoinLarge(t *testing.T) {
	f := func(sizes ...int) {
		t.Helper()
		r := New(1)
		filters := []string{"a/b", "a/+", "a/#", "+/b", "#"}
		want := map[Ref]int{} // subscriptions of each session
		for i, size := range sizes {
			for ref := Ref(1); ref <= Ref(size); ref++ {
				r.Subscribe(filters[i], Subscription{Ref: ref * Ref(i%2+1), ID: uint32(i + 1)})
				want[ref*Ref(i%2+1)]++
			}
		}
		var route Route
		r.Match([]byte("a/b"), &route)
		got := map[Ref]int{}
		for _, s := range route.Loops[0] {
			got[s.Ref] += len(s.AppendIDs(nil))
		}
		if !maps.Equal(got, want) || len(route.Loops[0]) != len(want) {
			t.Errorf("%d: %d subscribers, want %d", sizes, len(route.Loops[0]), len(want))
		}
	}
	f(fewSubscribers, fewSubscribers)
	f(fewSubscribers+1, fewSubscribers+1)
	f(1000, 3)
	f(20, 1000) // the longest is not entered in the index
	f(3, 1000, 3)
	f(500, 400, 300, 200, 100)
}
