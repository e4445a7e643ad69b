package store_test

import (
	"errors"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/storetest"
)

func TestMemory(t *testing.T) {
	open := map[*testing.T]*store.Memory{}
	storetest.Run(t, func(t *testing.T) store.Store {
		s := open[t]
		if s == nil {
			s = store.NewMemory()
			open[t] = s
		}
		s.Reopen()
		return s
	})
}

// TestFailing: what failed is not in the store, and answers keep their order.
func TestFailing(t *testing.T) {
	f := &store.Failing{Store: store.NewMemory()}
	type answer struct {
		b   *store.Batch
		err error
	}
	answers := make(chan answer, 3)
	var batches []*store.Batch
	for i := range 3 {
		f.Break(i == 1)
		b := &store.Batch{}
		b.PutSession(store.SessionID(i+1), &store.Session{ClientID: "c", Expiry: 1})
		batches = append(batches, b)
		if err := f.Commit(b, func(b *store.Batch, err error) { answers <- answer{b, err} }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if a := <-answers; a.b != batches[i] || errors.Is(a.err, store.ErrUnavailable) != (i == 1) {
			t.Errorf("answer %d: %v", i, a.err)
		}
	}
	f.Refuse(true)
	if err := f.Commit(batches[0], nil); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Commit while it refuses: %v", err)
	}
}

// FuzzRecords: what decodes is bounded by its input, and nothing panics.
func FuzzRecords(f *testing.F) {
	b := &store.Batch{}
	m := &store.Message{Topic: []byte("t"), Payload: []byte("p"), QoS: 2}
	b.PutSession(1, &store.Session{ClientID: "c", Will: &store.Will{Message: *m}})
	b.PutSubscription(1, &store.Subscription{Filter: "f"})
	b.PutMessage(2, m)
	b.Deliver(1, 2, &store.Delivery{Message: 2, QoS: 1, IDs: []uint32{1}})
	b.Each(func(o *store.Op) error { f.Add(o.Value); return nil })
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := store.DecodeMessage(b); err == nil && len(m.Payload) > len(b) {
			t.Error("longer than its record")
		}
		if _, err := store.DecodeSession(b); err != nil && !errors.Is(err, store.ErrRecord) {
			t.Error(err)
		}
		if _, err := store.DecodeSubscription(b); err != nil && !errors.Is(err, store.ErrRecord) {
			t.Error(err)
		}
		if d, err := store.DecodeDelivery(b); err == nil && len(d.IDs) > len(b) {
			t.Error("more identifiers than bytes")
		}
	})
}
