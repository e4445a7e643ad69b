package clock

import "testing"

func BenchmarkReal(b *testing.B) {
	b.ReportAllocs()
	var c Clock = Real{}
	for b.Loop() {
		c.Now()
	}
}
