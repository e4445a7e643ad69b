package router

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	shardCount = 64                 // power of two
	hashFactor = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio: an odd factor that spreads bits
)

// A Router is the subscription index. All its methods may be called from any goroutine.
type Router struct {
	// immutable
	seed    maphash.Seed
	tagMask uint32         // all ones; a test narrows it to force collisions
	loops   int            // number of loops
	none    [][]Subscriber // Route.Loops of a topic name nobody subscribed to

	// any goroutine
	versions      versions
	subscriptions atomic.Int64
	shared        atomic.Int64
	matchers      sync.Pool
	wild          shard // filters that start with a wildcard
	shards        [shardCount]shard
}

// New returns an empty router for the given number of loops.
func New(loops int) *Router {
	if loops < 1 || loops > math.MaxUint16 {
		panic(fmt.Sprintf("router: %d loops", loops))
	}
	r := &Router{
		seed:    maphash.MakeSeed(),
		tagMask: math.MaxUint32,
		loops:   loops,
		none:    make([][]Subscriber, loops),
	}
	r.matchers.New = func() any { return new(matcher) }
	return r
}

// Subscriptions returns the number of subscriptions that are not shared.
func (r *Router) Subscriptions() int { return int(r.subscriptions.Load()) }

// SharedSubscriptions returns the number of members of all groups.
func (r *Router) SharedSubscriptions() int { return int(r.shared.Load()) }

// Subscribe adds s under the topic filter, which is valid and not shared, or replaces the subscription that
// the same session has there. The filter's bytes are copied.
func (r *Router) Subscribe(filter string, s Subscription) (existed bool) {
	r.checkLoop(s.Loop)
	version, sh := r.versionOf(filter), r.shardOf(filter)
	sh.lock()
	existed, changed := sh.insert(r, filter).put(uint16(s.Loop), s.subscriber())
	if changed {
		r.versions.bump(version)
	}
	sh.mu.Unlock()
	if !existed {
		r.subscriptions.Add(1)
	}
	return existed
}

// Unsubscribe removes the subscription of (loop, ref) under the topic filter.
func (r *Router) Unsubscribe(filter string, loop int, ref Ref) (existed bool) {
	r.checkLoop(loop)
	version, sh := r.versionOf(filter), r.shardOf(filter)
	sh.lock()
	if n := sh.find(r, filter); n != nil {
		_, existed = n.remove(uint16(loop), ref)
	}
	if existed {
		sh.prune()
		r.versions.bump(version)
	}
	sh.mu.Unlock()
	if existed {
		r.subscriptions.Add(-1)
	}
	return existed
}

// Move re-points the subscription of (fromLoop, from) to (toLoop, to) and keeps its options: every match
// sees exactly one of the two. A subscription that (toLoop, to) has there already is replaced.
func (r *Router) Move(filter string, fromLoop int, from Ref, toLoop int, to Ref) bool {
	r.checkLoop(fromLoop)
	r.checkLoop(toLoop)
	version, sh := r.versionOf(filter), r.shardOf(filter)
	sh.lock()
	defer sh.mu.Unlock()
	n := sh.find(r, filter)
	if n == nil {
		return false
	}
	s, ok := n.remove(uint16(fromLoop), from)
	if !ok {
		return false
	}
	s.Ref = to
	if existed, _ := n.put(uint16(toLoop), s); existed {
		r.subscriptions.Add(-1)
	}
	r.versions.bump(version)
	return true
}

func (r *Router) checkLoop(loop int) {
	if uint(loop) >= uint(r.loops) {
		panic(fmt.Sprintf("router: loop %d of %d", loop, r.loops))
	}
}

// shardOf returns the shard that holds the topic filter.
func (r *Router) shardOf(filter string) *shard {
	level, _, _ := strings.Cut(filter, "/")
	if level == "+" || level == "#" {
		return &r.wild
	}
	return r.shard(r.hash(level))
}

// shard returns the shard of all names and filters whose first level has this hash.
func (r *Router) shard(firstLevel uint64) *shard { return &r.shards[firstLevel%shardCount] }

// hash hashes one level, or a whole topic name, under the key of this router.
func (r *Router) hash(s string) uint64 { return maphash.String(r.seed, s) }

// extend returns the hash of a path that is one level longer.
func extend(path, level uint64) uint64 {
	hi, lo := bits.Mul64(path^level, hashFactor)
	return hi ^ lo
}

// tag returns what the edge table keeps of a path's hash.
func (r *Router) tag(path uint64) uint32 { return uint32(path>>32) & r.tagMask }

// borrow returns the bytes as a string that is valid as long as they do not change.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
