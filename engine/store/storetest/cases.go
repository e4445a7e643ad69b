package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
)

// everything: all record types with all fields, over a reopening.
func everything(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	a := s.First()
	id, m := store.SessionID(a), store.MessageID(a+1)
	full := &store.Message{Topic: []byte("a/b"), Payload: []byte("pay"), Properties: []byte{1, 1}, Publisher: "who", Expires: 77, QoS: 1, Retained: true}
	commit(t, s, func(b *store.Batch) {
		b.PutSession(id, &store.Session{ClientID: "c", UserName: "u", Expiry: 60, EndsAt: -5,
			Will: &store.Will{Message: *full, Delay: 3, Expiry: 4, HasExpiry: true, At: 5}})
		b.PutSubscription(id, &store.Subscription{Filter: "a/+", Options: 0x2E, Identifier: 268435455})
		b.PutSubscription(id, &store.Subscription{Filter: "gone"})
		b.Receive(id, 65535)
		b.Receive(id, 7)
		b.PutMessage(m, full)
		b.Deliver(id, store.Position(m), &store.Delivery{Message: m, QoS: 1, Retain: true, Shared: true, Size: 70000, IDs: []uint32{1, 300}})
		b.PutRetained(full)
		b.PutRetained(message("old"))
	})
	commit(t, s, func(b *store.Batch) {
		b.DeleteSubscription(id, "gone")
		b.Forget(id, 7)
		b.DeleteRetained([]byte("t"))
	})
	s = reopen(t, s, open)
	defer s.Close()
	if s.First() <= uint64(m) {
		t.Errorf("First is %d, and %d was used", s.First(), m)
	}
	const text = "a/b=pay 0101 qos 1 retained true expires 77 from who"
	expect(t, s, "retained "+text,
		fmt.Sprintf("session %d: c user u expiry 60 ends -5 will %s delay 3 expiry 4 true at 5", id, text),
		fmt.Sprintf("session %d: subscribed a/+ 46 268435455", id), fmt.Sprintf("session %d: received [65535]", id),
		fmt.Sprintf("session %d: queued at %d: message %d qos 1 retain true shared true size 70000 state 0 packet 0 ids [1 300]: %s", id, m, m, text))
}

// states: a delivery from queue to PUBCOMP; the packet identifier stays.
func states(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	id, m := store.SessionID(s.First()), store.MessageID(s.First()+1)
	at, sent := store.Position(m), store.Position(m+1)
	begin := []string{fmt.Sprintf("session %d: c user  expiry 1 ends 0 will none", id), fmt.Sprintf("session %d: received []", id)}
	flight := func(what string) []string {
		return append(begin[:2:2], fmt.Sprintf("session %d: in flight 0 at %d: %s", id, sent, what))
	}
	const text = "t=x  qos 2 retained false expires 0 from p"
	commit(t, s, func(b *store.Batch) {
		b.PutSession(id, &store.Session{ClientID: "c", Expiry: 1})
		b.PutMessage(m, message("x"))
		b.Deliver(id, at, &store.Delivery{Message: m, QoS: 2})
	})
	commit(t, s, func(b *store.Batch) {
		b.Advance(id, at, sent, &store.Delivery{Message: m, QoS: 2, State: store.AwaitPubrec, PacketID: 9}, 0)
	})
	s = reopen(t, s, open)
	expect(t, s, flight(fmt.Sprintf("message %d qos 2 retain false shared false size 0 state 2 packet 9 ids []: %s", m, text))...)
	commit(t, s, func(b *store.Batch) {
		b.Advance(id, sent, sent, &store.Delivery{QoS: 2, State: store.AwaitPubcomp, PacketID: 9}, m)
	})
	s = reopen(t, s, open)
	expect(t, s, flight("message 0 qos 2 retain false shared false size 0 state 3 packet 9 ids []: =  qos 0 retained false expires 0 from ")...)
	commit(t, s, func(b *store.Batch) { b.Finish(id, sent, 0) })
	s = reopen(t, s, open)
	defer s.Close()
	expect(t, s, begin...)
}

// deleted: nothing comes to a session that an earlier batch deleted, not even
// in the same group of commits, and a message others wait for stays.
func deleted(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	one, two, m := store.SessionID(s.First()), store.SessionID(s.First()+1), store.MessageID(s.First()+2)
	commit(t, s, func(b *store.Batch) {
		b.PutSession(one, &store.Session{ClientID: "one", Expiry: 1})
		b.PutSession(two, &store.Session{ClientID: "two", Expiry: 1})
		b.PutSubscription(one, &store.Subscription{Filter: "t"})
		b.Receive(one, 1)
		b.PutMessage(m, message("x"))
		b.Deliver(one, store.Position(m), &store.Delivery{Message: m, QoS: 2})
		b.Deliver(two, store.Position(m), &store.Delivery{Message: m, QoS: 2})
		b.DeleteSession(one)
		b.PutMessage(m+1, message("y"))
		b.Deliver(one, store.Position(m+1), &store.Delivery{Message: m + 1, QoS: 2})
		b.Deliver(two, store.Position(m+1), &store.Delivery{Message: m + 1, QoS: 2})
	})
	commit(t, s, func(b *store.Batch) {
		b.Deliver(one, store.Position(m+2), &store.Delivery{Message: m + 1, QoS: 2})
		b.PutSubscription(one, &store.Subscription{Filter: "t"})
	})
	s = reopen(t, s, open)
	defer s.Close()
	const text = "qos 2 retain false shared false size 0 state 0 packet 0 ids []: t=%s  qos 2 retained false expires 0 from p"
	expect(t, s, fmt.Sprintf("session %d: two user  expiry 1 ends 0 will none", two), fmt.Sprintf("session %d: received []", two),
		fmt.Sprintf("session %d: queued at %d: message %d "+text, two, m, m, "x"),
		fmt.Sprintf("session %d: queued at %d: message %d "+text, two, m+1, m+1, "y"))
}

