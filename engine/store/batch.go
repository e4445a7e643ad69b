package store

import (
	"encoding/binary"
	"fmt"
)

// A Kind says what an [Op] does.
type Kind uint8

// The kinds, named as the methods of [Batch] that make them.
const (
	PutSession Kind = iota + 1
	DeleteSession
	PutSubscription
	DeleteSubscription
	Receive
	Forget
	PutMessage
	Deliver
	DeliverOwn
	Advance
	Finish
	PutRetained
	DeleteRetained
)

// An Op is one change, as a store reads it. Its slices are borrowed from the
// batch.
type Op struct {
	Kind    Kind
	Session SessionID // all but messages and retained ones
	Message MessageID // PutMessage, Deliver, DeliverOwn; Advance, Finish: the one released, 0 none
	At      Position  // Deliver, DeliverOwn, Advance, Finish
	Own     bool      // Advance, Finish: by DeliverOwn
	Packet  uint16    // Receive, Forget
	Name    []byte    // filter or topic name; DeliverOwn: the message, encoded
	Value   []byte    // encoded record
}

// A Batch is a list of changes that survive together. The zero value is empty.
// It belongs to one goroutine at a time: the one that fills it, and the store
// from Commit until done. What is put in is copied.
type Batch struct {
	// Level is what done shall mean.
	Level Durability
	// Stream is whose batches survive in their order or not at all; nil: each
	// on its own. Anew says that it is the first again after some that failed.
	Stream *Stream
	Anew   bool

	buf     []byte
	scratch []byte
	n       int
	looks   bool
}

// A Stream is a sequence of batches, the later ones of which depend on the
// earlier. When one fails, those behind it that are at the store already fail too, until
// one begins anew. The store's, from the first Commit on.
type Stream struct{ broken bool }

// Begin is called by the store when it is b's turn; an error is what b fails with.
func (b *Batch) Begin() error {
	switch s := b.Stream; {
	case s == nil:
	case b.Anew:
		s.broken = false
	case s.broken:
		return fmt.Errorf("%w: what comes before it failed", ErrUnavailable)
	}
	return nil
}

// Fail is called by the store when b fails.
func (b *Batch) Fail() {
	if b.Stream != nil {
		b.Stream.broken = true
	}
}

// Len is the number of changes; Size their bytes.
func (b *Batch) Len() int { return b.n }

// Size is the number of bytes the changes take.
func (b *Batch) Size() int { return len(b.buf) }

// Looks reports whether the batch has changes other than those of deliveries
// with a message of their own that depend on what is there.
func (b *Batch) Looks() bool { return b.looks }

// Reset empties the batch and keeps its memory, up to 1 MiB.
func (b *Batch) Reset() {
	if cap(b.buf) > 1<<20 {
		b.buf = nil
	}
	b.buf, b.n, b.looks, b.Anew = b.buf[:0], 0, false, false
}

// PutSession writes a session's own record, new or changed.
func (b *Batch) PutSession(id SessionID, s *Session) {
	b.scratch = s.append(b.scratch[:0])
	b.add(Op{Kind: PutSession, Session: id, Value: b.scratch})
}

// DeleteSession ends a session with all that is kept for it.
func (b *Batch) DeleteSession(id SessionID) { b.add(Op{Kind: DeleteSession, Session: id}) }

// PutSubscription writes a subscription, new or changed.
func (b *Batch) PutSubscription(id SessionID, s *Subscription) {
	b.scratch = s.append(b.scratch[:0])
	b.add(Op{Kind: PutSubscription, Session: id, Name: []byte(s.Filter), Value: b.scratch})
}

// DeleteSubscription removes a subscription.
func (b *Batch) DeleteSubscription(id SessionID, filter string) {
	b.add(Op{Kind: DeleteSubscription, Session: id, Name: []byte(filter)})
}

// Receive opens a QoS 2 packet identifier of the client's.
func (b *Batch) Receive(id SessionID, packet uint16) {
	b.add(Op{Kind: Receive, Session: id, Packet: packet})
}

