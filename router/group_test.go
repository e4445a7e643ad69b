package router

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// newGroup returns the group of members 1 to n, the members behind it.
func newGroup(t *testing.T, strategy Strategy, n int) (*Group, []*Member) {
	t.Helper()
	r := New(1)
	members := make([]*Member, n)
	for i := range members {
		m, existed := r.SubscribeShared("s", "a", strategy, Subscription{Ref: Ref(i + 1)})
		if existed {
			t.Fatalf("member %d existed", i+1)
		}
		members[i] = m
	}
	var route Route
	r.Match([]byte("a"), &route)
	if len(route.Shared) != 1 || route.Shared[0].Strategy() != strategy {
		t.Fatalf("groups %v", route.Shared)
	}
	return route.Shared[0], members
}

// spread picks n times, each time for another publisher and name, and counts.
func spread(g *Group, n int) map[Ref]int {
	counts := map[Ref]int{}
	for i := range n {
		m, ok := g.Pick(uint64(i)*hashFactor, uint64(i)*hashFactor>>1, 0)
		if ok {
			m.AddInflight(1)
			counts[m.Ref]++
		}
	}
	return counts
}

func TestPickSpread(t *testing.T) {
	f := func(strategy Strategy, members, picks int, tolerance float64) {
		t.Helper()
		g, all := newGroup(t, strategy, members)
		for i, m := range all {
			m.SetState(i%3 != 0, i%3 == 1) // a third offline, a third full
		}
		able := members / 3
		want := float64(picks) / float64(able)
		counts := spread(g, picks)
		if len(counts) != able {
			t.Fatalf("%v of %d: %d members picked, want %d", strategy, members, len(counts), able)
		}
		for ref, n := range counts {
			if (ref-1)%3 != 2 || float64(n) < want*(1-tolerance) || float64(n) > want*(1+tolerance) {
				t.Errorf("%v of %d: member %d picked %d times, want about %.0f", strategy, members, ref, n, want)
			}
		}
	}
	f(RoundRobin, 9, 3000, 0.001)
	f(RoundRobin, 300, 10_000, 0.001)
	f(Random, 9, 30_000, 0.05)
	f(Random, 300, 500_000, 0.09) // five standard deviations of 5000 throws
	f(HashClient, 9, 30_000, 0.05)
	f(HashTopic, 9, 30_000, 0.05)
	f(HashClient, 300, 500_000, 0.09)
	f(LeastInflight, 9, 3000, 0.001)
	f(LeastInflight, 300, 100_000, 0.05)
	f(Sticky, 3, 100, 0)
}

// TestPickTiers: who gets it when the better ones cannot.
func TestPickTiers(t *testing.T) {
	for s := RoundRobin; s <= LeastInflight; s++ {
		f := func(states string, skip Ref, want ...Ref) {
			t.Helper()
			g, all := newGroup(t, s, len(states))
			for i, m := range all {
				m.SetState(states[i] != 'o', states[i] == 'f')
			}
			for i := range 50 {
				var got Ref
				if m, ok := g.Pick(uint64(i), uint64(i), skip); ok {
					got = m.Ref
				}
				if !slices.Contains(want, got) {
					t.Errorf("%v: %q without %d: picked %d, want one of %d", s, states, skip, got, want)
				}
			}
		}
		f("r", 0, 1)
		f("rr", 0, 1, 2)
		f("rr", 1, 2)
		f("rfo", 0, 1)
		f("ofr", 0, 3)
		f("rfo", 1, 2) // connected beats absent
		f("roo", 1, 2, 3)
		f("ooo", 0, 1, 2, 3)
		f("ooo", 2, 1, 3)
		f("fff", 3, 1, 2)
		f("r", 1, 0) // nobody else
	}
}

func TestPickSticks(t *testing.T) {
	g, all := newGroup(t, Sticky, 5)
	first, _ := g.Pick(0, 0, 0)
	f := func(what string, skip Ref, same bool) Ref {
		t.Helper()
		m, _ := g.Pick(0, 0, skip)
		if (m.Ref == first.Ref) != same {
			t.Errorf("%s: picked %d, first was %d", what, m.Ref, first.Ref)
		}
		return m.Ref
	}
	f("again", 0, true)
	f("left out once", first.Ref, false)
	f("back", 0, true)
	all[first.Ref-1].SetState(true, true)
	second := f("full", 0, false)
	all[first.Ref-1].SetState(true, false)
	if got := f("not full any more", 0, false); got != second {
		t.Errorf("did not stick to %d: %d", second, got)
	}
}

