package directory

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// One operation is the whole life of a connection in a directory of 100,000: claim and release.
func BenchmarkClaimRelease(b *testing.B) {
	d := New()
	ids := make([]string, 100_000)
	for i := range ids {
		ids[i] = fmt.Sprintf("device-%08d", i)
		if i%2 == 0 {
			d.Claim(ids[i], Place(i))
		}
	}
	var worker atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		i := int(worker.Add(1))*7918 + 1 // odd: not among those that stay
		for pb.Next() {
			i = (i + 542) % len(ids)
			d.Claim(ids[i], 1)
			d.Release(ids[i], 1)
		}
	})
}
