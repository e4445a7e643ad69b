package router

import (
	"slices"
	"sync/atomic"
)

// A fan is what a node with several subscribers or with groups holds. Guarded by the shard's lock.
type fan struct {
	lists  []*list  // one per loop that has subscribers here
	groups []*Group // as published in routes: appended in place, copied to remove
	named  map[string]*Group
}

// list returns the list of a loop and creates it if need be.
func (f *fan) list(loop uint16) *list {
	for _, l := range f.lists {
		if l.loop == loop {
			return l
		}
	}
	l := &list{loop: loop}
	f.lists = append(f.lists, l)
	return l
}

// remove takes the subscriber of (loop, ref) out and returns it.
func (f *fan) remove(loop uint16, ref Ref) (s Subscriber, ok bool) {
	i := slices.IndexFunc(f.lists, func(l *list) bool { return l.loop == loop })
	if i < 0 {
		return s, false
	}
	if s, ok = f.lists[i].remove(ref); ok && f.lists[i].count == 0 {
		f.lists = slices.Delete(f.lists, i, i+1)
	}
	return s, ok
}

// listChunk is how many subscribers a list copies at most to change one of them.
const listChunk = 128

// A list holds the subscribers of one loop at one node, in chunks of listChunk; all but the last are full.
// A chunk is appended to in place, since who has seen it holds a shorter slice, and copied for any other
// change. So a change costs at most two copied chunks, whatever the length of the list.
type list struct {
	loop   uint16
	count  int
	chunks [][]Subscriber
	index  map[Ref]uint32 // position of each subscriber; nil while one chunk is enough

	// Routes list the subscribers of a loop in one slice. With several chunks the first match after a change
	// makes it, without the lock: it is about to deliver to all of them anyway.
	version uint64                       // number of changes
	flat    atomic.Pointer[[]Subscriber] // all subscribers, shared; nil if not made since the last change
}

// find returns the position of a subscriber, or -1.
func (l *list) find(ref Ref) int {
	if l.index != nil {
		if at, ok := l.index[ref]; ok {
			return int(at)
		}
		return -1
	}
	if len(l.chunks) == 0 {
		return -1
	}
	for i := range l.chunks[0] {
		if l.chunks[0][i].Ref == ref {
			return i
		}
	}
	return -1
}

// put adds or replaces a subscriber and reports whether it was there and whether that changed anything.
func (l *list) put(s Subscriber) (existed, changed bool) {
	if at := l.find(s.Ref); at >= 0 {
		if l.chunks[at/listChunk][at%listChunk] == s {
			return true, false
		}
		l.changed()
		l.replace(at, s)
		return true, true
	}
	l.changed()
	if l.count%listChunk == 0 {
		l.chunks = append(l.chunks, nil)
	}
	if l.count == listChunk {
		l.makeIndex()
	}
	last := len(l.chunks) - 1
	l.chunks[last] = append(l.chunks[last], s)
	if l.index != nil {
		l.index[s.Ref] = uint32(l.count)
	}
	l.count++
	return false, true
}

// remove takes a subscriber out; the last one takes its place.
func (l *list) remove(ref Ref) (s Subscriber, ok bool) {
	at := l.find(ref)
	if at < 0 {
		return s, false
	}
	l.changed()
	s = l.chunks[at/listChunk][at%listChunk]
	l.count--
	last := l.chunks[l.count/listChunk][l.count%listChunk]
	if at != l.count {
		l.replace(at, last)
		if l.index != nil {
			l.index[last.Ref] = uint32(at)
		}
	}
	delete(l.index, ref)
	l.shrink()
	return s, true
}

// shrink drops the last subscriber; count is already one less. Its place must not be written again, so the
// capacity goes with it.
func (l *list) shrink() {
	c, n := l.count/listChunk, l.count%listChunk
	if n > 0 {
		l.chunks[c] = l.chunks[c][:n:n]
		return
	}
	l.chunks[c] = nil
	l.chunks = l.chunks[:c]
	if c == 1 {
		l.index = nil
	}
}

// replace puts s at a position of a copied chunk.
func (l *list) replace(at int, s Subscriber) {
	chunk := slices.Clone(l.chunks[at/listChunk])
	chunk[at%listChunk] = s
	l.chunks[at/listChunk] = chunk
}

func (l *list) changed() {
	l.version++
	if len(l.chunks) > 1 {
		l.flat.Store(nil)
	}
}

func (l *list) makeIndex() {
	l.index = make(map[Ref]uint32, 2*listChunk)
	for i := range l.chunks[0] {
		l.index[l.chunks[0][i].Ref] = uint32(i)
	}
}

// hit returns the list as a match takes it down: the slice a route may have, or copies of what it is made of.
func (l *list) hit() hit {
	h := hit{loop: l.loop}
	if len(l.chunks) == 1 {
		h.subscribers = slices.Clip(l.chunks[0])
	} else if flat := l.flat.Load(); flat != nil {
		h.subscribers = *flat
	} else {
		h.list, h.chunks, h.version = l, slices.Clone(l.chunks), l.version
	}
	return h
}

// flatten makes the one slice of a long list, without the lock, and keeps it for others if it still holds.
func (s *shard) flatten(h *hit) {
	flat := slices.Concat(h.chunks...)
	h.subscribers, h.chunks = flat, nil
	s.lockShared()
	if h.list.version == h.version {
		h.list.flat.Store(&flat)
	}
	s.mu.RUnlock()
}
