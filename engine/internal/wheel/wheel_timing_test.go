package wheel

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// million returns a wheel with a million keep-alive timers due within 90 s.
func million() (*Wheel[timed], []timed, *rand.Rand) {
	rng := rand.New(rand.NewPCG(1, 2))
	w, owners := New[timed](0), make([]timed, 1_000_000)
	for i := range owners {
		owners[i].node.Owner = &owners[i]
		w.Arm(&owners[i].node, clock.Time(rng.Int64N(int64(90*time.Second))))
	}
	return w, owners, rng
}

// One operation is a re-arm of one of a million armed timers, in the order of memory or scattered.
func BenchmarkArm(b *testing.B) {
	f := func(name string, stride int) {
		b.Run(name, func(b *testing.B) {
			w, owners, rng := million()
			b.ReportAllocs()
			i, at := 0, clock.Time(rng.Int64N(int64(90*time.Second)))
			for b.Loop() {
				w.Arm(&owners[i].node, at)
				at = (at + clock.Time(7*time.Second)) % clock.Time(90*time.Second)
				i = (i + stride) % len(owners)
			}
		})
	}
	f("neighbours", 1)
	f("scattered", 271_829)
}

// One operation is a cancel and an arm of one of a few timers that are often touched, among a million.
func BenchmarkCancelArm(b *testing.B) {
	w, owners, _ := million()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		n := &owners[i%1000].node
		w.Cancel(n)
		w.Arm(n, clock.Time(30*time.Second))
		i++
	}
}

// One operation is a tick at which nothing is due, with a million timers armed as far ahead as goes:
// all levels are looked at.
func BenchmarkIdleTick(b *testing.B) {
	w, owners, _ := million()
	for i := range owners {
		w.Arm(&owners[i].node, clock.Time(MaxDistance))
	}
	var now clock.Time
	for b.Loop() {
		now = now.Add(Tick)
		w.Advance(now, func(*Node[timed]) { b.Fatal("fired") })
	}
}

// One operation is one timer that fires and is armed again 90 s ahead, cascades included.
func BenchmarkFire(b *testing.B) {
	w, _, _ := million()
	b.ReportAllocs()
	var now clock.Time
	fired := 0
	for b.Loop() {
		for fired == 0 {
			now = now.Add(Tick)
			w.Advance(now, func(n *Node[timed]) {
				w.Arm(n, now.Add(90*time.Second))
				fired++
			})
		}
		fired--
	}
}
