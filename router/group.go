package router

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// A Group is the sessions that share the subscription of one topic filter under one share name. It stands at
// the node of the filter. Pick may be called from any goroutine, also after the group lost its last member;
// a group that is formed again under the same names is another Group.
type Group struct {
	// immutable
	shareName string
	strategy  Strategy // of the first member

	// any goroutine
	blocks atomic.Pointer[[]*block] // the seats, seatsPerBlock in each; appended to a copy
	cursor atomic.Uint64            // seat after the last one picked in turn
	stuck  atomic.Uint64            // Sticky: seat of the chosen member, plus one

	// guarded by the shard's lock
	count int
	named map[memberKey]*Member // nil while one block is enough
	room  int                   // no block before this one has a free seat
}

type memberKey struct {
	loop int
	ref  Ref
}

// A Member is one session in a group. Its exported fields are immutable: a changed subscription or a move
// makes a new Member, which takes over the state and the count in flight. Both may be used to change these.
type Member struct {
	Subscriber
	Loop  int
	group *Group
	seat  *seat
}

// Group returns the group the member is or was in.
func (m *Member) Group() *Group { return m.group }

// A seat is a member's place in its group, kept from its first subscription to the end. Its number decides
// what hashing assigns to it.
type seat struct {
	block    *block
	inflight atomic.Int64
	bit      uint8
	gone     bool // guarded by block.mu
}

const seatsPerBlock = 64

// A block is seatsPerBlock seats with one bit for each in three maps, so that finding the next member that can
// take a message costs nothing for all the members that cannot.
type block struct {
	mu      sync.Mutex                // held to change the bits
	ready   atomic.Uint64             // online and not full
	online  atomic.Uint64             // connected
	taken   atomic.Uint64             // has a member
	members atomic.Pointer[[]*Member] // indexed by seat, nil for a free one; copied to change
}

// ShareName returns the Share Name.
func (g *Group) ShareName() string { return g.shareName }

// Strategy returns how members are picked.
func (g *Group) Strategy() Strategy { return g.strategy }

// SetState says whether the member's session is connected, and whether it is full: it should get nothing more
// for now if others can take it. A new member is connected and not full. Without effect once the member left.
// Calls for one member come from one goroutine at a time.
func (m *Member) SetState(online, full bool) {
	b := m.seat.block
	mask := uint64(1) << m.seat.bit
	if b.online.Load()&mask != 0 == online && b.ready.Load()&mask != 0 == (online && !full) {
		return
	}
	b.mu.Lock()
	if !m.seat.gone {
		setBit(&b.online, mask, online)
		setBit(&b.ready, mask, online && !full)
	}
	b.mu.Unlock()
}

func setBit(word *atomic.Uint64, mask uint64, on bool) {
	if on {
		word.Or(mask)
	} else {
		word.And(^mask)
	}
}

// AddInflight changes the number of messages in flight to the member, which LeastInflight compares.
func (m *Member) AddInflight(delta int) { m.seat.inflight.Add(int64(delta)) }

// Inflight returns the number of messages in flight to the member.
func (m *Member) Inflight() int { return int(m.seat.inflight.Load()) }

// find returns the member of (loop, ref), or nil.
func (g *Group) find(loop int, ref Ref) *Member {
	if g.named != nil {
		return g.named[memberKey{loop, ref}]
	}
	for _, b := range g.loadBlocks() {
		for _, m := range b.loadMembers() {
			if m != nil && m.Loop == loop && m.Ref == ref {
				return m
			}
		}
	}
	return nil
}

func (g *Group) loadBlocks() []*block {
	if p := g.blocks.Load(); p != nil {
		return *p
	}
	return nil
}

func (b *block) loadMembers() []*Member {
	if p := b.members.Load(); p != nil {
		return *p
	}
	return nil
}

// add takes a new member in.
func (g *Group) add(m *Member) {
	blocks := g.loadBlocks()
	for g.room < len(blocks) && blocks[g.room].taken.Load() == ^uint64(0) {
		g.room++
	}
	if g.room == len(blocks) {
		blocks = append(slices.Clip(blocks), new(block))
		g.blocks.Store(&blocks)
		if len(blocks) == 2 {
			g.nameMembers(blocks[0])
		}
	}
	m.group = g
	blocks[g.room].add(m)
	if g.named != nil {
		g.named[memberKey{m.Loop, m.Ref}] = m
	}
	g.count++
}

func (g *Group) nameMembers(b *block) {
	g.named = make(map[memberKey]*Member, 2*seatsPerBlock)
	for _, m := range b.loadMembers() {
		g.named[memberKey{m.Loop, m.Ref}] = m
	}
}

// replace puts a new member on the seat of an old one.
func (g *Group) replace(old, m *Member) {
	m.group, m.seat = g, old.seat
	m.seat.block.put(m.seat.bit, m)
	if g.named != nil {
		delete(g.named, memberKey{old.Loop, old.Ref})
		g.named[memberKey{m.Loop, m.Ref}] = m
	}
}

// remove takes a member out; its seat is free for another.
func (g *Group) remove(m *Member) {
	b := m.seat.block
	b.mu.Lock()
	m.seat.gone = true
	mask := uint64(1) << m.seat.bit
	b.ready.And(^mask)
	b.online.And(^mask)
	b.taken.And(^mask)
	b.put(m.seat.bit, nil)
	b.mu.Unlock()
	if g.named != nil {
		delete(g.named, memberKey{m.Loop, m.Ref})
	}
	if i := slices.Index(g.loadBlocks(), b); i < g.room {
		g.room = i
	}
	g.count--
}

// add gives the first free seat to a member.
func (b *block) add(m *Member) {
	b.mu.Lock()
	mask := ^b.taken.Load() & (b.taken.Load() + 1)
	m.seat = &seat{block: b, bit: uint8(bits.TrailingZeros64(mask))}
	b.put(m.seat.bit, m)
	b.taken.Or(mask)
	b.online.Or(mask)
	b.ready.Or(mask)
	b.mu.Unlock()
}

// put publishes the members with one seat changed.
func (b *block) put(bit uint8, m *Member) {
	members := slices.Clone(b.loadMembers())
	for len(members) <= int(bit) {
		members = append(members, nil)
	}
	members[bit] = m
	b.members.Store(&members)
}
