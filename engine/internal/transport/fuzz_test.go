package transport

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/gobwas/ws"
	"github.com/panjf2000/gnet/v2"
)

// offline is a layered connection without a socket.
func offline(l *Listener) (*layered, *collect, *fakeConn) {
	s := &Server{cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
	peer := &collect{}
	gc := &fakeConn{}
	c := newLayered(&eventLoop{server: s}, socket{gc: gc, in: newListening(l, s), peer: peer}, nil)
	gc.s = c
	return c, peer, gc
}

type collect struct {
	got  []byte
	ends int
}

func (p *collect) Received(b []byte) { p.got = append(p.got, b...) }
func (p *collect) Closed(error)      { p.ends++ }

// fakeConn is a gnet connection that keeps what is written.
type fakeConn struct {
	gnet.Conn
	s    *layered
	sent []byte
}

func (c *fakeConn) Write(b []byte) (int, error) { c.sent = append(c.sent, b...); return len(b), nil }
func (c *fakeConn) OutboundBuffered() int       { return 0 }
func (c *fakeConn) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *fakeConn) EventLoop() gnet.EventLoop   { return fakeLoop{c: c} }

// fakeLoop closes the connection as gnet's does.
type fakeLoop struct {
	gnet.EventLoop
	c *fakeConn
}

func (l fakeLoop) Close(gnet.Conn) error {
	l.c.s.release()
	l.c.s.ended(l.c.s.why)
	return nil
}

// FuzzWebSocket: in whatever pieces bytes come, the peer gets the same, which
// is what a reader of whole frames gets from them.
func FuzzWebSocket(f *testing.F) {
	f.Add(append(frame(ws.OpBinary, false, []byte("hel")), frame(ws.OpContinuation, true, []byte("lo"))...), uint8(3))
	f.Add(append(frame(ws.OpPing, true, []byte("x")), frame(ws.OpBinary, true, make([]byte, 300))...), uint8(1))
	f.Add(append(frame(ws.OpClose, true, []byte{3, 0xE8}), "more"...), uint8(2))
	f.Fuzz(func(t *testing.T, wire []byte, piece uint8) {
		run := func(size int) (got, sent []byte, closed bool) {
			c, peer, gc := offline(&Listener{WebSocket: &WebSocket{}})
			c.await, c.ws = 0, newWSLayer(c)
			c.ws.open = true
			for rest := bytes.Clone(wire); len(rest) > 0 && !c.closed; {
				n := min(size, len(rest))
				c.received(rest[:n:n])
				rest = rest[n:]
			}
			return peer.got, gc.sent, c.closed
		}
		got, _, closed := run(len(wire) + 1)
		again, _, closedAgain := run(int(piece) + 1)
		if !bytes.Equal(got, again) || closed != closedAgain {
			t.Errorf("at once %x, closed %v; in pieces of %d %x, closed %v", got, closed, piece, again, closedAgain)
		}
		if want := naiveFrames(wire); !bytes.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
	})
}

// naiveFrames is the data in wire up to what may not be.
func naiveFrames(wire []byte) (data []byte) {
	state := ws.StateServerSide
	for {
		h, size := parseHeader(wire)
		if size == 0 || h.Length < 0 || ws.CheckHeader(h, state) != nil || h.OpCode == ws.OpText {
			return data
		}
		wire = wire[size:]
		n := min(h.Length, int64(len(wire)))
		payload := bytes.Clone(wire[:n])
		ws.Cipher(payload, h.Mask, 0)
		wire = wire[n:]
		switch {
		case h.OpCode == ws.OpClose && n == h.Length:
			return data
		case h.OpCode.IsControl():
		default:
			data = append(data, payload...)
			state = ws.StateServerSide
			if !h.Fin {
				state |= ws.StateFragmented
			}
		}
	}
}

// FuzzProxyHeader: in whatever pieces bytes come, the same is made of them.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\nrest"), uint8(3))
	f.Add([]byte("PROXY UNKNOWN\r\n"), uint8(1))
	f.Add(append(bytes.Clone(proxyV2), 0x21, 0x11, 0, 12, 192, 0, 2, 7, 192, 0, 2, 1, 1, 2, 3, 4, 'x'), uint8(5))
	f.Fuzz(func(t *testing.T, wire []byte, piece uint8) {
		run := func(size int) (addr string, got []byte, closed bool) {
			c, peer, _ := offline(&Listener{Proxy: &Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
			for rest := bytes.Clone(wire); len(rest) > 0 && !c.closed; {
				n := min(size, len(rest))
				c.received(rest[:n:n])
				rest = rest[n:]
			}
			return c.RemoteAddr().String(), peer.got, c.closed
		}
		addr, got, closed := run(len(wire) + 1)
		addr2, got2, closed2 := run(int(piece) + 1)
		if addr != addr2 || !bytes.Equal(got, got2) || closed != closed2 {
			t.Errorf("at once %s %x %v; in pieces %s %x %v", addr, got, closed, addr2, got2, closed2)
		}
	})
}
