package retained

import "strings"

const (
	leafCap  = 64          // names per leaf
	innerCap = 64          // children per inner node
	leafMin  = leafCap / 4 // below it a leaf looks for a neighbour to merge with
	innerMin = innerCap / 4
)

// A leaf holds the names of one stretch of the order, ascending, with their values.
type leaf[V any] struct {
	n      int
	next   *leaf[V] // the stretch behind it, nil in the last leaf
	names  [leafCap]string
	values [leafCap]V
}

// An inner node holds n children; every name under children[i] stands before seps[i], every name
// under children[i+1] at seps[i] or behind it. All leaves are equally deep.
//
// Separators are copies of their own, so that they keep no topic name alive.
type inner[V any] struct {
	n        int
	seps     [innerCap]string // n-1 used
	children [innerCap]child[V]
}

// A child is either an inner node or a leaf; the other pointer is nil.
type child[V any] struct {
	inner *inner[V]
	leaf  *leaf[V]
}

// A split tells the parent of a node that overflowed: right took over all from sep on.
type split[V any] struct {
	sep   string
	right child[V]
}

// happened reports whether there was a split at all.
func (s split[V]) happened() bool { return s.right.leaf != nil || s.right.inner != nil }

// search returns the index of the first name in l that does not stand before b.
func (l *leaf[V]) search(b bound) int {
	low, high := 0, l.n
	for low < high {
		middle := (low + high) / 2
		if b.order(l.names[middle]) < 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// holds reports whether name stands at index i of l.
func (l *leaf[V]) holds(i int, name string) bool { return i < l.n && l.names[i] == name }

// search returns the index of the child under which a name at b would be.
func (t *inner[V]) search(b bound) int {
	low, high := 0, t.n-1
	for low < high {
		middle := (low + high) / 2
		if b.order(t.seps[middle]) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// find returns the leaf under c in which a name at b would be, and the index of the first name there
// that does not stand before b; the index is l.n when all do.
func (c child[V]) find(b bound) (l *leaf[V], i int) {
	for c.leaf == nil {
		c = c.inner.children[c.inner.search(b)]
	}
	return c.leaf, c.leaf.search(b)
}

// set puts name and v under c.
func (c child[V]) set(name string, v V) (old V, had bool, s split[V]) {
	if c.leaf != nil {
		return c.leaf.set(name, v)
	}
	i := c.inner.search(bound{prefix: name})
	old, had, s = c.inner.children[i].set(name, v)
	if s.happened() {
		s = c.inner.insert(i, s)
	}
	return old, had, s
}

func (l *leaf[V]) set(name string, v V) (old V, had bool, s split[V]) {
	i := l.search(bound{prefix: name})
	if l.holds(i, name) {
		old = l.values[i]
		l.names[i], l.values[i] = name, v // the name too: the one before may keep an old message alive
		return old, true, s
	}
	if l.n < leafCap {
		l.insert(i, name, v)
		return old, false, s
	}
	right := l.split(i)
	if i > l.n || l.n == leafCap {
		right.insert(i-l.n, name, v)
	} else {
		l.insert(i, name, v)
	}
	sep := strings.Clone(separator(l.names[l.n-1], right.names[0]))
	return old, false, split[V]{sep, child[V]{leaf: right}}
}

// insert puts name and v at index i; there is room.
func (l *leaf[V]) insert(i int, name string, v V) {
	l.n++
	names, values := l.names[:l.n], l.values[:l.n]
	copy(names[i+1:], names[i:])
	copy(values[i+1:], values[i:])
	names[i], values[i] = name, v
}

// split moves the upper half of l to a new leaf behind it; nothing, when the name to come stands
// behind all others there are, so that names which arrive in order leave full leaves.
func (l *leaf[V]) split(i int) *leaf[V] {
	keep := leafCap / 2
	if i == leafCap && l.next == nil {
		keep = leafCap
	}
	right := &leaf[V]{n: l.n - keep, next: l.next}
	copy(right.names[:], l.names[keep:])
	copy(right.values[:], l.values[keep:])
	l.truncate(keep)
	l.next = right
	return right
}

// truncate forgets all but the first n names.
func (l *leaf[V]) truncate(n int) {
	clear(l.names[n:l.n])
	clear(l.values[n:l.n])
	l.n = n
}

// insert takes in what children[i] split off, and splits itself when it is full.
func (t *inner[V]) insert(i int, s split[V]) split[V] {
	if t.n < innerCap {
		t.put(i, s)
		return split[V]{}
	}
	up := t.split(i == innerCap-1)
	if i < t.n {
		t.put(i, s)
	} else {
		up.right.inner.put(i-t.n, s)
	}
	return up
}

// put links s.right behind children[i]; there is room.
func (t *inner[V]) put(i int, s split[V]) {
	copy(t.seps[i+1:t.n], t.seps[i:])
	t.seps[i] = s.sep
	copy(t.children[i+2:t.n+1], t.children[i+1:])
	t.children[i+1] = s.right
	t.n++
}

// split moves the upper children of t to a new node: half of them, or only the last one when the
// insertion is behind it.
func (t *inner[V]) split(atEnd bool) split[V] {
	keep := innerCap / 2
	if atEnd {
		keep = innerCap - 1
	}
	right := &inner[V]{n: t.n - keep}
	copy(right.children[:], t.children[keep:])
	copy(right.seps[:], t.seps[keep:t.n-1])
	sep := t.seps[keep-1]
	t.truncate(keep)
	return split[V]{sep, child[V]{inner: right}}
}

// truncate forgets all but the first n children; n is at least 1.
func (t *inner[V]) truncate(n int) {
	clear(t.seps[n-1 : t.n-1])
	clear(t.children[n:t.n])
	t.n = n
}
