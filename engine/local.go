package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router"
	"github.com/wheelmq/wheelmq/router/retained"
)

// SubscribeOptions say what an in-process subscription gets.
type SubscribeOptions struct {
	Filter     string         // $share/name/ included
	QoS        codec.QoS      // at most, as the handler sees it
	NoRetained bool           // not the retained messages that are there
	Queue      int            // messages that wait for the handler; 0: 1,000
	Overflow   OverflowPolicy // DropNewest or DropOldest
}

// A Subscription is one in-process subscription. Any goroutine.
type Subscription struct {
	local *local
}

// Dropped is how many messages found the queue full.
func (s *Subscription) Dropped() uint64 { return s.local.dropped.Load() }

// Cancel ends the subscription. The handler may be running, or be called for
// what had arrived, until Done is closed.
func (s *Subscription) Cancel() { s.local.cancel() }

// Done is closed when the handler will not be called any more.
func (s *Subscription) Done() <-chan struct{} { return s.local.done }

// Subscribe calls handle for each message that matches o.Filter, one after the
// other on a goroutine of its own, without a socket. The message is the
// handler's; Retain is as published, and set for what was retained before. First come retained
// messages, then live ones; a message that is published at that moment may come
// as both. There is nothing to acknowledge: a message of any QoS comes once,
// unless the queue is full. The subscription ends with Cancel, with ctx, or with
// the broker. Any goroutine; a handler may call every method of the broker.
func (b *Broker) Subscribe(ctx context.Context, o SubscribeOptions, handle func(Message)) (*Subscription, error) {
	share, rest, shared, ok := topic.ParseShared(o.Filter)
	switch {
	case !ok || !topic.ValidFilter(rest):
		return nil, fmt.Errorf("engine: %q is not a topic filter", o.Filter)
	case o.QoS > 2:
		return nil, fmt.Errorf("engine: QoS %d: want 0, 1 or 2", o.QoS)
	case o.Overflow == RejectPublisher || int(o.Overflow) >= len(overflowNames):
		return nil, errors.New("engine: an in-process subscription drops the newest or the oldest message")
	case o.Queue < 0:
		return nil, fmt.Errorf("engine: Queue %d: want above 0", o.Queue)
	case b.isStopped():
		return nil, ErrClosed
	}
	setDefault(&o.Queue, 1000)
	x := &local{b: b, o: o, share: share, rest: rest, handle: handle, arrived: make(chan struct{}, 1),
		canceled: make(chan struct{}), done: make(chan struct{})}
	l := b.loops[xxhash.Sum64String(o.Filter)%uint64(len(b.loops))]
	ready := make(chan struct{})
	l.post(func(l *loop) {
		x.attach(l)
		close(ready)
	})
	select {
	case <-ready:
	case <-b.stopped:
		return nil, ErrClosed
	}
	stop := context.AfterFunc(ctx, x.cancel)
	go func() {
		defer stop()
		x.run(!o.NoRetained && !shared)
	}()
	return &Subscription{x}, nil
}

// A local is the receiving end of an in-process subscription: a client without
// session and connection on one loop, and a queue that its goroutine empties.
type local struct {
	// immutable
	b           *Broker
	o           SubscribeOptions
	share, rest string
	handle      func(Message)
	arrived     chan struct{} // a message waits
	canceled    chan struct{} // closed by cancel
	done        chan struct{} // closed when handle is called no more
	once        sync.Once

	dropped atomic.Uint64

	// its loop's
	cl *client

	mu      sync.Mutex
	waiting []Message
}

// attach subscribes on l.
func (x *local) attach(l *loop) {
	cl := &client{}
	cl.Init("", l.b.limits.Load())
	l.allocate(cl)
	l.counters.Sessions-- // it is none
	cl.extend().local = x
	x.cl = cl
	s := cl.addSubscription(x.o.Filter)
	s.qos = x.o.QoS
	want := router.Subscription{Loop: l.id, Ref: cl.ref, QoS: x.o.QoS, RetainAsPublished: true}
	if x.share == "" {
		l.b.router.Subscribe(x.rest, want)
		return
	}
	s.member, _ = l.b.router.SubscribeShared(x.share, x.rest, l.b.options().SharedStrategy, want)
	memberReady.tell(s.member)
}

// detach ends the subscription on its loop.
func (x *local) detach(l *loop) {
	l.unsubscribeAll(x.cl)
	l.counters.Sessions++
	l.vacate(x.cl)
}

func (x *local) cancel() { x.once.Do(func() { close(x.canceled) }) }

// offer takes a copy of p. On the loop.
func (x *local) offer(l *loop, p *publication, qos codec.QoS, retain bool) {
	m := Message{Topic: string(p.topic), Payload: bytes.Clone(p.payload), Properties: bytes.Clone(p.properties),
		QoS: qos, Retain: retain, From: p.from, Expiry: left(p.expires, l.now)}
	x.mu.Lock()
	full := len(x.waiting) >= x.o.Queue
	switch {
	case !full:
		x.waiting = append(x.waiting, m)
	case x.o.Overflow == DropOldest:
		copy(x.waiting, x.waiting[1:])
		x.waiting[len(x.waiting)-1] = m
	}
	x.mu.Unlock()
	if full {
		x.dropped.Add(1)
		l.drop(hook.DropQueueFull, nil, p.topic)
	}
	select {
	case x.arrived <- struct{}{}:
	default:
	}
}

// left is the time until at; 0 for never.
func left(at, now clock.Time) time.Duration {
	if at == 0 {
		return 0
	}
	return max(at.Sub(now), time.Second)
}

// run calls the handler until the subscription ends.
func (x *local) run(replay bool) {
	defer close(x.done)
	if replay {
		x.replay()
	}
	var batch []Message
	for {
		select {
		case <-x.arrived:
		case <-x.canceled:
			l := x.b.loops[refLoop(x.cl.ref)]
			l.post(x.detach)
			return
		case <-x.b.stopped:
			return
		}
		x.mu.Lock()
		batch, x.waiting = x.waiting, batch[:0]
		x.mu.Unlock()
		for i := range batch {
			select {
			case <-x.canceled:
			default:
				x.call(batch[i])
			}
			batch[i] = Message{}
		}
	}
}

// replay hands out the retained messages that match, straight from the index.
func (x *local) replay() {
	var cursor retained.Cursor
	now := x.b.clock.Now()
	for done := false; !done; {
		var found []*message.Message
		done = x.b.retained.index.Match(x.rest, &cursor, replayChunk, func(_ string, m *message.Message) {
			if !m.Expired(now) {
				found = append(found, m)
			}
		})
		for _, m := range found {
			select {
			case <-x.canceled:
				return
			default:
			}
			x.call(Message{Topic: string(m.Topic), Payload: bytes.Clone(m.Payload), Properties: bytes.Clone(m.Properties),
				QoS: min(m.QoS, x.o.QoS), Retain: true, From: m.Publisher, Expiry: left(m.Expires, now)})
		}
	}
}

// call calls the handler. One that panics loses this message.
func (x *local) call(m Message) {
	defer func() {
		if r := recover(); r != nil {
			x.b.log.Error("the handler of a subscription panicked", "filter", x.o.Filter, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	x.handle(m)
}
