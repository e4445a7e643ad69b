package limits

import (
	"hash/maphash"
	"sync"
)

// shards is a map in parts that lock for themselves. Entries that are idle are
// taken out now and then: when a part has become twice as large as it was
// after the last time.
type shards[K comparable, V any] struct {
	parts [64]shard[K, V]
}

type shard[K comparable, V any] struct {
	mu    sync.Mutex
	m     map[K]*V
	sweep int // size at which idle entries are looked for
}

const smallShard = 256 // entries that are never looked through

var seed = maphash.MakeSeed()

// with calls f, locked, with the entry of k, which is made if make is set and
// is nil otherwise. idle says which entries are not needed.
func (s *shards[K, V]) with(k K, make bool, idle func(*V) bool, f func(*V)) {
	p := &s.parts[maphash.Comparable(seed, k)%uint64(len(s.parts))]
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.m[k]
	if v == nil && make {
		p.tidy(idle)
		v = new(V)
		p.m[k] = v
	}
	f(v)
	if v != nil && idle(v) {
		delete(p.m, k)
	}
}

func (p *shard[K, V]) tidy(idle func(*V) bool) {
	if p.m == nil {
		p.m, p.sweep = map[K]*V{}, smallShard
	}
	if len(p.m) < p.sweep {
		return
	}
	for k, v := range p.m {
		if idle(v) {
			delete(p.m, k)
		}
	}
	p.sweep = max(smallShard, 2*len(p.m))
}

// len is the number of entries.
func (s *shards[K, V]) len() (n int) {
	for i := range s.parts {
		p := &s.parts[i]
		p.mu.Lock()
		n += len(p.m)
		p.mu.Unlock()
	}
	return n
}
