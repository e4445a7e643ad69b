package wheel

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

type timed struct {
	node Node[timed]
	id   int
}

func newTimed(id int) *timed {
	o := &timed{id: id}
	o.node.Owner = o
	return o
}

// ticks returns the point in time n ticks after the start of a wheel that starts at 0.
func ticks(n int64) clock.Time { return clock.Time(n * int64(Tick)) }

func TestNodeSize(t *testing.T) {
	if size := unsafe.Sizeof(Node[timed]{}); unsafe.Sizeof(uintptr(0)) == 8 && size > 32 {
		t.Errorf("a node takes %d bytes, want at most 32", size)
	}
}

func TestDeadlineIsRoundedUp(t *testing.T) {
	f := func(start, at, want clock.Time) {
		t.Helper()
		w := New[timed](start)
		o := newTimed(0)
		w.Arm(&o.node, at)
		fired := false
		fire := func(*Node[timed]) { fired = true }
		w.Advance(want-1, fire)
		if fired || !o.node.Armed() {
			t.Errorf("armed for %d: fired before %d", at, want)
		}
		w.Advance(want, fire)
		if !fired || o.node.Armed() {
			t.Errorf("armed for %d: not fired at %d", at, want)
		}
	}
	f(0, ticks(1), ticks(1))
	f(0, ticks(1)-1, ticks(1))
	f(0, ticks(1)+1, ticks(2))
	f(0, 0, ticks(1)) // already due: the next tick
	f(0, -5, ticks(1))
	f(7, 7+ticks(3), 7+ticks(3)) // ticks count from the start
	f(7, 3, 7+ticks(1))
	f(0, ticks(63), ticks(63))
	f(0, ticks(64), ticks(64))
	f(0, ticks(65), ticks(65))
	f(0, ticks(4095), ticks(4095))
	f(0, ticks(4096), ticks(4096))
	f(0, ticks(1<<18)+1, ticks(1<<18+1))
	f(0, ticks(1<<24), ticks(1<<24))
	f(0, ticks(1<<30+12345), ticks(1<<30+12345))
	f(0, math.MaxInt64, ticks(maxTicks)) // pulled in
	f(math.MaxInt64-ticks(5), math.MaxInt64-ticks(3), math.MaxInt64-ticks(3))
}

func TestCancelAndArmAgain(t *testing.T) {
	w := New[timed](0)
	a, b := newTimed(1), newTimed(2)
	f := func(now clock.Time, want ...int) {
		t.Helper()
		var got []int
		w.Advance(now, func(n *Node[timed]) { got = append(got, n.Owner.id) })
		if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
			t.Errorf("at %d fired %v, want %v", now, got, want)
		}
	}
	w.Cancel(&a.node) // idle: nothing happens
	w.Arm(&a.node, ticks(5))
	w.Arm(&b.node, ticks(5))
	w.Cancel(&a.node)
	if a.node.Armed() || !b.node.Armed() || w.Len() != 1 {
		t.Errorf("after Cancel: armed %v and %v, Len %d", a.node.Armed(), b.node.Armed(), w.Len())
	}
	w.Arm(&a.node, ticks(100))
	w.Arm(&a.node, ticks(3))
	f(ticks(4), 1)
	f(ticks(4))
	f(ticks(5), 2)
	f(ticks(200))
	if w.Len() != 0 {
		t.Errorf("Len = %d, want 0", w.Len())
	}
}

func TestTimeGoingBackIsIgnored(t *testing.T) {
	w := New[timed](0)
	o := newTimed(0)
	w.Advance(ticks(10), func(*Node[timed]) {})
	w.Arm(&o.node, ticks(5))
	w.Advance(ticks(10), func(*Node[timed]) { t.Error("fired within the tick it was armed in") })
	w.Advance(ticks(3), func(*Node[timed]) { t.Error("fired by a time that goes back") })
	fired := false
	w.Advance(ticks(11), func(*Node[timed]) { fired = true })
	if !fired {
		t.Error("a deadline that has passed does not fire at the next tick")
	}
}

