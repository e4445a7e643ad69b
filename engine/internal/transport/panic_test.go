//go:build !invariants

package transport

import (
	"net"
	"sync/atomic"
	"testing"
)

// TestPanics: a panic ends at most the connection it came from.
func TestPanics(t *testing.T) {
	t.Parallel()
	var tick, wake atomic.Bool
	boom := func(b *atomic.Bool) func() {
		return func() {
			if b.CompareAndSwap(true, false) {
				panic("boom")
			}
		}
	}
	s, owners := listen(t, 1, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			if string(b) == "boom" {
				panic("received")
			}
			p.Write(b)
		}
		l.closed = func(*testPeer, error) { panic("closed") }
		l.onTick, l.onWake = boom(&tick), boom(&wake)
	})
	other := dial(t, addrs(s)[0])
	f := func(what string, panics uint64, begin func(c net.Conn)) {
		t.Helper()
		c := dial(t, addrs(s)[0])
		exchange(t, c, "x", "x")
		begin(c)
		eventually(t, what+" is counted", func() bool { return s.Panics() == panics })
		exchange(t, other, "alive", "alive")
	}
	f("Received and Closed", 2, func(c net.Conn) {
		_, _ = c.Write([]byte("boom"))
		if !ended(t, c) {
			t.Error("the connection is open")
		}
	})
	f("Closed", 3, func(c net.Conn) { c.Close() })
	f("Ticked", 4, func(net.Conn) { tick.Store(true) })
	f("Woken", 5, func(net.Conn) { wake.Store(true); owners[0].waker.Wake() })
	eventually(t, "both connections that ended are gone", func() bool { return s.Connections() == 3 })
}
