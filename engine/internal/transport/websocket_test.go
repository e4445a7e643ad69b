package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/panjf2000/gnet/v2"
)

// listenWS runs a server for WebSocket; it echoes unless set says otherwise.
func listenWS(t *testing.T, edit func(l *Listener), set func(l *testLoop)) *Server {
	t.Helper()
	l := &Listener{Address: "127.0.0.1:0", Owner: 0, WebSocket: &WebSocket{Path: "/mqtt", Protocols: []string{"mqtt", "mqttv3.1"}}}
	if edit != nil {
		edit(l)
	}
	s, _ := listen(t, 2, func(c *Config) { c.Listeners = []*Listener{l} }, set)
	return s
}

// wsClient is the client's end.
type wsClient struct {
	net.Conn
	t *testing.T
	r io.Reader
}

func dialWS(t *testing.T, s *Server) *wsClient {
	t.Helper()
	return upgradeConn(t, dial(t, s.Addr(s.cfg.Listeners[0])))
}

func upgradeConn(t *testing.T, c net.Conn) *wsClient {
	t.Helper()
	d := ws.Dialer{Protocols: []string{"mqtt"}, NetDial: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	conn, br, hs, err := d.Dial(context.Background(), "ws://localhost/mqtt")
	if err != nil || hs.Protocol != "mqtt" {
		t.Fatalf("got %+v, %v", hs, err)
	}
	w := &wsClient{Conn: conn, t: t, r: conn}
	if br != nil {
		w.r = br
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return w
}

// frame is one of a client, masked.
func frame(op ws.OpCode, fin bool, payload []byte) []byte {
	var b bytes.Buffer
	_ = ws.WriteFrame(&b, ws.MaskFrame(ws.NewFrame(op, fin, bytes.Clone(payload))))
	return b.Bytes()
}

// next is the next frame of the server.
func (c *wsClient) next() (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(c.r); err == nil {
		f.Payload = make([]byte, f.Header.Length)
		_, err = io.ReadFull(c.r, f.Payload)
	}
	return f, err
}

// data is the next n bytes of data, whatever the frames.
func (c *wsClient) data(n int) []byte {
	c.t.Helper()
	var b []byte
	for len(b) < n {
		f, err := c.next()
		if err != nil {
			c.t.Fatalf("after %d bytes of %d: %v", len(b), n, err)
		}
		if f.Header.OpCode == ws.OpBinary {
			b = append(b, f.Payload...)
		}
	}
	return b
}

// closedWith takes frames up to the close frame, and the end of the connection.
func (c *wsClient) closedWith() (ws.StatusCode, error) {
	for {
		f, err := c.next()
		if err != nil {
			return 0, err
		}
		if f.Header.OpCode == ws.OpClose {
			code, _ := ws.ParseCloseFrameData(f.Payload)
			_, err := c.next()
			if err == nil {
				err = errors.New("a frame after the close frame")
			}
			return code, err
		}
	}
}

// TestWebSocketStream: bytes come through whatever the frames, and whatever
// the pieces in which these arrive.
func TestWebSocketStream(t *testing.T) {
	t.Parallel()
	s := listenWS(t, nil, nil)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		c := dialWS(t, s)
		var wire, want []byte
		pings := 0
		for range r.IntN(60) {
			message := make([]byte, []int{0, 1, 125, 126, 127, 300, 70000}[r.IntN(7)])
			for i := range message {
				message[i] = byte(r.Uint32())
			}
			want = append(want, message...)
			op := ws.OpBinary
			for more := true; more; {
				n := r.IntN(len(message) + 1)
				more = len(message) > 0 && r.IntN(2) == 0 && n < len(message)
				if !more {
					n = len(message)
				}
				wire = append(wire, frame(op, !more, message[:n])...)
				message, op = message[n:], ws.OpContinuation
				if r.IntN(4) == 0 {
					wire = append(wire, frame(ws.OpPing, true, []byte("ping"))...)
					pings++
				}
				if r.IntN(8) == 0 {
					wire = append(wire, frame(ws.OpPong, true, nil)...)
				}
			}
		}
		piece := []int{1, 3, 50, 1000, 1 << 20}[r.IntN(5)]
		if piece < 50 && len(wire) > 20000 {
			piece = 50
		}
		go func() { _, _ = slicedConn{c, piece}.Write(wire) }()
		if got := c.data(len(want)); !bytes.Equal(got, want) {
			t.Fatalf("seed %d, pieces of %d: got other bytes than were sent", seed, piece)
		}
		_, _ = c.Write(frame(ws.OpPing, true, []byte("last")))
		for {
			f, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Header.OpCode == ws.OpPong && string(f.Payload) == "last" {
				break
			}
		}
		c.Close()
	}
}

// TestWebSocketOutput: one write is one message, in the shortest header.
func TestWebSocketOutput(t *testing.T) {
	t.Parallel()
	s := listenWS(t, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			p.Write(bytes.Repeat([]byte("x"), int(binary.BigEndian.Uint32(b))))
		}
	})
	c := dialWS(t, s)
	for _, n := range []int{1, 125, 126, 65535, 65536, 1 << 20} {
		_, _ = c.Write(frame(ws.OpBinary, true, binary.BigEndian.AppendUint32(nil, uint32(n))))
		f, err := c.next()
		if err != nil || f.Header.OpCode != ws.OpBinary || !f.Header.Fin || f.Header.Masked || len(f.Payload) != n {
			t.Errorf("%d bytes: got %+v, %v", n, f.Header, err)
		}
	}
}

