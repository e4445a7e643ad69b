package clock

import (
	"sync/atomic"
	"time"
)

// Time is a point in time: nanoseconds since an arbitrary start, never going back.
type Time int64

// Add returns the point d after t.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// A Clock tells the time. Any goroutine may call Now.
type Clock interface {
	Now() Time
}

// base lies a second before the start of the process, so that no reading of Real is zero.
// Immutable; it carries a monotonic reading, which is all that time.Since uses.
var base = time.Now().Add(-time.Second)

// Real reads the monotonic clock of the system. The zero value is ready; all values agree.
type Real struct{}

// Now returns the time since shortly before the process started; it is positive.
func (Real) Now() Time { return Time(time.Since(base)) }

// Manual is a clock that moves only when told to. The zero value stands at 0 and is ready.
// Any goroutine may use it. It must not be copied after first use.
type Manual struct {
	now atomic.Int64
}

// Now returns the time last set.
func (m *Manual) Now() Time { return Time(m.now.Load()) }

// Advance moves the clock d further and returns the new time. It panics when d is negative.
func (m *Manual) Advance(d time.Duration) Time {
	if d < 0 {
		panic("clock: Advance by a negative duration")
	}
	return Time(m.now.Add(int64(d)))
}

// Set moves the clock to t. It panics when that would turn it back.
func (m *Manual) Set(t Time) {
	if old := m.now.Swap(int64(t)); old > int64(t) {
		panic("clock: Set turns the clock back")
	}
}