// order: done comes in the order of Commit; a queue is read in its order, from
// where one wants.
func order(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	defer func() { s.Close() }()
	first := s.First()
	id := store.SessionID(first)
	commit(t, s, func(b *store.Batch) { b.PutSession(id, &store.Session{ClientID: "c", Expiry: 1}) })
	const n = 500
	done := make(chan *store.Batch, n)
	var batches []*store.Batch
	for i := range uint64(n) {
		b := &store.Batch{}
		b.PutMessage(store.MessageID(first+1+i), message(fmt.Sprint(i)))
		b.Deliver(id, store.Position(first+1+i), &store.Delivery{Message: store.MessageID(first + 1 + i), QoS: 1})
		batches = append(batches, b)
		if err := s.Commit(b, func(b *store.Batch, err error) {
			if err != nil {
				t.Error(err)
			}
			done <- b
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if b := <-done; b != batches[i] {
			t.Fatalf("answer %d is for another batch", i)
		}
	}
	s = reopen(t, s, open)
	if err := s.Load(context.Background(), &dump{}); err != nil {
		t.Fatal(err)
	}
	next, after := 100, store.Position(first+100)
	err := s.ReadQueue(id, after, func(at store.Position, _ *store.Delivery, m *store.Message) bool {
		if string(m.Payload) != fmt.Sprint(next) || at != store.Position(first+1+uint64(next)) {
			t.Fatalf("read %s at %d, want %d", m.Payload, at, next)
		}
		next++
		return next < 200
	})
	if err != nil || next != 200 {
		t.Errorf("stopped at %d: %v", next, err)
	}
}

// shared: many sessions, one message; it is there until the last has it.
func shared(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	defer func() { s.Close() }()
	first := s.First()
	const n = 1000
	m := store.MessageID(first + n)
	commit(t, s, func(b *store.Batch) {
		b.PutMessage(m, message("x"))
		for i := range uint64(n) {
			b.PutSession(store.SessionID(first+i), &store.Session{ClientID: fmt.Sprint(i), Expiry: 1})
			b.Deliver(store.SessionID(first+i), store.Position(m), &store.Delivery{Message: m, QoS: 1})
		}
		if b.Size() > n*100 {
			t.Errorf("%d bytes", b.Size())
		}
	})
	commit(t, s, func(b *store.Batch) {
		for i := range uint64(n - 1) {
			b.Finish(store.SessionID(first+i), store.Position(m), m)
		}
	})
	s = reopen(t, s, open)
	read := ""
	err := s.ReadQueue(store.SessionID(first+n-1), 0, func(_ store.Position, _ *store.Delivery, m *store.Message) bool {
		read += string(m.Payload)
		return true
	})
	if read != "x" || err != nil {
		t.Errorf("the last one's queue: %q, %v", read, err)
	}
}

// model: random changes, compared with the implementation in memory over
// reopenings.
func model(t *testing.T, open func(t *testing.T) store.Store) {
	const seed = 7
	s, want := open(t), store.NewMemory()
	r := NewRandom(rand.New(rand.NewPCG(seed, 1)), s.First())
	for round := range 5 {
		for range 60 {
			b := r.Batch(10)
			commit(t, s, func(c *store.Batch) { *c = *b })
			commit(t, want, func(c *store.Batch) { *c = *b })
		}
		s = reopen(t, s, open)
		if got, want := Dump(t, s), Dump(t, want); got != want {
			t.Fatalf("seed %d, round %d: the store holds\n%s\nwant\n%s", seed, round, got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// twice: what is begun or finished twice counts once, in one batch and in two.
func twice(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	defer func() { s.Close() }()
	one, two, m := store.SessionID(s.First()), store.SessionID(s.First()+1), store.MessageID(s.First()+2)
	finish := func(b *store.Batch) { b.Finish(one, store.Position(m), m) }
	commit(t, s, func(b *store.Batch) {
		b.PutSession(one, &store.Session{ClientID: "one", Expiry: 1})
		b.PutSession(two, &store.Session{ClientID: "two", Expiry: 1})
		b.PutMessage(m, message("x"))
		for _, id := range []store.SessionID{one, one, two} {
			b.Deliver(id, store.Position(m), &store.Delivery{Message: m, QoS: 1})
		}
		finish(b)
		finish(b)
	})
	commit(t, s, finish)
	read := 0
	if err := s.ReadQueue(two, 0, func(store.Position, *store.Delivery, *store.Message) bool { read++; return true }); err != nil || read != 1 {
		t.Errorf("the other session reads %d messages: %v", read, err)
	}
}
