package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const patience = 10 * time.Second

// testLoop is an owner that records what it is told and does what its
// functions say. inside shows whether two of its methods ever run at once.
type testLoop struct {
	t      *testing.T
	waker  Waker
	inside atomic.Int32
	bound  atomic.Int32
	woken  atomic.Int32
	ticked atomic.Int32
	opened func(p *testPeer) bool       // nil: take it
	got    func(p *testPeer, b []byte)  // nil: echo
	closed func(p *testPeer, err error) // nil: nothing
	onWake func()                       // nil: nothing
	onTick func()                       // nil: nothing
}

func (l *testLoop) enter() func() {
	if l.inside.Add(1) != 1 {
		l.t.Error("two methods of a loop run at once")
	}
	return func() { l.inside.Add(-1) }
}

func (l *testLoop) Bound(w Waker) {
	l.waker = w
	l.bound.Add(1)
}

func (l *testLoop) Opened(s Socket) Peer {
	defer l.enter()()
	if l.bound.Load() != 1 {
		l.t.Errorf("opened a connection when bound %d times", l.bound.Load())
	}
	p := &testPeer{loop: l, Socket: s}
	if l.opened != nil && !l.opened(p) {
		return nil
	}
	return p
}

func (l *testLoop) Woken() {
	defer l.enter()()
	l.woken.Add(1)
	if l.onWake != nil {
		l.onWake()
	}
}

func (l *testLoop) Ticked(time.Duration) {
	defer l.enter()()
	l.ticked.Add(1)
	if l.onTick != nil {
		l.onTick()
	}
}

// testPeer is one connection. Its methods may be nested in one another: a
// write can close.
type testPeer struct {
	Socket
	loop *testLoop
	ends int
}

func (p *testPeer) Received(b []byte) {
	defer p.loop.enter()()
	if p.loop.got != nil {
		p.loop.got(p, b)
		return
	}
	p.Write(b)
}

func (p *testPeer) Closed(err error) {
	if p.ends++; p.ends != 1 {
		p.loop.t.Error("closed twice")
	}
	if p.loop.closed != nil {
		p.loop.closed(p, err)
	}
}

// listen runs a server whose loops set makes; it ends with the test.
func listen(t *testing.T, loops int, edit func(c *Config), set func(l *testLoop)) (*Server, []*testLoop) {
	t.Helper()
	cfg := Config{Listeners: at("127.0.0.1:0"), MaxConnections: 1000, Logger: slog.New(slog.DiscardHandler)}
	var owners []*testLoop
	for range loops {
		l := &testLoop{t: t}
		if set != nil {
			set(l)
		}
		owners = append(owners, l)
		cfg.Loops = append(cfg.Loops, l)
	}
	if edit != nil {
		edit(&cfg)
	}
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s, owners
}

// at makes listeners that know their index.
func at(addresses ...string) (ls []*Listener) {
	for i, a := range addresses {
		ls = append(ls, &Listener{Address: a, Owner: i})
	}
	return ls
}

