package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// A wire is what lies between the MQTT packets of one connection and its socket: TLS, WebSocket or both.
//
// It is the net.Conn of its tls.Conn, and works on bytes that the driver has read. crypto/tls cannot leave a handshake half
// way, so the handshakes run in a coroutine: the driver resumes it when bytes have come, and Read hands control back when it
// needs more. Afterwards there is no coroutine: when there is nothing to read, Read fails with an error that crypto/tls
// takes for temporary.
//
// Ownership: its driver's goroutine, the coroutine included.
type wire struct {
	tls    *tls.Conn // nil: none
	frames *frames   // nil: no WebSocket
	open   bool      // the handshakes are over

	resume func() (struct{}, bool) // runs the handshakes to where they need more bytes
	stop   func()
	yield  func(struct{}) bool
	err    error // what the handshakes ended with

	in    []byte // what came and is not read yet; borrowed
	out   []byte // what the socket is to be given; the driver's spare buffer, or one like it, while it is not empty
	outAt int    // those before are written
}

// newWire begins the handshakes that the broker asks for; nil: none.
func newWire(b *Broker) *wire {
	if b.TLS == nil && b.WebSocket == "" {
		return nil
	}
	w := &wire{}
	w.resume, w.stop = iter.Pull(func(yield func(struct{}) bool) {
		w.yield = yield
		w.err = w.shake(b)
	})
	return w
}

// webSocketBuffer is for the answer to an upgrade, one header at least.
const webSocketBuffer = 1024

// shake is the coroutine.
func (w *wire) shake(b *Broker) error {
	lower, scheme := io.ReadWriter(w), "http"
	if b.TLS != nil {
		w.tls = tls.Client(w, b.TLS)
		if err := w.tls.Handshake(); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		lower, scheme = w.tls, "https"
	}
	if b.WebSocket == "" {
		return nil
	}
	w.frames = &frames{}
	dialer := ws.Dialer{Protocols: []string{"mqtt"}, ReadBufferSize: webSocketBuffer, WriteBufferSize: webSocketBuffer}
	early, hs, err := dialer.Upgrade(lower, &url.URL{Scheme: scheme, Host: b.Address, Path: b.WebSocket})
	switch {
	case err != nil:
		return fmt.Errorf("WebSocket at %s: %w", b.WebSocket, err)
	case early != nil:
		return errors.New("WebSocket: the broker speaks before CONNECT")
	case hs.Protocol != "mqtt":
		return errors.New("WebSocket: the broker does not choose the subprotocol mqtt")
	}
	return nil
}

// advance runs the handshakes on; done tells that they are over.
func (w *wire) advance() (done bool, err error) {
	if _, more := w.resume(); more {
		return false, nil
	}
	w.resume, w.yield = nil, nil
	w.open = w.err == nil
	return w.open, w.err
}

// seal turns packets into bytes for the socket: one frame, in as many records as it takes. scratch is the driver's, for
// frames, and is returned.
func (w *wire) seal(packets, scratch []byte) ([]byte, error) {
	switch {
	case w.frames == nil:
		_, err := w.tls.Write(packets)
		return scratch, err
	case w.tls == nil:
		w.out = appendFrame(w.out, ws.OpBinary, packets)
		return scratch, nil
	}
	scratch = appendFrame(scratch[:0], ws.OpBinary, packets)
	_, err := w.tls.Write(scratch)
	return scratch, err
}

// pong answers a ping of WebSocket.
func (w *wire) pong(payload []byte) error {
	frame := appendFrame(nil, ws.OpPong, payload)
	if w.tls != nil {
		_, err := w.tls.Write(frame)
		return err
	}
	w.out = append(w.out, frame...)
	return nil
}

