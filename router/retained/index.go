package retained

import "sync"

// An Index keeps values under topic names. Any goroutine may use it. It must not be copied.
type Index[V any] struct {
	mu    sync.RWMutex
	root  child[V]
	count int
}

// New returns an empty index.
func New[V any]() *Index[V] {
	return &Index[V]{root: child[V]{leaf: new(leaf[V])}}
}

// Set keeps v under topic and returns the value it replaces. topic must be a valid topic name; the
// index keeps the string, shared with the caller.
func (x *Index[V]) Set(topic string, v V) (old V, had bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old, had, s := x.root.set(topic, v)
	if s.happened() {
		root := &inner[V]{n: 2}
		root.seps[0] = s.sep
		root.children[0], root.children[1] = x.root, s.right
		x.root = child[V]{inner: root}
	}
	if !had {
		x.count++
	}
	return old, had
}

// Delete forgets the value under topic and returns it.
func (x *Index[V]) Delete(topic string) (old V, had bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.remove(topic)
}

// remove is Delete under the lock.
func (x *Index[V]) remove(topic string) (old V, had bool) {
	if old, had = x.root.delete(topic); !had {
		return old, false
	}
	x.count--
	for x.root.inner != nil && x.root.inner.n == 1 {
		x.root = x.root.inner.children[0]
	}
	return old, true
}

// DeleteIf forgets the value under topic if there is one for which still returns true. still runs
// under the lock: it must be short and must not use the index.
func (x *Index[V]) DeleteIf(topic string, still func(V) bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l, i := x.root.find(bound{prefix: topic}); !l.holds(i, topic) || !still(l.values[i]) {
		return false
	}
	x.remove(topic)
	return true
}

// Get calls visit with the value under topic and reports whether there is one. visit runs under the
// read lock: it must be short and must not use the index.
func (x *Index[V]) Get(topic string, visit func(V)) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	l, i := x.root.find(bound{prefix: topic})
	if !l.holds(i, topic) {
		return false
	}
	visit(l.values[i])
	return true
}

// Len returns the number of values.
func (x *Index[V]) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.count
}
