package pebblestore

import (
	"bytes"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
)

// BenchmarkDelivery is one message to one durable session: queued, sent and
// acknowledged, each in a batch of its own with 99 others.
func BenchmarkDelivery(b *testing.B) { bothWays(b, delivery) }

// bothWays measures messages that belong to one delivery, and others.
func bothWays(b *testing.B, f func(b *testing.B, own bool)) {
	b.Run("own", func(b *testing.B) { f(b, true) })
	b.Run("counted", func(b *testing.B) { f(b, false) })
}

func deliver(b *store.Batch, id store.SessionID, at uint64, m *store.Message, own bool) {
	d := store.Delivery{Message: store.MessageID(at), QoS: 1, Size: 80, Own: own}
	if own {
		b.DeliverOwn(id, store.Position(at), &d, m)
		return
	}
	b.PutMessage(d.Message, m)
	b.Deliver(id, store.Position(at), &d)
}

func delivery(b *testing.B, own bool) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	id, next := store.SessionID(s.First()), s.First()+1
	m := &store.Message{Topic: []byte("site/device/state"), Payload: bytes.Repeat([]byte("x"), 64), QoS: 1, Publisher: "publisher"}
	put := func(fill func(*store.Batch)) {
		batch := &store.Batch{}
		fill(batch)
		done := make(chan error, 1)
		if err := s.Commit(batch, func(_ *store.Batch, err error) { done <- err }); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	put(func(b *store.Batch) { b.PutSession(id, &store.Session{ClientID: "c", Expiry: 60}) })
	b.ReportAllocs()
	for n := 0; n < b.N; n += 100 {
		first := next
		next += 100
		put(func(b *store.Batch) {
			for at := first; at < next; at++ {
				deliver(b, id, at, m, own)
			}
		})
		put(func(b *store.Batch) {
			for at := first; at < next; at++ {
				b.Advance(id, store.Position(at), &store.Delivery{Message: store.MessageID(at), QoS: 1, Own: own,
					State: store.AwaitPuback, PacketID: uint16(at%60000 + 1)}, 0)
			}
		})
		put(func(b *store.Batch) {
			for at := first; at < next; at++ {
				b.Finish(id, store.Position(at), store.MessageID(at), own)
			}
		})
	}
}

// BenchmarkReadQueue reads the queues of 1,000 sessions, 100 messages each,
// which came in turns; per message.
func BenchmarkReadQueue(b *testing.B) { bothWays(b, readQueue) }

func readQueue(b *testing.B, own bool) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const sessions, each = 1000, 100
	next := s.First() + sessions
	m := &store.Message{Topic: []byte("site/device/state"), Payload: bytes.Repeat([]byte("x"), 64), QoS: 1, Publisher: "publisher"}
	done := make(chan error, 1)
	for range each {
		batch := &store.Batch{}
		for i := range sessions {
			id := store.SessionID(s.First() + uint64(i))
			batch.PutSession(id, &store.Session{ClientID: "c", Expiry: 60})
			deliver(batch, id, next, m, own)
			next++
		}
		if err := s.Commit(batch, func(_ *store.Batch, err error) { done <- err }); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += each {
		got := 0
		id := store.SessionID(s.First() + uint64(n/each%sessions))
		if err := s.ReadQueue(id, 0, func(store.Position, *store.Delivery, *store.Message) bool { got++; return true }); err != nil || got != each {
			b.Fatalf("%d read, %v", got, err)
		}
	}
}

// BenchmarkDeleteSession ends sessions with a subscription and 10 messages each,
// one after the other: with more of them no slower.
func BenchmarkDeleteSession(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	done := make(chan error, 1)
	commit := func(batch *store.Batch) {
		if err := s.Commit(batch, func(_ *store.Batch, err error) { done <- err }); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		batch.Reset()
	}
	const turn = 100
	batch, m, next := &store.Batch{}, &store.Message{Topic: []byte("site/device/state"), Payload: make([]byte, 64), QoS: 1}, s.First()+1<<32
	for i := range b.N {
		id := store.SessionID(s.First() + uint64(i))
		batch.PutSession(id, &store.Session{ClientID: "c", Expiry: 60})
		batch.PutSubscription(id, &store.Subscription{Filter: "site/+/state"})
		for range 10 {
			deliver(batch, id, next, m, true)
			next++
		}
		if i%turn == turn-1 || i == b.N-1 {
			commit(batch)
		}
	}
	b.ResetTimer()
	for i := range b.N {
		batch.DeleteSession(store.SessionID(s.First() + uint64(i)))
		if i%turn == turn-1 || i == b.N-1 {
			commit(batch)
		}
	}
}
