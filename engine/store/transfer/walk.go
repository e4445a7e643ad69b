package transfer

import (
	"context"
	"slices"
	"sync"

	"github.com/wheelmq/wheelmq/engine/store"
)

// Counts are how many there are of each.
type Counts struct {
	Sessions      int `json:"sessions"`
	Subscriptions int `json:"subscriptions"`
	InFlight      int `json:"in_flight"`
	Queued        int `json:"queued"`
	Retained      int `json:"retained"`
}

// A visitor is told everything in a store, by one goroutine at a time. The
// first error ends it.
type visitor struct {
	session  func(store.SessionID, *store.Loaded) error
	queued   func(id store.SessionID, at store.Position, d *store.Delivery, m *store.Message) error
	retained func(*store.Message) error
	damaged  func(what string, err error) // nil: nobody is told
}

// walk visits what s keeps: sessions and retained messages in no order, then
// the queues. It is the Load of s, which there is once.
func walk(ctx context.Context, s store.Store, v visitor) (Counts, error) {
	w := &walker{visitor: v}
	if err := s.Load(ctx, w); err != nil {
		return w.counts, err
	}
	slices.Sort(w.ids)
	for _, id := range w.ids {
		if w.err == nil {
			w.err = ctx.Err()
		}
		if w.err != nil {
			break
		}
		err := s.ReadQueue(id, 0, func(at store.Position, d *store.Delivery, m *store.Message) bool {
			w.counts.Queued++
			if w.queued != nil {
				w.err = w.queued(id, at, d, m)
			}
			return w.err == nil
		})
		if err != nil {
			return w.counts, err
		}
	}
	return w.counts, w.err
}

type walker struct {
	visitor
	mu     sync.Mutex
	ids    []store.SessionID
	counts Counts
	err    error
}

func (w *walker) Session(id store.SessionID, l *store.Loaded) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids = append(w.ids, id)
	w.counts.Sessions++
	w.counts.Subscriptions += len(l.Subscriptions)
	w.counts.InFlight += len(l.InFlight)
	if w.err == nil && w.session != nil {
		w.err = w.session(id, l)
	}
}

// Queue is no news: queues are read.
func (w *walker) Queue(store.SessionID, store.Extent) {}

func (w *walker) Retained(m *store.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.Retained++
	if w.err == nil && w.retained != nil {
		w.err = w.retained(m)
	}
}

func (w *walker) Damaged(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.damaged != nil {
		w.damaged(what, err)
	}
}

// Count reads everything, and tells damaged of what cannot be read; what is
// damaged in a queue is told by the store's log alone.
func Count(ctx context.Context, s store.Store, damaged func(what string, err error)) (Counts, error) {
	return walk(ctx, s, visitor{damaged: damaged})
}
