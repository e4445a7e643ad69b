package retained

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

const million = 1_000_000

// names returns a million topic names: 100,000 devices with 10 sensors each, in random order.
func names() []string {
	list := make([]string, million)
	for i := range list {
		list[i] = fmt.Sprintf("site/device%05d/sensor%d", i/10, i%10)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(million, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func filled(list []string) *Index[*int] {
	x, v := New[*int](), new(int)
	for _, name := range list {
		x.Set(name, v)
	}
	return x
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// One operation matches a filter to the end; a value is a pointer.
func BenchmarkMatch(b *testing.B) {
	list := names()
	before := heapBytes()
	x := filled(list)
	perTopic := float64(heapBytes()-before) / million
	visited := 0
	visit := func(string, *int) { visited++ }
	f := func(name string, filter func(i int) string, want int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			visited = 0
			i := 0
			for b.Loop() {
				i = (i + 271_829) % million
				var cur Cursor
				for text := filter(i); !x.Match(text, &cur, 64, visit); {
				}
			}
			if visited != want*b.N {
				b.Fatalf("visited %d values, want %d per operation", visited, want)
			}
			b.ReportMetric(perTopic, "B/topic")
		})
	}
	filters := make([]string, million)
	for i, name := range list {
		filters[i] = name[:len("site/device00000/")] + "+"
	}
	f("exact", func(i int) string { return list[i] }, 1)
	f("ten of a device", func(i int) string { return filters[i] }, 10)
	f("one of each device", func(int) string { return "site/+/sensor5" }, million/10)
	f("all", func(int) string { return "#" }, million)
}

// One operation replaces, or deletes and sets, one name of many.
func BenchmarkSet(b *testing.B) {
	list, v := names(), new(int)
	f := func(size int, name string, do func(x *Index[*int], topic string)) {
		b.Run(fmt.Sprintf("topics=%d/%s", size, name), func(b *testing.B) {
			x := filled(list[:size])
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 271_829) % size
				do(x, list[i])
			}
		})
	}
	for _, size := range []int{10_000, million} {
		f(size, "replace", func(x *Index[*int], topic string) { x.Set(topic, v) })
		f(size, "delete and set", func(x *Index[*int], topic string) { x.Delete(topic); x.Set(topic, v) })
	}
}

// One operation replaces a value while another goroutine iterates over all without a pause; the
// longest wait is that of a single Set.
func BenchmarkSetDuringMatch(b *testing.B) {
	for _, limit := range []int{64, maxVisits} {
		b.Run(fmt.Sprintf("limit=%d", limit), func(b *testing.B) {
			list := names()
			x, v := filled(list), new(int)
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				var cur Cursor
				for {
					select {
					case <-stop:
						return
					default:
					}
					if x.Match("#", &cur, limit, func(string, *int) {}) {
						cur = Cursor{}
					}
				}
			}()
			var longest time.Duration
			i := 0
			for b.Loop() {
				i = (i + 271_829) % million
				start := time.Now()
				x.Set(list[i], v)
				longest = max(longest, time.Since(start))
			}
			close(stop)
			<-stopped
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
		})
	}
}
