package router

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
)

const testLoops = 3

// place is a session as a test sees it.
type place struct {
	loop int
	ref  Ref
}

// A naive router keeps every subscription in a map and compares every filter with every topic name.
type naive struct {
	subscriptions map[string]map[place]Subscription    // by filter
	groups        map[string]map[string]map[place]bool // by filter, then share name
}

func newNaive() *naive {
	return &naive{map[string]map[place]Subscription{}, map[string]map[string]map[place]bool{}}
}

// delivery is one line of what a route says, in a form that compares.
func delivery(loop int, ref Ref, qos codec.QoS, f Flags, ids []uint32) string {
	slices.Sort(ids)
	return fmt.Sprintf("%d/%d qos %d flags %d ids %v", loop, ref, qos, f, slices.Compact(ids))
}

// describe lists deliveries, deliveries to the sessions' own messages, and groups.
func describe(r *Route) []string {
	var lines []string
	for loop, list := range r.Loops {
		for _, s := range list {
			lines = append(lines, delivery(loop, s.Ref, s.QoS, s.Flags, s.AppendIDs(nil)))
			if own, ok := s.Own(); ok {
				lines = append(lines, "own "+delivery(loop, own.Ref, own.QoS, own.Flags, own.AppendIDs(nil)))
			}
		}
	}
	for _, g := range r.Shared {
		lines = append(lines, "group "+g.ShareName()+" "+strings.Join(g.describe(), " "))
	}
	slices.Sort(lines)
	return lines
}

func (g *Group) describe() []string {
	var members []string
	for _, b := range g.loadBlocks() {
		for _, m := range b.loadMembers() {
			if m != nil {
				members = append(members, fmt.Sprintf("%d/%d", m.Loop, m.Ref))
			}
		}
	}
	slices.Sort(members)
	return members
}

// join is the overlap rule written down plainly.
func join(loop int, ref Ref, list []Subscription) string {
	var qos codec.QoS
	flags := NoLocal
	var ids []uint32
	for _, s := range list {
		qos = max(qos, s.QoS)
		if !s.NoLocal {
			flags &^= NoLocal
		}
		if s.RetainAsPublished {
			flags |= RetainAsPublished
		}
		if s.ID != 0 {
			ids = append(ids, s.ID)
		}
	}
	return delivery(loop, ref, qos, flags, ids)
}

