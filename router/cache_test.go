package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestCacheNoAllocs(t *testing.T) {
	r := New(2)
	for i := range 10 {
		r.Subscribe("a/b", Subscription{Loop: i % 2, Ref: Ref(i + 1)})
		r.Subscribe("a/+", Subscription{Loop: i % 2, Ref: Ref(i + 1)})
	}
	c := r.NewCache(10)
	name := []byte("a/b")
	c.Route(name)
	f := func(what string, op func()) {
		t.Helper()
		if got := testing.AllocsPerRun(100, op); got != 0 {
			t.Errorf("%s: %v allocations", what, got)
		}
	}
	f("hit", func() { c.Route(name) })
	elsewhere := uint16(1)
	for slices.Contains(c.entries["a/b"].slots[:], elsewhere) {
		elsewhere++
	}
	f("hit after a change elsewhere", func() {
		r.versions.bump(elsewhere)
		c.Route(name)
	})
}

// TestCacheBounds publishes to names once each: the cache stays within its limits and its own books.
func TestCacheBounds(t *testing.T) {
	f := func(limit, names, nameBytes, subscribers, want int) {
		t.Helper()
		r := New(1)
		for i := range subscribers {
			r.Subscribe("#", Subscription{Ref: Ref(i + 1)})
		}
		c := r.NewCache(limit)
		for i := range names {
			name := fmt.Appendf(nil, "%0*d", nameBytes, i)
			if got := len(c.Route(name).Loops[0]); got != subscribers {
				t.Fatalf("%d subscribers, want %d", got, subscribers)
			}
			if c.Len() > limit || c.bytes > limit*bytesPerSlot {
				t.Fatalf("%d names, %d bytes at limit %d", c.Len(), c.bytes, limit)
			}
		}
		total := 0
		for i, e := range c.ring {
			total += e.bytes
			if e.slot != i || c.entries[e.topic] != e {
				t.Fatalf("entry %d of %q is at %d", i, e.topic, e.slot)
			}
		}
		if total != c.bytes || len(c.entries) != len(c.ring) || c.Len() != want {
			t.Errorf("%d names, want %d; bytes %d, counted %d", c.Len(), want, total, c.bytes)
		}
	}
	f(1, 5, 10, 0, 1)
	f(100, 50, 10, 0, 50)
	f(100, 1000, 10, 0, 100)
	f(100, 1000, 1000, 0, 40)  // by bytes of names
	f(100, 1000, 10, 100, 19)  // by bytes of lists
	f(10, 1000, 10, 10_000, 0) // too large to be kept
	f(10, 100, 60_000, 1, 0)
}

// TestCacheKeepsUsed: names that are published to again stay while others pass, and go when that ends.
func TestCacheKeepsUsed(t *testing.T) {
	r := New(1)
	c := r.NewCache(100)
	for i := range 1000 {
		for k := range 10 {
			c.Route(fmt.Append(nil, "used/", k))
		}
		c.Route(fmt.Append(nil, "once/", i))
	}
	for k := range 10 {
		if name := fmt.Sprint("used/", k); c.entries[name] == nil {
			t.Errorf("%s was evicted", name)
		}
	}
	for i := range 1000 {
		c.Route(fmt.Append(nil, "later/", i))
	}
	for k := range 10 {
		if name := fmt.Sprint("used/", k); c.entries[name] != nil {
			t.Errorf("%s is still there", name)
		}
	}
}

// TestCacheGrownRoute: an entry that outgrows the budget is given up, and its route is right all the same.
func TestCacheGrownRoute(t *testing.T) {
	r := New(1)
	c := r.NewCache(10)
	c.Route([]byte("a"))
	for i := range 1000 {
		r.Subscribe("a", Subscription{Ref: Ref(i + 1)})
	}
	if got := len(c.Route([]byte("a")).Loops[0]); got != 1000 {
		t.Errorf("%d subscribers, want 1000", got)
	}
	if c.Len() != 0 || c.bytes != 0 {
		t.Errorf("%d names, %d bytes kept", c.Len(), c.bytes)
	}
	for i := range 1000 {
		r.Unsubscribe("a", 0, Ref(i+1))
	}
	if got := c.Route([]byte("a")); !got.Empty() || c.Len() != 1 {
		t.Errorf("route %v, %d names", got.Loops, c.Len())
	}
}

// FuzzRouter throws bytes at the router that nobody validated.
func FuzzRouter(f *testing.F) {
	f.Add("a/b", "a/+")
	f.Add("", "#/#/+")
	f.Add("//", "+//#")
	f.Add("+/#", "a#/+b/#/c")
	f.Add(strings.Repeat("/", 300), strings.Repeat("+/", 300))
	f.Fuzz(func(t *testing.T, name, filter string) {
		r := New(1)
		c := r.NewCache(4)
		for range 2 {
			r.Subscribe(filter, Subscription{Ref: 1})
			r.SubscribeShared(name, filter, Random, Subscription{Ref: 2})
			r.Subscribe(name, Subscription{Ref: 3})
			var route Route
			r.Match([]byte(name), &route)
			if got, want := describe(c.Route([]byte(name))), describe(&route); len(got) != len(want) {
				t.Errorf("Route(%q) = %q, Match gives %q", name, got, want)
			}
			ok := r.Unsubscribe(filter, 0, 1) && r.UnsubscribeShared(name, filter, 0, 2) && r.Unsubscribe(name, 0, 3)
			if !ok || r.Subscriptions() != 0 || r.SharedSubscriptions() != 0 {
				t.Errorf("%q and %q: not what was subscribed", filter, name)
			}
			if !c.Route([]byte(name)).Empty() {
				t.Errorf("Route(%q) holds what is gone", name)
			}
		}
	})
}
