package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/internal/directory"
	"github.com/wheelmq/wheelmq/engine/internal/inflight"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/router"
)

// A loader takes in what the store kept, before the loops run: each loop's
// part is guarded by a lock of its own.
type loader struct {
	b        *Broker
	loops    []sync.Mutex
	mu       sync.Mutex
	messages map[store.MessageID]*message.Message // in flight, so that one of many sessions is in memory once
	queues   map[store.SessionID]store.Extent
	sessions []*client
	damaged  int
}

// loadStore brings back sessions, their queues, and retained messages.
func (b *Broker) loadStore() error {
	d := b.durable
	if d == nil {
		return nil
	}
	begun := time.Now()
	ld := &loader{b: b, loops: make([]sync.Mutex, len(b.loops)), messages: map[store.MessageID]*message.Message{},
		queues: map[store.SessionID]store.Extent{}}
	if err := d.store.Load(context.Background(), ld); err != nil {
		return fmt.Errorf("engine: reading the store: %w", err)
	}
	for _, cl := range ld.sessions {
		if q, waits := ld.queues[cl.stored]; waits {
			l := b.loops[refLoop(cl.ref)]
			cl.Restore(q.Messages, int(q.Bytes)+q.Messages*message.Overhead, uint64(q.First), d.first)
			l.recount(cl, 0, 0, 0)
			b.full.update(cl)
		}
	}
	b.log.Info("store read", "sessions", len(ld.sessions), "retained", b.retained.messages(),
		"damaged", ld.damaged, "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// Damaged implements store.Loader.
func (ld *loader) Damaged(what string, err error) {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.damaged++
	ld.b.log.Error("a record of the store is damaged and left out", "what", what, "error", err)
}

// shared makes or finds the message of id, with one reference for the caller.
func (ld *loader) shared(id store.MessageID, m *store.Message) *message.Message {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	if n := ld.messages[id]; n != nil {
		n.Retain()
		return n
	}
	n := ld.b.durable.message(m)
	n.Stored = uint64(id)
	ld.messages[id] = n
	return n
}

// Retained implements store.Loader.
func (ld *loader) Retained(m *store.Message) {
	n := ld.b.durable.message(m)
	if _, had := ld.b.retained.index.Set(string(n.Topic), n); !had {
		ld.b.retained.count(n, 1)
	}
}

// Queue implements store.Loader. The messages are read when they are wanted (far.go).
func (ld *loader) Queue(id store.SessionID, q store.Extent) {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.queues[id] = q
}

// Session implements store.Loader.
func (ld *loader) Session(id store.SessionID, s *store.Loaded) {
	b := ld.b
	i := int(uint64(id) % uint64(len(b.loops)))
	l := b.loops[i]
	ld.loops[i].Lock()
	defer ld.loops[i].Unlock()
	if _, had := b.directory.Lookup(s.ClientID); had {
		ld.Damaged(fmt.Sprintf("session %d", id), errors.New("a second session of "+s.ClientID))
		return
	}
	cl := &client{stored: id, expiry: s.Expiry, known: true}
	cl.Init(s.ClientID, b.limits.Load())
	l.allocate(cl)
	b.directory.Claim(cl.ClientID, directory.Place(cl.ref))
	b.durable.name(cl.ref, id)
	if s.UserName != "" {
		cl.extend().userName = s.UserName
	}
	if w := s.Will; w != nil {
		cl.extend().will = &will{message: ld.b.durable.message(&w.Message), delay: w.Delay, expiry: w.Expiry, hasExpiry: w.HasExpiry}
	}
	for j := range s.Subscriptions {
		l.restoreSubscription(cl, &s.Subscriptions[j])
	}
	for _, packet := range s.Received {
		cl.RestoreReceived(packet)
	}
	for j := range s.InFlight {
		f := &s.InFlight[j]
		o := session.Outbound{QoS: f.Delivery.QoS, Retain: f.Delivery.Retain, Stored: uint64(f.Position), Own: f.Delivery.Own}
		if len(f.Delivery.IDs) > 0 {
			o.Extra = &session.Extra{IDs: f.Delivery.IDs}
		}
		if f.Delivery.Message != 0 {
			o.Message = ld.shared(f.Delivery.Message, &f.Message)
		}
		cl.RestoreInFlight(f.Delivery.PacketID, o, windowState(f.Delivery.State))
	}
	endsAt, willAt := s.EndsAt, int64(0)
	if s.Will != nil {
		willAt = s.Will.At
	}
	l.mailbox.post([]item{{kind: itemCall, call: func(l *loop) { l.rejoin(cl, endsAt, willAt) }}}, 0)
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.sessions = append(ld.sessions, cl)
}

func windowState(s store.State) inflight.State {
	switch s {
	case store.AwaitPuback:
		return inflight.AwaitPuback
	case store.AwaitPubrec:
		return inflight.AwaitPubrec
	default:
		return inflight.AwaitPubcomp
	}
}

// restoreSubscription makes a subscription anew.
func (l *loop) restoreSubscription(cl *client, from *store.Subscription) {
	share, rest, shared, ok := topic.ParseShared(from.Filter)
	if !ok {
		return
	}
	s := cl.addSubscription(from.Filter)
	s.id, s.qos = from.Identifier, codec.QoS(from.Options&3)
	s.noLocal, s.retainAsPublished = from.Options&(1<<2) != 0, from.Options&(1<<3) != 0
	want := router.Subscription{Loop: l.id, Ref: cl.ref, QoS: s.qos, NoLocal: s.noLocal,
		RetainAsPublished: s.retainAsPublished, ID: s.id}
	if !shared {
		l.b.router.Subscribe(s.filter, want)
		return
	}
	s.member, _ = l.b.router.SubscribeShared(share, rest, l.b.options().SharedStrategy, want)
	cl.shares = true
	cl.tellMembers()
}

// rejoin starts the timers of a session that was read, unless its client has
// come back by then. One that was connected lost its connection with the process.
func (l *loop) rejoin(cl *client, endsAt, willAt int64) {
	if l.client(cl.ref) != cl || cl.conn != nil || cl.moving() != nil || cl.stored == 0 {
		return
	}
	switch {
	case cl.expiry == 0:
		l.endSession(cl)
	case endsAt == 0 && willAt == 0:
		l.goAway(cl)
	default:
		d := l.b.durable
		a := &away{willAt: d.time(willAt), endAt: d.time(endsAt)}
		a.timer.Owner = cl
		cl.extend().away = a
		l.awayTimers.Arm(&a.timer, a.next())
	}
}
