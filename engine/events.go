package engine

import (
	"bytes"
	"context"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// An eventQueue brings events to one hook.EventHandler, on a goroutine that
// lives while there are any. It is an observer of everything and passes on the
// kinds that are wanted.
type eventQueue struct {
	b     *Broker
	to    hook.EventHandler
	kinds hook.EventKind

	mu      sync.Mutex
	waiting []hook.Event
	running bool
}

// put appends e, or drops it when too many wait. Any goroutine.
func (q *eventQueue) put(e hook.Event) {
	if q.kinds&e.Kind == 0 {
		return
	}
	e.Time = time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= q.b.options().HookEvents {
		q.b.eventsDropped.Add(1)
		return
	}
	q.waiting = append(q.waiting, e)
	if !q.running {
		q.running = true
		q.b.off.spawn(q.deliver)
	}
}

// deliver hands out what waits until nothing does.
func (q *eventQueue) deliver() {
	var batch []hook.Event
	for {
		q.mu.Lock()
		batch, q.waiting = q.waiting, batch[:0]
		if len(batch) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for i := range batch {
			q.handle(batch[i])
			batch[i] = hook.Event{}
		}
	}
}

// busy reports whether events wait or are being handled. Any goroutine.
func (q *eventQueue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running
}

func (q *eventQueue) handle(e hook.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), q.b.options().HookTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			q.b.log.Error("a hook panicked", "event", e.Kind.String(), "panic", r, "stack", string(debug.Stack()))
		}
	}()
	q.to.HandleEvent(ctx, e)
}

// kept copies what a publication borrows.
func kept(p hook.Publication) hook.Publication {
	p.Topic, p.Payload, p.Properties = bytes.Clone(p.Topic), bytes.Clone(p.Payload), bytes.Clone(p.Properties)
	return p
}

func (q *eventQueue) ListenerOpened(name string, addr net.Addr) {
	q.put(hook.Event{Kind: hook.EventListenerOpened, Name: name, Addr: addr})
}

func (q *eventQueue) ListenerClosed(name string, addr net.Addr) {
	q.put(hook.Event{Kind: hook.EventListenerClosed, Name: name, Addr: addr})
}

func (q *eventQueue) ConnectionAccepted(c hook.Client) {
	q.put(hook.Event{Kind: hook.EventConnectionAccepted, Client: c})
}

func (q *eventQueue) ConnectionRefused(c hook.Client, code codec.ReasonCode, reason string) {
	q.put(hook.Event{Kind: hook.EventConnectionRefused, Client: c, Code: code, Reason: reason})
}

func (q *eventQueue) Connected(c hook.Client, e hook.Connected) {
	q.put(hook.Event{Kind: hook.EventConnected, Client: c, Connected: e})
}

func (q *eventQueue) Disconnected(c hook.Client, e hook.Disconnected) {
	q.put(hook.Event{Kind: hook.EventDisconnected, Client: c, Disconnected: e})
}

func (q *eventQueue) Subscribed(c hook.Client, s hook.Subscription) {
	q.put(hook.Event{Kind: hook.EventSubscribed, Client: c, Subscription: s})
}

func (q *eventQueue) Unsubscribed(c hook.Client, filter string) {
	q.put(hook.Event{Kind: hook.EventUnsubscribed, Client: c, Subscription: hook.Subscription{Filter: filter}})
}

func (q *eventQueue) Published(c hook.Client, p hook.Publication, code codec.ReasonCode) {
	q.put(hook.Event{Kind: hook.EventPublished, Client: c, Message: kept(p), Code: code})
}

func (q *eventQueue) NotConsumed(c hook.Client, p hook.Publication) {
	q.put(hook.Event{Kind: hook.EventNotConsumed, Client: c, Message: kept(p)})
}

func (q *eventQueue) Delivered(to hook.Client, d hook.Delivery, id uint16) {
	q.put(hook.Event{Kind: hook.EventDelivered, Client: to, PacketID: id,
		Message: kept(hook.Publication{Topic: d.Topic, Payload: d.Payload, Properties: d.Properties, QoS: d.QoS, Retain: d.Retain, From: d.From})})
}

func (q *eventQueue) Acknowledged(c hook.Client, id uint16, qos codec.QoS) {
	q.put(hook.Event{Kind: hook.EventAcknowledged, Client: c, PacketID: id, Message: hook.Publication{QoS: qos}})
}

func (q *eventQueue) Dropped(d hook.Drop) {
	q.put(hook.Event{Kind: hook.EventDropped, Client: hook.Client{ClientID: d.To}, Drop: d.Why,
		Message: hook.Publication{Topic: bytes.Clone(d.Topic)}})
}

func (q *eventQueue) SessionChanged(id string, e hook.SessionEvent) {
	q.put(hook.Event{Kind: hook.EventSessionChanged, Client: hook.Client{ClientID: id}, Session: e})
}

func (q *eventQueue) RetainedChanged(name string, p *hook.Publication) {
	if p == nil {
		q.put(hook.Event{Kind: hook.EventRetainedChanged, Gone: true, Message: hook.Publication{Topic: []byte(name)}})
		return
	}
	q.put(hook.Event{Kind: hook.EventRetainedChanged, Message: kept(*p)})
}

func (q *eventQueue) WillPublished(c hook.Client, p hook.Publication) {
	q.put(hook.Event{Kind: hook.EventWillPublished, Client: c, Message: kept(p)})
}
