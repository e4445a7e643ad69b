package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"
)

const (
	acceptPause  = 50 * time.Millisecond // after a failed accept
	acceptWindow = 64                    // connections one listener may have on their way to the loops
	// arrivalTimeout is beyond what a loop's turn takes.
	arrivalTimeout = 10 * time.Second
)

// An arrival is a connection on its way to a loop that did not accept it.
type arrival struct {
	in            *listening
	remote, local net.Addr // nil: the descriptor's
	tls           func() *tls.ConnectionState
}

// accept hands over what comes in until the socket is closed.
func (in *listening) accept() {
	var under []<-chan gnet.RegisteredResult // way, oldest first
	for failing := false; ; {
		c, err := in.socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed) || err != nil && in.closed.Load():
			for _, r := range under {
				in.server.await(r)
			}
			return
		case err != nil: // descriptors or memory are used up: there will be room again
			if !failing {
				failing = true
				in.server.cfg.Logger.Warn("cannot accept connections for now; those inside stay", "listener", in.addr.String(), "error", err)
			}
			time.Sleep(acceptPause)
			continue
		case failing:
			failing = false
			in.server.cfg.Logger.Info("accepting connections again", "listener", in.addr.String())
		}
		if r, err := in.server.hand(in, c); err == nil {
			under = append(under, r)
		}
		if len(under) == acceptWindow {
			in.server.await(under[0])
			under = append(under[:0], under[1:]...)
		}
	}
}

// await waits until a connection has reached its loop. One that was on its way
// when the loops ended by themselves never does.
func (s *Server) await(r <-chan gnet.RegisteredResult) error {
	select {
	case res := <-r:
		return res.Err
	case <-s.done:
		return net.ErrClosed
	case <-time.After(arrivalTimeout):
		return os.ErrDeadlineExceeded
	}
}

// Adopt serves a connection that was accepted elsewhere as if it had come by
// l, which is open. The server closes c, also when it fails. Any goroutine.
//
// A TCP or unix connection moves to a loop at once. For any other kind two
// goroutines carry the bytes to and from a loop, through a pair of sockets that
// bounds what is under way.
func (s *Server) Adopt(l *Listener, c net.Conn) error {
	s.mu.Lock()
	in := s.listeners[l]
	if in == nil || s.closed {
		s.mu.Unlock()
		c.Close()
		return fmt.Errorf("transport: %w", net.ErrClosed)
	}
	s.arriving.Add(1) // under the lock: Stop waits for it
	s.mu.Unlock()
	defer s.arriving.Done()
	r, err := s.hand(in, c)
	if err != nil {
		return fmt.Errorf("transport: %w", err)
	}
	return s.await(r)
}

// hand moves c to the next loop; it is closed when that fails.
func (s *Server) hand(in *listening, c net.Conn) (<-chan gnet.RegisteredResult, error) {
	if s.conns.Load() >= s.most.Load() || in.MaxConnections > 0 && in.conns.Load() >= int64(in.MaxConnections) {
		s.refused.Add(1)
		c.Close()
		return nil, errors.New("as many connections as allowed")
	}
	a := &arrival{in: in}
	switch c.(type) {
	case *net.TCPConn:
	case *net.UnixConn:
		a.remote, a.local = c.RemoteAddr(), c.LocalAddr()
	default:
		inner, err := s.pump(a, c)
		if err != nil {
			c.Close()
			return nil, err
		}
		c = inner
	}
	r, err := s.loops[s.next.Add(1)%uint32(len(s.loops))].enroll(c, a)
	if err != nil {
		c.Close()
	}
	return r, err
}

// enroll gives c to the loop, which closes it.
func (l *eventLoop) enroll(c net.Conn, a *arrival) (<-chan gnet.RegisteredResult, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.el == nil {
		return nil, net.ErrClosed
	}
	return l.el.Enroll(gnet.NewContext(context.Background(), a), c)
}

// pump connects c, which has no descriptor that a loop could poll, with one
// end of a pair of sockets, and returns the other.
func (s *Server) pump(a *arrival, c net.Conn) (net.Conn, error) {
	a.remote, a.local = c.RemoteAddr(), c.LocalAddr()
	if t, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
		a.tls = sync.OnceValue(func() *tls.ConnectionState { // asked when the handshake is over
			state := t.ConnectionState()
			return &state
		})
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, err := connOf(fds[0])
	if err != nil {
		syscall.Close(fds[1])
		return nil, err
	}
	theirs, err := connOf(fds[1])
	if err != nil {
		ours.Close()
		return nil, err
	}
	var both sync.WaitGroup
	both.Go(func() { carry(ours, c) })
	both.Go(func() { carry(c, ours) })
	go func() {
		both.Wait()
		ours.Close()
		c.Close()
	}()
	return theirs, nil
}

// carry copies until from ends, and then ends to as far as it can.
func carry(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if w, ok := to.(interface{ CloseWrite() error }); ok && err == nil && w.CloseWrite() == nil {
		return
	}
	to.Close()
	from.Close()
}

// connOf makes a connection of fd, which is closed with it, or at once.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socketpair")
	defer f.Close()
	return net.FileConn(f)
}
