package inflight

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestIDSet(t *testing.T) {
	var s IDSet
	f := func(name string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	f("Has in the zero set", s.Has(1), false)
	f("Remove from the zero set", s.Remove(1), false)
	f("Add(0)", s.Add(0), false)
	f("memory after Add(0)", s.slots != nil, false)
	f("Add(1)", s.Add(1), true)
	f("Add(1) again", s.Add(1), false)
	f("Add(9)", s.Add(9), true)
	f("Add(65535)", s.Add(65535), true)
	f("Has(0)", s.Has(0), false)
	f("Has(9)", s.Has(9), true)
	f("Has(17)", s.Has(17), false)
	f("Remove(1)", s.Remove(1), true)
	f("Remove(1) again", s.Remove(1), false)
	f("Has(9) after that", s.Has(9), true)
	s.Trim()
	f("memory while in use", s.slots != nil, true)
	s.Remove(9)
	s.Remove(65535)
	s.Trim()
	f("memory after Trim", s.slots != nil, false)
}

func TestIDSetAll(t *testing.T) {
	var s IDSet
	for _, id := range []uint16{3, 11, 65535} {
		s.Add(id)
	}
	if got := slices.Sorted(s.All()); !slices.Equal(got, []uint16{3, 11, 65535}) {
		t.Errorf("All yields %v", got)
	}
	for range s.All() {
		break // must stop without a panic
	}
}

func TestIDSetHoldsAllIdentifiers(t *testing.T) {
	var s IDSet
	for id := range maxOpen {
		if !s.Add(uint16(id + 1)) {
			t.Fatalf("Add(%d) fails", id+1)
		}
	}
	if s.Len() != maxOpen || s.Add(77) || !s.Has(1) || !s.Has(65535) || s.Has(0) {
		t.Errorf("the full set holds %d", s.Len())
	}
	for id := range maxOpen {
		if !s.Remove(uint16(id + 1)) {
			t.Fatalf("Remove(%d) fails", id+1)
		}
	}
	if s.Len() != 0 {
		t.Errorf("Len = %d, want 0", s.Len())
	}
}

func TestIDSetAgainstModel(t *testing.T) {
	f := func(seed uint64, most int, next func(rng *rand.Rand) uint16) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 0))
		var s IDSet
		model := map[uint16]bool{}
		for op := range 40_000 {
			id := next(rng)
			if has := s.Has(id); has != model[id] {
				t.Fatalf("seed %d: Has(%d) = %v", seed, id, has)
			}
			if len(model) < most && rng.IntN(5) < 3 {
				if added := s.Add(id); added != (id != 0 && !model[id]) {
					t.Fatalf("seed %d: Add(%d) = %v", seed, id, added)
				}
				if id != 0 {
					model[id] = true
				}
			} else {
				if removed := s.Remove(id); removed != model[id] {
					t.Fatalf("seed %d: Remove(%d) = %v", seed, id, removed)
				}
				delete(model, id)
			}
			if s.Len() != len(model) {
				t.Fatalf("seed %d: Len = %d, want %d", seed, s.Len(), len(model))
			}
			if op%4096 == 0 && !slices.Equal(slices.Sorted(s.All()), slices.Sorted(maps.Keys(model))) {
				t.Fatalf("seed %d: All differs from the model", seed)
			}
		}
	}
	f(1, 6, func(rng *rand.Rand) uint16 { return uint16(rng.IntN(24)) })
	f(2, 40, func(rng *rand.Rand) uint16 { return uint16(rng.IntN(64)) })
	f(3, 300, func(rng *rand.Rand) uint16 { return uint16(rng.IntN(900)) })
	f(4, 100, func(rng *rand.Rand) uint16 { return uint16(rng.IntN(300)) * inverse })       // one home, or next to it
	f(5, 100, func(rng *rand.Rand) uint16 { return uint16(65400+rng.IntN(200)) * inverse }) // runs across the end
}

// inverse undoes the multiplication of home: n*inverse has its home at the upper bits of n.
const inverse = 30599

func TestHomeSpreadsWhatIsCountedUp(t *testing.T) {
	var s IDSet
	for id := range uint16(maxOpen / 2) {
		s.Add(id + 1)
	}
	longest, run := 0, 0
	for _, id := range s.slots {
		if run++; id == 0 {
			run = 0
		}
		longest = max(longest, run)
	}
	if longest > 8 {
		t.Errorf("%d identifiers in a row make a run of %d", maxOpen/2, longest)
	}
	if got := inverse * 40503 % (1 << 16); got != 1 {
		t.Errorf("inverse times the factor is %d, want 1", got)
	}
}

func TestIDSetNoAllocs(t *testing.T) {
	var s IDSet
	if n := testing.AllocsPerRun(1000, func() {
		for id := uint16(1); id <= 20; id++ {
			s.Add(id)
		}
		for id := range s.All() {
			s.Has(id)
		}
		for id := uint16(1); id <= 20; id++ {
			s.Remove(id)
		}
	}); n != 0 {
		t.Errorf("the steady state allocates %v times", n)
	}
}
