//go:build !invariants

package transport

import (
	"crypto/tls"
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

// TestHandshakePanics: one in what is asked during a handshake ends that connection.
func TestHandshakePanics(t *testing.T) {
	t.Parallel()
	var boom atomic.Bool
	s, client := listenTLS(t, 1, func(_ *Listener, c *tls.Config) {
		c.VerifyConnection = func(tls.ConnectionState) error {
			if boom.Load() {
				panic("boom")
			}
			return nil
		}
	}, nil)
	inside := tls.Client(dial(t, addrs(s)[0]), client)
	exchange(t, inside, "x", "x")
	boom.Store(true)
	c := tls.Client(dial(t, addrs(s)[0]), client)
	_, _ = c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is served")
	}
	eventually(t, "it is counted", func() bool { return s.Panics() == 1 && s.Connections() == 1 })
	boom.Store(false)
	exchange(t, inside, "y", "y")
}
