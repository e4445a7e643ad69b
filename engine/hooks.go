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
	authenticators []hook.Authenticator
	deciders       []hook.Decider
	authorizers    []hook.Authorizer
	deliveries     []hook.DeliveryAuthorizer
	enhanced       map[string]hook.EnhancedAuthenticator // by method
}

// A hookEntry is one hook as it was given. The same value may be given twice.
type hookEntry struct{ hook any }

// hooks holds the current set. Any goroutine.
type hooks struct {
	mu      sync.Mutex // of changes
	current atomic.Pointer[hookSet]
}

// newHookSet sorts hooks by what they implement.
func newHookSet(all []*hookEntry) (*hookSet, error) {
	s := &hookSet{all: all, enhanced: make(map[string]hook.EnhancedAuthenticator)}
	for i, e := range all {
		points := gather(&s.authenticators, e) + gather(&s.deciders, e) + gather(&s.authorizers, e) + gather(&s.deliveries, e)
		if a, ok := e.hook.(hook.EnhancedAuthenticator); ok {
			if s.enhanced[a.Method()] != nil {
				return nil, fmt.Errorf("engine: hook %d: two hooks offer the authentication method %q", i, a.Method())
			}
			s.enhanced[a.Method()] = a
			points++
		}
		if points == 0 {
			return nil, fmt.Errorf("engine: hook %d: %T implements no interface of package hook", i, e.hook)
		}
	}
	return s, nil
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
	entry := &hookEntry{h}
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
