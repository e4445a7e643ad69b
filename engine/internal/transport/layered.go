package transport

import (
	"crypto/tls"
	"errors"
	"net"
)

// layered is a connection with something between its bytes and its peer, or
// whose addresses are not those of its descriptor. From the socket up: a PROXY
// header, TLS, WebSocket, the peer. Loop goroutine only.
type layered struct {
	socket
	loop          *eventLoop
	tls           *tlsLayer
	remote, local net.Addr                    // nil: the descriptor's
	tlsState      func() *tls.ConnectionState // of a connection that has its own TLS; nil otherwise
	why           error                       // of the end, when it is ours to say
	await         await
}

// await is what the next bytes have to show.
type await uint8

const (
	awaitTLS await = 1 << iota // whether they are TLS
)

// first bytes of what comes in
const firstTLS = 0x16 // a handshake record

// needsLayers reports whether connections by in are more than their bytes.
func (in *listening) needsLayers() bool { return in.TLS != nil }

func newLayered(l *eventLoop, s socket, a *arrival) *layered {
	c := &layered{socket: s, loop: l}
	if a != nil {
		c.remote, c.local, c.tlsState = a.remote, a.local, a.tls
	}
	if s.in.TLS != nil {
		c.await |= awaitTLS
	}
	return c
}

// received takes bytes of the socket.
func (s *layered) received(b []byte) {
	if s.await&awaitTLS != 0 {
		s.await &^= awaitTLS
		switch {
		case b[0] == firstTLS:
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
func (s *layered) plain(b []byte) { s.peer.Received(b) }

// fail closes the connection for what came by it, and says so, not more than
// once a second.
func (s *layered) fail(what string, err error) {
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
	if s.tls != nil {
		s.tls.write(b)
		return
	}
	s.socket.Write(b)
}

// Close implements Socket.
func (s *layered) Close() {
	if s.closed {
		return
	}
	if s.tls != nil {
		s.tls.closeWrite()
	}
	s.socket.Close()
}

// CloseWrite implements Socket.
func (s *layered) CloseWrite() error {
	if s.closed {
		return net.ErrClosed
	}
	if s.tls != nil {
		s.tls.closeWrite()
	}
	return s.socket.CloseWrite()
}

// release lets go of what the layers hold: the connection is gone.
func (s *layered) release() {
	if s.tls != nil {
		s.tls.release()
	}
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
