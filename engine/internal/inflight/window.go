package inflight

import (
	"cmp"
	"math"
	"slices"
)

// State is the acknowledgement an open entry awaits. The zero value is no state.
type State uint8

const (
	AwaitPuback  State = iota + 1 // QoS 1 PUBLISH sent;   -> closed
	AwaitPubrec                   // QoS 2 PUBLISH sent;   -> AwaitPubcomp, closed
	AwaitPubcomp                  // PUBREL sent;          -> closed
)

// String returns the name of s.
func (s State) String() string {
	switch s {
	case AwaitPuback:
		return "AwaitPuback"
	case AwaitPubrec:
		return "AwaitPubrec"
	case AwaitPubcomp:
		return "AwaitPubcomp"
	default:
		return "invalid State"
	}
}

const (
	minSlots = 8
	maxSlots = 1 << 16
	maxOpen  = maxSlots - 1 // identifier 0 is never used
)

// An Entry is an open exchange. With a pointer as its Value it takes 16 bytes.
//
// Value and State are the caller's to change; PacketID is read only.
type Entry[T any] struct {
	Value    T
	seq      uint32 // order of sending within the window
	PacketID uint16 // 0 in a free slot
	State    State
}

// A Window holds the open exchanges of one sender. 40 bytes; the zero value is ready and owns no memory.
//
// Entries handed out as pointers are borrowed: valid until the next Add, Restore, Remove or Trim.
type Window[T any] struct {
	slots []Entry[T] // nil, or a power of two from minSlots to maxSlots
	count int32      // occupied slots
	seq   uint32     // of the next entry; larger than that of all open ones
	last  uint16     // identifier handed out last
}

// Len returns the number of open entries.
func (w *Window[T]) Len() int { return int(w.count) }

// Add opens an entry under a free identifier, the next one after the last where that is free.
// ok is false when all 65535 are open.
func (w *Window[T]) Add(v T, s State) (id uint16, ok bool) {
	if w.count == maxOpen {
		return 0, false
	}
	if w.full() {
		w.grow()
	}
	mask := uint16(len(w.slots) - 1)
	for {
		w.last++
		if slot := &w.slots[w.last&mask]; slot.PacketID == 0 && w.last != 0 {
			w.open(slot, v, w.last, s)
			return w.last, true
		}
	}
}

// Restore opens an entry under an identifier known from before, as if it were sent after all others.
// It reports false, and changes nothing, when id is 0 or open. The next Add goes on after id.
func (w *Window[T]) Restore(id uint16, v T, s State) bool {
	if id == 0 || w.Get(id) != nil {
		return false
	}
	for w.full() || w.slots[int(id)&(len(w.slots)-1)].PacketID != 0 {
		w.grow()
	}
	w.open(&w.slots[int(id)&(len(w.slots)-1)], v, id, s)
	w.last = id
	return true
}

// Get returns the open entry with this identifier, borrowed, or nil.
func (w *Window[T]) Get(id uint16) *Entry[T] {
	if len(w.slots) == 0 || id == 0 {
		return nil
	}
	slot := &w.slots[int(id)&(len(w.slots)-1)]
	if slot.PacketID != id {
		return nil
	}
	return slot
}

// Remove closes the entry with this identifier and returns its value; ok is false when none is open.
func (w *Window[T]) Remove(id uint16) (v T, ok bool) {
	slot := w.Get(id)
	if slot == nil {
		return v, false
	}
	v = slot.Value
	*slot = Entry[T]{}
	w.count--
	return v, true
}

// Ordered appends the open entries to dst, borrowed, in the order of sending.
func (w *Window[T]) Ordered(dst []*Entry[T]) []*Entry[T] {
	if w.count == 0 {
		return dst
	}
	first := len(dst)
	for i := range w.slots {
		if w.slots[i].PacketID != 0 {
			dst = append(dst, &w.slots[i])
		}
	}
	slices.SortFunc(dst[first:], func(a, b *Entry[T]) int { return cmp.Compare(a.seq, b.seq) })
	return dst
}

// Trim gives the memory back if no entry is open. Identifiers go on after the last one.
func (w *Window[T]) Trim() {
	if w.count == 0 {
		w.slots = nil
	}
}

// open fills a free slot.
func (w *Window[T]) open(slot *Entry[T], v T, id uint16, s State) {
	*slot = Entry[T]{Value: v, seq: w.nextSeq(), PacketID: id, State: s}
	w.count++
}

// full reports whether another entry needs a larger ring first.
func (w *Window[T]) full() bool {
	slots := len(w.slots)
	return int(w.count) >= slots-slots/4 && slots < maxSlots
}

// grow doubles the ring. Identifiers that differ in the low bits still do with one bit more.
func (w *Window[T]) grow() {
	grown := make([]Entry[T], max(minSlots, 2*len(w.slots)))
	for _, e := range w.slots {
		if e.PacketID != 0 {
			grown[int(e.PacketID)&(len(grown)-1)] = e
		}
	}
	w.slots = grown
}

// nextSeq returns the sequence number for a new entry.
func (w *Window[T]) nextSeq() uint32 {
	if w.seq == math.MaxUint32 {
		w.renumber()
	}
	w.seq++
	return w.seq - 1
}

// renumber counts the open entries from 0 again: once in four billion, so that an entry that is stuck
// that long stays the oldest.
func (w *Window[T]) renumber() {
	w.seq = 0
	for _, e := range w.Ordered(nil) {
		e.seq = w.seq
		w.seq++
	}
}
