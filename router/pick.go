package router

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

// A tier names the members that are good enough, best first.
type tier uint8

const (
	ready  tier = iota // connected and not full
	online             // connected
	taken              // all: the message waits for its session
)

func (b *block) tier(t tier) *atomic.Uint64 {
	switch t {
	case ready:
		return &b.ready
	case online:
		return &b.online
	}
	return &b.taken
}

// Pick returns the member that gets a message, false if the group has none: a connected one that is not full,
// else a connected one, else any. The member with the reference skip is left out unless skip is 0: it already
// had the message and did not take it. The hashes of the publisher's Client Identifier and of the topic name
// matter for HashClient and HashTopic only.
func (g *Group) Pick(clientHash, topicHash uint64, skip Ref) (m *Member, ok bool) {
	c := choice{blocks: g.loadBlocks(), skip: skip}
	if len(c.blocks) == 0 {
		return nil, false
	}
	for c.tier = ready; c.tier <= taken; c.tier++ {
		switch g.strategy {
		case RoundRobin:
			m = c.inTurn(&g.cursor)
		case Random:
			m = c.random()
		case Sticky:
			m = c.sticky(g)
		case HashClient:
			m = c.hashed(clientHash)
		case HashTopic:
			m = c.hashed(topicHash)
		case LeastInflight:
			m = c.leastInflight(&g.cursor)
		}
		if m != nil {
			return m, true
		}
	}
	return nil, false
}

// A choice is one look for a member: which seats there are and who may be picked.
type choice struct {
	blocks []*block
	skip   Ref
	tier   tier
}

// seats returns the number of seats, free ones included.
func (c *choice) seats() int { return len(c.blocks) * seatsPerBlock }

// at returns the member on a seat of a block if it may be picked.
func (c *choice) at(b *block, bit int) *Member {
	members := b.loadMembers()
	if bit >= len(members) {
		return nil
	}
	m := members[bit]
	if m == nil || c.skip != 0 && m.Ref == c.skip {
		return nil
	}
	return m
}

// from returns the first member at or after a seat, round the end if need be, and its seat.
func (c *choice) from(seat int) (*Member, int) {
	n := len(c.blocks)
	first, bit := seat/seatsPerBlock%n, seat%seatsPerBlock
	for i := range n + 1 {
		b := c.blocks[(first+i)%n]
		word := b.tier(c.tier).Load()
		if i == 0 {
			word &= ^uint64(0) << bit
		}
		for ; word != 0; word &= word - 1 {
			at := bits.TrailingZeros64(word)
			if m := c.at(b, at); m != nil {
				return m, (first+i)%n*seatsPerBlock + at
			}
		}
	}
	return nil, 0
}

// inTurn returns the member after the last one picked.
func (c *choice) inTurn(cursor *atomic.Uint64) *Member {
	for {
		last := cursor.Load()
		m, seat := c.from(int(last % uint64(c.seats())))
		if m == nil || cursor.CompareAndSwap(last, uint64(seat+1)) {
			return m
		}
	}
}

// random returns any member, all with the same probability.
func (c *choice) random() *Member {
	count := 0
	for _, b := range c.blocks {
		count += bits.OnesCount64(b.tier(c.tier).Load())
	}
	if count == 0 {
		return nil
	}
	k := rand.IntN(count)
	for i, b := range c.blocks {
		word := b.tier(c.tier).Load()
		if n := bits.OnesCount64(word); k >= n {
			k -= n
			continue
		}
		for ; k > 0; k-- {
			word &= word - 1
		}
		m, _ := c.from(i*seatsPerBlock + bits.TrailingZeros64(word))
		return m
	}
	m, _ := c.from(0) // members left meanwhile
	return m
}

// sticky returns the chosen member as long as it may be picked, and otherwise chooses the next. A member that
// is only left out this time stays chosen.
func (c *choice) sticky(g *Group) *Member {
	chosen := g.stuck.Load()
	seat := max(int(chosen), 1) - 1
	m, at := c.from(seat)
	if m == nil || chosen != 0 && at == seat || c.skip != 0 {
		return m
	}
	g.stuck.CompareAndSwap(chosen, uint64(at+1))
	return m
}

// hashed returns the member a hash belongs to. When members come and go only their own share moves.
func (c *choice) hashed(hash uint64) *Member {
	if len(c.blocks) == 1 {
		return c.highestWeight(hash)
	}
	// Slow path: in a large group the hash gives a sequence of seats, and the first that fits gets it.
	seat := 0
	for range 32 {
		hash = extend(hash, hashFactor)
		seat = int(hash >> 32 % uint64(c.seats()))
		if c.blocks[seat/seatsPerBlock].tier(c.tier).Load()>>(seat%seatsPerBlock)&1 != 0 {
			if m := c.at(c.blocks[seat/seatsPerBlock], seat%seatsPerBlock); m != nil {
				return m
			}
		}
	}
	m, _ := c.from(seat)
	return m
}

// highestWeight is rendezvous hashing over one block.
func (c *choice) highestWeight(hash uint64) *Member {
	var best *Member
	var bestWeight uint64
	b := c.blocks[0]
	for word := b.tier(c.tier).Load(); word != 0; word &= word - 1 {
		seat := bits.TrailingZeros64(word)
		weight := extend(hash, uint64(seat+1)*hashFactor)
		if best != nil && weight <= bestWeight {
			continue
		}
		if m := c.at(b, seat); m != nil {
			best, bestWeight = m, weight
		}
	}
	return best
}

// leastInflight compares all members of a group that has one block, and 32 random ones of a larger group.
// Equal ones take turns.
func (c *choice) leastInflight(cursor *atomic.Uint64) *Member {
	best := c.inTurn(cursor)
	if best == nil {
		return nil
	}
	if len(c.blocks) == 1 {
		b := c.blocks[0]
		for word := b.tier(c.tier).Load(); word != 0; word &= word - 1 {
			if m := c.at(b, bits.TrailingZeros64(word)); m != nil && m.Inflight() < best.Inflight() {
				best = m
			}
		}
		return best
	}
	for range 32 {
		if m, _ := c.from(rand.IntN(c.seats())); m != nil && m.Inflight() < best.Inflight() {
			best = m
		}
	}
	return best
}
