package router

import (
	"math"
	"strings"
)

const inlineLevel = 20 // bytes of the level that a node holds itself; chosen so that a node has 48 bytes

// A node is one level of the topic filters that pass through it. 48 bytes. Guarded by the shard's lock.
type node struct {
	parent   uint32
	children uint32            // literal children, found through the edge table
	one      *[1]Subscriber    // the only subscriber here, shared; nil if none, or if fan.lists has them
	rare     *rare             // nil unless one of its fields is set
	loop     uint16            // of one
	length   uint16            // of the level; 0 for the wildcards, which the edge table does not hold
	text     [inlineLevel]byte // the level, or its beginning
}

// rare is what only some nodes have. 32 bytes.
type rare struct {
	plus  uint32 // child for +, 0 for none
	multi uint32 // child for #, 0 for none
	tail  string // what node.text has no room for; owned
	fan   *fan   // more than one subscriber, or groups
}

// setLevel names the node; the level's bytes are copied.
func (n *node) setLevel(level string) {
	n.length = clamp(level)
	if copy(n.text[:], level) < len(level) {
		n.ensureRare().tail = strings.Clone(level[inlineLevel:])
	}
}

// is reports whether n is the literal child of that parent for this level.
func (n *node) is(parent uint32, level string) bool {
	if n.parent != parent || n.length != clamp(level) {
		return false
	}
	if len(level) <= inlineLevel {
		return string(n.text[:len(level)]) == level
	}
	return string(n.text[:]) == level[:inlineLevel] && n.rare.tail == level[inlineLevel:]
}

func clamp(level string) uint16 { return uint16(min(len(level), math.MaxUint16)) }

func (n *node) ensureRare() *rare {
	if n.rare == nil {
		n.rare = new(rare)
	}
	return n.rare
}

func (n *node) ensureFan() *fan {
	r := n.ensureRare()
	if r.fan == nil {
		r.fan = new(fan)
	}
	return r.fan
}

// fan returns what holds several subscribers and groups, or nil.
func (n *node) fan() *fan {
	if n.rare == nil {
		return nil
	}
	return n.rare.fan
}

// tidy gives back the parts that became empty.
func (n *node) tidy() {
	if n.rare == nil {
		return
	}
	if f := n.rare.fan; f != nil && len(f.lists) == 0 && len(f.groups) == 0 {
		n.rare.fan = nil
	}
	if *n.rare == (rare{}) {
		n.rare = nil
	}
}

// empty reports whether nothing is here and nothing below.
func (n *node) empty() bool {
	return n.one == nil && n.children == 0 && (n.rare == nil || *n.rare == rare{tail: n.rare.tail})
}

// put adds or replaces the subscriber of (loop, s.Ref) and reports whether it was there and whether that
// changed anything.
func (n *node) put(loop uint16, s Subscriber) (existed, changed bool) {
	f := n.fan()
	switch {
	case n.holds(loop, s.Ref) && n.one[0] == s:
		return true, false
	case n.one == nil && (f == nil || len(f.lists) == 0), n.holds(loop, s.Ref):
		existed = n.one != nil
		n.one, n.loop = &[1]Subscriber{s}, loop
		return existed, true
	}
	f = n.ensureFan()
	if n.one != nil {
		f.list(n.loop).put(n.one[0])
		n.one = nil
	}
	return f.list(loop).put(s)
}

// remove takes the subscriber of (loop, ref) out and returns it.
func (n *node) remove(loop uint16, ref Ref) (s Subscriber, ok bool) {
	if n.holds(loop, ref) {
		s, n.one = n.one[0], nil
		return s, true
	}
	f := n.fan()
	if f == nil {
		return s, false
	}
	if s, ok = f.remove(loop, ref); !ok {
		return s, false
	}
	if len(f.lists) == 1 && f.lists[0].count == 1 {
		n.one, n.loop = &[1]Subscriber{f.lists[0].chunks[0][0]}, f.lists[0].loop
		f.lists = nil
	}
	n.tidy()
	return s, true
}

func (n *node) holds(loop uint16, ref Ref) bool {
	return n.one != nil && n.loop == loop && n.one[0].Ref == ref
}

const (
	chunkBits  = 7
	chunkNodes = 1 << chunkBits // 6 KiB of nodes are allocated at a time
)

// nodes hands out nodes by number and takes them back. Number 0 is the root. Nodes never move, so growth
// costs one allocation of fixed size and now and then a copy of the list of chunks.
type nodes struct {
	chunks []*[chunkNodes]node
	next   uint32 // lowest number never handed out
	free   uint32 // head of the list of returned nodes, linked through parent; 0 for none
	live   uint32 // nodes in use, the root included
}

func (s *nodes) at(id uint32) *node { return &s.chunks[id>>chunkBits][id%chunkNodes] }

// take returns a zero node.
func (s *nodes) take() (uint32, *node) {
	s.live++
	if id := s.free; id != 0 {
		n := s.at(id)
		s.free, n.parent = n.parent, 0
		return id, n
	}
	id := s.next
	if int(id>>chunkBits) == len(s.chunks) {
		s.chunks = append(s.chunks, new([chunkNodes]node))
	}
	s.next++
	return id, s.at(id)
}

// release takes a node back; nothing points at it any more.
func (s *nodes) release(id uint32) {
	*s.at(id) = node{parent: s.free}
	s.free = id
	s.live--
}
