package router

import (
	"strings"
	"sync/atomic"
)

const (
	versionSlots  = 4096
	versionLevels = 4 // literal levels of a wildcard filter that tell its version slot
)

// Versions say which routes a change may touch. A filter without wildcards has the slot of its whole text,
// any other the slot of the levels before its first wildcard, at most versionLevels of them. So a topic name
// depends on versionLevels+2 slots, and a change elsewhere leaves its cached route valid. Different filters
// may meet in one slot: that costs a match, never correctness.
type versions struct {
	epoch atomic.Uint64 // number of changes to any slot
	_     [56]byte      // read by every publish: alone on its cache line
	slots [versionSlots]atomic.Uint64
}

// bump marks one slot as changed. The caller holds the shard's lock and has made the change. Slot before
// epoch: who sees the new epoch sees the new slot.
func (v *versions) bump(slot uint16) {
	v.slots[slot].Add(1)
	v.epoch.Add(1)
}

// slotOf returns the slot of a hash; slot 0 never changes.
func slotOf(hash uint64) uint16 { return uint16(1 + hash%(versionSlots-1)) }

// versionOf returns the slot that changes under the topic filter touch.
func (r *Router) versionOf(filter string) uint16 {
	var path uint64
	rest, more := filter, true
	for depth := 0; more; depth++ {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "+" || level == "#" {
			return slotOf(path)
		}
		if depth < versionLevels {
			path = extend(path, r.hash(level))
		}
	}
	return slotOf(r.hash(filter))
}

// A stamp tells whether what was resolved at one moment still stands.
type stamp struct {
	epoch uint64 // of versions when the slots were last compared
	sum   uint64 // of the slots: they only grow, so an equal sum means equal slots
	slots [versionLevels + 2]uint16
}

// take sets the stamp for the topic name the matcher is prepared for. It comes before the match: a change in
// between makes the route newer than its stamp, which only costs another match.
func (s *stamp) take(r *Router, m *matcher) {
	*s = stamp{}
	var path uint64
	if !m.system() {
		s.slots[0] = slotOf(path)
	}
	for depth := range versionLevels {
		l := m.level(r, depth)
		if l == nil {
			break
		}
		path = extend(path, l.hash)
		s.slots[1+depth] = slotOf(path)
	}
	s.slots[1+versionLevels] = slotOf(r.hash(m.topic))
	s.epoch = r.versions.epoch.Load()
	s.sum = s.current(&r.versions)
}

// stands reports whether nothing changed that the stamp depends on.
func (s *stamp) stands(v *versions) bool {
	// Fast path: no change at all since the last look.
	epoch := v.epoch.Load()
	if s.epoch == epoch {
		return true
	}
	if s.current(v) != s.sum {
		return false
	}
	s.epoch = epoch
	return true
}

func (s *stamp) current(v *versions) uint64 {
	var sum uint64
	for _, slot := range s.slots {
		sum += v.slots[slot].Load()
	}
	return sum
}
