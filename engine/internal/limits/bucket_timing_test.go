package limits

import (
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// BenchmarkShared is what a message costs against a bound that connections share.
func BenchmarkShared(b *testing.B) {
	b.Run("shared", func(b *testing.B) {
		b.ReportAllocs()
		var x Shared
		now, rate := clock.Time(time.Hour), 1_000_000
		for b.Loop() {
			now += 100
			x.Take(1, rate, now)
		}
	})
	b.Run("contended", func(b *testing.B) {
		b.ReportAllocs()
		var x Shared
		b.RunParallel(func(p *testing.PB) {
			now := clock.Time(time.Hour)
			for p.Next() {
				now += 100
				x.Take(1, 1_000_000, now)
			}
		})
	})
}
