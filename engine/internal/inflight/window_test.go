package inflight

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

func TestSizes(t *testing.T) {
	f := func(name string, size, limit uintptr) {
		t.Helper()
		if unsafe.Sizeof(uintptr(0)) == 8 && size > limit {
			t.Errorf("%s takes %d bytes, want at most %d", name, size, limit)
		}
	}
	f("Window", unsafe.Sizeof(Window[*int]{}), 40)
	f("Entry", unsafe.Sizeof(Entry[*int]{}), 16)
	f("IDSet", unsafe.Sizeof(IDSet{}), 32)
}

func TestStateString(t *testing.T) {
	f := func(s State, want string) {
		t.Helper()
		if got := s.String(); got != want {
			t.Errorf("State(%d).String() = %q, want %q", s, got, want)
		}
	}
	f(AwaitPuback, "AwaitPuback")
	f(AwaitPubrec, "AwaitPubrec")
	f(AwaitPubcomp, "AwaitPubcomp")
	f(0, "invalid State")
	f(9, "invalid State")
}

func TestWindowLife(t *testing.T) {
	var w Window[string]
	if w.Get(1) != nil || w.Len() != 0 || len(w.Ordered(nil)) != 0 {
		t.Error("the zero window is not empty")
	}
	if _, ok := w.Remove(1); ok {
		t.Error("Remove from the zero window succeeds")
	}
	one, _ := w.Add("one", AwaitPuback)
	two, _ := w.Add("two", AwaitPubrec)
	if one != 1 || two != 2 {
		t.Errorf("first identifiers are %d and %d, want 1 and 2", one, two)
	}
	w.Get(two).State = AwaitPubcomp
	if e := w.Get(two); e.Value != "two" || e.State != AwaitPubcomp || e.PacketID != two {
		t.Errorf("Get(%d) = %+v", two, *e)
	}
	if w.Get(0) != nil || w.Get(9) != nil { // 9 shares the slot of 1
		t.Error("Get finds what is not open")
	}
	if v, ok := w.Remove(one); v != "one" || !ok {
		t.Errorf("Remove(%d) = %q, %v", one, v, ok)
	}
	if _, ok := w.Remove(one); ok {
		t.Error("an entry is removed twice")
	}
	w.Trim()
	if w.slots == nil {
		t.Error("Trim drops an open entry")
	}
	w.Remove(two)
	w.Trim()
	if w.slots != nil {
		t.Error("Trim of an empty window keeps memory")
	}
	if id, _ := w.Add("three", AwaitPuback); id != 3 {
		t.Errorf("identifier after Trim is %d, want 3", id)
	}
}

func TestWindowForgetsRemovedValues(t *testing.T) {
	var w Window[*int]
	id, _ := w.Add(new(int), AwaitPuback)
	w.Remove(id)
	for i := range w.slots {
		if w.slots[i].Value != nil {
			t.Error("a removed value is kept alive")
		}
	}
}

func TestWindowWrapsPastZero(t *testing.T) {
	w := Window[int]{last: 65533}
	f := func(want uint16) {
		t.Helper()
		if id, ok := w.Add(0, AwaitPuback); id != want || !ok {
			t.Errorf("Add = %d, %v, want %d", id, ok, want)
		}
	}
	f(65534)
	f(65535)
	f(1)
	f(2)
}

func TestWindowFillsToTheLastIdentifier(t *testing.T) {
	var w Window[int]
	seen := make([]bool, 1<<16)
	for i := range maxOpen {
		id, ok := w.Add(i, AwaitPuback)
		if !ok || id == 0 || seen[id] {
			t.Fatalf("Add number %d = %d, %v", i, id, ok)
		}
		seen[id] = true
	}
	if id, ok := w.Add(0, AwaitPuback); ok || id != 0 {
		t.Errorf("Add to a full window = %d, %v", id, ok)
	}
	if w.Restore(7, 0, AwaitPuback) {
		t.Error("Restore of an open identifier succeeds")
	}
	w.Remove(4711)
	if id, ok := w.Add(0, AwaitPuback); id != 4711 || !ok {
		t.Errorf("Add = %d, %v, want the only one free, 4711", id, ok)
	}
}

func TestWindowRestore(t *testing.T) {
	var w Window[string]
	f := func(id uint16, want bool) {
		t.Helper()
		if got := w.Restore(id, "v", AwaitPubrec); got != want {
			t.Errorf("Restore(%d) = %v, want %v", id, got, want)
		}
	}
	f(0, false)
	f(65535, true)
	f(65535, false)
	f(7, true)  // shares the slot of 65535 in the smallest ring
	f(15, true) // and of both in the next one
	f(1, true)
	var got []uint16
	for _, e := range w.Ordered(nil) {
		got = append(got, e.PacketID)
	}
	if want := []uint16{65535, 7, 15, 1}; !slices.Equal(got, want) {
		t.Errorf("order after Restore is %v, want %v", got, want)
	}
	if id, _ := w.Add("w", AwaitPuback); id != 2 {
		t.Errorf("Add after Restore(1) = %d, want 2", id)
	}
}

