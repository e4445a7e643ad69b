package limits

import (
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// Flaps finds clients that connect too often. The zero value is ready. Any goroutine.
type Flaps struct {
	all shards[string, flap]
}

// A flap is how often one client connected of late.
type flap struct {
	at      clock.Time // when all connects are paid for
	until   clock.Time // refused until then
	strikes uint8      // refusals that began, each for twice as long
}

const (
	shortestBackOff = time.Second
	longestBackOff  = 5 * time.Minute
	calm            = 10 * time.Minute // without a refusal, after which the next episode begins
)

// Connect counts a connect of the client id, perMinute of which are allowed. A
// client above that is refused for a time, which is returned, and which doubles
// from 1 s to 5 min each time it goes on like that. begins is set when that
// starts after ten minutes of calm.
func (f *Flaps) Connect(id string, perMinute int, now clock.Time) (wait time.Duration, begins bool) {
	idle := func(e *flap) bool { return e.at <= now && (e.strikes == 0 || now.Sub(e.until) > calm) }
	f.all.with(id, true, idle, func(e *flap) {
		if e.until > now {
			wait = e.until.Sub(now)
			return
		}
		if now.Sub(e.until) > calm {
			e.strikes = 0
		}
		at := max(e.at, now) + clock.Time(time.Minute)/clock.Time(perMinute)
		if at.Sub(now) <= time.Minute {
			e.at = at
			return
		}
		wait, begins = min(shortestBackOff<<e.strikes, longestBackOff), e.strikes == 0
		e.strikes = min(e.strikes+1, 16)
		e.until = now.Add(wait)
	})
	return wait, begins
}
