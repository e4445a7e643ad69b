package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// TestListenersAtRunTime: of every kind, opened and closed while others are
// served; a closed one's connections stay, and its address is free again.
func TestListenersAtRunTime(t *testing.T) {
	t.Parallel()
	s, _ := listen(t, 2, func(c *Config) { c.Listeners = at("127.0.0.1:0", "127.0.0.1:0") }, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) { p.Write(append([]byte{'0' + byte(p.Listener().(int))}, b...)) }
	})
	first, second := s.cfg.Listeners[0], s.cfg.Listeners[1]
	kept := dial(t, s.Addr(first))
	exchange(t, kept, "a", "0a")
	f := func(l *Listener, want string) {
		t.Helper()
		addr, err := s.Open(l)
		if err != nil {
			t.Fatal(err)
		}
		var inside []net.Conn
		for range 3 {
			c := dial(t, addr)
			exchange(t, c, "b", want+"b")
			inside = append(inside, c)
		}
		if got, _ := s.By(l); got != 3 {
			t.Errorf("%d connections by it, want 3", got)
		}
		if err := s.Close(l); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial(addr.Network(), addr.String()); err == nil {
			c.Close()
			t.Errorf("%v is open after Close", addr)
		}
		if err := s.Close(l); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
		for _, c := range inside {
			exchange(t, c, "c", want+"c")
		}
		exchange(t, kept, "a", "0a")
	}
	path := filepath.Join(t.TempDir(), "s")
	for range 2 { // again at the same place
		f(&Listener{Address: "127.0.0.1:0", Owner: 2}, "2")
		f(&Listener{Address: unixPrefix + path, SocketMode: 0o600, Owner: 3}, "3")
	}
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f(&Listener{Socket: own, Owner: 4}, "4")

	// one of gnet's
	inside := dial(t, s.Addr(second))
	exchange(t, inside, "x", "1x")
	addr := s.Addr(second).String()
	if err := s.Close(second); err != nil {
		t.Fatal(err)
	}
	f(&Listener{Address: addr, Owner: 5}, "5")
	exchange(t, inside, "x", "1x")
	exchange(t, dial(t, s.Addr(first)), "y", "0y")
	if err := s.Close(first); err != nil {
		t.Fatal(err)
	}
	f(&Listener{Address: "127.0.0.1:0", Owner: 6}, "6")
	if s.Restarts() != 0 {
		t.Error("the loops have ended")
	}
	if _, err := s.Open(&Listener{Address: "192.0.2.1:0"}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v, want %v", err, syscall.EADDRNOTAVAIL)
	}
}

