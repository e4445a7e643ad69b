package engine

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/engine/hook"
)

// hookSet is all hooks, by the points at which they are called. Immutable: a
// loop takes the current one at the beginning of each turn, so a point that
// nobody uses costs a length check.
type hookSet struct {
	all            []*hookEntry
	points         hookPoints
	authenticators []hook.Authenticator
	deciders       []hook.Decider
	authorizers    []hook.Authorizer
	deliveries     []hook.DeliveryAuthorizer
	enhanced       map[string]hook.EnhancedAuthenticator // by method

	interceptors  []hook.PublishInterceptor
	subscribers   []hook.SubscribeInterceptor
	unsubscribers []hook.UnsubscribeInterceptor
	deliverers    []hook.DeliveryInterceptor
	packets       []hook.PacketInterceptor

	publishReviewers   []hook.PublishReviewer
	subscribeReviewers []hook.SubscribeReviewer

	lives         []hook.LifeObserver
	listeners     []hook.ListenerObserver
	connections   []hook.ConnectionObserver
	clients       []hook.ClientObserver
	subscriptions []hook.SubscriptionObserver
	publishes     []hook.PublishObserver
	unconsumed    []hook.UnconsumedObserver
	delivered     []hook.DeliveryObserver
	acks          []hook.AckObserver
	drops         []hook.DropObserver
	sessions      []hook.SessionObserver
	retained      []hook.RetainedObserver
	wills         []hook.WillObserver
	sources       []hook.RetainedSource
}

// hookPoints tells which of the points that lie on the path of each message
// have hooks: one word, beside what the loop has at hand anyway.
type hookPoints uint16

const (
	onReceive   hookPoints = 1 << iota // deliveries
	onPublish                          // interceptors
	onReview                           // publishReviewers
	onDelivery                         // deliverers
	onPacket                           // packets
	onPublished                        // publishes
	onUnconsumed
	onDelivered
	onAck
)

// A hookEntry is one hook as it was given. The same value may be given twice.
type hookEntry struct {
	hook   any
	events *eventQueue // by which the hook gets events; nil: none
}

func (b *Broker) newHookEntry(h any) *hookEntry {
	e := &hookEntry{hook: h}
	if to, ok := h.(hook.EventHandler); ok {
		e.events = &eventQueue{b: b, to: to, kinds: to.EventKinds()}
	}
	return e
}

// hooks holds the current set. Any goroutine.
type hooks struct {
	mu      sync.Mutex // of changes
	current atomic.Pointer[hookSet]
}

// newHookSet sorts hooks by what they implement.
func newHookSet(all []*hookEntry) (*hookSet, error) {
	s := &hookSet{all: all, enhanced: make(map[string]hook.EnhancedAuthenticator)}
	for i, e := range all {
		if q := e.events; q != nil {
			s.gatherEvents(q)
		}
		points := gather(&s.authenticators, e) + gather(&s.deciders, e) + gather(&s.authorizers, e) + gather(&s.deliveries, e) +
			gather(&s.interceptors, e) + gather(&s.subscribers, e) + gather(&s.unsubscribers, e) + gather(&s.deliverers, e) +
			gather(&s.packets, e) + gather(&s.publishReviewers, e) + gather(&s.subscribeReviewers, e) + gather(&s.lives, e) + gather(&s.listeners, e) + gather(&s.connections, e) +
			gather(&s.clients, e) + gather(&s.subscriptions, e) + gather(&s.publishes, e) + gather(&s.unconsumed, e) +
			gather(&s.delivered, e) + gather(&s.acks, e) + gather(&s.drops, e) + gather(&s.sessions, e) +
			gather(&s.retained, e) + gather(&s.wills, e) + gather(&s.sources, e)
		if a, ok := e.hook.(hook.EnhancedAuthenticator); ok {
			if s.enhanced[a.Method()] != nil {
				return nil, fmt.Errorf("engine: hook %d: two hooks offer the authentication method %q", i, a.Method())
			}
			s.enhanced[a.Method()] = a
			points++
		}
		if points == 0 && e.events == nil {
			return nil, fmt.Errorf("engine: hook %d: %T implements no interface of package hook", i, e.hook)
		}
	}
	mark := func(p hookPoints, n int) {
		if n > 0 {
			s.points |= p
		}
	}
	mark(onReceive, len(s.deliveries))
	mark(onPublish, len(s.interceptors))
	mark(onReview, len(s.publishReviewers))
	mark(onDelivery, len(s.deliverers))
	mark(onPacket, len(s.packets))
	mark(onPublished, len(s.publishes))
	mark(onUnconsumed, len(s.unconsumed))
	mark(onDelivered, len(s.delivered))
	mark(onAck, len(s.acks))
	return s, nil
}