// TestWebSocketRequests: which are taken, and how the others are answered.
func TestWebSocketRequests(t *testing.T) {
	t.Parallel()
	s := listenWS(t, func(l *Listener) { l.WebSocket.Origins = []string{"https://good.example"} }, nil)
	const good = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
	f := func(what, request string, size int, want ...string) {
		t.Helper()
		c := dial(t, s.Addr(s.cfg.Listeners[0]))
		go func() { _, _ = slicedConn{c, size}.Write([]byte(request)) }()
		br := bufio.NewReader(c)
		var answer strings.Builder
		for {
			line, err := br.ReadString('\n')
			answer.WriteString(line)
			if err != nil || line == "\r\n" {
				break
			}
		}
		for _, w := range want {
			if !strings.Contains(answer.String(), w) {
				t.Errorf("%s: got %q, want %q", what, answer.String(), w)
			}
		}
		if !strings.HasPrefix(answer.String(), "HTTP/1.1 101") {
			if _, err := io.Copy(io.Discard, br); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s: %v", what, err)
			}
		} else if strings.Contains(answer.String(), "Extensions") {
			t.Errorf("%s: an extension is agreed on in %q", what, answer.String())
		}
	}
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) + "\r\n" }
	const accepted = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	f("good", good+"\r\n", 1000, "HTTP/1.1 101", accepted, "Sec-WebSocket-Protocol: mqtt\r\n")
	f("byte by byte", good+"\r\n", 1, "HTTP/1.1 101", accepted)
	f("compression", good+"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n", 1000, "HTTP/1.1 101")
	f("several protocols", edit("Protocol: mqtt", "Protocol: other, mqttv3.1, mqtt"), 1000, "101", "Sec-WebSocket-Protocol: mqttv3.1\r\n")
	f("a query", edit("/mqtt ", "/mqtt?token=x "), 1000, "101")
	f("a good origin", good+"Origin: https://good.example\r\n\r\n", 1000, "101")
	f("a bad origin", good+"Origin: https://bad.example\r\n\r\n", 1000, "HTTP/1.1 403")
	f("another path", edit("/mqtt ", "/other "), 1000, "HTTP/1.1 404")
	f("no protocol", edit("Sec-WebSocket-Protocol: mqtt\r\n", ""), 1000, "HTTP/1.1 400")
	f("another protocol", edit("Protocol: mqtt", "Protocol: amqp"), 1000, "HTTP/1.1 400")
	f("POST", edit("GET", "GETX"), 1000, "HTTP/1.1 405")
	f("no upgrade", edit("Upgrade: websocket\r\n", ""), 1000, "HTTP/1.1 400")
	f("another version", edit("Version: 13", "Version: 8"), 1000, "HTTP/1.1 426", "Sec-WebSocket-Version: 13")
	f("no key", edit("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 1000, "HTTP/1.1 400")
	f("HTTP 1.0", edit("HTTP/1.1", "HTTP/1.0"), 1000, "HTTP/1.1 505")
	f("too many headers", good+strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 9), 4000, "HTTP/1.1 431")
	f("one long header", good+"X: "+strings.Repeat("x", 20000), 4000, "HTTP/1.1 431")
	f("no HTTP", "\x10\x10\x00\x04MQTT\r\n\r\n", 1000, "HTTP/1.1 400")
	f("TLS", "\x16\x03\x01\x00\x05hello\r\n\r\n", 1000, "HTTP/1.1 400")
	eventually(t, "those refused are gone", func() bool { return s.Connections() <= 6 })
}

