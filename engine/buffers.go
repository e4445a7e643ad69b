package engine

import "github.com/valyala/bytebufferpool"

// buffers is a loop's stock of output buffers. Loop-owned.
//
// bytebufferpool alone drops the largest twentieth of what it is given, which
// on a path where some outputs are large means an allocation a turn; so each
// loop keeps what it has just used, last in first out, up to a bound, and the
// shared pool takes the rest.
type buffers struct {
	free  []*bytebufferpool.ByteBuffer
	bytes int // capacity of all in free
	low   int // fewest in free since the last trim
}

const (
	keptBytes       = 8 << 20 // of one loop's stock
	keptBufferBytes = 1 << 20 // of one buffer, anywhere
)

func (s *buffers) get() *bytebufferpool.ByteBuffer {
	n := len(s.free) - 1
	if n < 0 {
		s.low = 0
		return bytebufferpool.Get()
	}
	b := s.free[n]
	s.free[n] = nil
	s.free = s.free[:n]
	s.low = min(s.low, n)
	s.bytes -= cap(b.B)
	return b
}

func (s *buffers) put(b *bytebufferpool.ByteBuffer) {
	if cap(b.B) > keptBufferBytes || s.bytes+cap(b.B) > keptBytes {
		putBuffer(b)
		return
	}
	b.Reset()
	s.free = append(s.free, b)
	s.bytes += cap(b.B)
}

// trim lets go of half of what was not needed since the last call.
func (s *buffers) trim() {
	for range (s.low + 1) / 2 {
		putBuffer(s.get())
	}
	s.low = len(s.free)
}

// putBuffer gives a buffer to the shared pool, or to the collector if it is large.
func putBuffer(b *bytebufferpool.ByteBuffer) {
	if cap(b.B) <= keptBufferBytes {
		bytebufferpool.Put(b)
	}
}
