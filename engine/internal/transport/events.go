package transport

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/panjf2000/gnet/v2"
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
	e.s.engine, e.s.running = eng, true
	e.s.mu.Unlock()
	return gnet.None
}

// OnShutdown runs before the loops end, whatever ends them.
func (e *events) OnShutdown(gnet.Engine) {
	close(e.ending)
	e.s.mu.Lock()
	e.s.running = false
	e.s.mu.Unlock()
	for _, l := range e.s.loops {
		l.unbind()
	}
}

func (e *events) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	l := e.s.bind(c.EventLoop())
	var in *listening
	a, _ := c.Context().(*arrival)
	switch c.Context().(type) {
	case probe:
		c.SetContext(nil)
		return nil, gnet.Close
	case *arrival:
		in = a.in
	default:
		in = e.s.arrived(c.LocalAddr())
	}
	c.SetContext(nil)
	if in == nil {
		return nil, gnet.Close
	}
	conns, by := int(e.s.conns.Add(1)), int(in.conns.Add(1))
	if int64(conns) > e.s.most.Load() || in.MaxConnections > 0 && by > in.MaxConnections || e.s.outOfDescriptors(c.Fd()) {
		return nil, e.refuse(in)
	}
	if !e.s.open(l, c, in, a) {
		return nil, e.refuse(in)
	}
	return nil, gnet.None
}

// open makes a socket of c and tells the owner of its loop.
func (s *Server) open(l *eventLoop, c gnet.Conn, in *listening, a *arrival) bool {
	sock := socket{gc: c, in: in}
	if !in.needsLayers() && (a == nil || a.remote == nil) {
		plain := &sock
		plain.peer = l.owner.Opened(plain)
		c.SetContext(plain)
		return plain.peer != nil
	}
	layers := newLayered(l, sock, a)
	layers.peer = l.owner.Opened(layers)
	c.SetContext(layers)
	return layers.peer != nil
}

// outOfDescriptors reports whether a connection with descriptor fd is one too
// many for the process. It logs when that begins, and when a twentieth of the
// connections of then have gone: not each time one place is free.
func (s *Server) outOfDescriptors(fd int) bool {
	out := fd >= s.descriptors
	conns, crowded := s.conns.Load(), s.crowded.Load()
	switch {
	case out && crowded == 0:
		if s.crowded.CompareAndSwap(0, conns) {
			s.cfg.Logger.Warn("the process has nearly as many files open as it may: new connections are refused until others end; "+
				"raise the limit of open files (ulimit -n, LimitNOFILE) to serve more", "limit", s.descriptors, "connections", conns)
		}
	case !out && crowded > 0 && conns < crowded-crowded/20:
		if s.crowded.CompareAndSwap(crowded, 0) {
			s.cfg.Logger.Info("descriptors are free again: new connections are served", "connections", conns)
		}
	}
	return out
}

// refuse closes a connection that was counted and is not wanted.
func (e *events) refuse(in *listening) gnet.Action {
	in.conns.Add(-1)
	e.s.conns.Add(-1)
	e.s.refused.Add(1)
	return gnet.Close
}

func (e *events) OnTraffic(c gnet.Conn) gnet.Action {
	switch sock := c.Context().(type) {
	case *socket:
		if b, _ := c.Next(-1); len(b) > 0 {
			defer sock.guard(sock)
			sock.peer.Received(b)
		}
	case *layered:
		if b, _ := c.Next(-1); len(b) > 0 {
			defer sock.guard(sock)
			sock.received(b)
		}
	default:
		return gnet.Close
	}
	return gnet.None
}

func (e *events) OnClose(c gnet.Conn, err error) gnet.Action {
	switch sock := c.Context().(type) {
	case *socket:
		sock.ended(err)
	case *layered:
		sock.release()
		if sock.why != nil {
			err = sock.why
		}
		sock.ended(err)
	}
	return gnet.None
}

func (e *events) OnTick() (time.Duration, gnet.Action) {
	if !e.booted {
		err := e.s.bindAll(e.ending)
		if err == nil {
			err = e.s.silenceClosed()
		}
		if err == nil && !e.s.started() {
			close(e.s.ready)
		}
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

// quiet passes gnet's warnings and errors on and drops the rest.
type quiet struct{ log *slog.Logger }

func (q quiet) Debugf(string, ...any)          {}
func (q quiet) Infof(string, ...any)           {}
func (q quiet) Warnf(format string, a ...any)  { q.log.Warn(sprintf(format, a)) }
func (q quiet) Errorf(format string, a ...any) { q.log.Error(sprintf(format, a)) }
func (q quiet) Fatalf(format string, a ...any) { q.log.Error(sprintf(format, a)) }

func sprintf(format string, a []any) string { return "gnet: " + fmt.Sprintf(format, a...) }
