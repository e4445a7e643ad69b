package limits

import "github.com/wheelmq/wheelmq/engine/internal/clock"

// Paces bounds how often something happens to each of many names. The zero
// value is ready. Any goroutine.
type Paces struct {
	all shards[string, Bucket]
}

// Allow takes one of rate a second for name, if it is there.
func (p *Paces) Allow(name string, rate int, now clock.Time) (ok bool) {
	p.all.with(name, true, func(b *Bucket) bool { return b.at <= now }, func(b *Bucket) { ok = b.Allow(rate, now) })
	return ok
}
