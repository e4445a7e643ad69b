package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Memory is a Store that does not outlive its variable: for tests, and the
// model that others are compared with. Close keeps what is in it; Reopen begins
// again as a new process would.
type Memory struct {
	mu       sync.Mutex
	sessions map[SessionID]*kept
	messages map[MessageID]*counted
	retained map[string][]byte
	fresh    []MessageID // put by the batch that is applied
	last     uint64
	pending  []pendingCommit
	busy     bool // a goroutine calls done
	closed   bool
	idle     sync.Cond // on mu: busy went false
}

type kept struct {
	record   []byte
	subs     map[string][]byte
	received map[uint16]bool
	sends    map[Position]Delivery
}

type counted struct {
	record []byte
	refs   int
}

type pendingCommit struct {
	b    *Batch
	done func(*Batch, error)
}

// NewMemory returns an empty one.
func NewMemory() *Memory {
	s := &Memory{sessions: map[SessionID]*kept{}, messages: map[MessageID]*counted{}, retained: map[string][]byte{}}
	s.idle.L = &s.mu
	return s
}

// Reopen opens it again after Close.
func (s *Memory) Reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = false
}

// Full implements Store: it never is.
func (s *Memory) Full() bool { return false }

// First is one above the highest identifier seen.
func (s *Memory) First() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last + 1
}

// Commit applies b at once and calls done from another goroutine.
func (s *Memory) Commit(b *Batch, done func(*Batch, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := b.Each(s.apply); err != nil {
		return err
	}
	for _, id := range s.fresh {
		s.count(id, 0) // nobody's: gone
	}
	s.fresh = s.fresh[:0]
	s.pending = append(s.pending, pendingCommit{b, done})
	if !s.busy {
		s.busy = true
		go s.finish()
	}
	return nil
}

func (s *Memory) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) > 0 {
		batches := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, p := range batches {
			p.done(p.b, nil)
		}
		s.mu.Lock()
	}
	s.busy = false
	s.idle.Broadcast()
}

func (s *Memory) apply(o *Op) error {
	s.last = max(s.last, uint64(o.Session), uint64(o.Message), uint64(o.At))
	switch o.Kind {
	case DeliverOwn:
		m := *o
		m.Kind, m.Value = PutMessage, o.Name
		d := *o
		d.Kind = Deliver
		return errors.Join(s.apply(&m), s.apply(&d))
	case PutMessage:
		if s.messages[o.Message] == nil {
			s.messages[o.Message] = &counted{record: slices.Clone(o.Value)}
			s.fresh = append(s.fresh, o.Message)
		}
		return nil
	case PutRetained:
		s.retained[string(o.Name)] = slices.Clone(o.Value)
		return nil
	case DeleteRetained:
		delete(s.retained, string(o.Name))
		return nil
	}
	k := s.sessions[o.Session]
	if k == nil {
		if o.Kind != PutSession {
			return nil // deleted by an earlier batch
		}
		k = &kept{subs: map[string][]byte{}, received: map[uint16]bool{}, sends: map[Position]Delivery{}}
		s.sessions[o.Session] = k
	}
	return s.applyTo(k, o)
}

func (s *Memory) applyTo(k *kept, o *Op) error {
	switch o.Kind {
	case PutSession:
		k.record = slices.Clone(o.Value)
	case DeleteSession:
		for _, d := range k.sends {
			s.count(d.Message, -1)
		}
		delete(s.sessions, o.Session)
	case PutSubscription:
		k.subs[string(o.Name)] = slices.Clone(o.Value)
	case DeleteSubscription:
		delete(k.subs, string(o.Name))
	case Receive:
		k.received[o.Packet] = true
	case Forget:
		delete(k.received, o.Packet)
	case Deliver, Advance:
		d, err := DecodeDelivery(o.Value)
		if err != nil {
			return err
		}
		if _, had := k.sends[o.At]; had != (o.Kind == Advance) {
			return nil
		}
		if o.Kind == Deliver {
			s.count(o.Message, 1)
		} else {
			s.count(o.Message, -1)
		}
		k.sends[o.At] = d
	case Finish:
		if _, had := k.sends[o.At]; !had {
			return nil
		}
		delete(k.sends, o.At)
		s.count(o.Message, -1)
	default:
		return fmt.Errorf("store: unknown change %d", o.Kind)
	}
	return nil
}

func (s *Memory) count(id MessageID, by int) {
	m := s.messages[id]
	if m == nil {
		return
	}
	if m.refs += by; m.refs == 0 && by <= 0 {
		delete(s.messages, id)
	}
}

// Load hands everything over in no order.
func (s *Memory) Load(ctx context.Context, l Loader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, k := range s.sessions {
		if err := ctx.Err(); err != nil {
			return err
		}
		loaded, err := s.load(k)
		if err != nil {
			l.Damaged(fmt.Sprintf("session %d", id), err)
			continue
		}
		l.Session(id, loaded)
	}
	for id, k := range s.sessions {
		var q Extent
		for at, d := range k.sends {
			if d.State == Queued {
				q.Add(at, d.Size)
			}
		}
		if q.Messages > 0 {
			l.Queue(id, q)
		}
	}
	for name, b := range s.retained {
		m, err := DecodeMessage(b)
		if err != nil {
			l.Damaged("retained message "+name, err)
			continue
		}
		l.Retained(&m)
	}
	return nil
}

func (s *Memory) load(k *kept) (*Loaded, error) {
	own, err := DecodeSession(k.record)
	if err != nil {
		return nil, err
	}
	l := &Loaded{Session: own}
	for _, b := range k.subs {
		sub, err := DecodeSubscription(b)
		if err != nil {
			return nil, err
		}
		l.Subscriptions = append(l.Subscriptions, sub)
	}
	for id := range k.received {
		l.Received = append(l.Received, id)
	}
	for _, at := range k.positions() {
		if d := k.sends[at]; d.State != Queued {
			f := InFlight{Position: at, Delivery: d}
			if m := s.messages[d.Message]; m != nil {
				if f.Message, err = DecodeMessage(m.record); err != nil {
					return nil, err
				}
			}
			l.InFlight = append(l.InFlight, f)
		}
	}
	return l, nil
}

func (k *kept) positions() []Position {
	var all []Position
	for at := range k.sends {
		all = append(all, at)
	}
	slices.Sort(all)
	return all
}

// ReadQueue reads under the lock: f must not call the store.
func (s *Memory) ReadQueue(id SessionID, after Position, f func(Position, *Delivery, *Message) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.sessions[id]
	if k == nil {
		return nil
	}
	for _, at := range k.positions() {
		d := k.sends[at]
		if at <= after || d.State != Queued {
			continue
		}
		kept := s.messages[d.Message]
		if kept == nil {
			return fmt.Errorf("%w: message %d is missing", ErrRecord, d.Message)
		}
		m, err := DecodeMessage(kept.record)
		if err != nil {
			return err
		}
		if !f(at, &d, &m) {
			return nil
		}
	}
	return nil
}

// Close waits until every done has been called.
func (s *Memory) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.busy {
		s.idle.Wait()
	}
	return nil
}
