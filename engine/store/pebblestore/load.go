package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wheelmq/wheelmq/engine/store"
)

// each calls f with all that begins with prefix, borrowed. The caller is the
// committer or holds using.
func (s *Store) each(prefix []byte, f func(key, value []byte) error) error {
	return s.between(prefix, after(prefix), f)
}

func (s *Store) between(lower, upper []byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var value []byte
		if value, err = it.ValueAndErr(); err == nil {
			err = f(it.Key(), value)
		}
	}
	return errors.Join(err, it.Close())
}

// Load implements store.Store: the parts of a byte's hash, as many at once as
// there are processors, and the queues afterwards, since what is in flight is
// not counted.
func (s *Store) Load(ctx context.Context, l store.Loader) error {
	for _, what := range s.rescued {
		l.Damaged("the database", errors.New(what))
	}
	s.rescued = nil
	v := &salvage{store: s, loader: l, found: make(chan struct{}, foundAtMost)}
	if err := s.load(ctx, v, l); err != nil {
		return err
	}
	if len(v.found) == 0 {
		return nil
	}
	return v.putAside()
}

func (s *Store) load(ctx context.Context, v *salvage, l store.Loader) error {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.db == nil {
		return store.ErrUnavailable
	}
	parts := make(chan int, 256)
	for i := range 256 {
		parts <- i
	}
	close(parts)
	var wait sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var sent inFlight
	for w := range workers {
		wait.Go(func() {
			for i := range parts {
				if err := errors.Join(ctx.Err(), s.loadSessions(v, byte(i), l, &sent), s.loadRetained(v, byte(i), l)); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(append(errs, s.loadQueues(ctx, v, l, &sent))...)
}

// inFlight is the keys, as of queued deliveries, of what was sent.
type inFlight struct {
	mu   sync.Mutex
	keys map[[queueKey]byte]struct{}
}

func (f *inFlight) add(id store.SessionID, at []byte) {
	key := [queueKey]byte(append(appendQueue(nil, id), at...))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys == nil {
		f.keys = map[[queueKey]byte]struct{}{}
	}
	f.keys[key] = struct{}{}
}

// loadQueues measures the queues, which are read when they are wanted.
func (s *Store) loadQueues(ctx context.Context, v *salvage, l store.Loader, sent *inFlight) error {
	var (
		id store.SessionID
		q  store.Extent
	)
	give := func() {
		if q.Messages > 0 {
			l.Queue(id, q)
		}
		q = store.Extent{}
	}
	n := 0
	err := v.each([]byte{'q'}, func(key, value []byte) error {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		record, _, err := splitOwn(value)
		var d store.Delivery
		if err == nil {
			d, err = store.DecodeDelivery(record)
		}
		if err != nil || len(key) != queueKey {
			l.Damaged(fmt.Sprintf("queued delivery %x", key), errors.Join(err, store.ErrRecord))
			return nil
		}
		if _, is := sent.keys[[queueKey]byte(key)]; is {
			return nil
		}
		if k := store.SessionID(binary.BigEndian.Uint64(key[1:])); k != id {
			give()
			id = k
		}
		q.Add(store.Position(binary.BigEndian.Uint64(key[9:])), d.Size)
		return nil
	})
	give()
	return err
}

func (s *Store) loadRetained(v *salvage, part byte, l store.Loader) error {
	return v.each([]byte{'r', part}, func(key, value []byte) error {
		m, err := store.DecodeMessage(value)
		if err != nil {
			l.Damaged(fmt.Sprintf("retained message %q", key[2:]), err)
			return nil
		}
		l.Retained(&m)
		return nil
	})
}

// loadSessions collects what follows under one session's keys.
func (s *Store) loadSessions(v *salvage, part byte, l store.Loader, sent *inFlight) error {
	var (
		id   store.SessionID
		now  *store.Loaded
		will []byte // backs the will of now
	)
	give := func() {
		if now != nil {
			l.Session(id, now)
			now = nil
		}
	}
	err := v.each([]byte{'s', part}, func(key, value []byte) error {
		if len(key) <= sessionPrefix {
			l.Damaged(fmt.Sprintf("key %x", key), store.ErrRecord)
			return nil
		}
		k := store.SessionID(binary.BigEndian.Uint64(key[2:]))
		if key[sessionPrefix] == partOwn {
			give()
			will = append(will[:0], value...)
			own, err := store.DecodeSession(will)
			if err != nil {
				l.Damaged(fmt.Sprintf("session %d", k), err)
				return nil
			}
			id, now = k, &store.Loaded{Session: own}
			return nil
		}
		if now == nil || k != id {
			return nil // of a session that is damaged, or was deleted before this arrived
		}
		if key[sessionPrefix] == partInFlight && len(key) == sessionPrefix+1+8 {
			sent.add(id, key[sessionPrefix+1:])
		}
		if err := s.loadPart(id, now, key[sessionPrefix], key[sessionPrefix+1:], value); err != nil {
			l.Damaged(fmt.Sprintf("session %d of %q, part %d", id, now.ClientID, key[sessionPrefix]), err)
		}
		return nil
	})
	give()
	return err
}

func (s *Store) loadPart(id store.SessionID, to *store.Loaded, part byte, key, value []byte) error {
	switch {
	case part == partSubscription:
		sub, err := store.DecodeSubscription(value)
		if err != nil {
			return err
		}
		to.Subscriptions = append(to.Subscriptions, sub)
	case part == partReceived && len(key) == 2:
		to.Received = append(to.Received, binary.BigEndian.Uint16(key))
	case part == partInFlight && len(key) == 8:
		d, err := store.DecodeDelivery(value)
		if err != nil {
			return err
		}
		f := store.InFlight{Position: store.Position(binary.BigEndian.Uint64(key)), Delivery: d}
		if d.Message != 0 {
			m, err := s.messageOf(id, f.Position, d.Message)
			if err != nil {
				return err
			}
			f.Message = m
		}
		to.InFlight = append(to.InFlight, f)
	default:
		return store.ErrRecord
	}
	return nil
}

// messageOf reads the message of a delivery in flight, copied.
func (s *Store) messageOf(id store.SessionID, at store.Position, m store.MessageID) (store.Message, error) {
	value, closer, err := s.db.Get(appendQueued(nil, id, at))
	switch {
	case errors.Is(err, pebble.ErrNotFound): // format 1 had one record for both
		return s.message(m)
	case err != nil:
		return store.Message{}, err
	}
	defer closer.Close()
	_, own, err := splitOwn(value)
	switch {
	case err != nil:
		return store.Message{}, err
	case own == nil:
		return s.message(m)
	}
	return store.DecodeMessage(bytes.Clone(own))
}

// message reads one, copied.
func (s *Store) message(id store.MessageID) (store.Message, error) {
	value, closer, err := s.db.Get(appendMessage(nil, id))
	if err != nil {
		return store.Message{}, fmt.Errorf("%w: message %d: %w", store.ErrRecord, id, err)
	}
	defer closer.Close()
	return store.DecodeMessage(bytes.Clone(value))
}

// ReadQueue implements store.Store. A delivery that is damaged, or whose
// message is, is passed over and logged.
func (s *Store) ReadQueue(id store.SessionID, behind store.Position, f func(store.Position, *store.Delivery, *store.Message) bool) error {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.db == nil {
		return store.ErrUnavailable
	}
	sent := map[store.Position]struct{}{}
	err := s.each(append(appendSession(nil, id), partInFlight), func(key, _ []byte) error {
		if at := key[sessionPrefix+1:]; len(at) == 8 {
			sent[store.Position(binary.BigEndian.Uint64(at))] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.between(appendQueued(nil, id, behind+1), after(appendQueue(nil, id)), func(key, value []byte) error {
		at := store.Position(binary.BigEndian.Uint64(key[9:]))
		if _, is := sent[at]; is {
			return nil
		}
		record, own, err := splitOwn(value)
		var d store.Delivery
		var m store.Message
		if err == nil {
			d, err = store.DecodeDelivery(record)
		}
		switch {
		case err != nil:
		case own != nil:
			m, err = store.DecodeMessage(own)
		default:
			m, err = s.message(d.Message)
		}
		if err != nil {
			s.opts.Logger.Error("store: a queued message is damaged", "dir", s.dir, "session", uint64(id), "error", err)
			return nil
		}
		if !f(at, &d, &m) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

var errStop = errors.New("stop")
