package engine

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/directory"
	"github.com/wheelmq/wheelmq/engine/internal/limits"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router"
	"github.com/wheelmq/wheelmq/router/retained"
)

// connectionsBeyond is how many connections above MaxConnections may be open, to
// be told so in answer to their CONNECT; more are closed as they come.
const connectionsBeyond = 64

// transportTick is the resolution of time on a loop.
const transportTick = transport.TickInterval

// A Broker is an MQTT server. Its exported methods may be called from any
// goroutine.
type Broker struct {
	// immutable after New
	log   *slog.Logger
	clock clock.Clock
	loops []*loop

	// any loop
	opts          atomic.Pointer[Options]
	limits        atomic.Pointer[session.Limits] // of sessions without limits of their own
	router        *router.Router
	retained      retainedStore
	directory     directory.Directory
	full          fullSessions
	bans          limits.Bans
	addresses     limits.Addresses
	flaps         limits.Flaps
	userPaces     limits.Paces    // connects of each user name
	userConns     limits.Holdings // clients connected by user name, where that is bounded
	userMeters    limits.Meters[string]
	addrMeters    limits.Meters[netip.Addr]
	open          atomic.Int64 // network connections
	unwanted      atomic.Int64 // those of them that are open to be told so
	messages      message.Shared
	hooks         hooks
	off           offLoop
	complaints    complaints
	durable       *durable // nil: memory only
	eventsDropped atomic.Uint64

	server  *transport.Server // set by Start
	stopped chan struct{}     // closed by Stop
	stop    sync.Once
	addrs   []net.Addr // set by Start

	mu        sync.Mutex
	listeners []*door    // those that are open
	reloading sync.Mutex // of TLS files, of options
}

// options are those in force, with their defaults. Not to be written to.
func (b *Broker) options() *Options { return b.opts.Load() }

// New checks the options and makes a broker that does not listen yet.
func New(o Options) (*Broker, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return newBroker(o, clock.Real{})
}

func newBroker(o Options, clk clock.Clock) (*Broker, error) {
	o = o.WithDefaults()
	b := &Broker{
		stopped: make(chan struct{}),
		log:     o.Logger, clock: clk,
		router:   router.New(o.Loops),
		retained: retainedStore{index: retained.New[*message.Message]()},
		full:     fullSessions{policy: session.OverflowPolicy(o.Overflow), refs: make(map[router.Ref]struct{})},
	}
	if o.ClientRetainedMessages != Unlimited || o.ClientRetainedBytes != Unlimited {
		b.retained.holdings = new(limits.Holdings)
	}
	b.opts.Store(&o)
	b.limits.Store(o.sessionLimits())
	b.off = offLoop{workers: o.HookWorkers, backlog: o.HookBacklog, timeout: o.HookTimeout,
		spawn: func(f func()) { go f() }, after: context.AfterFunc}
	var all []*hookEntry
	for _, h := range o.Hooks {
		all = append(all, b.newHookEntry(h))
	}
	set, err := newHookSet(all)
	if err != nil {
		return nil, err
	}
	b.hooks.current.Store(set)
	for _, l := range o.Listeners {
		if _, err := b.addListener(l); err != nil {
			return nil, err
		}
	}
	now := clk.Now()
	if o.Store != nil {
		b.durable = newDurable(o.Store, clk, o.Loops, b.log)
	}
	for i := range o.Loops {
		b.loops = append(b.loops, newLoop(b, i, now))
	}
	return b, nil
}

// Start binds the listeners and begins to serve.
func (b *Broker) Start() error {
	if b.server != nil {
		return errors.New("engine: broker was started before")
	}
	if err := b.loadStore(); err != nil {
		return err
	}
	if err := b.loadRetained(); err != nil {
		return err
	}
	cfg := transport.Config{MaxConnections: b.options().MaxConnections + connectionsBeyond, Logger: b.log, Busy: b.options().HandshakesBusy, Overloaded: b.overloaded}
	for _, in := range b.listeners {
		cfg.Listeners = append(cfg.Listeners, in.via)
	}
	for _, l := range b.loops {
		cfg.Loops = append(cfg.Loops, l)
	}
	s, err := transport.Listen(cfg)
	if err != nil {
		return err
	}
	for _, l := range cfg.Listeners {
		b.addrs = append(b.addrs, s.Addr(l))
	}
	b.mu.Lock()
	b.server = s
	b.mu.Unlock()
	for _, in := range b.listeners {
		b.tellListener(in, s.Addr(in.via), true)
	}
	b.tellLife(hook.LifeObserver.Started)
	return nil
}

// Bound implements transport.Loop: it gives the loop its way to be woken.
func (l *loop) Bound(w transport.Waker) {
	timer := time.AfterFunc(time.Hour, w.Wake)
	timer.Stop()
	l.wakeAfter = func(d time.Duration) { timer.Reset(d) }
	l.mailbox.bind(w.Wake)
}

// Addrs are the addresses listened on from the start, in the order of the
// options; nil for a listener without one.
func (b *Broker) Addrs() []net.Addr { return b.addrs }

// Connections is the number of open network connections.
func (b *Broker) Connections() int { return int(b.open.Load()) }

// Loops is the number of event loops.
func (b *Broker) Loops() int { return len(b.loops) }

// stopLinger is how long Stop waits for clients to read their last packet and
// close: a close with unread input would discard the packet on its way.
const stopLinger = 500 * time.Millisecond

// Stop ends the broker: no connection is accepted any more, each v5 client is
// told with DISCONNECT 0x8B, wills are published to who is still there, and
// the loops end. It returns early when ctx is done. A further call does nothing.
func (b *Broker) Stop(ctx context.Context) error {
	if b.server == nil {
		return nil
	}
	said := make(chan struct{}, len(b.loops))
	for _, l := range b.loops {
		l.mailbox.post([]item{{kind: itemCall, call: func(l *loop) {
			l.farewell()
			said <- struct{}{}
		}}}, 0)
	}
	for range b.loops {
		select {
		case <-said:
		case <-b.server.Done():
		case <-ctx.Done():
			b.stop.Do(func() { close(b.stopped) })
			return b.server.Stop(ctx)
		}
	}
	b.awaitClosed(ctx)
	err := b.server.Stop(ctx)
	b.mu.Lock()
	closed := b.listeners
	b.listeners = nil
	b.mu.Unlock()
	for _, in := range closed {
		b.tellListener(in, b.server.Addr(in.via), false)
	}
	b.awaitEvents(ctx)
	b.stop.Do(func() {
		close(b.stopped)
		b.tellLife(hook.LifeObserver.Stopped)
	})
	return err
}

// awaitClosed waits until no connection is open, or for stopLinger.
func (b *Broker) awaitClosed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopLinger)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for b.server.Connections() > 0 {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaitEvents waits until hooks were told all events.
func (b *Broker) awaitEvents(ctx context.Context) {
	for _, e := range b.hooks.current.Load().all {
		for e.events != nil && e.events.busy() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
}

// farewell ends every connection of the loop. Sessions stay as they are, so
// that wills wait for the end of the process with them.
func (l *loop) farewell() {
	l.stopping = true
	for _, c := range slices.Clone(l.conns) {
		switch c.state {
		case connOpen:
			c.disconnect(codec.ServerShuttingDown, "", true)
		case connAwaitConnect, connAuth, connDeciding, connResume:
			c.drop("the broker stops")
		}
	}
}

// stats sums the figures of all loops; they are at most one tick old.
func (b *Broker) stats() (sum metrics.Counters) {
	for _, l := range b.loops {
		l.cell.AddTo(&sum)
	}
	return sum
}
