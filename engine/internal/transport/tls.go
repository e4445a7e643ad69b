package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/gobwas/ws"
)

// A tlsLayer is crypto/tls over bytes that the loop has read. It is the
// net.Conn of its tls.Conn. The handshake runs on a goroutine (see handshake),
// since crypto/tls cannot leave one half way; afterwards all is done on the
// loop, without a goroutine and without a buffer of ours: when there is nothing
// to read, Read fails with an error that crypto/tls takes for temporary.
type tlsLayer struct {
	s       *layered
	conn    *tls.Conn  // nil until the handshake begins
	shaking *handshake // nil before and after
	in      []byte     // what conn may read: borrowed, or ours in part of a first record
	out     []byte     // what conn wrote, within one call
	done    bool       // the handshake is over
	sent    bool       // close_notify is sent
}

const (
	// plainBytes is how much is decrypted before the peer gets it: one buffer a loop.
	plainBytes = 64 << 10
	// pieceBytes is how much is encrypted before it is sent.
	pieceBytes = 64 << 10
	// keptCipherBytes bounds the buffer a loop keeps for encrypting.
	keptCipherBytes = 256 << 10
	recordHeader    = 5
	// helloBytes is how much a first record may have: the most that TLS allows.
	helloBytes = recordHeader + 16<<10
)

func newTLSLayer(s *layered) *tlsLayer { return &tlsLayer{s: s} }

// received takes bytes of the socket.
func (t *tlsLayer) received(b []byte) {
	switch {
	case t.done:
		t.drain(b)
	case t.shaking != nil:
		if !t.shaking.push(b) {
			t.s.fail("TLS: too much before the handshake was over", nil)
		}
	default:
		t.hello(b)
	}
}

// hello collects the first record, in which a client says hello: one that
// sends less keeps no goroutine busy.
func (t *tlsLayer) hello(b []byte) {
	t.in = append(t.in, b...)
	if len(t.in) < recordHeader {
		return
	}
	size := recordHeader + int(t.in[3])<<8 + int(t.in[4])
	switch {
	case t.in[1] != 3 || size > helloBytes:
		t.s.fail("the client does not speak TLS", nil)
		return
	case len(t.in) < size:
		return
	}
	in := t.in
	t.in = nil
	t.conn = tls.Server(t, t.s.in.TLS())
	t.shaking = newHandshake(t, in)
	if !t.s.in.server.handshakes.start(t.shaking) {
		t.s.fail("TLS: as many handshakes as allowed are under way", nil)
	}
}

// opened is told that the handshake is over; in are the bytes it has not read.
func (t *tlsLayer) opened(in []byte, err error) {
	t.shaking = nil
	if err != nil {
		t.s.fail("TLS: handshake failed", err)
		return
	}
	t.done = true
	t.dropBuffers()
	t.drain(in)
}

// drain decrypts b and gives the peer what comes out.
func (t *tlsLayer) drain(b []byte) {
	t.in = b
	t.lendBuffer()
	defer t.takeBuffer()
	buf := t.s.loop.plainBuffer()
	for {
		n, err := t.fill(buf)
		if n > 0 {
			t.s.plain(buf[:n])
		}
		if t.s.closed {
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.flush() // answers to key updates
			t.in = nil
			return
		default:
			t.flush() // the alert
			switch {
			case t.s.closed:
			case errors.Is(err, io.EOF):
				t.s.end(io.EOF)
			default:
				t.s.fail("TLS: broken off", err)
			}
			return
		}
	}
}

// fill reads until buf is full or there is an error.
func (t *tlsLayer) fill(buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = t.conn.Read(buf[n:])
		n += m
	}
	return n, err
}

// write encrypts b and sends it, in pieces for which the loop's buffer is
// large enough.
func (t *tlsLayer) write(b []byte) {
	for len(b) > 0 && t.done && !t.sent && !t.s.closed {
		n := min(len(b), pieceBytes)
		_, _ = t.conn.Write(b[:n])
		t.flush()
		b = b[n:]
	}
}

// flush sends what conn wrote.
func (t *tlsLayer) flush() {
	out := t.out
	if out == nil {
		return
	}
	t.out = nil
	t.s.socket.Write(out)
	t.s.loop.keepCipher(out)
}

// closeWrite sends close_notify.
func (t *tlsLayer) closeWrite() {
	if t.done && !t.sent {
		_ = t.conn.CloseWrite()
		t.sent = true
		t.flush()
	}
}

func (t *tlsLayer) release() {
	if t.shaking != nil {
		t.shaking.end()
	}
	t.in, t.out = nil, nil
}

func (t *tlsLayer) connectionState() *tls.ConnectionState {
	if !t.done {
		return nil
	}
	state := t.conn.ConnectionState()
	return &state
}

// Read implements net.Conn for crypto/tls: on the handshake's goroutine it
// waits, on the loop it does not.
func (t *tlsLayer) Read(p []byte) (int, error) {
	if !t.done {
		return t.shaking.read(p)
	}
	if len(t.in) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, t.in)
	t.in = t.in[n:]
	return n, nil
}

// Write implements net.Conn for crypto/tls.
func (t *tlsLayer) Write(p []byte) (int, error) {
	if !t.done {
		return t.shaking.write(p)
	}
	if t.out == nil {
		t.out = t.s.loop.cipherBuffer()
	}
	t.out = append(t.out, p...)
	return len(p), nil
}

// The rest of net.Conn. Deadlines are the owner's.
func (t *tlsLayer) Close() error                     { return nil }
func (t *tlsLayer) LocalAddr() net.Addr              { return nil }
func (t *tlsLayer) RemoteAddr() net.Addr             { return nil }
func (t *tlsLayer) SetDeadline(time.Time) error      { return nil }
func (t *tlsLayer) SetReadDeadline(time.Time) error  { return nil }
func (t *tlsLayer) SetWriteDeadline(time.Time) error { return nil }

// scratch is what a loop needs for the layers, made at first use. Loop-owned.
type scratch struct {
	plain  []byte
	cipher []byte // nil while in use
	raw    []byte // empty; nil while in use
	frame  []byte // of WebSocket, up to copyBytes and a header
	head   [ws.MaxHeaderSize]byte
	parts  [2][]byte
}

func (l *eventLoop) plainBuffer() []byte {
	if l.scratch.plain == nil {
		l.scratch.plain = make([]byte, plainBytes)
	}
	return l.scratch.plain
}

func (l *eventLoop) cipherBuffer() []byte {
	b := l.scratch.cipher
	l.scratch.cipher = nil
	if b == nil {
		b = make([]byte, 0, 4<<10)
	}
	return b[:0]
}

func (l *eventLoop) keepCipher(b []byte) {
	if cap(b) <= keptCipherBytes {
		l.scratch.cipher = b
	}
}
