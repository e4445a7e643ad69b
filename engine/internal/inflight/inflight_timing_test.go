package inflight

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// One operation is one exchange, opened and closed, with size others open; acknowledged in order or not.
func BenchmarkWindow(b *testing.B) {
	v := new(int)
	f := func(size int, order string, pick func(rng *rand.Rand, oldest int) int) {
		b.Run(fmt.Sprintf("open=%d/%s", size, order), func(b *testing.B) {
			var w Window[*int]
			rng := rand.New(rand.NewPCG(1, 2))
			ids := make([]uint16, size)
			for i := range ids {
				ids[i], _ = w.Add(v, AwaitPuback)
			}
			b.ReportAllocs()
			oldest := 0
			for b.Loop() {
				i := pick(rng, oldest)
				w.Remove(ids[i])
				ids[i], _ = w.Add(v, AwaitPuback)
				if oldest++; oldest == size {
					oldest = 0
				}
			}
		})
	}
	for _, size := range []int{1, 20, 1000} {
		f(size, "in order", func(_ *rand.Rand, oldest int) int { return oldest })
		f(size, "any order", func(rng *rand.Rand, _ int) int { return rng.IntN(size) })
	}
}

// The worst there is: all identifiers but one are open, so every Add walks to the one just closed.
func BenchmarkWindowNearlyFull(b *testing.B) {
	var w Window[*int]
	v := new(int)
	for range maxOpen {
		w.Add(v, AwaitPuback)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		w.Remove(uint16(1 + rng.IntN(maxOpen)))
		w.Add(v, AwaitPuback)
	}
}

func BenchmarkOrdered(b *testing.B) {
	var w Window[*int]
	for range 20 {
		w.Add(new(int), AwaitPuback)
	}
	entries := make([]*Entry[*int], 0, 20)
	b.ReportAllocs()
	for b.Loop() {
		entries = w.Ordered(entries[:0])
	}
}

// One operation is one QoS 2 PUBLISH and its PUBREL, with 20 others under way.
func BenchmarkIDSet(b *testing.B) {
	var s IDSet
	id := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		if id++; id == 0 {
			id = 1
		}
		s.Add(id)
		s.Remove(id - 20)
	}
}