// Read implements net.Conn for crypto/tls and the upgrade.
func (w *wire) Read(p []byte) (int, error) {
	for len(w.in) == 0 {
		if w.open {
			return 0, os.ErrDeadlineExceeded
		}
		if !w.yield(struct{}{}) {
			return 0, net.ErrClosed
		}
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

// Write implements net.Conn for crypto/tls and the upgrade.
func (w *wire) Write(p []byte) (int, error) {
	w.out = append(w.out, p...)
	return len(p), nil
}

// The rest of net.Conn. The socket and deadlines are the driver's.
func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return nil }
func (w *wire) RemoteAddr() net.Addr             { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// flushWire gives the socket what it takes of the packets that wait. While some of them are blocked no more are sealed.
func (d *driver) flushWire(c *conn) error {
	w := c.wire
	for {
		if len(w.out) == 0 && w.open && len(c.out) > 0 {
			d.lend(w)
			var err error
			if d.frame, err = w.seal(c.out, d.frame); err != nil {
				return fmt.Errorf("load: %s: %w", c.clientID, err)
			}
			c.out = c.out[:0]
		}
		if len(w.out) == 0 {
			return nil
		}
		n, err := writeSocket(c, w.out[w.outAt:])
		if err != nil {
			return err
		}
		w.outAt += n
		blocked := w.outAt < len(w.out)
		if !blocked {
			d.takeBack(w)
		}
		if blocked != c.blocked {
			if err := d.watch(c, blocked); err != nil {
				return err
			}
		}
		if blocked {
			return nil
		}
	}
}

// lend gives w the driver's buffer to write to, if it has none.
func (d *driver) lend(w *wire) {
	if w.out == nil {
		w.out, d.spare = d.spare[:0], nil
	}
}

// keptSpare bounds the buffer that a driver keeps for what wires write.
const keptSpare = 1 << 20

func (d *driver) takeBack(w *wire) {
	if cap(w.out) > cap(d.spare) && cap(w.out) <= keptSpare {
		d.spare = w.out[:0]
	}
	w.out, w.outAt = nil, 0
}

// readWire takes what one read brings, at most so many bytes.
func (d *driver) readWire(c *conn, most int) error {
	if d.raw == nil {
		d.raw = make([]byte, readBytes)
	}
	n, err := readSocket(c, d.raw[:min(len(d.raw), most)])
	if n == 0 || err != nil {
		return err
	}
	w := c.wire
	w.in = d.raw[:n]
	if !w.open {
		if err := d.shakeWire(c); err != nil || !w.open {
			return err
		}
	}
	if w.tls == nil {
		in := w.in
		w.in = nil
		return d.unsealed(c, in)
	}
	return d.decrypt(c)
}

// shakeWire runs the handshakes on and sends what they, or the packets that waited for them, have to say.
func (d *driver) shakeWire(c *conn) error {
	d.lend(c.wire)
	if _, err := c.wire.advance(); err != nil {
		_ = d.flushWire(c) // the alert
		return fmt.Errorf("load: %s: %w", c.clientID, err)
	}
	return d.flushWire(c)
}

// decrypt takes all that can be decrypted of what came.
func (d *driver) decrypt(c *conn) error {
	w := c.wire
	for {
		n, err := 0, error(nil)
		for n < len(d.in) && err == nil {
			var m int
			m, err = w.tls.Read(d.in[n:])
			n += m
		}
		if n > 0 {
			if err := d.unsealed(c, d.in[:n]); err != nil || c.state == connClosed {
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return d.flushWire(c) // answers to key updates
		case errors.Is(err, io.EOF):
			return errClosed(c)
		default:
			_ = d.flushWire(c) // the alert
			return fmt.Errorf("load: %s: TLS: %w", c.clientID, err)
		}
	}
}

// unsealed handles the packets in b, without TLS and, here, without frames; what is not whole is kept.
func (d *driver) unsealed(c *conn, b []byte) error {
	if f := c.wire.frames; f != nil {
		var err error
		if b, err = f.take(b, c.wire.pong); err != nil {
			return fmt.Errorf("load: %s: WebSocket: %w", c.clientID, err)
		}
		if err := d.flushWire(c); err != nil { // pongs
			return err
		}
	}
	if len(c.in) > 0 {
		if cap(c.in) < c.want {
			c.in = append(make([]byte, 0, c.want), c.in...)
		}
		c.in = append(c.in, b...)
		b = c.in
	}
	return d.packets(c, b)
}

// release ends the handshakes, if they are under way. What is not written is dropped: who closes has said so in MQTT.
func (d *driver) release(w *wire) {
	w.stop()
	if w.out != nil {
		d.takeBack(w)
	}
}

// writeSocket writes what the socket takes.
func writeSocket(c *conn, b []byte) (int, error) {
	n, err := unix.Write(c.fd, b)
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("load: %s: write: %w", c.clientID, err)
	}
	return n, nil
}

// readSocket reads what is there; 0 without an error: nothing.
func readSocket(c *conn, b []byte) (int, error) {
	n, err := unix.Read(c.fd, b)
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("load: %s: read: %w", c.clientID, err)
	}
	if n == 0 {
		return 0, errClosed(c)
	}
	return n, nil
}

func errClosed(c *conn) error {
	return fmt.Errorf("load: %s: the broker closed the connection", c.clientID)
}
