package retained

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/wheelmq/wheelmq/codec/topic"
)

func sameMemory(a, b string) bool { return unsafe.StringData(a) == unsafe.StringData(b) }

// collect matches filter to the end in portions of limit.
func collect[V any](t *testing.T, x *Index[V], filter string, limit int) []string {
	t.Helper()
	var names []string
	var cur Cursor
	for range 1_000_000 {
		portion := 0
		done := x.Match(filter, &cur, limit, func(name string, _ V) {
			names = append(names, name)
			portion++
		})
		if portion > limit {
			t.Fatalf("Match(%q) visited %d values, limit %d", filter, portion, limit)
		}
		if done {
			return names
		}
	}
	t.Fatalf("Match(%q) makes no progress at %q", filter, cur.last)
	return nil
}

func TestMatch(t *testing.T) {
	x := New[int]()
	for _, name := range []string{
		"a", "a/b", "a/b/c", "a/c/c", "a/c/d", "a!/b", "ab", "b", "b/b/c", "/", "/a", "a/", "a//c",
		"$SYS", "$SYS/broker/uptime", "$a/b", "%", "z/$x",
	} {
		x.Set(name, 0)
	}
	f := func(filter string, want ...string) {
		t.Helper()
		for limit := 1; limit <= 3; limit++ {
			if got := collect(t, x, filter, limit); !slices.Equal(got, want) {
				t.Errorf("Match(%q) by %d = %q, want %q", filter, limit, got, want)
			}
		}
	}
	f("a", "a")
	f("c")
	f("a/b", "a/b")
	f("$SYS", "$SYS")
	f("a/#", "a", "a/", "a//c", "a/b", "a/b/c", "a/c/c", "a/c/d")
	f("a/b/#", "a/b", "a/b/c")
	f("a/b/c/#", "a/b/c")
	f("a/x/#")
	f("a/+", "a/", "a/b")
	f("a/+/c", "a//c", "a/b/c", "a/c/c")
	f("a/+/+", "a//c", "a/b/c", "a/c/c", "a/c/d")
	f("a/+/#", "a/", "a//c", "a/b", "a/b/c", "a/c/c", "a/c/d")
	f("+/b/c", "a/b/c", "b/b/c")
	f("+", "%", "a", "ab", "b")
	f("+/+", "/", "/a", "a/", "a/b", "a!/b", "z/$x")
	f("+/b/#", "a/b", "a/b/c", "a!/b", "b/b/c")
	f("/+", "/", "/a")
	f("/#", "/", "/a")
	f("z/+", "z/$x") // '$' is special in the first level only
	f("$SYS/#", "$SYS", "$SYS/broker/uptime")
	f("$SYS/+/uptime", "$SYS/broker/uptime")
	f("+/broker/uptime") // [MQTT-4.7.2-1]
	f("#", "/", "/a", "%", "a", "a/", "a//c", "a/b", "a/b/c", "a/c/c", "a/c/d", "a!/b", "ab", "b", "b/b/c", "z/$x")
}

// randomFilter turns a random name into a filter that often matches something.
func randomFilter(rng *rand.Rand) string {
	levels := strings.Split(randomName(rng), "/")
	for i := range levels {
		if rng.IntN(3) == 0 {
			levels[i] = "+"
		}
	}
	if rng.IntN(3) == 0 {
		levels = append(levels, "#")
	}
	if filter := strings.Join(levels, "/"); filter != "" {
		return filter
	}
	return "#"
}

func TestMatchAgainstTopicMatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 40 {
		x, names := New[int](), []string(nil)
		for range 1 + rng.IntN(2000) {
			name := randomName(rng)
			if _, had := x.Set(name, 0); !had {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, order)
		for range 60 {
			filter := randomFilter(rng)
			var want []string
			for _, name := range names {
				if topic.Match(filter, name) {
					want = append(want, name)
				}
			}
			if got := collect(t, x, filter, 1+rng.IntN(50)); !slices.Equal(got, want) {
				t.Fatalf("Match(%q) over %q\n = %q, want %q", filter, names, got, want)
			}
		}
	}
}