// TestWebSocketRefusals: frames that may not be, each with its close code.
func TestWebSocketRefusals(t *testing.T) {
	t.Parallel()
	s := listenWS(t, nil, nil)
	inside := dialWS(t, s)
	f := func(what string, code ws.StatusCode, frames ...[]byte) {
		t.Helper()
		c := dialWS(t, s)
		_, _ = c.Write(append(frame(ws.OpBinary, true, []byte("ok")), bytes.Join(frames, nil)...))
		if got := c.data(2); string(got) != "ok" {
			t.Errorf("%s: got %q of what came before", what, got)
		}
		if got, err := c.closedWith(); got != code || err != io.EOF && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: closed with %d, %v, want %d", what, got, err, code)
		}
	}
	raw := func(b ...byte) []byte { return b }
	f("text", ws.StatusUnsupportedData, frame(ws.OpText, true, []byte("hello")))
	f("not masked", ws.StatusProtocolError, raw(0x82, 1, 'x'))
	f("a reserved bit", ws.StatusProtocolError, raw(0xC2, 0x81, 0, 0, 0, 0, 'x'))
	f("a reserved operation", ws.StatusProtocolError, raw(0x83, 0x80, 0, 0, 0, 0))
	f("a ping in parts", ws.StatusProtocolError, frame(ws.OpPing, false, nil))
	f("a long ping", ws.StatusProtocolError, frame(ws.OpPing, true, make([]byte, 126)))
	f("a continuation of nothing", ws.StatusProtocolError, frame(ws.OpContinuation, true, []byte("x")))
	f("a message within a message", ws.StatusProtocolError, frame(ws.OpBinary, false, nil), frame(ws.OpBinary, true, nil))
	f("a length in more bytes than needed", ws.StatusProtocolError, raw(0x82, 0xFE, 0, 1, 0, 0, 0, 0, 'x'))
	f("a length in eight bytes that fits in two", ws.StatusProtocolError, raw(0x82, 0xFF, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0))
	f("a length beyond 63 bits", ws.StatusProtocolError, raw(0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	f("a close frame of one byte", ws.StatusProtocolError, frame(ws.OpClose, true, []byte{3}))
	f("a close code that may not be sent", ws.StatusProtocolError, frame(ws.OpClose, true, []byte{3, 0xEE}))
	f("goodbye", ws.StatusNormalClosure, frame(ws.OpClose, true, ws.NewCloseFrameBody(ws.StatusNormalClosure, "bye")))
	f("going away", ws.StatusGoingAway, frame(ws.OpClose, true, ws.NewCloseFrameBody(ws.StatusGoingAway, "")))
	_, _ = inside.Write(frame(ws.OpBinary, true, []byte("x")))
	if got := inside.data(1); string(got) != "x" {
		t.Errorf("another client got %q", got)
	}
	eventually(t, "only one is inside", func() bool { return s.Connections() == 1 })
}

// TestWebSocketEnds: by the owner, at once or in order, with a close frame each time.
func TestWebSocketEnds(t *testing.T) {
	t.Parallel()
	ends := make(chan error, 4)
	s := listenWS(t, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			p.Write([]byte("last"))
			if string(b) == "half" {
				if err := p.CloseWrite(); err != nil {
					t.Error(err)
				}
				p.Write([]byte("too late"))
				return
			}
			p.Close()
		}
		l.closed = func(_ *testPeer, err error) { ends <- err }
	})
	for _, how := range []string{"half", "close"} {
		c := dialWS(t, s)
		_, _ = c.Write(frame(ws.OpBinary, true, []byte(how)))
		if got := c.data(4); string(got) != "last" {
			t.Errorf("%s: got %q", how, got)
		}
		if code, err := c.closedWith(); code != ws.StatusNormalClosure || err != io.EOF {
			t.Errorf("%s: closed with %d, %v", how, code, err)
		}
		c.Close()
		if err := <-ends; how == "half" && !errors.Is(err, io.EOF) || how == "close" && err != nil {
			t.Errorf("%s: the owner was told %v", how, err)
		}
	}
}

