package retained

import "strings"

// A Cursor is how far a Match has come. The zero value is the start. It keeps one stored topic name
// alive and belongs to one filter.
type Cursor struct {
	last  string // name looked at last; all names up to it are dealt with
	begun bool
}

// stepsPerValue bounds the names one Match looks at: that many for each value it may visit. A filter
// such as +/+/x passes over names without visiting any, and the lock is held meanwhile.
const stepsPerValue = 8

// maxVisits bounds the values one Match visits, whatever the limit: writers wait meanwhile.
const maxVisits = 1024

// Match visits the values under the topic names that match filter, at most limit of them, in the
// order of the names. It reports whether that was all; if not, a call with the same cursor and filter
// goes on behind the last one. To let writers in, one call also visits no more than 1024 values and
// looks at no more than 8 names per value of its limit, so it may come back with fewer values than
// limit, or none, and still not be done.
//
// A value present during the whole iteration is visited exactly once, one that comes or goes
// meanwhile at most once. filter must be valid and without a $share prefix; limit is at least 1.
// visit runs under the read lock: it must be short and must not use the index.
func (x *Index[V]) Match(filter string, cur *Cursor, limit int, visit func(topic string, v V)) (done bool) {
	if strings.IndexByte(filter, '+') < 0 && strings.IndexByte(filter, '#') < 0 {
		x.matchName(filter, cur, visit)
		return true
	}
	limit = min(limit, maxVisits)
	x.mu.RLock()
	defer x.mu.RUnlock()
	at := x.begin(filter, cur)
	for steps := limit * stepsPerValue; at.leaf != nil; steps-- {
		if limit <= 0 || steps <= 0 {
			return false
		}
		name := at.leaf.names[at.i]
		verdict, target := examine(filter, name)
		if verdict == matches {
			visit(name, at.leaf.values[at.i])
			limit--
		}
		cur.last, cur.begun = name, true
		switch verdict {
		case matches, differs:
			at.step()
		case skips:
			at = x.seek(at, target)
		case exhausted:
			return true
		}
	}
	return true
}

// matchName visits the value under a filter without wildcards, once per cursor.
func (x *Index[V]) matchName(name string, cur *Cursor, visit func(topic string, v V)) {
	if cur.begun {
		return
	}
	cur.begun = true
	x.mu.RLock()
	defer x.mu.RUnlock()
	if l, i := x.root.find(bound{prefix: name}); l.holds(i, name) {
		visit(l.names[i], l.values[i])
	}
}

// A position is a name in the tree, or behind the last one when leaf is nil. Valid while the lock is held.
type position[V any] struct {
	leaf *leaf[V]
	i    int
}

// step goes to the next name.
func (p *position[V]) step() {
	p.i++
	p.settle()
}

// settle goes to the first name of a later leaf if i is behind the names of this one.
func (p *position[V]) settle() {
	for p.leaf != nil && p.i >= p.leaf.n {
		p.leaf, p.i = p.leaf.next, 0
	}
}

// begin returns the first name worth looking at.
func (x *Index[V]) begin(filter string, cur *Cursor) position[V] {
	from := bound{prefix: literals(filter)}
	if cur.begun {
		from = bound{prefix: cur.last}
	}
	l, i := x.root.find(from)
	if cur.begun && l.holds(i, cur.last) {
		i++
	}
	at := position[V]{l, i}
	at.settle()
	return at
}

// seek returns the first name at b or behind it; b is behind p.
func (x *Index[V]) seek(p position[V], b bound) position[V] {
	// Fast path: the place is often the next name, or in the same leaf.
	p.step()
	if p.leaf == nil || b.order(p.leaf.names[p.i]) >= 0 {
		return p
	}
	if b.order(p.leaf.names[p.leaf.n-1]) >= 0 {
		p.i = p.leaf.search(b)
		return p
	}
	// Slow path: from the root.
	p.leaf, p.i = x.root.find(b)
	p.settle()
	return p
}

// A verdict says how a name stands to a filter, and where the next candidate can be.
type verdict uint8

const (
	matches   verdict = iota // visit it; the next candidate is the next name
	differs                  // the next candidate is the next name
	skips                    // no candidate stands before the bound that comes with it
	exhausted                // no candidate stands behind this name
)

// examine compares name with filter level by level. The bound is borrowed from both.
func examine(filter, name string) (verdict, bound) {
	if strings.HasPrefix(name, "$") && (filter[0] == '+' || filter[0] == '#') {
		return skips, bound{rest: "%"} // behind everything that starts with '$' [MQTT-4.7.2-1]
	}
	wild := -1 // end in name of the level that the last '+' so far stands for
	f, n := 0, 0
	for {
		rest := filter[f:]
		if rest == "#" {
			return matches, bound{}
		}
		filterEnd, nameEnd := f+levelLen(rest), n+levelLen(name[n:])
		if filter[f:filterEnd] == "+" {
			wild = nameEnd
		} else if c := strings.Compare(name[n:nameEnd], filter[f:filterEnd]); c < 0 {
			return skips, bound{prefix: name[:n], rest: literals(rest)}
		} else if c > 0 {
			return leave(name, wild)
		}
		switch filterDone, nameDone := filterEnd == len(filter), nameEnd == len(name); {
		case filterDone && nameDone:
			return matches, bound{}
		case filterDone:
			return leave(name, wild)
		case nameDone && filter[filterEnd+1:] == "#": // '#' includes the parent level
			return matches, bound{}
		case nameDone:
			return differs, bound{}
		}
		f, n = filterEnd+1, nameEnd+1
	}
}

// leave goes to the next text for the level that the last '+' stands for: nothing below the present
// one can match any more.
func leave(name string, wild int) (verdict, bound) {
	if wild < 0 {
		return exhausted, bound{}
	}
	return skips, bound{prefix: name[:wild], rest: below}
}

// levelLen returns the length of the first level of s.
func levelLen(s string) int {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return i
	}
	return len(s)
}

// literals returns the levels of filter before its first wildcard. Every match begins with them.
func literals(filter string) string {
	for end := 0; ; end++ {
		level := filter[end:]
		n := levelLen(level)
		if level[:n] == "+" || level == "#" {
			return filter[:max(0, end-1)]
		}
		if end += n; end == len(filter) {
			return filter
		}
	}
}