// addrs are what s was started to listen on.
func addrs(s *Server) (as []net.Addr) {
	for _, l := range s.cfg.Listeners {
		as = append(as, s.Addr(l))
	}
	return as
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func dial(t *testing.T, a net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// exchange sends s and reads as much back.
func exchange(t *testing.T, c net.Conn, s, want string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("got %q, %v, want %q", b, err, want)
	}
}

// ended reports whether the other side has closed without another byte.
func ended(t *testing.T, c net.Conn) bool {
	t.Helper()
	b, err := io.ReadAll(c)
	return len(b) == 0 && (err == nil || errors.Is(err, syscall.ECONNRESET))
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func TestEveryLoopIsBoundAndTicks(t *testing.T) {
	t.Parallel()
	const loops = 4
	s, owners := listen(t, loops, nil, nil)
	began := time.Now()
	for i, l := range owners {
		if l.bound.Load() != 1 {
			t.Errorf("loop %d was bound %d times when Listen returned", i, l.bound.Load())
		}
	}
	var all sync.WaitGroup
	for range 100 {
		c := dial(t, addrs(s)[0])
		all.Go(func() {
			_, _ = io.WriteString(c, "x")
			_, _ = io.ReadFull(c, make([]byte, 1))
		})
	}
	all.Wait()
	if got := s.Connections(); got != 100 {
		t.Errorf("%d connections, want 100", got)
	}
	eventually(t, "three ticks on each loop", func() bool {
		for _, l := range owners {
			if l.ticked.Load() < 3 {
				return false
			}
		}
		return true
	})
	most := int32(time.Since(began)/TickInterval) + 3
	for i, l := range owners {
		if got := l.ticked.Load(); got > most {
			t.Errorf("loop %d: %d ticks in %v", i, got, time.Since(began))
		}
		if l.bound.Load() != 1 {
			t.Errorf("loop %d was bound %d times", i, l.bound.Load())
		}
	}
}

// TestWake: after the last Wake comes at least one Woken, and not one for each.
func TestWake(t *testing.T) {
	t.Parallel()
	var asked, seen atomic.Int64
	_, owners := listen(t, 2, nil, func(l *testLoop) { l.onWake = func() { seen.Store(asked.Load()) } })
	const callers, calls = 4, 2000
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range calls {
				asked.Add(1)
				owners[1].waker.Wake()
			}
		})
	}
	all.Wait()
	eventually(t, "the loop has seen the last call", func() bool { return seen.Load() == callers*calls })
	if owners[0].woken.Load() != 0 {
		t.Error("another loop was woken")
	}
}

func TestWakeFromTheLoopItself(t *testing.T) {
	t.Parallel()
	var left atomic.Int32
	left.Store(1000)
	s, owners := listen(t, 1, nil, func(l *testLoop) {
		l.onWake = func() {
			if left.Add(-1) > 0 {
				l.waker.Wake()
			}
		}
	})
	owners[0].waker.Wake()
	exchange(t, dial(t, addrs(s)[0]), "x", "x")
	eventually(t, "all wake-ups have run", func() bool { return left.Load() == 0 })
}

func TestCloseFromEitherSide(t *testing.T) {
	t.Parallel()
	errs := make(chan error, 10)
	s, _ := listen(t, 1, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			if string(b) == "close" {
				p.Close()
				if p.ends != 1 {
					t.Error("Close returned before Closed was called")
				}
				p.Close()
				p.Write([]byte("after the end"))
				if err := p.CloseWrite(); err == nil {
					t.Error("CloseWrite after Close has worked")
				}
				if p.Buffered() != 0 {
					t.Error("bytes wait after Close")
				}
			}
		}
		l.closed = func(_ *testPeer, err error) { errs <- err }
	})
	c := dial(t, addrs(s)[0])
	_, _ = io.WriteString(c, "close")
	if !ended(t, c) {
		t.Error("the connection is not closed")
	}
	if err := <-errs; err != nil {
		t.Errorf("closed by this side: %v, want no error", err)
	}
	dial(t, addrs(s)[0]).Close()
	if err := <-errs; !errors.Is(err, io.EOF) {
		t.Errorf("closed by the peer: %v, want %v", err, io.EOF)
	}
	r := dial(t, addrs(s)[0])
	_ = r.(*net.TCPConn).SetLinger(0)
	r.Close()
	if err := <-errs; err == nil {
		t.Error("reset by the peer: no error")
	}
	eventually(t, "no connection is counted", func() bool { return s.Connections() == 0 })
}

// TestWriteNestsClosed: a write to a peer that has reset the connection calls
// Closed before it returns, or the next event does; never twice.
func TestWriteNestsClosed(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	peers := make(chan *testPeer, 1)
	var p *testPeer
	s, owners := listen(t, 1, nil, func(l *testLoop) {
		l.opened = func(p *testPeer) bool { peers <- p; return true }
		l.closed = func(*testPeer, error) { close(closed) }
		l.onWake = func() {
			for range 100 {
				p.Write([]byte(strings.Repeat("x", 1<<20)))
			}
		}
	})
	c := dial(t, addrs(s)[0])
	p = <-peers
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
	owners[0].waker.Wake()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Closed was not called")
	}
}