// TestWebSocketPings: an idle client is pinged, one that answers stays, one
// that does not is closed.
func TestWebSocketPings(t *testing.T) {
	t.Parallel()
	s := listenWS(t, func(l *Listener) { l.WebSocket.PingInterval = TickInterval }, nil)
	good, bad := dialWS(t, s), dialWS(t, s)
	answered := make(chan error, 1)
	go func() {
		for range 2 * pingsAllowed {
			f, err := good.next()
			if err != nil || f.Header.OpCode != ws.OpPing {
				answered <- fmt.Errorf("got %+v, %w", f.Header, err)
				return
			}
			_, _ = good.Write(frame(ws.OpPong, true, f.Payload))
		}
		answered <- nil
	}()
	for range pingsAllowed {
		if f, err := bad.next(); err != nil || f.Header.OpCode != ws.OpPing {
			t.Fatalf("got %+v, %v, want a ping", f.Header, err)
		}
	}
	if f, err := bad.next(); err == nil {
		t.Errorf("got %+v, want the end", f.Header)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if s.Connections() != 1 {
		t.Errorf("%d connections, want the one that answers", s.Connections())
	}
}

// TestWebSocketPingFlood: a client that pings and does not read has no
// answers piled up for it.
func TestWebSocketPingFlood(t *testing.T) {
	t.Parallel()
	var most atomic.Int64 // one loop's: the client's
	s := listenWS(t, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) { most.Store(max(most.Load(), int64(p.Buffered()))); p.Write(b) }
	})
	c := dialWS(t, s)
	flood := bytes.Repeat(append(frame(ws.OpPing, true, make([]byte, 125)), frame(ws.OpBinary, true, []byte("x"))...), 1000)
	for range 200 {
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		if _, err := c.Write(flood); err != nil {
			t.Fatal(err)
		}
	}
	c.data(200_000)
	if n := most.Load(); n > 2*pongBytes+1<<20 {
		t.Errorf("%d bytes were waiting", n)
	}
}

// TestDetect: TLS, WebSocket, both and neither on one port.
func TestDetect(t *testing.T) {
	t.Parallel()
	s, client := listenTLS(t, 2, func(l *Listener, _ *tls.Config) {
		l.WebSocket = &WebSocket{Protocols: []string{"mqtt"}}
		l.Detect = true
	}, nil)
	addr := s.Addr(s.cfg.Listeners[0])
	exchange(t, dial(t, addr), "\x10 plain", "\x10 plain")
	exchange(t, tls.Client(dial(t, addr), client), "\x10 inside TLS", "\x10 inside TLS")
	for _, c := range []net.Conn{dial(t, addr), tls.Client(dial(t, addr), client)} {
		w := upgradeConn(t, c)
		_, _ = w.Write(frame(ws.OpBinary, true, []byte("in a frame")))
		if got := w.data(10); string(got) != "in a frame" {
			t.Errorf("got %q", got)
		}
	}
}

// discard is a gnet connection that takes everything.
type discard struct {
	gnet.Conn
	n int
}

func (d *discard) Write(b []byte) (int, error)     { d.n += len(b); return len(b), nil }
func (d *discard) Writev(bs [][]byte) (int, error) { d.n += len(bs[0]) + len(bs[1]); return d.n, nil }
func (d *discard) OutboundBuffered() int           { return 0 }

type ignore struct{ n int }

func (p *ignore) Received(b []byte) { p.n += len(b) }
func (p *ignore) Closed(error)      {}

// TestWebSocketDoesNotAllocate: once it is open, a message costs no allocation
// in either direction, nor does a ping.
func TestWebSocketDoesNotAllocate(t *testing.T) {
	in := &listening{Listener: &Listener{WebSocket: &WebSocket{}}, server: &Server{}}
	peer := &ignore{}
	s := newLayered(&eventLoop{}, socket{gc: &discard{}, in: in, peer: peer}, nil)
	s.ws, s.await = newWSLayer(s), 0
	s.ws.open = true
	f := func(what string, want float64, b []byte) {
		t.Helper()
		buf := make([]byte, len(b))
		if got := testing.AllocsPerRun(100, func() {
			copy(buf, b)
			s.received(buf[:3])
			s.received(buf[3:])
		}); got > want {
			t.Errorf("%s: %v allocations, want %v", what, got, want)
		}
	}
	f("small messages", 0, bytes.Repeat(frame(ws.OpBinary, true, []byte("hello")), 10))
	f("a large message", 0, frame(ws.OpBinary, true, make([]byte, 60000)))
	f("a ping", 2, frame(ws.OpPing, true, []byte("ping")))
	for _, n := range []int{10, copyBytes, 1 << 20} {
		b := make([]byte, n)
		if got := testing.AllocsPerRun(100, func() { s.Write(b) }); got > 0 {
			t.Errorf("writing %d bytes: %v allocations", n, got)
		}
	}
	if peer.n == 0 {
		t.Error("nothing arrived")
	}
}
