package transport

import (
	"crypto/tls"
	"net"
	"runtime/debug"
	"syscall"

	"github.com/panjf2000/gnet/v2"

	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// socket is a gnet connection with its own closed flag, whose bytes are the
// peer's as they come. Loop goroutine only.
type socket struct {
	gc     gnet.Conn
	peer   Peer
	in     *listening
	closed bool
}

func (s *socket) Write(b []byte) {
	if !s.closed {
		_, _ = s.gc.Write(b) // an error closes the connection: Closed has been called
	}
}

// write2 sends a and b in one go.
func (s *socket) write2(l *eventLoop, a, b []byte) {
	if !s.closed {
		l.scratch.parts = [2][]byte{a, b}
		_, _ = s.gc.Writev(l.scratch.parts[:])
		l.scratch.parts = [2][]byte{}
	}
}

func (s *socket) Buffered() int {
	if s.closed {
		return 0
	}
	return s.gc.OutboundBuffered()
}

func (s *socket) Close() {
	if !s.closed {
		_ = s.gc.EventLoop().Close(s.gc)
	}
}

func (s *socket) CloseWrite() error {
	if s.closed {
		return net.ErrClosed
	}
	return syscall.Shutdown(s.gc.Fd(), syscall.SHUT_WR)
}

// SetReading implements Socket. gnet has no such thing, so its poller is told.
func (s *socket) SetReading(on bool) {
	if s.closed {
		return
	}
	if l := s.in.server.bind(s.gc.EventLoop()); l.findPoller(s.gc.Fd()) {
		watch(l.poller, s.gc.Fd(), on, s.gc.OutboundBuffered() > 0)
	}
}

func (s *socket) Listener() any             { return s.in.Owner }
func (s *socket) RemoteAddr() net.Addr      { return s.gc.RemoteAddr() }
func (s *socket) LocalAddr() net.Addr       { return s.gc.LocalAddr() }
func (s *socket) TLS() *tls.ConnectionState { return nil }
func (s *socket) Proxied() *Proxied         { return nil }

// ended notes that gnet has closed the connection, and tells the peer.
func (s *socket) ended(err error) {
	if s.peer == nil {
		return // refused: was not counted any more
	}
	s.in.conns.Add(-1)
	s.in.server.conns.Add(-1)
	s.closed = true
	defer s.guard(s)
	s.peer.Closed(err)
}

// guard drops the one connection whose handling panicked.
func (s *socket) guard(top Socket) {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		server := s.in.server
		server.panics.Add(1)
		server.cfg.Logger.Error("connection dropped: its handling panicked", "panic", r, "stack", string(debug.Stack()))
		top.Close()
	}
}