func TestMatchOfInvalidFilterEnds(t *testing.T) {
	x := New[int]()
	for _, name := range []string{"a", "a/b", "b/c/d", "$a", "/"} {
		x.Set(name, 0)
	}
	f := func(filter string) {
		t.Helper()
		collect(t, x, filter, 1)
	}
	f("")
	f("#/a")
	f("a/#/b")
	f("+a/b")
	f("a+")
	f("##")
	f("/#/")
}

func TestMatchSkipsWhatLiesBelow(t *testing.T) {
	x := New[int]()
	for device := range 20 {
		for sensor := range 2000 {
			x.Set(fmt.Sprintf("a/%02d/s%04d", device, sensor), 0)
		}
	}
	visited := 0
	var cur Cursor
	// 20 children with 2000 names each: three names are looked at per child, so one call is enough.
	done := x.Match("a/+/s1000", &cur, 20, func(string, int) { visited++ })
	for range 2 {
		if !done {
			done = x.Match("a/+/s1000", &cur, 20, func(string, int) { visited++ })
		}
	}
	if !done || visited != 20 {
		t.Errorf("three calls visit %d of 20, done: %v", visited, done)
	}
}

func TestMatchWithoutMatchesComesBack(t *testing.T) {
	x := New[int]()
	for i := range 10000 {
		x.Set(fmt.Sprintf("%d/a", i), 0)
	}
	var cur Cursor
	calls := 1
	for !x.Match("+/x", &cur, 10, func(string, int) { t.Fatal("visited a value") }) {
		calls++
	}
	if want := 10000 / (10 * stepsPerValue); calls < want || calls > want+2 {
		t.Errorf("%d calls, want %d", calls, want)
	}
}

func TestMatchBoundsAnyLimit(t *testing.T) {
	x := New[int]()
	for i := range 3 * maxVisits {
		x.Set(fmt.Sprint(i), 0)
	}
	visited := 0
	var cur Cursor
	if x.Match("#", &cur, 1<<62, func(string, int) { visited++ }) || visited != maxVisits {
		t.Errorf("visited %d values in one call, want %d and not done", visited, maxVisits)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	x := New[int]()
	for i := range 2000 {
		x.Set(fmt.Sprintf("a/%d/b", i), i)
	}
	f := func(filter string) {
		t.Helper()
		sum := 0
		visit := func(_ string, v int) { sum += v }
		if n := testing.AllocsPerRun(100, func() {
			var cur Cursor
			for !x.Match(filter, &cur, 64, visit) {
			}
		}); n != 0 {
			t.Errorf("Match(%q) allocates %v times", filter, n)
		}
	}
	f("a/7/b")
	f("a/+/b")
	f("#")
}

// Names with an even number stay, the others come and go while readers iterate: each reader has to
// see every even one once and no odd one twice.
func TestMatchWhileOthersWrite(t *testing.T) {
	const count = 4000
	name := func(i int) string { return fmt.Sprintf("r/%02d/%05d/x", i%40, i) }
	x := New[int]()
	for i := range count {
		x.Set(name(i), i)
	}
	var stop atomic.Bool
	var writers, readers sync.WaitGroup
	for w := range uint64(2) {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(7, w))
			for !stop.Load() {
				i := rng.IntN(count)
				switch {
				case i%2 == 0:
					x.Set(name(i), i)
				case rng.IntN(4) == 0:
					x.Set(name(i), i)
				default:
					x.Delete(name(i))
				}
			}
		})
	}
	for _, filter := range []string{"#", "r/+/+/x", "r/#", "+/+/#"} {
		readers.Go(func() {
			for round := range 15 {
				seen := make([]int, count)
				var cur Cursor
				for !x.Match(filter, &cur, 5+round*20, func(topicName string, i int) {
					if topicName != name(i) {
						t.Errorf("value %d under %q", i, topicName)
					}
					seen[i]++
				}) {
				}
				for i, n := range seen {
					if n > 1 || n == 0 && i%2 == 0 {
						t.Errorf("%q visited %q %d times", filter, name(i), n)
					}
				}
			}
		})
	}
	readers.Wait()
	stop.Store(true)
	writers.Wait()
	x.check(t)
}
