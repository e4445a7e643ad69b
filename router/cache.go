package router

const (
	entryBytes   = 256 // what an entry costs beside its topic name, loops and subscribers, roughly
	bytesPerSlot = 512 // budget in bytes for each entry of the limit
	maxSweep     = 64  // entries the clock hand passes at most to find one to evict
)

// A Cache keeps the routes of topic names that were published to. It belongs to one loop: no method may be
// called by two goroutines at a time.
type Cache struct {
	router  *Router
	entries map[string]*entry
	ring    []*entry // the same entries in the order of the clock
	last    *entry   // of the last hit, nil if an entry was dropped since
	hand    int
	limit   int
	bytes   int // what the entries cost together
	matcher matcher
	scratch Route // of a match that is about to be kept, or that is too large to be
}

// An entry is one topic name with its route.
type entry struct {
	Route        // what a hit reads comes first: it fits a cache line
	used  bool   // since the clock hand passed
	stamp        // begins with what a hit compares
	topic string // owned
	bytes int    // cost, see Cache.cost
	slot  int    // in ring
}

// NewCache returns an empty cache for at most limit topic names. Topic names and subscriber lists together
// take at most 512 bytes times limit.
func (r *Router) NewCache(limit int) *Cache {
	return &Cache{router: r, entries: make(map[string]*entry), limit: max(limit, 1)}
}

// Route returns the route of a topic name, which is valid and borrowed. The Route is valid until the next
// call; the lists in it stay valid.
func (c *Cache) Route(topic []byte) *Route {
	// Fast path: the topic name of the last hit, or one look-up; no allocation.
	if e := c.last; e != nil && e.topic == string(topic) && e.stands(&c.router.versions) {
		return &e.Route
	}
	e, ok := c.entries[string(topic)]
	if !ok {
		return c.miss(topic)
	}
	if !e.stands(&c.router.versions) {
		return c.refresh(e)
	}
	e.used = true
	c.last = e
	return &e.Route
}

// Len returns the number of topic names in the cache.
func (c *Cache) Len() int { return len(c.ring) }

// Slow path: a topic name that is not in the cache.
func (c *Cache) miss(topic []byte) *Route {
	var s stamp
	c.resolve(borrow(topic), &s)
	cost := c.cost(len(topic), &c.scratch)
	if cost > max(c.budget()/4, bytesPerSlot) {
		return &c.scratch
	}
	for len(c.ring) > 0 && (len(c.ring) >= c.limit || c.bytes+cost > c.budget()) {
		c.evict()
	}
	e := &entry{topic: string(topic), stamp: s, bytes: cost, slot: len(c.ring)}
	c.keep(e)
	c.bytes += cost
	c.ring = append(c.ring, e)
	c.entries[e.topic] = e
	return &e.Route
}

// Slow path: a change may have touched the route.
func (c *Cache) refresh(e *entry) *Route {
	c.resolve(e.topic, &e.stamp)
	cost := c.cost(len(e.topic), &c.scratch)
	c.bytes += cost - e.bytes
	e.bytes, e.used = cost, true
	if c.bytes > c.budget() {
		c.drop(e)
		return &c.scratch
	}
	c.keep(e)
	return &e.Route
}

// resolve matches into the scratch route.
func (c *Cache) resolve(topic string, s *stamp) {
	c.matcher.prepare(topic)
	s.take(c.router, &c.matcher)
	c.matcher.match(c.router, &c.scratch)
	c.matcher.release()
}

// keep copies the scratch route into an entry. Many topic names have no subscriber: they share one Loops.
func (c *Cache) keep(e *entry) {
	e.Shared = c.scratch.Shared
	if c.scratch.Empty() {
		e.Loops = c.router.none
		return
	}
	if len(e.Loops) == 0 || &e.Loops[0] == &c.router.none[0] {
		e.Loops = make([][]Subscriber, c.router.loops)
	}
	copy(e.Loops, c.scratch.Loops)
}

// cost is what keeping a route takes. Lists count in full although nodes and other entries may share them:
// the entry of an outdated route can be the last to hold its lists.
func (c *Cache) cost(topicBytes int, r *Route) int {
	cost := entryBytes + topicBytes + 24*len(r.Loops) + 8*len(r.Shared)
	for _, l := range r.Loops {
		cost += 24 * len(l)
	}
	return cost
}

func (c *Cache) budget() int { return c.limit * bytesPerSlot }

// evict drops an entry that was not used since the clock hand came by last, or after maxSweep entries the one
// under the hand.
func (c *Cache) evict() {
	for range maxSweep {
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		e := c.ring[c.hand]
		if !e.used {
			break
		}
		e.used = false
		c.hand++
	}
	if c.hand >= len(c.ring) {
		c.hand = 0
	}
	c.drop(c.ring[c.hand])
	c.hand++ // past the one that took the place: it is younger than those ahead
}

// drop removes an entry; the last of the ring takes its place.
func (c *Cache) drop(e *entry) {
	c.last = nil
	last := len(c.ring) - 1
	c.ring[e.slot] = c.ring[last]
	c.ring[e.slot].slot = e.slot
	c.ring[last] = nil
	c.ring = c.ring[:last]
	c.bytes -= e.bytes
	delete(c.entries, e.topic)
}
