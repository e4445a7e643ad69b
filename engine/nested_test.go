package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// fragile is a socket that breaks at the first large write: its connection is
// closed before Write returns.
type fragile struct{ *peer }

func (f fragile) Write(b []byte) {
	if len(b) < flushBytes {
		f.peer.Write(b)
		return
	}
	f.Close()
}

// TestWillWithinAFanOut: a connection that breaks while a message goes out
// publishes its will in the middle of it. Each message reaches its own
// subscribers, even where the route is not cached.
func TestWillWithinAFanOut(t *testing.T) {
	h := newHarness(t, 2, Options{})
	for _, l := range h.b.loops {
		l.routes = h.b.router.NewCache(1) // too small for either route
	}
	connect := func(loop int, id string, edit ...func(*codec.Connect)) *peer {
		p := &peer{h: h, env: h.envs[loop], version: codec.V311}
		p.conn = p.env.loop.Opened(fragile{p})
		p.send(connectPacket(p.version, id, true, edit...))
		p.expectConnack(false)
		return p
	}
	connect(0, "breaks", willOf(codec.Will{Topic: []byte("will"), Payload: []byte("gone")})).subscribed(filter("t", 0))
	var readers, mourners []*peer
	for i := range 20 {
		r, m := h.dialOn(1, codec.V311), h.dialOn(1, codec.V311)
		r.send(connectPacket(r.version, fmt.Sprint("r", i), true))
		m.send(connectPacket(m.version, fmt.Sprint("m", i), true))
		r.expectConnack(false)
		m.expectConnack(false)
		readers, mourners = append(readers, r.subscribed(filter("t", 0))), append(mourners, m.subscribed(filter("will", 0)))
	}
	pub := h.dialOn(0, codec.V311)
	pub.send(connectPacket(pub.version, "pub", true), publishPacket(pub.version, "t", strings.Repeat("x", flushBytes), 0, 0))
	for _, r := range readers {
		if got := r.read(); !strings.HasPrefix(got, `PUBLISH q0 r0 d0 "t"`) || len(r.in) > 0 {
			t.Errorf("a reader got %.40s and %d bytes more", got, len(r.in))
		}
	}
	for _, m := range mourners {
		if got := m.read(); got != `PUBLISH q0 r0 d0 "will" "gone"` || len(m.in) > 0 {
			t.Errorf("a mourner got %.40s and %d bytes more", got, len(m.in))
		}
	}
}