func TestOrderSurvivesWrapOfSeq(t *testing.T) {
	var w Window[int]
	w.Add(0, AwaitPuback) // stuck, sent long before the others
	w.seq = math.MaxUint32 - 2
	for i := 1; i <= 6; i++ {
		w.Add(i, AwaitPuback)
	}
	for i, e := range w.Ordered(nil) {
		if e.Value != i {
			t.Errorf("entry %d in order is that of %d", i, e.Value)
		}
	}
	if w.Len() != 7 {
		t.Errorf("Len = %d, want 7", w.Len())
	}
}

func TestOrderedAppends(t *testing.T) {
	var w Window[int]
	w.Add(5, AwaitPuback)
	first := &Entry[int]{Value: 1}
	got := w.Ordered([]*Entry[int]{first})
	if len(got) != 2 || got[0] != first || got[1].Value != 5 {
		t.Errorf("Ordered does not leave what is there in place: %v", got)
	}
}

// sent is an open exchange as the naive window keeps it, in the order of sending.
type sent struct {
	id uint16
	v  int
}

func TestWindowAgainstModel(t *testing.T) {
	f := func(seed uint64, most, ops int, stuck bool) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 0))
		var w Window[int]
		var open []sent
		var last uint16 // handed out
		for op := range ops {
			switch {
			case len(open) < most && rng.IntN(2) == 0:
				id, ok := w.Add(op, AwaitPuback)
				if !ok || id == 0 || slices.ContainsFunc(open, func(s sent) bool { return s.id == id }) {
					t.Fatalf("seed %d: Add = %d, %v", seed, id, ok)
				}
				if last != 0 && id-last > 1<<15 { // ascending, modulo 2^16
					t.Fatalf("seed %d: Add = %d after %d", seed, id, last)
				}
				last = id
				open = append(open, sent{id, op})
			case len(open) > 0:
				i := 0
				if rng.IntN(4) == 0 {
					i = rng.IntN(len(open))
				}
				if stuck { // the first one is never acknowledged
					i = min(i+1, len(open)-1)
				}
				if stuck && i == 0 {
					continue
				}
				if v, ok := w.Remove(open[i].id); !ok || v != open[i].v {
					t.Fatalf("seed %d: Remove(%d) = %d, %v, want %d", seed, open[i].id, v, ok, open[i].v)
				}
				open = slices.Delete(open, i, i+1)
			default:
				w.Trim()
			}
			if op%64 == 0 {
				compare(t, &w, open)
			}
		}
		compare(t, &w, open)
	}
	f(1, 5, 20_000, false)
	f(2, 20, 300_000, false) // wraps at 65535 twice
	f(3, 20, 300_000, true)
	f(4, 300, 50_000, false)
	f(5, 48, 150_000, true)
}

func compare(t *testing.T, w *Window[int], open []sent) {
	t.Helper()
	entries := w.Ordered(nil)
	if w.Len() != len(open) || len(entries) != len(open) {
		t.Fatalf("Len = %d, %d in order, want %d", w.Len(), len(entries), len(open))
	}
	for i, s := range open {
		if e := entries[i]; e.PacketID != s.id || e.Value != s.v || w.Get(s.id) != e {
			t.Fatalf("entry %d is %+v, want %+v", i, *e, s)
		}
	}
}

// Memory follows what is open: a stuck entry must not make the ring grow as identifiers pass it.
func TestWindowStaysSmall(t *testing.T) {
	var w Window[int]
	w.Add(0, AwaitPuback)
	for range 1 << 18 {
		id, _ := w.Add(0, AwaitPuback)
		w.Remove(id)
	}
	if len(w.slots) != minSlots {
		t.Errorf("two open entries have %d slots", len(w.slots))
	}
}

func TestWindowNoAllocs(t *testing.T) {
	var w Window[*int]
	v := new(int)
	ids := make([]uint16, 20)
	entries := make([]*Entry[*int], 0, 20)
	if n := testing.AllocsPerRun(5000, func() {
		for i := range ids {
			ids[i], _ = w.Add(v, AwaitPuback)
		}
		entries = w.Ordered(entries[:0])
		for _, id := range ids {
			w.Remove(id)
		}
	}); n != 0 {
		t.Errorf("the steady state allocates %v times", n)
	}
}
