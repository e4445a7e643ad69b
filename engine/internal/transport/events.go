package transport

import (
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// events is gnet's handler: it turns gnet's callbacks into calls on Loop and Peer.
// One run of gnet's engine has one of them.
type events struct {
	gnet.BuiltinEventEngine
	s      *Server
	booted bool          // every loop is bound; ticker goroutine only
	ending chan struct{} // closed when the loops are about to end
}

// OnBoot runs when gnet listens on every address, with its first loop's sockets.
func (e *events) OnBoot(eng gnet.Engine) gnet.Action {
	e.s.release()
	e.s.mu.Lock()
	e.s.engine = eng
	e.s.mu.Unlock()
	return gnet.None
}

// OnShutdown runs before the loops end, whatever ends them.
func (e *events) OnShutdown(gnet.Engine) {
	close(e.ending)
	for _, l := range e.s.loops {
		l.unbind()
	}
}

func (e *events) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	l := e.s.bind(c.EventLoop())
	if _, ok := c.Context().(probe); ok {
		c.SetContext(nil)
		return nil, gnet.Close
	}
	if int(e.s.conns.Add(1)) > e.s.cfg.MaxConnections || c.Fd() >= e.s.descriptors {
		return nil, e.refuse()
	}
	sock := &socket{gc: c, server: e.s}
	sock.peer = l.owner.Opened(sock)
	if sock.peer == nil {
		return nil, e.refuse()
	}
	c.SetContext(sock)
	return nil, gnet.None
}

// refuse closes a connection that was counted and is not wanted.
func (e *events) refuse() gnet.Action {
	e.s.conns.Add(-1)
	e.s.refused.Add(1)
	return gnet.Close
}

func (e *events) OnTraffic(c gnet.Conn) gnet.Action {
	sock, ok := c.Context().(*socket)
	if !ok {
		return gnet.Close
	}
	b, _ := c.Next(-1)
	if len(b) == 0 {
		return gnet.None
	}
	defer sock.guard()
	sock.peer.Received(b)
	return gnet.None
}

func (e *events) OnClose(c gnet.Conn, err error) gnet.Action {
	sock, ok := c.Context().(*socket)
	if !ok {
		return gnet.None
	}
	e.s.conns.Add(-1)
	sock.closed = true
	defer sock.guard()
	sock.peer.Closed(err)
	return gnet.None
}

func (e *events) OnTick() (time.Duration, gnet.Action) {
	if !e.booted {
		err := e.s.bindAll(e.ending)
		e.booted = err == nil
		if err != nil {
			e.s.cfg.Logger.Error("cannot reach an event loop", "error", err)
			if !e.s.started() {
				select {
				case e.s.failed <- err:
				default: // was told
				}
			}
		}
	}
	for _, l := range e.s.loops {
		l.tick()
	}
	return TickInterval, gnet.None
}

// socket is a gnet connection with its own closed flag. Loop goroutine only.
type socket struct {
	gc     gnet.Conn
	peer   Peer
	server *Server
	closed bool
}

func (s *socket) Write(b []byte) {
	if !s.closed {
		_, _ = s.gc.Write(b) // an error closes the connection: Closed has been called
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

func (s *socket) Listener() int {
	local, ok := s.gc.LocalAddr().(*net.TCPAddr)
	if !ok || len(s.server.addrs) < 2 {
		return 0
	}
	for i, a := range s.server.addrs {
		if t := a.(*net.TCPAddr); t.Port == local.Port && (t.IP.Equal(local.IP) || t.IP.IsUnspecified()) {
			return i
		}
	}
	return 0
}

func (s *socket) RemoteAddr() net.Addr { return s.gc.RemoteAddr() }
func (s *socket) LocalAddr() net.Addr  { return s.gc.LocalAddr() }

// guard drops the one connection whose handling panicked.
func (s *socket) guard() {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		s.server.panics.Add(1)
		s.server.cfg.Logger.Error("connection dropped: its handling panicked", "panic", r, "stack", string(debug.Stack()))
		s.Close()
	}
}

// quiet passes gnet's warnings and errors on and drops the rest.
type quiet struct{ log *slog.Logger }

func (q quiet) Debugf(string, ...any)          {}
func (q quiet) Infof(string, ...any)           {}
func (q quiet) Warnf(format string, a ...any)  { q.log.Warn(sprintf(format, a)) }
func (q quiet) Errorf(format string, a ...any) { q.log.Error(sprintf(format, a)) }
func (q quiet) Fatalf(format string, a ...any) { q.log.Error(sprintf(format, a)) }

func sprintf(format string, a []any) string { return "gnet: " + fmt.Sprintf(format, a...) }
