//go:build linux

package transport

import (
	"io"
	"sync/atomic"
	"testing"
)

// A connection that is not read from fills what the kernel keeps and no more,
// and everything comes when it is read again.
func TestSetReading(t *testing.T) {
	t.Parallel()
	const total = 8 << 20
	var got atomic.Int64
	var paused *testPeer
	s, owners := listen(t, 1, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			if got.Add(int64(len(b))); paused == nil {
				paused = p
				p.SetReading(false)
			}
		}
		l.onWake = func() { paused.SetReading(true) }
	})
	c := dial(t, addrs(s)[0])
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, total))
		sent <- err
	}()
	eventually(t, "first bytes", func() bool { return got.Load() > 0 })
	ticks := owners[0].ticked.Load()
	eventually(t, "some ticks", func() bool { return owners[0].ticked.Load() > ticks+3 })
	if n := got.Load(); n > 1<<20 {
		t.Fatalf("%d bytes were read of a connection that is not read from", n)
	}
	owners[0].waker.Wake()
	eventually(t, "all bytes", func() bool { return got.Load() == total })
	if err := <-sent; err != nil && err != io.EOF {
		t.Fatal(err)
	}
}