// TestPickHashStays: when a member leaves, only its own share moves, and it comes back with the member.
func TestPickHashStays(t *testing.T) {
	f := func(members int) {
		t.Helper()
		g, all := newGroup(t, HashClient, members)
		const publishers = 2000
		owners := func() (refs [publishers]Ref) {
			for i := range refs {
				m, _ := g.Pick(uint64(i)*hashFactor, 0, 0)
				refs[i] = m.Ref
			}
			return refs
		}
		before := owners()
		gone := all[members/2]
		gone.SetState(false, false)
		moved := owners()
		for i := range before {
			if (before[i] == gone.Ref) == (before[i] == moved[i]) {
				t.Fatalf("%d members: publisher %d moved from %d to %d", members, i, before[i], moved[i])
			}
		}
		gone.SetState(true, false)
		if owners() != before {
			t.Errorf("%d members: not as before", members)
		}
	}
	f(3)
	f(64)
	f(128)
}

func TestGroupLife(t *testing.T) {
	r := New(2)
	var route Route
	match := func(groups int) *Group {
		t.Helper()
		r.Match([]byte("a/b"), &route)
		if len(route.Shared) != groups {
			t.Fatalf("%d groups, want %d", len(route.Shared), groups)
		}
		if groups == 0 {
			return nil
		}
		return route.Shared[0]
	}
	pick := func(g *Group, want Ref, loop int, id uint32) *Member {
		t.Helper()
		m, ok := g.Pick(0, 0, 0)
		if !ok || m.Ref != want || m.Loop != loop || !slices.Equal(m.AppendIDs(nil), []uint32{id}) {
			t.Fatalf("picked %+v, want %d on loop %d with %d", m, want, loop, id)
		}
		return m
	}
	match(0)
	a, _ := r.SubscribeShared("s", "a/+", Sticky, Subscription{Ref: 1, ID: 5})
	g := match(1)
	if a != pick(g, 1, 0, 5) || g.ShareName() != "s" {
		t.Error("not the member that subscribed")
	}
	a.AddInflight(3)
	a.SetState(false, false)

	b, existed := r.SubscribeShared("s", "a/+", Random, Subscription{Ref: 1, ID: 6})
	if !existed || g.Strategy() != Sticky || b.Inflight() != 3 {
		t.Errorf("existed %v, strategy %v, in flight %d", existed, g.Strategy(), b.Inflight())
	}
	pick(g, 1, 0, 6)

	c := r.MoveShared("s", "a/+", 0, 1, 1, 2)
	if c != pick(g, 2, 1, 6) || c.Inflight() != 3 {
		t.Error("not the member that moved")
	}
	a.AddInflight(-1)
	if c.Inflight() != 2 {
		t.Errorf("%d in flight after the move", c.Inflight())
	}
	if r.MoveShared("s", "a/+", 0, 1, 1, 2) != nil || r.UnsubscribeShared("s", "a/+", 0, 1) {
		t.Error("the old place is still a member")
	}

	d, _ := r.SubscribeShared("s", "a/+", Random, Subscription{Ref: 3, ID: 7})
	pick(g, 3, 0, 7) // the other one is offline
	if r.SharedSubscriptions() != 2 {
		t.Errorf("%d shared subscriptions", r.SharedSubscriptions())
	}
	r.UnsubscribeShared("s", "a/+", 0, 3)
	r.SubscribeShared("s", "a/+", Random, Subscription{Ref: 4, ID: 8})
	d.SetState(false, false) // its seat has another member now
	c.SetState(true, false)
	pick(g, 4, 0, 8)

	r.UnsubscribeShared("s", "a/+", 1, 2)
	r.UnsubscribeShared("s", "a/+", 0, 4)
	match(0)
	if m, ok := g.Pick(0, 0, 0); ok {
		t.Errorf("picked %d of an empty group", m.Ref)
	}
}

