package router

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const million = 1_000_000

// millionFilter returns filter i of a million: 80 % exact, 15 % with +, 5 % with #.
func millionFilter(i int) string {
	metrics := [...]string{"temperature", "humidity", "battery", "state"}
	switch device := i / 20; i % 20 {
	case 0, 1:
		return fmt.Sprintf("site-%d/+/sensor-%d", i%100, i)
	case 2:
		return fmt.Sprintf("+/device-%d/%s", device, metrics[device%4])
	case 3:
		return fmt.Sprintf("site-%d/device-%d/#", device%100, device)
	default:
		return fmt.Sprintf("site-%d/device-%d/%s", device%100, device*4+i/4%5, metrics[i%4])
	}
}

// millionTopic returns a random topic name that an exact filter has.
func millionTopic(rng *rand.Rand) []byte {
	return []byte(millionFilter(rng.IntN(million/20)*20 + 4 + rng.IntN(16)))
}

// uniqueFilter returns a filter that shares only its first level with others: the costliest for memory.
func uniqueFilter(i int) string { return fmt.Sprintf("clients/client-%d/commands", i) }

var millionRouter = sync.OnceValue(func() *Router {
	r := New(2)
	for i := range million {
		r.Subscribe(millionFilter(i), Subscription{Loop: i % 2, Ref: Ref(i + 1), QoS: 1})
	}
	return r
})

func millionTopics(n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	topics := make([][]byte, n)
	for i := range topics {
		topics[i] = millionTopic(rng)
	}
	return topics
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{64, 1 << 17} {
		b.Run(fmt.Sprintf("topics=%d", n), func(b *testing.B) {
			r, topics := millionRouter(), millionTopics(n)
			var route Route
			var i, hits int
			b.ReportAllocs()
			for b.Loop() {
				r.Match(topics[i%n], &route)
				hits += len(route.Loops[0]) + len(route.Loops[1])
				i++
			}
			b.ReportMetric(float64(hits)/float64(i), "subscribers/op")
		})
	}
}

func BenchmarkCacheHit(b *testing.B) {
	for _, n := range []int{64, 4096, 1 << 16} {
		b.Run(fmt.Sprintf("topics=%d", n), func(b *testing.B) {
			c, topics := millionRouter().NewCache(1<<17), millionTopics(n)
			for _, t := range topics {
				c.Route(t)
			}
			var i int
			b.ReportAllocs()
			for b.Loop() {
				c.Route(topics[i&(n-1)])
				i++
			}
		})
	}
}

// BenchmarkCacheHitChurn changes a subscription elsewhere before each look-up. Of 64 names in turn each sees 64
// changes between its look-ups, and every tenth time one of them meets one of its version slots.
func BenchmarkCacheHitChurn(b *testing.B) {
	r, topics := millionRouter(), millionTopics(64)
	c := r.NewCache(1 << 13)
	for _, t := range topics {
		c.Route(t)
	}
	var i int
	b.ReportAllocs()
	for b.Loop() {
		r.versions.bump(slotOf(uint64(i) * hashFactor >> 20))
		c.Route(topics[i&63])
		i++
	}
}

func BenchmarkCacheMiss(b *testing.B) {
	c, topics := millionRouter().NewCache(1<<10), millionTopics(1<<17)
	var i int
	b.ReportAllocs()
	for b.Loop() {
		c.Route(topics[i&(1<<17-1)])
		i++
	}
}

