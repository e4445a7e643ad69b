package inflight

import (
	"iter"
	"math/bits"
)

// An IDSet holds packet identifiers a peer has used and not yet released: those of QoS 2 PUBLISH
// packets that await PUBREL. 32 bytes; the zero value is empty and owns no memory.
type IDSet struct {
	slots []uint16 // nil, or a power of two from minSlots to maxSlots; 0 is a free slot
	count int32    // occupied slots, at most 3/4 of them up to maxSlots
}

// Len returns the number of identifiers in the set.
func (s *IDSet) Len() int { return int(s.count) }

// Add puts id in and reports whether it was missing. 0 is no identifier and never added.
func (s *IDSet) Add(id uint16) bool {
	if id == 0 {
		return false
	}
	if int(s.count) >= len(s.slots)-len(s.slots)/4 && len(s.slots) < maxSlots {
		s.grow()
	}
	i := s.find(id)
	if s.slots[i] == id {
		return false
	}
	s.slots[i] = id
	s.count++
	return true
}

// Has reports whether id is in the set.
func (s *IDSet) Has(id uint16) bool {
	return s.count > 0 && id != 0 && s.slots[s.find(id)] == id
}

// Remove takes id out and reports whether it was there.
func (s *IDSet) Remove(id uint16) bool {
	if !s.Has(id) {
		return false
	}
	s.closeGap(s.find(id))
	s.count--
	return true
}

// All yields the identifiers in no particular order. The set must not change meanwhile.
func (s *IDSet) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for _, id := range s.slots {
			if id != 0 && !yield(id) {
				return
			}
		}
	}
}

// Trim gives the memory back if the set is empty.
func (s *IDSet) Trim() {
	if s.count == 0 {
		s.slots = nil
	}
}

// find returns the slot that holds id, or the free one where it belongs. There is always a free slot:
// the largest table has one more than there are identifiers.
func (s *IDSet) find(id uint16) int {
	mask := len(s.slots) - 1
	i := s.home(id)
	for s.slots[i] != id && s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	return i
}

// home returns the slot where the search for id begins: the upper bits of id times 2^16 over the golden
// ratio, which spreads identifiers that are counted up.
func (s *IDSet) home(id uint16) int {
	return int(id * 40503 >> (16 - bits.TrailingZeros(uint(len(s.slots)))))
}

// closeGap empties slot gap and moves later identifiers of the run back, so that none of them stands
// behind a free slot on its way from home.
func (s *IDSet) closeGap(gap int) {
	mask := len(s.slots) - 1
	for i := (gap + 1) & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if (i-s.home(s.slots[i]))&mask >= (i-gap)&mask {
			s.slots[gap] = s.slots[i]
			gap = i
		}
	}
	s.slots[gap] = 0
}

func (s *IDSet) grow() {
	old := s.slots
	s.slots = make([]uint16, max(minSlots, 2*len(old)))
	for _, id := range old {
		if id != 0 {
			s.slots[s.find(id)] = id
		}
	}
}