func (n *naive) match(name string) []string {
	matched := map[place][]Subscription{}
	for filter, subscriptions := range n.subscriptions {
		if topic.Match(filter, name) {
			for p, s := range subscriptions {
				matched[p] = append(matched[p], s)
			}
		}
	}
	var lines []string
	for p, list := range matched {
		lines = append(lines, join(p.loop, p.ref, list))
		local := slices.DeleteFunc(list, func(s Subscription) bool { return s.NoLocal })
		if len(local) > 0 {
			lines = append(lines, "own "+join(p.loop, p.ref, local))
		}
	}
	for filter, groups := range n.groups {
		if !topic.Match(filter, name) {
			continue
		}
		for share, members := range groups {
			var list []string
			for p := range members {
				list = append(list, fmt.Sprintf("%d/%d", p.loop, p.ref))
			}
			slices.Sort(list)
			lines = append(lines, "group "+share+" "+strings.Join(list, " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// A pair runs the same operations on the router and on the naive one.
type pair struct {
	t      *testing.T
	rng    *rand.Rand
	router *Router
	cache  *Cache
	naive  *naive
	names  []string // matched last
	counts [2]int   // subscriptions, members
}

var (
	testLevels = []string{"", "a", "b", "c", "$x", "a level longer than a node, 1", "a level longer than a node, 2", "A level longer than a node, 2"}
	testWild   = []string{"+", "+", "#"}
)

func (p *pair) name() string {
	levels := make([]string, 1+p.rng.IntN(4))
	for i := range levels {
		levels[i] = testLevels[p.rng.IntN(len(testLevels))]
	}
	return cmp.Or(strings.Join(levels, "/"), "/") // a name has at least one character
}

func (p *pair) filter() string {
	levels := strings.Split(p.name(), "/")
	for i := range levels {
		if p.rng.IntN(3) == 0 {
			levels[i] = testWild[p.rng.IntN(len(testWild))]
		}
		if levels[i] == "#" {
			levels = levels[:i+1]
			break
		}
	}
	return strings.Join(levels, "/")
}

func (p *pair) place() place { return place{p.rng.IntN(testLoops), Ref(1 + p.rng.IntN(6))} }

func (p *pair) subscribe() {
	filter, at := p.filter(), p.place()
	s := Subscription{
		Loop: at.loop, Ref: at.ref, QoS: codec.QoS(p.rng.IntN(3)), ID: uint32(p.rng.IntN(4)),
		NoLocal: p.rng.IntN(3) == 0, RetainAsPublished: p.rng.IntN(3) == 0,
	}
	m := p.naive.subscriptions[filter]
	if m == nil {
		m = map[place]Subscription{}
		p.naive.subscriptions[filter] = m
	}
	_, want := m[at]
	m[at] = s
	p.check("Subscribe "+filter, p.router.Subscribe(filter, s), want)
	if !want {
		p.counts[0]++
	}
}

// anyFilter returns a filter that is subscribed to, most of the time.
func anyFilter[V any](p *pair, m map[string]V) string {
	if len(m) == 0 || p.rng.IntN(8) == 0 {
		return p.filter()
	}
	return slices.Sorted(maps.Keys(m))[p.rng.IntN(len(m))]
}

// anyPlace returns a place that is in the map, most of the time.
func anyPlace[V any](p *pair, m map[place]V) place {
	if len(m) == 0 || p.rng.IntN(4) == 0 {
		return p.place()
	}
	places := slices.SortedFunc(maps.Keys(m), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.loop, b.loop), cmp.Compare(a.ref, b.ref))
	})
	return places[p.rng.IntN(len(m))]
}

func (p *pair) unsubscribe() {
	filter := anyFilter(p, p.naive.subscriptions)
	at := anyPlace(p, p.naive.subscriptions[filter])
	_, want := p.naive.subscriptions[filter][at]
	delete(p.naive.subscriptions[filter], at)
	if len(p.naive.subscriptions[filter]) == 0 {
		delete(p.naive.subscriptions, filter)
	}
	p.check("Unsubscribe "+filter, p.router.Unsubscribe(filter, at.loop, at.ref), want)
	if want {
		p.counts[0]--
	}
}

func (p *pair) move() {
	filter, to := anyFilter(p, p.naive.subscriptions), p.place()
	m := p.naive.subscriptions[filter]
	from := anyPlace(p, m)
	s, want := m[from]
	if want {
		before := len(m)
		delete(m, from)
		m[to] = s
		p.counts[0] += len(m) - before
	}
	p.check("Move "+filter, p.router.Move(filter, from.loop, from.ref, to.loop, to.ref), want)
}

func (p *pair) subscribeShared() {
	filter, share, at := p.filter(), fmt.Sprintf("s%d", p.rng.IntN(3)), p.place()
	groups := p.naive.groups[filter]
	if groups == nil {
		groups = map[string]map[place]bool{}
		p.naive.groups[filter] = groups
	}
	if groups[share] == nil {
		groups[share] = map[place]bool{}
	}
	want := groups[share][at]
	groups[share][at] = true
	_, existed := p.router.SubscribeShared(share, filter, RoundRobin, Subscription{Loop: at.loop, Ref: at.ref})
	p.check("SubscribeShared "+filter, existed, want)
	if !want {
		p.counts[1]++
	}
}

func (p *pair) unsubscribeShared() {
	filter, share := anyFilter(p, p.naive.groups), fmt.Sprintf("s%d", p.rng.IntN(3))
	groups := p.naive.groups[filter]
	at := anyPlace(p, groups[share])
	want := groups[share][at]
	delete(groups[share], at)
	if len(groups[share]) == 0 {
		delete(groups, share)
	}
	if len(groups) == 0 {
		delete(p.naive.groups, filter)
	}
	p.check("UnsubscribeShared "+filter, p.router.UnsubscribeShared(share, filter, at.loop, at.ref), want)
	if want {
		p.counts[1]--
	}
}

func (p *pair) moveShared() {
	filter, share := anyFilter(p, p.naive.groups), fmt.Sprintf("s%d", p.rng.IntN(3))
	members := p.naive.groups[filter][share]
	from, to := anyPlace(p, members), p.place()
	want := members[from]
	if want {
		before := len(members)
		delete(members, from)
		members[to] = true
		p.counts[1] += len(members) - before
	}
	p.check("MoveShared "+filter, p.router.MoveShared(share, filter, from.loop, from.ref, to.loop, to.ref) != nil, want)
}

func (p *pair) match() {
	name := p.name()
	if len(p.names) > 0 && p.rng.IntN(2) == 0 { // one that the cache may hold
		name = p.names[p.rng.IntN(len(p.names))]
	}
	p.names = append(p.names[max(0, len(p.names)-20):], name)
	want := p.naive.match(name)
	var r Route
	p.router.Match([]byte(name), &r)
	if got := describe(&r); !slices.Equal(got, want) {
		p.t.Fatalf("Match(%q)\n got %q\nwant %q", name, got, want)
	}
	if got := describe(p.cache.Route([]byte(name))); !slices.Equal(got, want) {
		p.t.Fatalf("Route(%q)\n got %q\nwant %q", name, got, want)
	}
}

func (p *pair) check(what string, got, want bool) {
	p.t.Helper()
	if got != want {
		p.t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

// drain removes everything and looks at what is left.
func (p *pair) drain() {
	for filter, m := range p.naive.subscriptions {
		for at := range m {
			p.check("Unsubscribe "+filter, p.router.Unsubscribe(filter, at.loop, at.ref), true)
		}
	}
	for filter, groups := range p.naive.groups {
		for share, members := range groups {
			for at := range members {
				p.check("UnsubscribeShared "+filter, p.router.UnsubscribeShared(share, filter, at.loop, at.ref), true)
			}
		}
	}
	for i := range p.router.shards {
		p.checkEmpty(&p.router.shards[i])
	}
	p.checkEmpty(&p.router.wild)
	p.check("counts at the end", p.router.Subscriptions() == 0 && p.router.SharedSubscriptions() == 0, true)
}

func (p *pair) checkEmpty(s *shard) {
	p.t.Helper()
	if s.nodes.live > 1 || s.edges.count != 0 {
		p.t.Fatalf("%d nodes and %d edges left", s.nodes.live, s.edges.count)
	}
	if s.nodes.live == 1 && *s.nodes.at(0) != (node{}) {
		p.t.Fatalf("root left as %+v", *s.nodes.at(0))
	}
}

// TestAgainstNaive runs random operations on both routers, with the tags of edges cut to some bits.
func TestAgainstNaive(t *testing.T) {
	f := func(seed uint64, operations int, tagMask uint32) {
		t.Helper()
		p := &pair{t: t, rng: rand.New(rand.NewPCG(seed, 0)), router: New(testLoops), naive: newNaive()}
		p.router.tagMask = tagMask
		p.cache = p.router.NewCache(1 + int(seed)*10)
		for range operations {
			switch k := p.rng.IntN(12); {
			case k < 2:
				p.subscribe()
			case k < 4:
				p.unsubscribe()
			case k == 4:
				p.move()
			case k == 5:
				p.subscribeShared()
			case k == 6:
				p.unsubscribeShared()
			case k == 7:
				p.moveShared()
			default:
				p.match()
			}
			if got := [2]int{p.router.Subscriptions(), p.router.SharedSubscriptions()}; got != p.counts {
				t.Fatalf("counts %d, want %d", got, p.counts)
			}
		}
		p.drain()
	}
	for seed := range uint64(6) {
		f(seed, 2000, ^uint32(0))
	}
	f(11, 2000, 0)          // every path collides
	f(12, 2000, 0x80000001) // four tags
	f(13, 2000, 0xF0000000) // all in the same home slot
}
