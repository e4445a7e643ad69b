package limits

import (
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// burst is how far a client may run ahead of its rate.
const burst = time.Second

// MaxRate is the highest rate: above it a unit would last less than a nanosecond.
const MaxRate = 1_000_000_000

// A Bucket is a token bucket that holds one second of its rate. The zero value
// is full. It is not safe for concurrent use.
type Bucket struct {
	at clock.Time // when all that was taken is paid for
}

// Take takes n units, up to 2^32, at rate units a second, whether they are
// there or not, and returns how long the taker has to wait until the bucket is
// out of debt; 0: not at all. rate is above 0.
func (b *Bucket) Take(n, rate int, now clock.Time) time.Duration {
	b.at = max(b.at, now) + clock.Time(n)*clock.Time(time.Second)/clock.Time(rate)
	return max(0, b.at.Sub(now)-burst)
}

// Debt is how long a taker has to wait until the bucket is out of debt.
func (b *Bucket) Debt(now clock.Time) time.Duration { return max(0, b.at.Sub(now)-burst) }

// Allow takes one unit at rate units a second, if it is there.
func (b *Bucket) Allow(rate int, now clock.Time) bool {
	at := max(b.at, now) + clock.Time(time.Second)/clock.Time(rate)
	if at.Sub(now) > burst {
		return false
	}
	b.at = at
	return true
}
