package wheel

import (
	"math/bits"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// Tick is the resolution: a node fires at most one Tick after its deadline, plus the time until the
// loop calls Advance.
const Tick = 250 * time.Millisecond

// MaxDistance is how far ahead a node can be armed, about 17 years; what is further fires there.
const MaxDistance = maxTicks * Tick

const (
	maxTicks  = 1<<31 - 1
	digitBits = 6
	digitMask = 1<<digitBits - 1
	topLevel  = 5                       // holds the 2 bits above five digits
	slotCount = topLevel<<digitBits + 4 // slot s of level l has index l<<digitBits + s
)

// A Node is one timer, embedded in the T it times. 32 bytes. The zero value is idle.
//
// Owner and Kind belong to whoever embeds the node; the wheel never reads them.
type Node[T any] struct {
	next, prev *Node[T] // nil while idle
	Owner      *T       // what the timer is for
	at         uint32   // tick it is due at, modulo 2^32; in the head of a slot: the index of the slot
	Kind       uint8    // which of its owner's timers this is
}

// Armed reports whether n waits in a wheel.
func (n *Node[T]) Armed() bool { return n.next != nil }

// A Wheel holds the armed nodes of one loop. It must not be copied.
type Wheel[T any] struct {
	start    clock.Time
	now      uint64               // last tick that was processed, counted from start
	count    int                  // armed nodes
	occupied [topLevel + 1]uint64 // per level, one bit per slot
	slots    [slotCount]Node[T]   // heads of circular lists
}

// New returns an empty wheel whose time begins at start.
func New[T any](start clock.Time) *Wheel[T] {
	w := &Wheel[T]{start: start}
	for i := range w.slots {
		head := &w.slots[i]
		head.next, head.prev, head.at = head, head, uint32(i)
	}
	return w
}

// Len returns the number of armed nodes.
func (w *Wheel[T]) Len() int { return w.count }

// Arm makes n fire at the first tick not before at; a node that is already armed moves there.
// A deadline that has passed fires at the next tick.
func (w *Wheel[T]) Arm(n *Node[T], at clock.Time) {
	if n.next != nil {
		w.unlink(n)
		w.count--
	}
	n.at = uint32(w.now + w.distance(at))
	w.place(n)
	w.count++
}

// Cancel makes n idle; it does nothing when n is idle.
func (w *Wheel[T]) Cancel(n *Node[T]) {
	if n.next == nil {
		return
	}
	w.unlink(n)
	w.count--
}

// distance returns the ticks from now to the first tick not before at, from 1 to maxTicks.
func (w *Wheel[T]) distance(at clock.Time) uint64 {
	if at <= w.start {
		return 1
	}
	due := (uint64(at-w.start) + uint64(Tick) - 1) / uint64(Tick)
	if due <= w.now {
		return 1
	}
	return min(due-w.now, maxTicks)
}

// Advance moves the wheel to now and calls fire for every node due by then, in the order of their
// ticks, nodes of one tick in no particular order. The node is idle again when fire gets it. fire may
// arm or cancel any node, also others due in the same tick; what it arms fires at a later tick, which
// may still be within this call. The time taken does not depend on how many ticks were missed.
func (w *Wheel[T]) Advance(now clock.Time, fire func(*Node[T])) {
	if now <= w.start {
		return
	}
	target := uint64(now-w.start) / uint64(Tick)
	for w.now < target {
		level, ticks, found := w.next()
		if !found || w.now+ticks > target {
			w.now = target
			return
		}
		w.now += ticks
		if level > 0 {
			w.cascade(&w.slots[level<<digitBits+digit(uint32(w.now), level)])
		}
		w.fireSlot(&w.slots[uint32(w.now)&digitMask], fire)
	}
}

// next finds the nearest occupied slot and the ticks until the wheel enters it.
func (w *Wheel[T]) next() (level int, ticks uint64, found bool) {
	now := uint32(w.now)
	for level, occupied := range w.occupied {
		ahead := occupied &^ (2<<digit(now, level) - 1)
		if ahead == 0 && level == topLevel {
			ahead = occupied // beyond the wrap of the tick
		}
		if ahead != 0 {
			shift := level * digitBits
			enter := now>>shift&^digitMask<<shift | uint32(bits.TrailingZeros64(ahead))<<shift
			return level, uint64(enter - now), true
		}
	}
	return 0, 0, false
}

// cascade moves the nodes of a slot the wheel has just entered to lower levels.
func (w *Wheel[T]) cascade(head *Node[T]) {
	for n := head.next; n != head; n = head.next {
		w.unlink(n)
		w.place(n)
	}
}

// fireSlot empties the slot of the current tick. Nothing can be armed into it meanwhile.
func (w *Wheel[T]) fireSlot(head *Node[T], fire func(*Node[T])) {
	for n := head.next; n != head; n = head.next {
		w.unlink(n)
		w.count--
		fire(n)
	}
}

// place links n, whose at is set and not behind the current tick, into its slot.
func (w *Wheel[T]) place(n *Node[T]) {
	level := 0
	if differ := n.at ^ uint32(w.now); differ != 0 {
		level = (bits.Len32(differ) - 1) / digitBits
	}
	slot := digit(n.at, level)
	w.occupied[level] |= 1 << slot
	head := &w.slots[level<<digitBits+slot]
	n.next, n.prev = head, head.prev
	head.prev.next = n
	head.prev = n
}

// unlink takes n out of its slot and leaves it idle.
func (w *Wheel[T]) unlink(n *Node[T]) {
	n.prev.next, n.next.prev = n.next, n.prev
	if n.prev == n.next { // only the head is left
		head := n.next
		w.occupied[head.at>>digitBits] &^= 1 << (head.at & digitMask)
	}
	n.next, n.prev = nil, nil
}

// digit returns digit level of tick, which is the slot of that level it belongs to.
func digit(tick uint32, level int) int {
	return int(tick>>(level*digitBits)) & digitMask
}
