package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// listenTLS runs an echo server behind TLS and returns what clients need.
func listenTLS(t *testing.T, loops int, edit func(l *Listener, c *tls.Config), set func(l *testLoop)) (*Server, *tls.Config) {
	t.Helper()
	a := certtest.New(t, "authority")
	cfg := &tls.Config{Certificates: []tls.Certificate{a.Certificate(certtest.Request{})}}
	l := &Listener{Address: "127.0.0.1:0", Owner: 0}
	l.TLS = func() *tls.Config { return cfg }
	if edit != nil {
		edit(l, cfg)
	}
	s, _ := listen(t, loops, func(c *Config) { c.Listeners = []*Listener{l}; c.MaxConnections = 10000 }, set)
	return s, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
}

// slicedConn is a connection that writes in pieces of a size.
type slicedConn struct {
	net.Conn
	size int
}

func (c slicedConn) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Conn.Write(b[n:min(n+c.size, len(b))])
		n += m
	}
	return n, err
}

// TestTLS: what goes in comes back, in both versions, in pieces of every size,
// small and large, and in the end the loop holds nothing for it.
func TestTLS(t *testing.T) {
	t.Parallel()
	ends := make(chan error, 1)
	s, client := listenTLS(t, 2, nil, func(l *testLoop) { l.closed = func(_ *testPeer, err error) { ends <- err } })
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{1, 7, 100, 1460, 1 << 20} {
			cfg := client.Clone()
			cfg.MinVersion, cfg.MaxVersion = version, version
			c := tls.Client(slicedConn{dial(t, s.Addr(s.cfg.Listeners[0])), size}, cfg)
			exchange(t, c, "hello", "hello")
			n := min(300<<10, size<<10)
			big := bytes.Repeat([]byte("0123456789abcdef"), n/16)
			var all sync.WaitGroup
			all.Go(func() { _, _ = c.Write(big) })
			if got, err := io.ReadAll(io.LimitReader(c, int64(len(big)))); err != nil || !bytes.Equal(got, big) {
				t.Fatalf("version %x, pieces of %d: got %d bytes of %d, %v", version, size, len(got), len(big), err)
			}
			all.Wait()
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after close_notify: %v, want %v", err, io.EOF)
			}
			if err := <-ends; err != io.EOF {
				t.Errorf("closed with %v, want %v", err, io.EOF)
			}
		}
	}
}

// TestTLSBuffers: crypto/tls has the fields whose buffers are taken.
func TestTLSBuffers(t *testing.T) {
	if rawInputField == 0 || handField == 0 {
		t.Errorf("fields of tls.Conn at %d and %d: idle connections keep their buffers", rawInputField, handField)
	}
}

