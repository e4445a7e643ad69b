package retained

import "slices"

// delete takes name out from under c. Nodes under c that got small are merged with a neighbour.
func (c child[V]) delete(name string) (old V, had bool) {
	if c.leaf != nil {
		return c.leaf.delete(name)
	}
	i := c.inner.search(bound{prefix: name})
	old, had = c.inner.children[i].delete(name)
	if had && c.inner.children[i].small() {
		c.inner.merge(i)
	}
	return old, had
}

func (l *leaf[V]) delete(name string) (old V, had bool) {
	i := l.search(bound{prefix: name})
	if !l.holds(i, name) {
		return old, false
	}
	old = l.values[i]
	copy(l.names[i:l.n], l.names[i+1:l.n])
	copy(l.values[i:l.n], l.values[i+1:l.n])
	l.truncate(l.n - 1)
	return old, true
}

// small reports whether c should look for a neighbour to merge with.
func (c child[V]) small() bool {
	if c.leaf != nil {
		return c.leaf.n < leafMin
	}
	return c.inner.n < innerMin
}

// merge joins children[i] with the neighbour before or behind it, where both fit into one node with a
// quarter to spare. An empty node always finds one unless it is the only child.
func (t *inner[V]) merge(i int) {
	for _, left := range [2]int{i - 1, i} {
		if left < 0 || left+1 >= t.n || !t.children[left].absorb(t.seps[left], t.children[left+1]) {
			continue
		}
		t.n = len(slices.Delete(t.children[:t.n], left+1, left+2))
		copy(t.seps[left:t.n-1], t.seps[left+1:t.n])
		t.seps[t.n-1] = ""
		return
	}
}

// absorb moves all of right, the neighbour behind c with sep between them, into c if it fits.
func (c child[V]) absorb(sep string, right child[V]) bool {
	if c.leaf != nil {
		return c.leaf.absorb(right.leaf)
	}
	return c.inner.absorb(sep, right.inner)
}

func (l *leaf[V]) absorb(right *leaf[V]) bool {
	if l.n+right.n > leafCap-leafMin && l.n > 0 && right.n > 0 {
		return false
	}
	copy(l.names[l.n:], right.names[:right.n])
	copy(l.values[l.n:], right.values[:right.n])
	l.n += right.n
	l.next = right.next
	return true
}

func (t *inner[V]) absorb(sep string, right *inner[V]) bool {
	if t.n+right.n > innerCap-innerMin {
		return false
	}
	t.seps[t.n-1] = sep
	copy(t.seps[t.n:], right.seps[:right.n-1])
	copy(t.children[t.n:], right.children[:right.n])
	t.n += right.n
	return true
}