// BenchmarkSubscribe adds to an empty router until it has a million, then starts again, and counts the bytes
// that stay for each subscription beside the filter's text.
func BenchmarkSubscribe(b *testing.B) {
	f := func(name string, filter func(int) string) {
		b.Run(name, func(b *testing.B) {
			filters := make([]string, million)
			text := 0
			for i := range filters {
				filters[i] = filter(i)
				text += len(filters[i])
			}
			before := heap()
			r := New(2)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if i == million {
					b.StopTimer()
					r, i = New(2), 0
					b.StartTimer()
				}
				r.Subscribe(filters[i], Subscription{Loop: i % 2, Ref: Ref(i + 1), QoS: 1})
				i++
			}
			for ; i < million; i++ {
				r.Subscribe(filters[i], Subscription{Loop: i % 2, Ref: Ref(i + 1), QoS: 1})
			}
			b.ReportMetric(float64(heap()-before-text)/million, "heap-B/subscription")
			runtime.KeepAlive(r)
			runtime.KeepAlive(filters)
		})
	}
	f("mixed", millionFilter)
	f("unique", uniqueFilter)
	f("one", func(int) string { return "status" })
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func BenchmarkUnsubscribe(b *testing.B) {
	f := func(name string, filter func(int) string) {
		b.Run(name, func(b *testing.B) {
			r := New(2)
			filters := make([]string, million)
			fill := func() {
				for i := range filters {
					filters[i] = filter(i)
					r.Subscribe(filters[i], Subscription{Loop: i % 2, Ref: Ref(i + 1)})
				}
			}
			fill()
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if i == million {
					b.StopTimer()
					fill()
					i = 0
					b.StartTimer()
				}
				k := i * 7919 % million // every one once, in an order of its own
				r.Unsubscribe(filters[k], k%2, Ref(k+1))
				i++
			}
		})
	}
	f("mixed", millionFilter)
	f("one", func(int) string { return "status" })
}

// BenchmarkMatchDuringSubscribe matches while another goroutine subscribes 200 000 filters and takes them back,
// all in the shards the matches use, and reports how long the slowest matches took.
func BenchmarkMatchDuringSubscribe(b *testing.B) {
	f := func(name string, filter func(int) string) {
		b.Run(name, func(b *testing.B) {
			r := New(2)
			for i := range million / 5 {
				r.Subscribe(millionFilter(i), Subscription{Loop: i % 2, Ref: Ref(i + 1)})
			}
			var done atomic.Bool
			var writer sync.WaitGroup
			writes := 0
			writer.Go(func() {
				for i := 0; !done.Load(); i++ {
					k := i % (2 * million / 5)
					if k < million/5 {
						r.Subscribe(filter(k), Subscription{Loop: k % 2, Ref: Ref(million + k)})
					} else {
						k -= million / 5
						r.Unsubscribe(filter(k), k%2, Ref(million+k))
					}
					writes++
				}
			})
			var route Route
			var slowest time.Duration
			var slow, n int
			topics := millionTopics(1 << 12)
			for b.Loop() {
				start := time.Now()
				r.Match(topics[n%len(topics)], &route)
				took := time.Since(start)
				slowest = max(slowest, took)
				if took > 100*time.Microsecond {
					slow++
				}
				n++
			}
			done.Store(true)
			writer.Wait()
			b.ReportMetric(float64(slowest.Microseconds()), "max-µs")
			b.ReportMetric(float64(slow)/float64(n)*1e6, "over-100µs/million")
			b.ReportMetric(float64(writes)/float64(n), "writes/op")
		})
	}
	f("mixed", func(i int) string { return millionFilter(million/2 + i) })
	f("one", func(int) string { return "site-1/other" })
}

func BenchmarkPick(b *testing.B) {
	for _, members := range []int{4, 64, 1000} {
		for s := RoundRobin; s <= LeastInflight; s++ {
			b.Run(fmt.Sprintf("%v/members=%d", s, members), func(b *testing.B) {
				r := New(1)
				for i := range members {
					r.SubscribeShared("s", "a", s, Subscription{Ref: Ref(i + 1)})
				}
				var route Route
				r.Match([]byte("a"), &route)
				var i uint64
				b.ReportAllocs()
				for b.Loop() {
					i += hashFactor
					route.Shared[0].Pick(i, i, 0)
				}
			})
		}
	}
}

// BenchmarkMergeLists resolves a name whose two filters have n subscribers each, the same ones.
func BenchmarkMergeLists(b *testing.B) {
	for _, n := range []int{2, 100, 10_000} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			r := New(1)
			for i := range n {
				r.Subscribe("a/b", Subscription{Ref: Ref(i + 1)})
				r.Subscribe("a/+", Subscription{Ref: Ref(i + 1)})
			}
			var route Route
			b.ReportAllocs()
			for b.Loop() {
				r.Match([]byte("a/b"), &route)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/subscriber")
		})
	}
}
