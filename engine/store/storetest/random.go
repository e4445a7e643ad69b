package storetest

import (
	"fmt"
	"math/rand/v2"

	"github.com/wheelmq/wheelmq/engine/store"
)

// Random makes batches as an engine could, from a seed.
type Random struct {
	rng      *rand.Rand
	next     uint64
	sessions []store.SessionID
	sends    []send
}

type send struct {
	session store.SessionID
	at      store.Position
	store.Delivery
}

// NewRandom draws identifiers from first upwards.
func NewRandom(rng *rand.Rand, first uint64) *Random { return &Random{rng: rng, next: first} }

func (r *Random) draw() uint64 {
	r.next++
	return r.next - 1
}

// Batch returns a batch of up to n steps.
func (r *Random) Batch(n int) *store.Batch {
	b := &store.Batch{}
	for range 1 + r.rng.IntN(n) {
		r.step(b)
	}
	return b
}

func (r *Random) step(b *store.Batch) {
	if len(r.sessions) < 3 {
		id := store.SessionID(r.draw())
		r.sessions = append(r.sessions, id)
		b.PutSession(id, &store.Session{ClientID: fmt.Sprint("c", id), Expiry: uint32(id)})
		return
	}
	i := r.rng.IntN(len(r.sessions))
	id := r.sessions[i]
	name := fmt.Sprint("t/", r.rng.IntN(4))
	switch r.rng.IntN(14) {
	case 0:
		r.sessions = append(r.sessions, store.SessionID(r.draw()))
		id = r.sessions[len(r.sessions)-1]
		b.PutSession(id, &store.Session{ClientID: fmt.Sprint("c", id), Expiry: uint32(id)})
	case 1:
		r.end(b, i)
	case 2:
		b.PutSubscription(id, &store.Subscription{Filter: name, Options: byte(r.rng.IntN(3))})
	case 3:
		b.DeleteSubscription(id, name)
	case 4:
		b.Receive(id, uint16(1+r.rng.IntN(3)))
	case 5:
		b.Forget(id, uint16(1+r.rng.IntN(3)))
	case 6:
		b.PutRetained(&store.Message{Topic: []byte(name), Payload: fmt.Append(nil, r.draw())})
	case 7:
		b.DeleteRetained([]byte(name))
	case 8, 9:
		r.publish(b)
	default:
		r.move(b)
	}
}

func (r *Random) end(b *store.Batch, i int) {
	id := r.sessions[i]
	b.DeleteSession(id)
	r.sessions = append(r.sessions[:i:i], r.sessions[i+1:]...)
	kept := r.sends[:0:0]
	for _, s := range r.sends {
		if s.session != id {
			kept = append(kept, s)
		}
	}
	r.sends = kept
}

func (r *Random) publish(b *store.Batch) {
	m := store.MessageID(r.draw())
	begin := func(d *store.Delivery, id store.SessionID) {
		deliver(b, id, m, d, message(fmt.Sprint("payload", m)))
		r.sends = append(r.sends, send{id, store.Position(m), *d})
	}
	if r.rng.IntN(2) == 0 {
		begin(&store.Delivery{Message: m, QoS: 2, Own: true}, r.sessions[r.rng.IntN(len(r.sessions))])
		return
	}
	for _, id := range r.sessions {
		if r.rng.IntN(3) > 0 {
			begin(&store.Delivery{Message: m, QoS: 2}, id)
		}
	}
}

func (r *Random) move(b *store.Batch) {
	if len(r.sends) == 0 {
		return
	}
	i := r.rng.IntN(len(r.sends))
	s := &r.sends[i]
	switch {
	case s.State == store.AwaitPubcomp || r.rng.IntN(4) == 0:
		b.Finish(s.session, s.at, s.Message, s.Own)
		r.sends = append(r.sends[:i:i], r.sends[i+1:]...)
	case s.State == store.Queued:
		s.State, s.PacketID = store.AwaitPubrec, uint16(1+r.rng.IntN(65535))
		b.Advance(s.session, s.at, &s.Delivery, 0)
	default:
		m := s.Message
		s.Message, s.State = 0, store.AwaitPubcomp
		b.Advance(s.session, s.at, &s.Delivery, m)
	}
}
