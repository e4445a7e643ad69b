package transport

import (
	"crypto/tls"
	"net"
)

// layered is a connection with something between its bytes and its peer, or
// whose addresses are not those of its descriptor. Loop goroutine only.
type layered struct {
	socket
	remote, local net.Addr
	tlsState      func() *tls.ConnectionState // nil: no TLS
}

func (s *layered) received(b []byte) { s.peer.Received(b) }

// release lets go of what the layers hold.
func (s *layered) release() {}

func (s *layered) RemoteAddr() net.Addr { return s.remote }
func (s *layered) LocalAddr() net.Addr  { return s.local }

func (s *layered) TLS() *tls.ConnectionState {
	if s.tlsState == nil {
		return nil
	}
	return s.tlsState()
}