// TestWithoutTCP: a server of unix sockets alone has no port open.
func TestWithoutTCP(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if _, err := Listen(Config{Listeners: at(unixPrefix + path), Loops: []Loop{&testLoop{t: t}}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket that is listened on: %v, want %v", err, syscall.EADDRINUSE)
	}
	left.Close() // as a process that crashed
	s, _ := listen(t, 2, func(c *Config) { c.Listeners = at(unixPrefix + path) }, nil)
	exchange(t, dial(t, s.Addr(s.cfg.Listeners[0])), "x", "x")
	if c, err := net.Dial("tcp", s.placeholder.String()); err == nil {
		c.Close()
		t.Errorf("%v is open", s.placeholder)
	}
}

// TestAdopt: connections that come from elsewhere, with a descriptor and without.
func TestAdopt(t *testing.T) {
	t.Parallel()
	l := &Listener{Owner: 7, MaxConnections: 2}
	s, _ := listen(t, 2, func(c *Config) { c.Listeners = []*Listener{l} }, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			switch string(b) {
			case "addr":
				p.Write([]byte(p.RemoteAddr().Network()))
			case "bye":
				p.Write([]byte("bye"))
				_ = p.CloseWrite()
			default:
				p.Write(b)
			}
		}
	})
	f := func(network string, mine, theirs net.Conn) {
		t.Helper()
		if err := s.Adopt(l, theirs); err != nil {
			t.Fatal(err)
		}
		exchange(t, mine, "addr", network)
		big := strings.Repeat("x", 1<<20)
		go func() { _, _ = io.WriteString(mine, big) }()
		if _, err := io.ReadFull(mine, make([]byte, len(big))); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(mine, "bye")
		if b, _ := io.ReadAll(mine); string(b) != "bye" {
			t.Errorf("got %q at the end", b)
		}
		mine.Close()
		eventually(t, "it is gone", func() bool { n, _ := s.By(l); return n == 0 })
	}
	pair := func(network, addr string) (a, b net.Conn) {
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		a = dial(t, ln.Addr())
		if b, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	a, b := net.Pipe()
	f("pipe", a, b)
	a, b = pair("tcp", "127.0.0.1:0")
	f("tcp", a, b)
	a, b = pair("unix", filepath.Join(t.TempDir(), "s"))
	f("unix", a, b)
	a, b = pair("tcp", "127.0.0.1:0")
	cert := certtest.New(t, "authority").Certificate(certtest.Request{})
	f("tcp", tls.Client(a, &tls.Config{InsecureSkipVerify: true}), tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}}))

	var inside []net.Conn
	for i := range 3 {
		a, b := net.Pipe()
		if err := s.Adopt(l, b); (err == nil) != (i < 2) {
			t.Errorf("connection %d of at most 2: %v", i, err)
		}
		inside = append(inside, a)
	}
	if !ended(t, inside[2]) {
		t.Error("one too many is open")
	}
	stop(t, s)
	for _, c := range inside[:2] {
		if !ended(t, c) {
			t.Error("open after Stop")
		}
	}
	a, b = net.Pipe()
	if err := s.Adopt(l, b); !errors.Is(err, net.ErrClosed) || !ended(t, a) {
		t.Errorf("adopted after Stop: %v", err)
	}
}

// TestCloseOfEveryFamily: the port is free when one of gnet's listeners is closed.
func TestCloseOfEveryFamily(t *testing.T) {
	t.Parallel()
	for _, a := range []string{":0", "0.0.0.0:0", "[::]:0", "[::1]:0"} {
		s, _ := listen(t, 2, func(c *Config) { c.Listeners = at(a, "127.0.0.1:0") }, nil)
		l := s.cfg.Listeners[0]
		addr := s.Addr(l)
		host := "127.0.0.1"
		if strings.HasPrefix(a, "[") {
			host = "::1"
		}
		dialed := &net.TCPAddr{IP: net.ParseIP(host), Port: addr.(*net.TCPAddr).Port}
		exchange(t, dial(t, dialed), "x", "x")
		if err := s.Close(l); err != nil {
			t.Fatal(err)
		}
		if again, err := net.Listen("tcp", addr.String()); err != nil {
			t.Errorf("%s: %v", a, err)
		} else {
			again.Close()
		}
	}
}

// TestCloseUnderLoad: gnet goes on when one of its listeners is closed while
// clients come by it.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	for range 5 {
		s, _ := listen(t, 3, func(c *Config) { c.Listeners = at("127.0.0.1:0", "127.0.0.1:0") }, nil)
		l := s.cfg.Listeners[0]
		addr := s.Addr(l).String()
		kept := dial(t, s.Addr(s.cfg.Listeners[1]))
		var knocking sync.WaitGroup
		for range 8 {
			knocking.Go(func() {
				for {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						return // it is closed
					}
					c.Close()
				}
			})
		}
		eventually(t, "clients come", func() bool { n, _ := s.By(l); return n > 0 })
		if err := s.Close(l); err != nil {
			t.Fatal(err)
		}
		knocking.Wait()
		exchange(t, kept, "x", "x")
		if s.Restarts() != 0 {
			t.Fatal("the loops have ended")
		}
	}
}
