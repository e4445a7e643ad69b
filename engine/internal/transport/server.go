package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// TickInterval is the time between two Ticked calls of a loop.
const TickInterval = 250 * time.Millisecond

// readBufferBytes is what one read may take: one per loop, shared by its connections.
const readBufferBytes = 64 << 10

// Config says where to listen and who owns the loops.
type Config struct {
	Addresses      []string // TCP, host:port; port 0 picks one
	Loops          []Loop   // one per event loop
	MaxConnections int      // more are closed as they are accepted
	Logger         *slog.Logger
}

// A Server is a running set of loops and listeners.
type Server struct {
	cfg   Config
	addrs []net.Addr
	loops []*eventLoop

	mu    sync.Mutex
	bound map[gnet.EventLoop]*eventLoop // gnet's loop -> ours; grows to len(loops)

	engine  gnet.Engine
	conns   atomic.Int64
	refused atomic.Uint64
	panics  atomic.Uint64
	booted  bool          // ticker goroutine only
	ready   chan struct{} // closed when every loop is bound
	done    chan error    // what gnet's run returned
}

// eventLoop is one of gnet's loops beside the engine's owner of it.
type eventLoop struct {
	server  *Server
	owner   Loop
	el      gnet.EventLoop // set once, under Server.mu, before ready
	waking  atomic.Bool    // a wake task is posted and has not begun
	ticking atomic.Bool    // the same for a tick
}

// Listen binds all addresses, starts the loops and returns when each of them runs.
func Listen(cfg Config) (*Server, error) {
	s := &Server{
		cfg:   cfg,
		bound: make(map[gnet.EventLoop]*eventLoop, len(cfg.Loops)),
		ready: make(chan struct{}),
		done:  make(chan error, 1),
	}
	for _, l := range cfg.Loops {
		s.loops = append(s.loops, &eventLoop{server: s, owner: l})
	}
	urls, err := s.resolve()
	if err != nil {
		return nil, err
	}
	go func() {
		s.done <- gnet.Rotate(&events{s: s}, urls,
			gnet.WithNumEventLoop(len(cfg.Loops)), gnet.WithReusePort(true), gnet.WithReuseAddr(true),
			gnet.WithTicker(true), gnet.WithReadBufferCap(readBufferBytes),
			gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithLogger(quiet{cfg.Logger}), gnet.WithLogLevel(logging.WarnLevel))
	}()
	select {
	case <-s.ready:
		return s, nil
	case err := <-s.done:
		if err == nil {
			err = errors.New("event loops ended at once")
		}
		return nil, fmt.Errorf("transport: %w", err)
	}
}

// resolve binds each address alone for a moment: that finds a port in use,
// which SO_REUSEPORT would hide, and settles port 0.
func (s *Server) resolve() ([]string, error) {
	urls := make([]string, 0, len(s.cfg.Addresses))
	held := make([]net.Listener, 0, len(s.cfg.Addresses))
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, a := range s.cfg.Addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return nil, fmt.Errorf("transport: cannot listen: %w", err)
		}
		held = append(held, l)
		s.addrs = append(s.addrs, l.Addr())
		urls = append(urls, "tcp://"+l.Addr().String())
	}
	return urls, nil
}

// Addrs are the addresses listened on, in the order of the configuration.
func (s *Server) Addrs() []net.Addr { return s.addrs }

// Connections is the number open now. Any goroutine.
func (s *Server) Connections() int { return int(s.conns.Load()) }

// Refused counts connections closed at the cap. Any goroutine.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Panics counts connections dropped because handling them panicked. Any goroutine.
func (s *Server) Panics() uint64 { return s.panics.Load() }

// Waker returns loop i's waker.
func (s *Server) Waker(i int) Waker { return s.loops[i] }

// Stop closes listeners and connections and waits for the loops to end.
func (s *Server) Stop(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = s.engine.Stop(ctx)
	}()
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wake makes the loop run its owner's Woken soon. Any goroutine.
func (l *eventLoop) Wake() {
	if l.waking.CompareAndSwap(false, true) {
		_ = l.el.Execute(context.Background(), (*wakeTask)(l))
	}
}

type wakeTask eventLoop

func (t *wakeTask) Run(context.Context) error {
	t.waking.Store(false)
	defer (*eventLoop)(t).guard()
	t.owner.Woken()
	return nil
}

type tickTask eventLoop

func (t *tickTask) Run(context.Context) error {
	t.ticking.Store(false)
	defer (*eventLoop)(t).guard()
	t.owner.Ticked()
	return nil
}

// guard keeps a panic of ours outside any connection from ending the process.
func (l *eventLoop) guard() {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		l.server.panics.Add(1)
		l.server.cfg.Logger.Error("event loop recovered from a panic", "panic", r, "stack", string(debug.Stack()))
	}
}

// bind returns our side of el, giving it one at first sight.
func (s *Server) bind(el gnet.EventLoop) *eventLoop {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.bound[el]
	if l == nil {
		l = s.loops[len(s.bound)]
		l.el = el
		s.bound[el] = l
		l.owner.Bound(l)
		if len(s.bound) == len(s.loops) {
			close(s.ready)
		}
	}
	return l
}

// probe marks the connections by which the server learns of gnet's loops.
type probe struct{}

// bindAll makes one connection on each of gnet's loops, since gnet tells of a
// loop only through its connections. It runs once, off the loops.
func (s *Server) bindAll() {
	for range s.loops {
		if err := s.probeNext(); err != nil {
			s.cfg.Logger.Error("cannot reach an event loop", "error", err)
		}
	}
}

func (s *Server) probeNext() error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer syscall.Close(fds[1])
	f := os.NewFile(uintptr(fds[0]), "probe")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	res, err := s.engine.Register(gnet.NewNetConnContext(gnet.NewContext(context.Background(), probe{}), c))
	if err != nil {
		return err
	}
	return (<-res).Err
}
