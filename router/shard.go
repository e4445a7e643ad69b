package router

import (
	"strings"
	"sync"
)

// A shard is the trie of the filters that share a lock. Matching takes the lock shared and for the walk
// only; a change takes it for one path down and one list.
type shard struct {
	mu    sync.RWMutex
	nodes nodes
	edges table
	path  []step // writer's scratch: the way to the node that insert or find returned, root excluded
}

// How often a lock is tried before the goroutine waits for it: for some microseconds, longer than it is held.
// A goroutine that waits is put aside and woken again, which takes many times longer, and its loop stands still.
const (
	spins       = 300
	sharedSpins = 2000 // a failed try is cheaper
)

func (s *shard) lock() {
	for range spins {
		if s.mu.TryLock() {
			return
		}
	}
	s.mu.Lock()
}

func (s *shard) lockShared() {
	for range sharedSpins {
		if s.mu.TryRLock() {
			return
		}
	}
	s.mu.RLock()
}

// A step is one edge of a path.
type step struct {
	id   uint32
	tag  uint32
	kind kind
}

type kind uint8

const (
	literal kind = iota // in the edge table
	plus                // in the parent's rare.plus
	multi               // in the parent's rare.multi
)

func kindOf(level string) kind {
	switch level {
	case "+":
		return plus
	case "#":
		return multi
	}
	return literal
}

// Paths through wildcards need hashes that differ from those of any level.
const (
	plusHash  = 0xD6E8FEB86659FD93
	multiHash = 0xA0761D6478BD642F
)

// child returns the literal child of a node, 0 for none. The level's text is compared on every hit: the
// hash only finds candidates.
func (s *shard) child(parent, tag uint32, level string) uint32 {
	seg := s.edges.segment(tag)
	mask := uint32(len(seg.slots) - 1)
	for i := tag & mask; ; i = (i + 1) & mask {
		e := seg.slots[i]
		if e.id == 0 {
			return 0
		}
		if e.tag == tag && s.nodes.at(e.id).is(parent, level) {
			return e.id
		}
	}
}

// insert returns the node of the topic filter and creates what is missing.
func (s *shard) insert(r *Router, filter string) *node { return s.descend(r, filter, true) }

// find returns the node of the topic filter, or nil.
func (s *shard) find(r *Router, filter string) *node { return s.descend(r, filter, false) }

func (s *shard) descend(r *Router, filter string, create bool) *node {
	s.path = s.path[:0]
	if s.nodes.live == 0 {
		if !create {
			return nil
		}
		s.nodes.take() // the root
	}
	var (
		id   uint32
		n    = s.nodes.at(0)
		path uint64
	)
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		step := step{kind: kindOf(level)}
		path = extend(path, r.levelHash(level, step.kind))
		step.tag = r.tag(path)
		if step.id = s.next(n, id, step, level); step.id == 0 {
			if !create {
				return nil
			}
			step.id = s.grow(n, id, step, level)
		}
		s.path = append(s.path, step)
		id, n = step.id, s.nodes.at(step.id)
	}
	return n
}

func (r *Router) levelHash(level string, k kind) uint64 {
	switch k {
	case plus:
		return plusHash
	case multi:
		return multiHash
	}
	return r.hash(level)
}

// next returns the child one step below n, 0 for none.
func (s *shard) next(n *node, id uint32, step step, level string) uint32 {
	switch {
	case step.kind == literal && n.children == 0, step.kind != literal && n.rare == nil:
		return 0
	case step.kind == plus:
		return n.rare.plus
	case step.kind == multi:
		return n.rare.multi
	}
	return s.child(id, step.tag, level)
}

// grow creates the child one step below n.
func (s *shard) grow(n *node, id uint32, step step, level string) uint32 {
	childID, child := s.nodes.take()
	child.parent = id
	switch step.kind {
	case plus:
		n.ensureRare().plus = childID
	case multi:
		n.ensureRare().multi = childID
	case literal:
		child.setLevel(level)
		s.edges.insert(step.tag, childID)
		n.children++
	}
	return childID
}

// prune removes the nodes on the path that hold nothing any more, from its end upwards.
func (s *shard) prune() {
	for i := len(s.path) - 1; i >= 0; i-- {
		step := s.path[i]
		n := s.nodes.at(step.id)
		if !n.empty() {
			return
		}
		parent := s.nodes.at(n.parent)
		switch step.kind {
		case plus:
			parent.rare.plus = 0
		case multi:
			parent.rare.multi = 0
		case literal:
			s.edges.remove(step.tag, step.id)
			parent.children--
		}
		parent.tidy()
		s.nodes.release(step.id)
	}
	if s.nodes.live == 1 && len(s.nodes.chunks) > 1 { // only the root is left: give the memory back
		s.nodes, s.edges, s.path = nodes{}, table{}, nil
	}
}