// gatherEvents puts q where what it wants is told.
func (s *hookSet) gatherEvents(q *eventQueue) {
	wants := func(k hook.EventKind) bool { return q.kinds&k != 0 }
	gatherIf[hook.ListenerObserver](&s.listeners, q, wants(hook.EventListenerOpened|hook.EventListenerClosed))
	gatherIf[hook.ConnectionObserver](&s.connections, q, wants(hook.EventConnectionAccepted|hook.EventConnectionRefused))
	gatherIf[hook.ClientObserver](&s.clients, q, wants(hook.EventConnected|hook.EventDisconnected))
	gatherIf[hook.SubscriptionObserver](&s.subscriptions, q, wants(hook.EventSubscribed|hook.EventUnsubscribed))
	gatherIf[hook.PublishObserver](&s.publishes, q, wants(hook.EventPublished))
	gatherIf[hook.UnconsumedObserver](&s.unconsumed, q, wants(hook.EventNotConsumed))
	gatherIf[hook.DeliveryObserver](&s.delivered, q, wants(hook.EventDelivered))
	gatherIf[hook.AckObserver](&s.acks, q, wants(hook.EventAcknowledged))
	gatherIf[hook.DropObserver](&s.drops, q, wants(hook.EventDropped))
	gatherIf[hook.SessionObserver](&s.sessions, q, wants(hook.EventSessionChanged))
	gatherIf[hook.RetainedObserver](&s.retained, q, wants(hook.EventRetainedChanged))
	gatherIf[hook.WillObserver](&s.wills, q, wants(hook.EventWillPublished))
}

func gatherIf[T any](list *[]T, h T, want bool) {
	if want {
		*list = append(*list, h)
	}
}

// gather appends e's hook to list and returns 1, if it is of the list's kind.
func gather[T any](list *[]T, e *hookEntry) int {
	h, ok := e.hook.(T)
	if !ok {
		return 0
	}
	*list = append(*list, h)
	return 1
}

// AddHook puts h behind the hooks that are there. Loops call it from their next
// turn on. remove takes it out again; calls that have begun end in their time.
// Any goroutine, also from inside a hook.
func (b *Broker) AddHook(h any) (remove func(), err error) {
	entry := b.newHookEntry(h)
	if err := b.changeHooks(func(all []*hookEntry) []*hookEntry { return append(all, entry) }); err != nil {
		return nil, err
	}
	return func() {
		_ = b.changeHooks(func(all []*hookEntry) []*hookEntry {
			return slices.DeleteFunc(all, func(e *hookEntry) bool { return e == entry })
		})
	}, nil
}

// changeHooks replaces the set by what change makes of a copy of its hooks.
func (b *Broker) changeHooks(change func(all []*hookEntry) []*hookEntry) error {
	b.hooks.mu.Lock()
	defer b.hooks.mu.Unlock()
	s, err := newHookSet(change(slices.Clone(b.hooks.current.Load().all)))
	if err != nil {
		return err
	}
	b.hooks.current.Store(s)
	return nil
}