// TestManyGroups has so many groups at one filter that a map finds them.
func TestManyGroups(t *testing.T) {
	const groups = 3 * manyGroups
	r := New(1)
	var route Route
	for i := range groups {
		r.SubscribeShared(fmt.Sprint(i), "a", Random, Subscription{Ref: Ref(i + 1)})
	}
	r.Match([]byte("a"), &route)
	kept := route.Shared
	for i := range groups {
		if _, existed := r.SubscribeShared(fmt.Sprint(i), "a", Random, Subscription{Ref: Ref(i + 1)}); !existed {
			t.Errorf("group %d lost its member", i)
		}
	}
	for i := range groups {
		if !r.UnsubscribeShared(fmt.Sprint(i), "a", 0, Ref(i+1)) {
			t.Errorf("group %d is not there", i)
		}
		r.Match([]byte("a"), &route)
		if len(route.Shared) != groups-i-1 {
			t.Errorf("%d groups, want %d", len(route.Shared), groups-i-1)
		}
	}
	for i, g := range kept {
		if g.ShareName() != fmt.Sprint(i) {
			t.Errorf("the list of groups changed after it was handed out: %d is %s", i, g.ShareName())
		}
	}
}

// TestLargeGroup fills several blocks, with members that come and go.
func TestLargeGroup(t *testing.T) {
	const members = 5 * seatsPerBlock
	r := New(1)
	subscribe := func(ref Ref, want bool) {
		t.Helper()
		if _, existed := r.SubscribeShared("s", "a", RoundRobin, Subscription{Ref: ref}); existed != want {
			t.Fatalf("member %d existed: %v", ref, existed)
		}
	}
	for i := range members {
		subscribe(Ref(i+1), false)
	}
	for i := 0; i < members; i += 2 {
		if !r.UnsubscribeShared("s", "a", 0, Ref(i+1)) {
			t.Fatalf("member %d is not there", i+1)
		}
	}
	for i := range members {
		subscribe(Ref(i+1), i%2 == 1)
	}
	var route Route
	r.Match([]byte("a"), &route)
	g := route.Shared[0]
	if got := len(g.loadBlocks()); got != members/seatsPerBlock {
		t.Errorf("%d blocks: free seats were not taken", got)
	}
	if got := len(spread(g, members)); got != members {
		t.Errorf("%d members in turn, want %d", got, members)
	}
}

// TestPickConcurrent picks while members come, go, move and change state. Two stay ready all the time.
func TestPickConcurrent(t *testing.T) {
	for s := RoundRobin; s <= LeastInflight; s++ {
		r := New(2)
		r.SubscribeShared("s", "a", s, Subscription{Ref: 1000})
		r.SubscribeShared("s", "a", s, Subscription{Ref: 1001})
		var route Route
		r.Match([]byte("a"), &route)
		g := route.Shared[0]
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() {
				for i := range 500 {
					ref := Ref(1 + w*100 + i%90)
					m, _ := r.SubscribeShared("s", "a", s, Subscription{Ref: ref})
					m.SetState(i%2 == 0, i%3 == 0)
					if i%5 == 0 {
						r.MoveShared("s", "a", 0, ref, 1, ref)
						m.SetState(false, false)
					}
					if i%3 > 0 {
						r.UnsubscribeShared("s", "a", i%5&1^1, ref)
					}
				}
			})
			wg.Go(func() {
				for i := range 3000 {
					m, ok := g.Pick(uint64(i), uint64(i), Ref(1000+w))
					if !ok || m.Ref == Ref(1000+w) {
						t.Errorf("%v: picked %+v", s, m)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestStrategy(t *testing.T) {
	f := func(name string, want Strategy, ok bool) {
		t.Helper()
		got, err := ParseStrategy(name)
		if got != want || (err == nil) != ok {
			t.Errorf("ParseStrategy(%q) = %v, %v", name, got, err)
		}
		if ok && got.String() != name {
			t.Errorf("%q comes back as %q", name, got)
		}
	}
	f("round-robin", RoundRobin, true)
	f("random", Random, true)
	f("sticky", Sticky, true)
	f("hash-client", HashClient, true)
	f("hash-topic", HashTopic, true)
	f("least-inflight", LeastInflight, true)
	f("hash", 0, false)
	f("", 0, false)
	if got := Strategy(9).String(); got != "strategy(9)" {
		t.Errorf("%q", got)
	}
}
