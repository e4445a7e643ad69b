package router

import (
	"slices"
	"strings"
)

// A Route is what a topic name resolves to. The slices in Loops and Shared are shared and never change: they
// may be read by any goroutine for as long as wanted. Loops itself, the outer slice, is borrowed until the
// Route is used for the next match.
type Route struct {
	Loops  [][]Subscriber // indexed by loop; each session once
	Shared []*Group       // each gets the message once: Pick says who in it
}

// Empty reports whether nobody is to get the message.
func (r *Route) Empty() bool {
	if len(r.Shared) > 0 {
		return false
	}
	for _, l := range r.Loops {
		if len(l) > 0 {
			return false
		}
	}
	return true
}

// Match resolves a topic name, which is valid and borrowed, into route, whose Loops it reuses.
func (r *Router) Match(topic []byte, route *Route) {
	m := r.matchers.Get().(*matcher)
	m.prepare(borrow(topic))
	m.match(r, route)
	m.release()
	r.matchers.Put(m)
}

// A matcher is the scratch memory of one match. One goroutine at a time.
type matcher struct {
	topic  string // borrowed
	rest   string // of topic, behind the levels split so far
	done   bool   // no level is left in rest
	levels []level
	stack  []branch
	hits   []hit
	groups [][]*Group // of each matching node that has some; shared
	index  []uint32   // see join
}

// A level of the topic name.
type level struct {
	text string // borrowed
	hash uint64
}

// A branch is a node the walk has still to visit.
type branch struct {
	id    uint32
	depth int // levels above the node
	path  uint64
}

// A hit is the subscribers of one loop at one matching node.
type hit struct {
	loop        uint16
	subscribers []Subscriber // shared; nil if they stand in chunks
	chunks      [][]Subscriber
	list        *list // where chunks comes from
	version     uint64
}

// prepare starts with a topic name, which must not change until release.
func (m *matcher) prepare(topic string) {
	m.topic, m.rest, m.done = topic, topic, false
	m.levels = m.levels[:0]
}

// maxScratch bounds what a matcher keeps of an unusually large match.
const maxScratch = 1 << 12

// release drops the pointers the match left in the scratch memory.
func (m *matcher) release() {
	m.topic, m.rest = "", ""
	clear(m.hits)
	clear(m.groups)
	m.hits, m.groups = m.hits[:0], m.groups[:0]
	if cap(m.hits)+cap(m.groups)+cap(m.stack)+cap(m.levels)+cap(m.index) > maxScratch {
		*m = matcher{}
	}
}

// system reports whether the topic name is out of reach of filters that start with a wildcard. [MQTT-4.7.2-1]
func (m *matcher) system() bool { return strings.HasPrefix(m.topic, "$") }

// level returns one level of the topic name, nil behind the last. Levels are hashed once, when first wanted.
func (m *matcher) level(r *Router, depth int) *level {
	for len(m.levels) <= depth {
		if m.done {
			return nil
		}
		text, rest, more := strings.Cut(m.rest, "/")
		m.levels = append(m.levels, level{text, r.hash(text)})
		m.rest, m.done = rest, !more
	}
	return &m.levels[depth]
}

// match resolves the prepared topic name.
func (m *matcher) match(r *Router, route *Route) {
	m.walk(r, r.shard(m.level(r, 0).hash))
	if !m.system() {
		m.walk(r, &r.wild)
	}
	if cap(route.Loops) < r.loops {
		route.Loops = make([][]Subscriber, r.loops)
	}
	route.Loops = route.Loops[:r.loops]
	clear(route.Loops)
	m.merge(route)
}

// walk collects what matches in one shard.
func (m *matcher) walk(r *Router, s *shard) {
	first := len(m.hits)
	s.lockShared()
	if s.nodes.live > 1 {
		m.stack = append(m.stack[:0], branch{})
		for len(m.stack) > 0 {
			last := len(m.stack) - 1
			b := m.stack[last]
			m.stack = m.stack[:last]
			m.follow(r, s, b)
		}
	}
	s.mu.RUnlock()
	for i := first; i < len(m.hits); i++ {
		if m.hits[i].chunks != nil {
			s.flatten(&m.hits[i])
		}
	}
}

// follow goes down the literal levels from b and leaves the turns into + on the stack.
func (m *matcher) follow(r *Router, s *shard, b branch) {
	for id, path, depth := b.id, b.path, b.depth; ; depth++ {
		n := s.nodes.at(id)
		if n.rare != nil && n.rare.multi != 0 { // # includes the parent level (5.0 section 4.7.1.2)
			m.collect(s.nodes.at(n.rare.multi))
		}
		l := m.level(r, depth)
		if l == nil {
			m.collect(n)
			return
		}
		if n.rare != nil && n.rare.plus != 0 {
			m.stack = append(m.stack, branch{n.rare.plus, depth + 1, extend(path, plusHash)})
		}
		if n.children == 0 {
			return
		}
		path = extend(path, l.hash)
		if id = s.child(id, r.tag(path), l.text); id == 0 {
			return
		}
	}
}

// collect takes down what stands at a matching node.
func (m *matcher) collect(n *node) {
	if n.one != nil {
		m.hits = append(m.hits, hit{loop: n.loop, subscribers: n.one[:]})
	}
	f := n.fan()
	if f == nil {
		return
	}
	for _, l := range f.lists {
		m.hits = append(m.hits, l.hit())
	}
	if len(f.groups) > 0 {
		m.groups = append(m.groups, slices.Clip(f.groups))
	}
}
