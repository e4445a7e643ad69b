package directory

import (
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// shardCount is a power of two, far above the number of loops, so that two of them rarely meet.
const shardCount = 64

// A Place tells where a session lives. Opaque here.
type Place uint64

// A Directory maps client identifiers to places. It must not be copied.
type Directory struct {
	shards [shardCount]shard
	count  atomic.Int64 // entries of all shards; changed under the lock of the shard
}

// A shard fills a cache line, so that neighbours do not disturb each other.
type shard struct {
	mu     sync.Mutex
	places map[string]Place // nil while empty
	_      [48]byte
}

// New returns an empty directory.
func New() *Directory { return new(Directory) }

// Claim makes p the owner of clientID and returns the owner before. It keeps clientID.
func (d *Directory) Claim(clientID string, p Place) (old Place, had bool) {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, had = s.places[clientID]
	if s.places == nil {
		s.places = make(map[string]Place)
	}
	s.places[clientID] = p // for strings the assignment replaces the key too
	if !had {
		d.count.Add(1)
	}
	return old, had
}

// Replace makes p the owner of clientID in the place of old, and reports
// whether it did: not when old has lost it meanwhile.
func (d *Directory) Replace(clientID string, old, p Place) bool {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner, ok := s.places[clientID]; !ok || owner != old {
		return false
	}
	s.places[clientID] = p
	return true
}

// Release deletes clientID if p still owns it, and reports whether it did.
func (d *Directory) Release(clientID string, p Place) bool {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner, ok := s.places[clientID]; !ok || owner != p {
		return false
	}
	delete(s.places, clientID)
	d.count.Add(-1)
	if len(s.places) == 0 {
		s.places = nil // a map never shrinks by itself
	}
	return true
}

// Lookup returns the owner of clientID.
func (d *Directory) Lookup(clientID string) (Place, bool) {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.places[clientID]
	return p, ok
}

// Len returns the number of client identifiers owned. It takes no lock.
func (d *Directory) Len() int { return int(d.count.Load()) }

func (d *Directory) shard(clientID string) *shard {
	return &d.shards[xxhash.Sum64String(clientID)%shardCount]
}