// TestTLSCloseWrite: what was written before it arrives, with close_notify behind.
func TestTLSCloseWrite(t *testing.T) {
	t.Parallel()
	s, client := listenTLS(t, 1, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			if p.TLS() == nil || !p.TLS().HandshakeComplete {
				t.Error("no state of TLS")
			}
			p.Write([]byte("last"))
			if string(b) == "close" {
				p.Close()
				p.Write([]byte("too late"))
			} else if err := p.CloseWrite(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, how := range []string{"half", "close"} {
		c := tls.Client(dial(t, s.Addr(s.cfg.Listeners[0])), client)
		_, _ = io.WriteString(c, how)
		if b, err := io.ReadAll(c); string(b) != "last" || err != nil {
			t.Errorf("%s: got %q, %v", how, b, err)
		}
		c.Close()
	}
}

// TestTLSRefusals: what is no TLS, or not the right one, is closed and counted out.
func TestTLSRefusals(t *testing.T) {
	t.Parallel()
	s, client := listenTLS(t, 1, func(_ *Listener, c *tls.Config) { c.MinVersion = tls.VersionTLS12 }, nil)
	addr := s.Addr(s.cfg.Listeners[0])
	inside := tls.Client(dial(t, addr), client)
	exchange(t, inside, "x", "x")
	f := func(what, bytes string) {
		t.Helper()
		c := dial(t, addr)
		_, _ = io.WriteString(c, bytes)
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("MQTT", "\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc")
	f("HTTP", "GET / HTTP/1.1\r\n\r\n")
	f("a record of another kind", "\x17\x03\x03\x00\x01x")
	f("a record that is too long", "\x16\x03\x01\xff\xff")
	f("another version", "\x16\x02\x00\x00\x01x")
	f("no hello in it", "\x16\x03\x01\x00\x05hello")
	f("a hello that announces too much", "\x16\x03\x01\x00\x04\x01\xff\xff\xff"+strings.Repeat("\x16\x03\x01\x40\x00"+strings.Repeat("x", 16<<10), 20))
	old := client.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if err := tls.Client(dial(t, addr), old).Handshake(); err == nil {
		t.Error("TLS 1.1 is taken")
	}
	stranger := client.Clone()
	stranger.RootCAs = nil
	if err := tls.Client(dial(t, addr), stranger).Handshake(); err == nil {
		t.Error("a client that does not trust the authority is satisfied")
	}
	exchange(t, inside, "y", "y")
	eventually(t, "only one is inside", func() bool { return s.Connections() == 1 })
}

// helloConn takes what a client writes, and answers nothing.
type helloConn struct {
	net.Conn
	w io.Writer
}

func (c helloConn) Write(b []byte) (int, error) { return c.w.Write(b) }
func (c helloConn) Read([]byte) (int, error)    { return 0, io.EOF }

// TestSlowHandshakes: clients that stop in the middle hold others up in no
// way, and leave nothing behind.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	s, client := listenTLS(t, 1, nil, nil)
	addr := s.Addr(s.cfg.Listeners[0])
	var hello bytes.Buffer
	_ = tls.Client(helloConn{dial(t, addr), &hello}, client).Handshake()
	before := runtime.NumGoroutine()
	var slow []net.Conn
	for i := range 200 {
		c := dial(t, addr)
		_, _ = c.Write(hello.Bytes()[:(i%4+1)*hello.Len()/4]) // a fourth of them whole
		slow = append(slow, c)
	}
	began := time.Now()
	c := tls.Client(dial(t, addr), client)
	exchange(t, c, "x", "x")
	if took := time.Since(began); took > patience/2 {
		t.Errorf("a handshake took %v beside slow ones", took)
	}
	for _, c := range slow {
		c.Close()
	}
	eventually(t, "they are gone", func() bool { return s.Connections() == 2 && runtime.NumGoroutine() < before+50 })
}

// TestHandshakeBounds: one more than may be under way waits, and one more than
// may wait is closed; a place is free when one goes.
func TestHandshakeBounds(t *testing.T) {
	t.Parallel()
	s, client := listenTLS(t, 1, nil, nil)
	s.handshakes.mostUnder, s.handshakes.mostWait = 1, 1
	addr := s.Addr(s.cfg.Listeners[0])
	var hello bytes.Buffer
	_ = tls.Client(helloConn{dial(t, addr), &hello}, client).Handshake()
	stalled := dial(t, addr)
	_, _ = stalled.Write(hello.Bytes())
	if _, err := stalled.Read(make([]byte, 1)); err != nil { // it is under way
		t.Fatal(err)
	}
	waits := tls.Client(dial(t, addr), client)
	done := make(chan error, 1)
	go func() { done <- waits.Handshake() }()
	eventually(t, "it waits", func() bool {
		s.handshakes.mu.Lock()
		defer s.handshakes.mu.Unlock()
		return len(s.handshakes.waiting) == 1
	})
	if err := tls.Client(dial(t, addr), client).Handshake(); err == nil {
		t.Error("one too many is served")
	}
	if _, failed := s.By(s.cfg.Listeners[0]); failed != 1 {
		t.Errorf("%d refusals are counted, want 1", failed)
	}
	stalled.Close()
	if err := <-done; err != nil {
		t.Errorf("who waited: %v", err)
	}
	exchange(t, waits, "x", "x")
}

// Handshakes while the loops are overloaded come one after another.
func TestHandshakesArePaced(t *testing.T) {
	t.Parallel()
	s, client := listenTLS(t, 1, nil, nil)
	s.handshakes.overload = func() bool { return true }
	begun := time.Now()
	var all sync.WaitGroup
	for range 5 {
		c := tls.Client(dial(t, s.Addr(s.cfg.Listeners[0])), client)
		all.Go(func() {
			if err := c.Handshake(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(begun); took < 5*handshakePace {
		t.Errorf("5 handshakes in %v", took)
	}
}

// TestHandshakesOfMany: a storm, with more at once than may compute, is served.
func TestHandshakesOfMany(t *testing.T) {
	t.Parallel()
	var busy atomic.Int32
	s, client := listenTLS(t, 2, nil, nil)
	s.handshakes.busy = func(b bool) {
		if b {
			busy.Add(1)
		}
	}
	var all sync.WaitGroup
	for range 100 {
		c := tls.Client(dial(t, s.Addr(s.cfg.Listeners[0])), client)
		all.Go(func() {
			_, _ = io.WriteString(c, "x")
			if b := make([]byte, 1); true {
				if _, err := io.ReadFull(c, b); err != nil || b[0] != 'x' {
					t.Errorf("got %q, %v", b, err)
				}
			}
		})
	}
	all.Wait()
	if busy.Load() == 0 {
		t.Error("nobody was told of the work")
	}
}
