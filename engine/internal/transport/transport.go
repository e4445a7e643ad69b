package transport

import (
	"crypto/tls"
	"net"
	"time"
)

// A Loop is the owner of everything on one event loop. Its methods run on that
// loop's goroutine, never two at a time.
type Loop interface {
	// Bound comes first, once: w wakes this loop.
	Bound(w Waker)
	// Opened is told of a new connection and returns who is to receive its
	// bytes; nil refuses it.
	Opened(s Socket) Peer
	// Woken runs once for any number of [Waker.Wake] calls since the last run.
	Woken()
	// Ticked runs about every [TickInterval]; late is for how long it was due.
	Ticked(late time.Duration)
}

// A Peer is the engine's side of one connection.
type Peer interface {
	// Received takes the bytes of one read; b is borrowed.
	Received(b []byte)
	// Closed is the last call: the connection is gone. err is nil when this
	// side closed it, io.EOF or a system error otherwise.
	Closed(err error)
}

// A Gatekeeper is a Peer that is asked before a TLS handshake begins for its
// connection, when its address is known. It closes the socket if it says no.
// Loop goroutine.
type Gatekeeper interface{ Admit() bool }

// A Socket is one connection as its loop sees it. Loop goroutine only.
type Socket interface {
	// Write sends b, or keeps a copy of what the kernel does not take now.
	// After Close it does nothing. It may call Peer.Closed before it returns.
	Write(b []byte)
	// Buffered is the number of bytes written and not yet taken by the kernel.
	Buffered() int
	// Close drops the connection; Peer.Closed is called before it returns.
	Close()
	// CloseWrite ends this side's stream, when all was handed to the kernel:
	// the peer can still read what was sent before.
	CloseWrite() error
	// SetReading says whether bytes are read: while they are not, the sender
	// meets the flow control of TCP. Received may still be called for what was
	// read before, and begins again when output has had to wait for the kernel,
	// or everywhere but on Linux at once: who is called then asks again, and
	// bounds what it keeps. The end of the connection is not seen while paused.
	SetReading(on bool)
	// Listener is the Owner of the listener by which it came.
	Listener() any
	// RemoteAddr and LocalAddr are valid until Peer.Closed returns.
	RemoteAddr() net.Addr
	LocalAddr() net.Addr
	// TLS is the state of its TLS, valid when the first bytes were received;
	// nil without.
	TLS() *tls.ConnectionState
	// Proxied is what a PROXY header told, valid when the first bytes were
	// received; nil without.
	Proxied() *Proxied
}

// A Waker makes a loop run its Woken method soon. Any goroutine.
type Waker interface {
	Wake()
}
