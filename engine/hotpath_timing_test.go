package engine

import "testing"

// BenchmarkTurn is everything between a read and a write, system calls left out.
func BenchmarkTurn(b *testing.B) {
	for _, w := range workloads() {
		b.Run(w.name, func(b *testing.B) {
			_, turn := w.make(b)
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*w.n), "ns/msg")
		})
	}
}
