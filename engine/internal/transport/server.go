package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
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
	Listeners      []*Listener // open from the start
	Loops          []Loop      // one per event loop
	MaxConnections int         // more are closed as they are accepted
	Logger         *slog.Logger
	Handshakes     int         // TLS handshakes that compute at once; 0: the processors the loops leave, at least one
	Overloaded     func() bool // asked before a TLS handshake begins, off the loops: while it is true they are spread out; nil: never
	Busy           func(bool)  // told when there are many handshakes, and when there are few again; off the loops; may be nil
}

// A Server is a running set of loops and listeners.
type Server struct {
	// immutable after Listen
	cfg         Config
	loops       []*eventLoop
	static      []*listening // those that gnet listens for
	handshakes  *handshakes
	descriptors int // a connection with this descriptor or a higher one is closed

	// any goroutine
	conns    atomic.Int64
	most     atomic.Int64 // Config.MaxConnections, or what replaced it
	refused  atomic.Uint64
	panics   atomic.Uint64
	restarts atomic.Uint64
	stopping atomic.Bool
	ready    chan struct{} // closed when every loop is bound for the first time
	failed   chan error    // why the loops cannot be bound; told once, before ready
	done     chan struct{} // closed when the loops have ended for good
	err      error         // valid after done: what gnet's last run returned

	next     atomic.Uint32  // loop of the next connection that is handed over
	crowded  atomic.Int64   // connections when they began to be refused for want of descriptors; 0: they are not
	arriving sync.WaitGroup // connections on their way to a loop, and who accepts them

	placeholder net.Addr // of gnet when it has nothing to listen on; run's goroutine, and the ticker's

	held []net.Listener // until gnet listens; run's goroutine once it runs

	mu        sync.Mutex
	listeners map[*Listener]*listening
	closed    bool                          // no listener opens any more
	running   bool                          // gnet has its listeners
	bound     map[gnet.EventLoop]*eventLoop // gnet's loop -> ours; grows to len(loops)
	engine    gnet.Engine                   // of the current run
}

// SetMaxConnections replaces Config.MaxConnections; those that are open stay.
// Any goroutine.
func (s *Server) SetMaxConnections(n int) { s.most.Store(int64(n)) }

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
		listeners:   make(map[*Listener]*listening),
	}
	s.most.Store(int64(cfg.MaxConnections))
	atOnce := cfg.Handshakes
	if atOnce == 0 {
		atOnce = max(1, runtime.NumCPU()-len(cfg.Loops))
	}
	s.handshakes = newHandshakes(atOnce, cfg.Busy, cfg.Overloaded)
	for _, l := range cfg.Loops {
		s.loops = append(s.loops, &eventLoop{server: s, owner: l, pingRound: longestPingRound})
	}
	for _, l := range cfg.Listeners {
		if err := s.prepare(l); err != nil {
			s.closeListeners()
			s.release()
			return nil, err
		}
	}
	go s.run()
	select {
	case <-s.ready:
		s.acceptAll()
		return s, nil
	case <-s.done:
		s.closeListeners()
		if s.err == nil {
			s.err = errors.New("event loops ended at once")
		}
		return nil, fmt.Errorf("transport: %w", s.err)
	case err := <-s.failed:
		_ = s.Stop(context.Background())
		return nil, fmt.Errorf("transport: cannot reach an event loop: %w", err)
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
		var urls []string
		if urls, s.err = s.urls(); s.err != nil {
			return
		}
		s.err = gnet.Rotate(&events{s: s, ending: make(chan struct{})}, urls,
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
	s.closeListeners()
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