// Forget closes it, at PUBREL.
func (b *Batch) Forget(id SessionID, packet uint16) {
	b.add(Op{Kind: Forget, Session: id, Packet: packet})
}

// PutMessage writes a message. It lasts while deliveries refer to it, which
// begin in the same batch. Put again, it stays as it is.
func (b *Batch) PutMessage(id MessageID, m *Message) {
	b.scratch = m.append(b.scratch[:0])
	b.add(Op{Kind: PutMessage, Message: id, Value: b.scratch})
}

// Deliver begins a delivery: queued, or in flight at once.
func (b *Batch) Deliver(id SessionID, at Position, d *Delivery) {
	b.scratch = d.append(b.scratch[:0])
	b.add(Op{Kind: Deliver, Session: id, At: at, Message: d.Message, Value: b.scratch})
}

// DeliverOwn begins the delivery of a message that no other delivery will refer
// to: as PutMessage and Deliver, and cheaper. Advance and Finish say it again,
// with d.Own and own.
func (b *Batch) DeliverOwn(id SessionID, at Position, d *Delivery, m *Message) {
	b.scratch = d.append(b.scratch[:0])
	n := len(b.scratch)
	b.scratch = m.append(b.scratch)
	b.add(Op{Kind: DeliverOwn, Session: id, At: at, Message: d.Message, Value: b.scratch[:n], Name: b.scratch[n:]})
}

// Advance brings a delivery to another state: when it is sent, and at PUBREC,
// where release names its message; otherwise release is 0.
func (b *Batch) Advance(id SessionID, at Position, d *Delivery, release MessageID) {
	b.scratch = d.append(b.scratch[:0])
	b.add(Op{Kind: Advance, Session: id, At: at, Message: release, Own: d.Own, Value: b.scratch})
}

// Finish ends a delivery: acknowledged, dropped or expired. release is its
// message, 0 after PUBREC.
func (b *Batch) Finish(id SessionID, at Position, release MessageID, own bool) {
	b.add(Op{Kind: Finish, Session: id, At: at, Message: release, Own: own})
}

// PutRetained writes the retained message of m.Topic.
func (b *Batch) PutRetained(m *Message) {
	b.scratch = m.append(b.scratch[:0])
	b.add(Op{Kind: PutRetained, Name: m.Topic, Value: b.scratch})
}

// DeleteRetained removes a retained message.
func (b *Batch) DeleteRetained(topicName []byte) {
	b.add(Op{Kind: DeleteRetained, Name: topicName})
}

// add appends the op in full: few fields are long, and one layout has no gaps.
func (b *Batch) add(o Op) {
	switch o.Kind {
	case PutMessage, Deliver, DeleteSession:
		b.looks = true
	case Advance, Finish:
		b.looks = b.looks || !o.Own
	}
	buf := append(b.buf, byte(o.Kind))
	buf = binary.AppendUvarint(buf, uint64(o.Session))
	buf = binary.AppendUvarint(buf, uint64(o.Message))
	buf = binary.AppendUvarint(buf, uint64(o.At))
	buf = append(buf, flag(o.Own, 1))
	buf = binary.AppendUvarint(buf, uint64(o.Packet))
	buf = appendString(buf, o.Name)
	b.buf = appendString(buf, o.Value)
	b.n++
}

// Each calls f for every change in order, until f answers an error.
func (b *Batch) Each(f func(*Op) error) error {
	d := decoder{rest: b.buf}
	var o Op
	for range b.n {
		o = Op{Kind: Kind(d.byte()), Session: SessionID(d.uvarint()), Message: MessageID(d.uvarint()),
			At: Position(d.uvarint()), Own: d.byte() != 0, Packet: uint16(d.uvarint()),
			Name: d.bytes(), Value: d.bytes()}
		if d.bad {
			panic("store: a batch was changed while it was the store's")
		}
		if err := f(&o); err != nil {
			return err
		}
	}
	return nil
}
