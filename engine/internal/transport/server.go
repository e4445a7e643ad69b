package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
	sockopt "github.com/panjf2000/gnet/v2/pkg/socket"
)

// TickInterval is the time between two Ticked calls of a loop.
const TickInterval = 250 * time.Millisecond

// readBufferBytes is what one read may take: one per loop, shared by its connections.
const readBufferBytes = 64 << 10

// tcpKeepAlive is the silence after which the kernel asks whether a peer is
// still there: a client without MQTT keep-alive may have vanished.
const tcpKeepAlive = 2 * time.Minute

// restartPause is how long the server waits before it starts loops anew that
// ended by themselves.
const restartPause = 200 * time.Millisecond

// Config says where to listen and who owns the loops.
type Config struct {
	Addresses      []string // TCP, host:port; port 0 picks one
	Loops          []Loop   // one per event loop
	MaxConnections int      // more are closed as they are accepted
	Logger         *slog.Logger
}

// A Server is a running set of loops and listeners.
type Server struct {
	// immutable after Listen
	cfg         Config
	addrs       []net.Addr
	urls        []string // the same for gnet
	loops       []*eventLoop
	descriptors int // a connection with this descriptor or a higher one is closed

	// any goroutine
	conns    atomic.Int64
	refused  atomic.Uint64
	panics   atomic.Uint64
	restarts atomic.Uint64
	stopping atomic.Bool
	ready    chan struct{} // closed when every loop is bound for the first time
	failed   chan error    // why the loops cannot be bound; told once, before ready
	done     chan struct{} // closed when the loops have ended for good
	err      error         // valid after done: what gnet's last run returned

	held []net.Listener // until gnet listens; run's goroutine once it runs

	mu     sync.Mutex
	bound  map[gnet.EventLoop]*eventLoop // gnet's loop -> ours; grows to len(loops)
	engine gnet.Engine                   // of the current run
}

// Listen binds all addresses, starts the loops and returns when each of them runs.
func Listen(cfg Config) (*Server, error) {
	limit, err := descriptorLimit(len(cfg.Loops))
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:         cfg,
		descriptors: limit,
		ready:       make(chan struct{}),
		failed:      make(chan error, 1),
		done:        make(chan struct{}),
	}
	for _, l := range cfg.Loops {
		s.loops = append(s.loops, &eventLoop{server: s, owner: l})
	}
	if err := s.resolve(); err != nil {
		s.release()
		return nil, err
	}
	go s.run()
	select {
	case <-s.ready:
		return s, nil
	case <-s.done:
		if s.err == nil {
			s.err = errors.New("event loops ended at once")
		}
		return nil, fmt.Errorf("transport: %w", s.err)
	case err := <-s.failed:
		_ = s.Stop(context.Background())
		return nil, fmt.Errorf("transport: cannot reach an event loop: %w", err)
	}
}

// resolve binds each address without SO_REUSEPORT first: that finds a port in
// use, which SO_REUSEPORT would hide, and settles port 0. The ports stay held
// until gnet has them too, so that nobody comes between.
func (s *Server) resolve() error {
	for _, a := range s.cfg.Addresses {
		network, everyAddress := family(a)
		l, err := net.Listen(network, a)
		if err != nil {
			return fmt.Errorf("transport: cannot listen: %w", err)
		}
		s.held = append(s.held, l)
		if err := share(l); err != nil {
			return fmt.Errorf("transport: cannot listen: %w", err)
		}
		s.addrs = append(s.addrs, l.Addr())
		url := l.Addr().String()
		if everyAddress {
			url = fmt.Sprintf(":%d", l.Addr().(*net.TCPAddr).Port) // gnet reads [::] as IPv6 only
		}
		s.urls = append(s.urls, "tcp://"+url)
	}
	return nil
}

// share lets gnet bind the address of l beside it. Linux looks at the option
// when the second socket is bound; elsewhere it had to be set before l was
// bound, so there l gives way at once.
func share(l net.Listener) error {
	if runtime.GOOS != "linux" {
		return l.Close()
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = sockopt.SetReuseport(int(fd), 1) }); err != nil {
		return err
	}
	return failed
}

// release lets go of the ports that resolve held.
func (s *Server) release() {
	for _, l := range s.held {
		l.Close()
	}
	s.held = nil
}

// family is the network to bind a on, so that net opens the same families as
// gnet: net would take 0.0.0.0 for both. An empty host is every address of both.
func family(a string) (network string, everyAddress bool) {
	host, _, _ := net.SplitHostPort(a) // net.Listen reports what is wrong
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "tcp", host == ""
	case ip.Is4():
		return "tcp4", false
	default:
		return "tcp6", false
	}
}

// run keeps gnet's engine running until Stop. It ends by itself when accept
// fails, as it does when the rest of the process took all descriptors: all
// connections are closed then, and the loops start anew.
func (s *Server) run() {
	defer close(s.done)
	defer s.release() // if gnet could not bind
	for {
		s.bound = make(map[gnet.EventLoop]*eventLoop, len(s.loops))
		s.err = gnet.Rotate(&events{s: s, ending: make(chan struct{})}, s.urls,
			gnet.WithNumEventLoop(len(s.loops)), gnet.WithReusePort(true), gnet.WithReuseAddr(true),
			gnet.WithTicker(true), gnet.WithReadBufferCap(readBufferBytes),
			gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithTCPKeepAlive(tcpKeepAlive),
			gnet.WithLogger(quiet{s.cfg.Logger}), gnet.WithLogLevel(logging.WarnLevel))
		if s.stopping.Load() || !s.started() {
			return
		}
		s.restarts.Add(1)
		s.cfg.Logger.Error("event loops ended by themselves and start anew; all connections were closed", "error", s.err)
		time.Sleep(restartPause)
	}
}

// started reports whether Listen has succeeded, or is about to.
func (s *Server) started() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// Addrs are the addresses listened on, in the order of the configuration.
func (s *Server) Addrs() []net.Addr { return s.addrs }

// Connections is the number open now. Any goroutine.
func (s *Server) Connections() int { return int(s.conns.Load()) }

// Refused counts connections closed at the cap. Any goroutine.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Panics counts panics that were caught: each ended at most one connection. Any goroutine.
func (s *Server) Panics() uint64 { return s.panics.Load() }

// Restarts counts how often the loops ended by themselves. Any goroutine.
func (s *Server) Restarts() uint64 { return s.restarts.Load() }

// Done is closed when the loops have ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop closes listeners and connections and waits for the loops to end. It may
// be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	for {
		s.mu.Lock()
		engine := s.engine
		s.mu.Unlock()
		// gnet looks only twice a second whether it has stopped: what it
		// waits for is seen here, so it does not wait.
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_ = engine.Stop(canceled)
		select {
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restartPause): // a new run may have begun
		}
	}
}
