package router

import (
	"cmp"
	"math/bits"
	"slices"
)

// merge turns the hits into the lists of a route, one for each loop.
func (m *matcher) merge(route *Route) {
	switch len(m.groups) {
	case 0:
		route.Shared = nil
	case 1:
		route.Shared = m.groups[0]
	default:
		route.Shared = slices.Concat(m.groups...)
	}
	// Fast path: at most one node has subscribers on each loop, and its list is the route's.
	overlap := false
	for i := range m.hits {
		h := &m.hits[i]
		overlap = overlap || route.Loops[h.loop] != nil
		route.Loops[h.loop] = h.subscribers
	}
	if overlap {
		m.mergeLists(route)
	}
}

// mergeLists joins the lists of the loops that have several.
func (m *matcher) mergeLists(route *Route) {
	slices.SortFunc(m.hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.loop, b.loop), cmp.Compare(len(a.subscribers), len(b.subscribers)))
	})
	for rest := m.hits; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].loop == rest[0].loop {
			n++
		}
		if n > 1 {
			route.Loops[rest[0].loop] = m.join(rest[:n])
		}
		rest = rest[n:]
	}
}

// fewSubscribers is the number up to which looking through a list beats an index of it.
const fewSubscribers = 12

// join returns one owned list of all subscribers in hits, each session once. The hits belong to one loop and
// come in the order of their length. A session stands at most once in each, so the longest is only looked up
// in the index, never entered.
func (m *matcher) join(hits []hit) []Subscriber {
	total := 0
	for i := range hits {
		total += len(hits[i].subscribers)
	}
	out := make([]Subscriber, 0, total)
	longest := len(hits) - 1
	indexed := total - len(hits[longest].subscribers)
	if indexed > fewSubscribers {
		m.resetIndex(indexed)
	}
	for i := range hits {
		for j := range hits[i].subscribers {
			s := &hits[i].subscribers[j]
			at := -1
			if indexed > fewSubscribers {
				at = m.lookUp(out, s.Ref, i < longest)
			} else {
				at = indexOf(out[:min(len(out), indexed)], s.Ref)
			}
			if at >= 0 {
				out[at].add(s)
			} else {
				out = append(out, *s)
			}
		}
	}
	return out
}

func indexOf(list []Subscriber, ref Ref) int {
	for i := range list {
		if list[i].Ref == ref {
			return i
		}
	}
	return -1
}

// resetIndex empties the index and makes room for n entries.
func (m *matcher) resetIndex(n int) {
	size := 1 << bits.Len(uint(2*n))
	if cap(m.index) < size {
		m.index = make([]uint32, size)
		return
	}
	m.index = m.index[:size]
	clear(m.index)
}

// lookUp returns the position of ref in out, or -1. If it is not there and enter is set, the next position is
// entered for it. The index holds positions plus one in an open-addressed table.
func (m *matcher) lookUp(out []Subscriber, ref Ref, enter bool) int {
	mask := uint64(len(m.index) - 1)
	for i := uint64(ref) * hashFactor >> 32 & mask; ; i = (i + 1) & mask {
		at := m.index[i]
		if at == 0 {
			if enter {
				m.index[i] = uint32(len(out) + 1)
			}
			return -1
		}
		if out[at-1].Ref == ref {
			return int(at - 1)
		}
	}
}
