package limits

import (
	"sync/atomic"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// deepest is how far beyond its burst a Shared bucket goes into debt: what is
// taken then costs nothing, so that no one taker shuts out the others for longer.
const deepest = time.Minute

// Shared is a Bucket that many take from. The zero value is full. Any goroutine.
type Shared struct {
	at atomic.Int64 // a clock.Time: when all that was taken is paid for
}

// Take is that of Bucket; the wait is a minute at most.
func (b *Shared) Take(n, rate int, now clock.Time) time.Duration {
	cost := clock.Time(n) * clock.Time(time.Second) / clock.Time(rate)
	for {
		old := b.at.Load()
		at := min(max(clock.Time(old), now)+cost, now.Add(burst+deepest))
		if b.at.CompareAndSwap(old, int64(at)) {
			return max(0, at.Sub(now)-burst)
		}
	}
}

// Allow takes one unit at rate units a second, if it is there.
func (b *Shared) Allow(rate int, now clock.Time) bool {
	for {
		old := b.at.Load()
		at := max(clock.Time(old), now) + clock.Time(time.Second)/clock.Time(rate)
		if at.Sub(now) > burst {
			return false
		}
		if b.at.CompareAndSwap(old, int64(at)) {
			return true
		}
	}
}

// Debt is how long takers have to wait.
func (b *Shared) Debt(now clock.Time) time.Duration {
	return max(0, clock.Time(b.at.Load()).Sub(now)-burst)
}

func (b *Shared) full(now clock.Time) bool { return clock.Time(b.at.Load()) <= now }

// A Meter is what several connections together receive and are sent. The zero
// value is ready. Any goroutine.
type Meter struct {
	In, Out Flow
	Connect Shared // connections that begin

	conns int // guarded by the shard of Meters that it is in
}

// A Flow is one direction of a Meter.
type Flow struct{ Messages, Bytes Shared }

func (m *Meter) full(now clock.Time) bool {
	return m.In.Messages.full(now) && m.In.Bytes.full(now) && m.Out.Messages.full(now) && m.Out.Bytes.full(now)
}

// Meters are those of users, or of addresses. One outlives its connections
// until what they took is paid for, so that connecting anew brings nothing. The
// zero value is empty. Any goroutine.
type Meters[K comparable] struct {
	all shards[K, Meter]
}

// Enter returns the meter of k for one more connection, until Leave.
func (m *Meters[K]) Enter(k K, now clock.Time) (meter *Meter) {
	m.all.with(k, true, idleMeter(now), func(e *Meter) {
		e.conns++
		meter = e
	})
	return meter
}

// Leave ends what Enter began.
func (m *Meters[K]) Leave(k K, now clock.Time) {
	m.all.with(k, false, idleMeter(now), func(e *Meter) {
		if e != nil {
			e.conns--
		}
	})
}

func idleMeter(now clock.Time) func(*Meter) bool {
	return func(e *Meter) bool { return e.conns == 0 && e.full(now) }
}