// While a tick fires, its other nodes may be cancelled or moved, and new ones armed.
func TestFireMayArmAndCancel(t *testing.T) {
	w := New[timed](0)
	a, b, c, d := newTimed(1), newTimed(2), newTimed(3), newTimed(4)
	for _, o := range []*timed{a, b, c} {
		w.Arm(&o.node, ticks(7))
	}
	var got []int
	w.Advance(ticks(20), func(n *Node[timed]) {
		got = append(got, n.Owner.id)
		if n == &a.node {
			w.Cancel(&b.node)
			w.Arm(&c.node, ticks(9))
			w.Arm(&d.node, ticks(7)) // this tick has begun: the next one
			w.Arm(&a.node, ticks(30))
		}
	})
	if len(got) != 3 || got[0] != 1 || got[1] != 4 || got[2] != 3 {
		t.Errorf("fired %v, want [1 4 3]", got)
	}
	if !a.node.Armed() || b.node.Armed() || w.Len() != 1 {
		t.Errorf("armed: %v, %v, Len %d", a.node.Armed(), b.node.Armed(), w.Len())
	}
}

// model is the wheel done naively: every deadline, as a tick, in a map.
type model struct {
	now uint64
	at  map[*timed]uint64
}

func (m *model) arm(o *timed, at clock.Time) {
	tick := (uint64(max(at, 0)) + uint64(Tick) - 1) / uint64(Tick)
	m.at[o] = max(m.now+1, min(tick, m.now+maxTicks))
}

// check fails the test unless the bits of occupied tell which slots hold a node.
func (w *Wheel[T]) check(t *testing.T) {
	t.Helper()
	for i := range w.slots {
		bit := w.occupied[i>>digitBits]&(1<<(i&digitMask)) != 0
		if holds := w.slots[i].next != &w.slots[i]; holds != bit {
			t.Fatalf("slot %d: holds a node: %v, its bit: %v", i, holds, bit)
		}
	}
}

func TestAgainstModel(t *testing.T) {
	f := func(seed uint64, spread, step int64) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 0))
		w, m := New[timed](0), &model{at: map[*timed]uint64{}}
		owners := make([]*timed, 60)
		for i := range owners {
			owners[i] = newTimed(i)
		}
		var now clock.Time
		randomOp := func() {
			o := owners[rng.IntN(len(owners))]
			if rng.IntN(4) == 0 {
				w.Cancel(&o.node)
				delete(m.at, o)
				return
			}
			at := ticks(int64(m.now)).Add(time.Duration(rng.Int64N(spread) - spread/10))
			w.Arm(&o.node, at)
			m.arm(o, at)
		}
		for range 3000 {
			randomOp()
			now = now.Add(time.Duration(rng.Int64N(step)))
			target := uint64(now) / uint64(Tick)
			before := m.now
			w.Advance(now, func(n *Node[timed]) {
				at, armed := m.at[n.Owner]
				if !armed || at < m.now || at > target || at <= before {
					t.Fatalf("seed %d: node %d fires at tick <= %d, the model has %d, %v", seed, n.Owner.id, target, at, armed)
				}
				m.now = at // deadline order: never less than that of the one before
				delete(m.at, n.Owner)
				if rng.IntN(3) == 0 {
					randomOp()
				}
			})
			m.now = target
			for o, at := range m.at {
				if at <= target {
					t.Fatalf("seed %d: node %d due at tick %d did not fire by %d", seed, o.id, at, target)
				}
			}
			if w.Len() != len(m.at) {
				t.Fatalf("seed %d: Len = %d, want %d", seed, w.Len(), len(m.at))
			}
			w.check(t)
		}
	}
	f(1, int64(20*Tick), int64(3*Tick))
	f(2, int64(500*Tick), int64(20*Tick))
	f(3, int64(100_000*Tick), int64(900*Tick))
	f(4, int64(1<<22*Tick), int64(1<<12*Tick))
	f(5, int64(1<<30*Tick), int64(1<<23*Tick)) // the tick wraps at 2^32 on the way
	f(6, int64(1<<30*Tick), int64(1<<10*Tick))
	f(7, int64(1<<34*Tick), int64(1<<22*Tick)) // beyond MaxDistance
	f(8, int64(70*Tick), int64(1<<23*Tick))    // sleeps over everything armed
}

func TestNoAllocs(t *testing.T) {
	w := New[timed](0)
	o := newTimed(0)
	var now clock.Time
	fire := func(n *Node[timed]) { w.Arm(n, now.Add(time.Minute)) }
	w.Arm(&o.node, 0)
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		w.Arm(&o.node, now)
		w.Advance(now, fire)
	}); n != 0 {
		t.Errorf("Arm and Advance allocate %v times", n)
	}
}