// TestCloseWrite: what was written before can still be read, and what the peer
// sends afterwards is taken.
func TestCloseWrite(t *testing.T) {
	t.Parallel()
	var taken atomic.Int64
	s, _ := listen(t, 1, nil, func(l *testLoop) {
		l.got = func(p *testPeer, b []byte) {
			if taken.Add(int64(len(b))) == int64(len(b)) {
				p.Write([]byte("last"))
				if err := p.CloseWrite(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	c := dial(t, addrs(s)[0])
	const size = 4 << 20
	if _, err := io.WriteString(c, strings.Repeat("x", size)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "last" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	eventually(t, "all bytes were taken", func() bool { return taken.Load() == size })
}

func TestBufferedGoesDownAsThePeerReads(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	var waiting atomic.Int64
	var peer *testPeer
	s, owners := listen(t, 1, nil, func(l *testLoop) {
		l.got = func(p *testPeer, _ []byte) {
			peer = p
			b := []byte(strings.Repeat("x", size))
			p.Write(b)
			clear(b) // the caller's again
			waiting.Store(int64(p.Buffered()))
		}
		l.onWake = func() { waiting.Store(int64(peer.Buffered())) }
	})
	c := dial(t, addrs(s)[0])
	_, _ = io.WriteString(c, "go")
	eventually(t, "bytes wait", func() bool { return waiting.Load() > 0 })
	b := make([]byte, size)
	if _, err := io.ReadFull(c, b); err != nil || strings.Trim(string(b), "x") != "" {
		t.Fatalf("what was read is not what was written: %v", err)
	}
	eventually(t, "nothing waits any more", func() bool {
		owners[0].waker.Wake()
		return waiting.Load() == 0
	})
}

func TestListenerIndex(t *testing.T) {
	t.Parallel()
	s, _ := listen(t, 2, func(c *Config) { c.Listeners = at("127.0.0.1:0", "0.0.0.0:0", "127.0.0.2:0") },
		func(l *testLoop) {
			l.got = func(p *testPeer, _ []byte) {
				p.Write([]byte{'0' + byte(p.Listener().(int))})
				if p.RemoteAddr() == nil || p.LocalAddr() == nil {
					t.Error("a connection without addresses")
				}
			}
		})
	f := func(want string, a net.Addr) {
		t.Helper()
		exchange(t, dial(t, a), "?", want)
	}
	for range 4 { // on either loop
		f("0", addrs(s)[0])
		f("1", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: addrs(s)[1].(*net.TCPAddr).Port})
		f("2", addrs(s)[2])
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	s, _ := listen(t, 1, nil, nil)
	f := func(addresses []string, want error) {
		t.Helper()
		_, err := Listen(Config{Listeners: at(addresses...), Loops: []Loop{&testLoop{t: t}}, MaxConnections: 1, Logger: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, want) {
			t.Errorf("%v: got %v, want %v", addresses, err, want)
		}
	}
	taken := addrs(s)[0].String()
	f([]string{taken}, syscall.EADDRINUSE)
	f([]string{"127.0.0.1:0", taken}, syscall.EADDRINUSE)
	f([]string{"192.0.2.1:0"}, syscall.EADDRNOTAVAIL)
	exchange(t, dial(t, addrs(s)[0]), "still there", "still there")
}

// TestOnePortForOne: of servers that start on one port at the same moment one
// gets it, though SO_REUSEPORT would let them share it.
func TestOnePortForOne(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	for range 10 {
		const rivals = 3
		started := make(chan *Server, rivals)
		for range rivals {
			go func() {
				s, err := Listen(Config{Listeners: at(addr), Loops: []Loop{&testLoop{t: t}, &testLoop{t: t}},
					MaxConnections: 1, Logger: slog.New(slog.DiscardHandler)})
				if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
					t.Error(err)
				}
				started <- s
			}()
		}
		var won []*Server
		for range rivals {
			if s := <-started; s != nil {
				won = append(won, s)
			}
		}
		if len(won) != 1 {
			t.Errorf("%d servers have the port", len(won))
		}
		for _, s := range won {
			stop(t, s)
		}
	}
}

// Who connects while a server starts is refused, or waits, or is served: never
// taken and thrown out.
func TestConnectsDuringStart(t *testing.T) {
	var free net.Listener
	err := errors.New("none tried")
	for i := 0; err != nil && i < 100; i++ { // below those that the kernel gives to connections, who would take it meanwhile
		free, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000)))
	}
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	for range 10 {
		var clients sync.WaitGroup
		var begun sync.WaitGroup
		begun.Add(4)
		for range 4 {
			clients.Go(func() {
				begun.Done()
				var c net.Conn
				err := error(syscall.ECONNREFUSED)
				for end := time.Now().Add(patience); errors.Is(err, syscall.ECONNREFUSED) && time.Now().Before(end); {
					c, err = net.Dial("tcp", addr)
				}
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				var b [1]byte
				if _, err = c.Write([]byte("x")); err == nil {
					_, err = io.ReadFull(c, b[:])
				}
				if err != nil {
					t.Errorf("a connection was taken and not served: %v", err)
				}
			})
		}
		begun.Wait()
		s, _ := listen(t, 2, func(c *Config) { c.Listeners = at(addr) }, nil)
		clients.Wait()
		stop(t, s)
	}
}

// A port that is held takes no connection, and nobody else gets it.
func TestHeldPort(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("ports are held on Linux only")
	}
	s := &Server{}
	defer s.release()
	addr, _, err := s.hold("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond); err == nil {
		c.Close()
		t.Error("a connection was taken that nobody serves")
	}
	if l, err := net.Listen("tcp", addr.String()); !errors.Is(err, syscall.EADDRINUSE) {
		l.Close()
		t.Error("the port is free:", err)
	}
}

// TestRefusals: at the cap, when the owner does not want it, and when the
// process is nearly full.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const most = 7
	var unwanted atomic.Bool
	s, _ := listen(t, 4, func(c *Config) { c.MaxConnections = most }, func(l *testLoop) {
		l.opened = func(*testPeer) bool { return !unwanted.Load() }
	})
	inside := make(chan net.Conn, 100)
	var all sync.WaitGroup
	for range 60 { // at once, on all loops
		c := dial(t, addrs(s)[0])
		all.Go(func() {
			_, _ = io.WriteString(c, "x")
			if n, _ := c.Read(make([]byte, 1)); n == 1 {
				inside <- c
			}
		})
	}
	all.Wait()
	if n, r := len(inside), s.Refused(); n+int(r) != 60 || n > most || n == 0 {
		t.Errorf("%d inside and %d refused of 60, want at most %d inside", n, r, most)
	}
	for len(inside) > 0 {
		(<-inside).Close()
	}
	eventually(t, "places are free", func() bool { return s.Connections() == 0 })
	exchange(t, dial(t, addrs(s)[0]), "x", "x")

	before := s.Refused()
	unwanted.Store(true)
	if !ended(t, dial(t, addrs(s)[0])) {
		t.Error("a connection the owner refused is open")
	}
	if got := s.Refused(); got != before+1 {
		t.Errorf("%d refusals, want %d", got, before+1)
	}
}

func TestDescriptorLimit(t *testing.T) {
	t.Parallel()
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	for _, loops := range []int{1, 4} {
		got, err := descriptorLimit(loops)
		if want := int(min(r.Cur, 1<<30)) - reservedDescriptors - loops; err != nil || got != want {
			t.Errorf("%d loops: got %d, %v, want %d of %d", loops, got, err, want, r.Cur)
		}
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 3)
	s, owners := listen(t, 2, nil, func(l *testLoop) { l.closed = func(_ *testPeer, err error) { closed <- err } })
	conns := []net.Conn{dial(t, addrs(s)[0]), dial(t, addrs(s)[0]), dial(t, addrs(s)[0])}
	for _, c := range conns {
		exchange(t, c, "x", "x")
	}
	began := time.Now()
	stop(t, s)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Stop took %v", took)
	}
	if len(closed) != len(conns) {
		t.Errorf("%d of %d connections were told", len(closed), len(conns))
	}
	for _, c := range conns {
		if !ended(t, c) {
			t.Error("a connection is open after Stop")
		}
	}
	ticks := owners[0].ticked.Load()
	for _, l := range owners { // too late, and harmless
		l.waker.Wake()
	}
	stop(t, s)
	time.Sleep(2 * TickInterval)
	if owners[0].woken.Load()+owners[1].woken.Load() != 0 || owners[0].ticked.Load() != ticks {
		t.Error("a loop ran after Stop")
	}
	select {
	case <-s.Done():
	default:
		t.Error("not done after Stop")
	}
}
