package transport

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/gobwas/ws"
)

// layered is a connection with something between its bytes and its peer, or
// whose addresses are not those of its descriptor. From the socket up: a PROXY
// header, TLS, WebSocket, the peer. Loop goroutine only.
type layered struct {
	socket
	loop          *eventLoop
	tls           *tlsLayer
	ws            *wsLayer
	begun         []byte                      // part of a PROXY header
	proxied       *Proxied                    // what the header said; nil without one
	remote, local net.Addr                    // nil: the descriptor's
	tlsState      func() *tls.ConnectionState // of a connection that has its own TLS; nil otherwise
	why           error                       // of the end, when it is ours to say
	await         await
}

// await is what the next bytes have to show.
type await uint8

const (
	awaitProxy     await = 1 << iota // a PROXY header
	awaitTLS                         // whether they are TLS
	awaitWebSocket                   // whether they are a request for WebSocket
)

// First bytes of what comes in. MQTT begins with 0x10.
const (
	firstTLS       = 0x16 // a handshake record
	firstWebSocket = 'G'  // GET
)

// needsLayers reports whether connections by in are more than their bytes.
func (in *listening) needsLayers() bool {
	return in.Proxy != nil || in.TLS != nil || in.WebSocket != nil
}

func newLayered(l *eventLoop, s socket, a *arrival) *layered {
	c := &layered{socket: s, loop: l}
	if a != nil {
		c.remote, c.local, c.tlsState = a.remote, a.local, a.tls
	}
	if s.in.Proxy != nil {
		c.await |= awaitProxy
	}
	if s.in.TLS != nil {
		c.await |= awaitTLS
	}
	if s.in.WebSocket != nil {
		c.await |= awaitWebSocket
	}
	return c
}

// received takes bytes of the socket.
func (s *layered) received(b []byte) {
	if s.await&awaitProxy != 0 {
		if b = s.proxyHeader(b); len(b) == 0 {
			return
		}
	}
	if s.await&awaitTLS != 0 {
		s.await &^= awaitTLS
		switch {
		case b[0] == firstTLS:
			if g, ok := s.peer.(Gatekeeper); ok && !g.Admit() {
				return
			}
			s.tls = newTLSLayer(s)
		case !s.in.Detect:
			s.fail("the client does not speak TLS", nil)
			return
		}
	}
	if s.tls != nil {
		s.tls.received(b)
		return
	}
	s.plain(b)
}

// plain takes bytes that are not, or no more, encrypted.
func (s *layered) plain(b []byte) {
	if s.await&awaitWebSocket != 0 {
		s.await &^= awaitWebSocket
		if b[0] == firstWebSocket || !s.in.Detect {
			s.ws = newWSLayer(s)
		}
	}
	if s.ws != nil {
		s.ws.received(b)
		return
	}
	s.peer.Received(b)
}

// fail closes the connection for what came by it, and says so, not more than
// once a second.
func (s *layered) fail(what string, err error) {
	s.in.failed.Add(1)
	s.in.warn(what, s.RemoteAddr(), err)
	if err == nil {
		err = errors.New(what)
	}
	s.end(err)
}

// end closes the connection; the peer is told why.
func (s *layered) end(why error) {
	if !s.closed {
		s.why = why
		s.socket.Close()
	}
}

// Write implements Socket.
func (s *layered) Write(b []byte) {
	if s.ws != nil {
		s.ws.write(b)
		return
	}
	s.lower(b)
}

// lower sends b below WebSocket.
func (s *layered) lower(b []byte) {
	if s.tls != nil {
		s.tls.write(b)
		return
	}
	s.socket.Write(b)
}

// lower2 sends a and b below WebSocket.
func (s *layered) lower2(a, b []byte) {
	if s.tls != nil {
		s.tls.write(a)
		s.tls.write(b)
		return
	}
	s.socket.write2(s.loop, a, b)
}

// goodbye ends the layers' streams, as far as they have begun.
func (s *layered) goodbye() {
	if s.ws != nil {
		s.ws.closeWith(ws.StatusNormalClosure)
	}
	if s.tls != nil && !s.closed {
		s.tls.closeWrite()
	}
}

// Close implements Socket.
func (s *layered) Close() {
	if s.closed {
		return
	}
	s.goodbye()
	s.socket.Close()
}

// CloseWrite implements Socket.
func (s *layered) CloseWrite() error {
	if s.closed {
		return net.ErrClosed
	}
	s.goodbye()
	return s.socket.CloseWrite()
}

// release lets go of what the layers hold: the connection is gone.
func (s *layered) release() {
	if s.tls != nil {
		s.tls.release()
	}
	if s.ws != nil {
		s.ws.release()
	}
	s.begun = nil
}

// RemoteAddr implements Socket.
func (s *layered) RemoteAddr() net.Addr {
	if s.remote != nil {
		return s.remote
	}
	return s.socket.RemoteAddr()
}

// LocalAddr implements Socket.
func (s *layered) LocalAddr() net.Addr {
	if s.local != nil {
		return s.local
	}
	return s.socket.LocalAddr()
}

// TLS implements Socket.
func (s *layered) TLS() *tls.ConnectionState {
	switch {
	case s.tls != nil:
		return s.tls.connectionState()
	case s.tlsState != nil:
		return s.tlsState()
	default:
		return nil
	}
}

// Proxied implements Socket.
func (s *layered) Proxied() *Proxied { return s.proxied }
