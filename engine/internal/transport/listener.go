package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
)

// A Listener says where connections come in. Immutable from when it is given;
// the pointer is its identity.
//
// TCP listeners that are there from the start are gnet's, one socket for each
// loop; all others have a goroutine that accepts and hands over to the loops.
type Listener struct {
	Address        string       // host:port, where port 0 picks one; or "unix:" and the path of a socket; "" for [Server.Adopt] alone
	Socket         net.Listener // open already: used in place of Address
	SocketMode     fs.FileMode  // of a unix socket; 0: as the process's umask has it
	MaxConnections int          // more are closed as they are accepted; 0: no bound of its own
	Owner          any          // what Socket.Listener returns
	Name           string       // in logs; "" for Address

	Proxy     *Proxy             // a PROXY header comes first; nil: none
	TLS       func() *tls.Config // asked as a handshake begins, on a loop; nil: no TLS
	WebSocket *WebSocket         // nil: none
	Detect    bool               // the first byte tells TLS from none, and WebSocket from none
}

// listening is a Listener in use.
type listening struct {
	*Listener
	server *Server
	addr   net.Addr     // nil: nothing is listened on
	url    string       // for gnet; "" when it is not gnet's
	socket net.Listener // of our own; nil when there is none
	conns  atomic.Int64
	failed atomic.Uint64 // connections ended for what came before MQTT
	closed atomic.Bool

	upgrader *upgrader // nil without WebSocket
	warnings warnings
}

func newListening(l *Listener, s *Server) *listening {
	in := &listening{Listener: l, server: s, socket: l.Socket}
	if l.WebSocket != nil {
		in.upgrader = newUpgrader(l.WebSocket)
	}
	return in
}

const unixPrefix = "unix:"

// Open begins to accept connections by l.
func (s *Server) Open(l *Listener) (net.Addr, error) {
	in, err := s.bindOwn(l)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.listeners[l] != nil {
		in.closeSocket()
		return nil, fmt.Errorf("transport: %s: %w", l.Address, net.ErrClosed)
	}
	s.listeners[l] = in
	if in.socket != nil {
		s.arriving.Go(in.accept)
	}
	return in.addr, nil
}

// Close ends accepting by l; connections that came by it stay.
func (s *Server) Close(l *Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.listeners[l]
	if in == nil {
		return fmt.Errorf("transport: %s: %w", l.Address, net.ErrClosed)
	}
	delete(s.listeners, l)
	return s.closeLocked(in)
}

func (s *Server) closeLocked(in *listening) error {
	in.closed.Store(true)
	if in.url != "" {
		return s.silence(in.addr)
	}
	in.closeSocket()
	return nil
}

// closeListeners closes what is not gnet's and waits until nothing is on its
// way to a loop any more.
func (s *Server) closeListeners() {
	s.mu.Lock()
	s.closed = true
	for _, in := range s.listeners {
		in.closeSocket()
	}
	s.mu.Unlock()
	s.arriving.Wait()
}

// Addr is what l listens on; nil when it does not, or not any more. Any goroutine.
func (s *Server) Addr(l *Listener) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in := s.listeners[l]; in != nil {
		return in.addr
	}
	return nil
}

// By is how many open connections came by l, which is open, and how many were
// ended for what they sent below MQTT: no good PROXY header, TLS or WebSocket.
// Any goroutine.
func (s *Server) By(l *Listener) (connections int, failed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in := s.listeners[l]; in != nil {
		return int(in.conns.Load()), in.failed.Load()
	}
	return 0, 0
}

// prepare binds a listener of the start.
func (s *Server) prepare(l *Listener) error {
	var in *listening
	var err error
	if l.Socket == nil && l.Address != "" && !strings.HasPrefix(l.Address, unixPrefix) {
		in, err = s.bindGnet(l)
	} else {
		in, err = s.bindOwn(l)
	}
	if err == nil {
		s.listeners[l] = in
	}
	return err
}

// acceptAll starts accepting at the listeners of the start.
func (s *Server) acceptAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.listeners {
		if in.socket != nil && !s.closed {
			s.arriving.Go(in.accept)
		}
	}
}

// bindOwn binds l to a socket of our own.
func (s *Server) bindOwn(l *Listener) (*listening, error) {
	in := newListening(l, s)
	var err error
	path, unix := strings.CutPrefix(l.Address, unixPrefix)
	switch {
	case l.Socket != nil || l.Address == "":
	case unix:
		in.socket, err = listenUnix(path, l.SocketMode)
	default:
		config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: tcpKeepAlive, Interval: tcpKeepAlive / 5, Count: 5}}
		network, _ := family(l.Address)
		in.socket, err = config.Listen(context.Background(), network, l.Address)
	}
	if err != nil {
		return nil, fmt.Errorf("transport: cannot listen: %w", err)
	}
	if in.socket != nil {
		in.addr = in.socket.Addr()
	}
	return in, nil
}

func (in *listening) closeSocket() {
	if in.socket != nil {
		in.socket.Close()
	}
}

// listenUnix makes a socket at path. One that a process left behind which has
// ended is replaced.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, err
	}
	if mode != 0 {
		if err := os.Chmod(path, mode); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// abandoned reports whether path is a socket on which nobody listens.
func abandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
