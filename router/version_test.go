package router

import "testing"

// touches subscribes to the filter and leaves again, and reports whether that made the route of name outdated.
func touches(t *testing.T, name, filter string) bool {
	t.Helper()
	r := New(1)
	var m matcher
	var s stamp
	m.prepare(name)
	s.take(r, &m)
	r.Subscribe(filter, Subscription{Ref: 1})
	first := !s.stands(&r.versions)
	s.take(r, &m)
	r.Unsubscribe(filter, 0, 1)
	if second := !s.stands(&r.versions); second != first {
		t.Errorf("%q to %q: Subscribe %v, Unsubscribe %v", filter, name, first, second)
	}
	return first
}

// TestVersions sees which changes make a route look again: those that can touch it, and others only if their
// slots happen to meet, which they do not in several routers in a row.
func TestVersions(t *testing.T) {
	f := func(name, filter string, want bool) {
		t.Helper()
		got := true
		for range 8 {
			got = got && touches(t, name, filter)
		}
		if got != want {
			t.Errorf("a change of %q touches %q: %v, want %v", filter, name, got, want)
		}
	}
	f("a", "a", true)
	f("a", "#", true)
	f("a", "+", true)
	f("a", "a/#", true)
	f("a/b/c/d/e/f", "a/b/c/d/e/f", true)
	f("a/b/c/d/e/f", "a/b/c/d/e/#", true)
	f("a/b/c/d/e/f", "a/b/c/d/e/+", true)
	f("a/b/c/d/e/f", "a/+/c/d/e/f", true)
	f("$SYS/a", "$SYS/#", true)
	f("a/b/c", "a/b", false)
	f("a/b/c", "a/b/d", false)
	f("a/b/c", "a/b/d/#", false)
	f("a/b/c", "a/c/+", false)
	f("a/b/c/d/e/f", "a/b/c/e/#", false)
	f("$SYS/a", "#", false)
	f("$SYS/a", "+/a", false)
}

// TestSameSubscription: a session that subscribes again to what it has touches no route.
func TestSameSubscription(t *testing.T) {
	f := func(others int) {
		t.Helper()
		r := New(1)
		for i := range others {
			r.Subscribe("a", Subscription{Ref: Ref(i + 2)})
		}
		r.Subscribe("a", Subscription{Ref: 1, QoS: 1, ID: 7})
		before := r.versions.epoch.Load()
		if !r.Subscribe("a", Subscription{Ref: 1, QoS: 1, ID: 7}) {
			t.Errorf("%d others: not there before", others)
		}
		if got := r.versions.epoch.Load(); got != before {
			t.Errorf("%d others: counted as a change", others)
		}
		r.Subscribe("a", Subscription{Ref: 1, QoS: 2, ID: 7})
		if got := r.versions.epoch.Load(); got != before+1 {
			t.Errorf("%d others: a change of QoS not counted", others)
		}
	}
	f(0)
	f(1)
	f(2 * listChunk)
}
