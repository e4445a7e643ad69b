package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/store"
)

// Run runs the tests. open opens the store that belongs to t, the same one when
// it is called again after Close.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("Everything", func(t *testing.T) { everything(t, open) })
	t.Run("States", func(t *testing.T) { states(t, open, false) })
	t.Run("StatesOwn", func(t *testing.T) { states(t, open, true) })
	t.Run("InFlight", func(t *testing.T) { inFlight(t, open) })
	t.Run("Deleted", func(t *testing.T) { deleted(t, open) })
	t.Run("Twice", func(t *testing.T) { twice(t, open) })
	t.Run("Order", func(t *testing.T) { order(t, open) })
	t.Run("Shared", func(t *testing.T) { shared(t, open) })
	t.Run("Model", func(t *testing.T) { model(t, open) })
	t.Run("Closed", func(t *testing.T) {
		s := open(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(&store.Batch{}, nil); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Commit after Close: %v", err)
		}
	})
}

// commit commits what fill puts into a batch, and waits.
func commit(t *testing.T, s store.Store, fill func(b *store.Batch)) {
	t.Helper()
	b := &store.Batch{}
	fill(b)
	done := make(chan error, 1)
	if err := s.Commit(b, func(_ *store.Batch, err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a commit was not answered within a minute")
	}
}

func reopen(t *testing.T, s store.Store, open func(t *testing.T) store.Store) store.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t)
}

// Dump writes everything a store holds, sorted: equal stores give equal dumps.
func Dump(t testing.TB, s store.Store) string {
	t.Helper()
	d := &dump{}
	if err := s.Load(context.Background(), d); err != nil {
		t.Fatal(err)
	}
	read := map[store.SessionID]store.Extent{}
	for _, id := range d.ids {
		var q store.Extent
		err := s.ReadQueue(id, 0, func(at store.Position, e *store.Delivery, m *store.Message) bool {
			d.line("session %d: queued at %d: %s", id, at, delivery(e, m))
			q.Add(at, e.Size)
			return true
		})
		if q.Messages > 0 {
			read[id] = q
		}
		if err != nil {
			t.Errorf("queue of %d: %v", id, err)
		}
	}
	// A queue's lines are in its order already, and positions have one width.
	slices.Sort(d.lines)
	if !maps.Equal(d.extents, read) {
		t.Errorf("Load tells %v of queues that hold %v", d.extents, read)
	}
	return strings.Join(d.lines, "\n")
}

type dump struct {
	mu      sync.Mutex
	ids     []store.SessionID
	extents map[store.SessionID]store.Extent
	lines   []string
}

func (d *dump) line(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *dump) Session(id store.SessionID, l *store.Loaded) {
	will := "none"
	if w := l.Will; w != nil {
		will = fmt.Sprintf("%s delay %d expiry %d %v at %d", text(&w.Message), w.Delay, w.Expiry, w.HasExpiry, w.At)
	}
	d.line("session %d: %s user %s expiry %d ends %d will %s", id, l.ClientID, l.UserName, l.Expiry, l.EndsAt, will)
	for _, s := range l.Subscriptions {
		d.line("session %d: subscribed %s %d %d", id, s.Filter, s.Options, s.Identifier)
	}
	slices.Sort(l.Received)
	d.line("session %d: received %v", id, l.Received)
	for i := range l.InFlight {
		f := &l.InFlight[i]
		d.line("session %d: in flight %d at %d: %s", id, i, f.Position, delivery(&f.Delivery, &f.Message))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = append(d.ids, id)
}

func (d *dump) Queue(id store.SessionID, q store.Extent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.extents == nil {
		d.extents = map[store.SessionID]store.Extent{}
	}
	d.extents[id] = q
}

func (d *dump) Retained(m *store.Message)      { d.line("retained %s", text(m)) }
func (d *dump) Damaged(what string, err error) { d.line("damaged %s: %v", what, err) }

func text(m *store.Message) string {
	return fmt.Sprintf("%s=%s %x qos %d retained %v expires %d from %s", m.Topic, m.Payload, []byte(m.Properties), m.QoS, m.Retained, m.Expires, m.Publisher)
}

func delivery(e *store.Delivery, m *store.Message) string {
	return fmt.Sprintf("message %d qos %d retain %v shared %v size %d state %d packet %d ids %v: %s", e.Message, e.QoS, e.Retain, e.Shared, e.Size, e.State, e.PacketID, e.IDs, text(m))
}

func expect(t *testing.T, s store.Store, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := Dump(t, s); got != strings.Join(want, "\n") {
		t.Errorf("the store holds\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func message(payload string) *store.Message {
	return &store.Message{Topic: []byte("t"), Payload: []byte(payload), QoS: 2, Publisher: "p"}
}
