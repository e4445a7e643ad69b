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

// states: a delivery from queue to PUBCOMP, of a message of its own and of one
// that others could have; the packet identifier stays.
func states(t *testing.T, open func(t *testing.T) store.Store, own bool) {
	s := open(t)
	id, m := store.SessionID(s.First()), store.MessageID(s.First()+1)
	at := store.Position(m)
	begin := []string{fmt.Sprintf("session %d: c user  expiry 1 ends 0 will none", id), fmt.Sprintf("session %d: received []", id)}
	flight := func(what string) []string {
		return append(begin[:2:2], fmt.Sprintf("session %d: in flight 0 at %d: %s", id, at, what))
	}
	const text = "t=x  qos 2 retained false expires 0 from p"
	commit(t, s, func(b *store.Batch) {
		b.PutSession(id, &store.Session{ClientID: "c", Expiry: 1})
		deliver(b, id, m, &store.Delivery{Message: m, QoS: 2, Own: own}, message("x"))
	})
	commit(t, s, func(b *store.Batch) {
		b.Advance(id, at, &store.Delivery{Message: m, QoS: 2, State: store.AwaitPubrec, PacketID: 9, Own: own}, 0)
	})
	s = reopen(t, s, open)
	expect(t, s, flight(fmt.Sprintf("message %d qos 2 retain false shared false size 0 state 2 packet 9 ids []: %s", m, text))...)
	commit(t, s, func(b *store.Batch) {
		b.Advance(id, at, &store.Delivery{QoS: 2, State: store.AwaitPubcomp, PacketID: 9, Own: own}, m)
	})
	s = reopen(t, s, open)
	expect(t, s, flight("message 0 qos 2 retain false shared false size 0 state 3 packet 9 ids []: =  qos 0 retained false expires 0 from ")...)
	commit(t, s, func(b *store.Batch) { b.Finish(id, at, 0, own) })
	s = reopen(t, s, open)
	defer s.Close()
	expect(t, s, begin...)
}

// deliver begins a delivery as d.Own says.
func deliver(b *store.Batch, id store.SessionID, m store.MessageID, d *store.Delivery, text *store.Message) {
	if d.Own {
		b.DeliverOwn(id, store.Position(m), d, text)
		return
	}
	b.PutMessage(m, text)
	b.Deliver(id, store.Position(m), d)
}

// inFlight: what was sent is not read with the queue, wherever it stands in it.
func inFlight(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	first := s.First() + 1
	id := store.SessionID(s.First())
	own := func(i uint64) bool { return i%2 == 0 }
	commit(t, s, func(b *store.Batch) {
		b.PutSession(id, &store.Session{ClientID: "c", Expiry: 1})
		for i := range uint64(10) {
			deliver(b, id, store.MessageID(first+i), &store.Delivery{Message: store.MessageID(first + i), QoS: 1, Own: own(i)}, message(fmt.Sprint(i)))
		}
		for _, i := range []uint64{2, 3, 7, 8} {
			b.Advance(id, store.Position(first+i), &store.Delivery{Message: store.MessageID(first + i), QoS: 1, State: store.AwaitPuback, PacketID: 1, Own: own(i)}, 0)
		}
		b.Finish(id, store.Position(first+3), store.MessageID(first+3), own(3))
		b.Finish(id, store.Position(first+4), store.MessageID(first+4), own(4))
		b.Finish(id, store.Position(first+8), store.MessageID(first+8), own(8))
	})
	s = reopen(t, s, open)
	defer s.Close()
	read := ""
	if err := s.ReadQueue(id, 0, func(_ store.Position, _ *store.Delivery, m *store.Message) bool {
		read += string(m.Payload)
		return true
	}); err != nil || read != "01569" {
		t.Errorf("read %q, %v", read, err)
	}
	Dump(t, s) // what Load tells agrees with it
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
			b.Finish(store.SessionID(first+i), store.Position(m), m, false)
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
	finish := func(b *store.Batch) { b.Finish(one, store.Position(m), m, false) }
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
