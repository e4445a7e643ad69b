package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/store"
)

// Errors that callers tell apart.
var (
	// ErrNotEmpty: there is something in the store.
	ErrNotEmpty = errors.New("transfer: the store is not empty")
	// ErrFile is wrapped by what is wrong with a file.
	ErrFile = errors.New("transfer: not a file that can be imported")
)

// A target takes changes in, some at a time.
type target struct {
	s    store.Store
	b    store.Batch
	done chan error
}

const targetBytes = 1 << 20 // of a batch, about

// newTarget looks whether s is empty.
func newTarget(ctx context.Context, s store.Store) (*target, error) {
	counts, err := walk(ctx, s, visitor{})
	if err == nil && counts != (Counts{}) {
		err = fmt.Errorf("%w: %d sessions and %d retained messages", ErrNotEmpty, counts.Sessions, counts.Retained)
	}
	return &target{s: s, done: make(chan error, 1)}, err
}

// step commits what has come, when it is enough.
func (t *target) step() error {
	if t.b.Size() < targetBytes {
		return nil
	}
	return t.finish()
}

func (t *target) finish() error {
	if t.b.Len() == 0 {
		return nil
	}
	if err := t.s.Commit(&t.b, func(_ *store.Batch, err error) { t.done <- err }); err != nil {
		return err
	}
	if err := <-t.done; err != nil {
		return err
	}
	t.b.Reset()
	return nil
}

// ranks gives identifiers in the order of old ones.
type ranks[T ~uint64] struct {
	old   []T
	first uint64
}

func (r *ranks[T]) add(id T) { r.old = append(r.old, id) }

// settle takes new identifiers from first upwards, and answers the next.
func (r *ranks[T]) settle(first uint64) uint64 {
	slices.Sort(r.old)
	r.old = slices.Compact(r.old)
	r.first = first
	return first + uint64(len(r.old))
}

// of is the new identifier of one that was added.
func (r *ranks[T]) of(id T) T {
	i, _ := slices.BinarySearch(r.old, id)
	return T(r.first) + T(i)
}

// An importer reads an export twice: to look at it, then to take it in.
type importer struct {
	places   ranks[store.Position] // of deliveries, and so of messages
	sessions ranks[store.SessionID]
	known    map[store.SessionID]struct{} // read in the first round
	counts   Counts
	waiting  map[store.MessageID]store.Message // read, not yet named by a delivery
	sizes    map[store.MessageID]uint32        // of messages
	to       *target
}

// Import reads what Export wrote into s, which must be empty.
func Import(ctx context.Context, s store.Store, r io.ReadSeeker) (Counts, error) {
	im := &importer{waiting: map[store.MessageID]store.Message{}, known: map[store.SessionID]struct{}{}, sizes: map[store.MessageID]uint32{}}
	if err := im.read(r, im.look); err != nil {
		return Counts{}, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return Counts{}, err
	}
	var err error
	if im.to, err = newTarget(ctx, s); err != nil {
		return Counts{}, err
	}
	im.sessions.settle(im.places.settle(s.First()))
	if err := im.read(r, im.take); err != nil {
		return Counts{}, err
	}
	return im.counts, im.to.finish()
}

// read calls f for each line between header and end.
func (im *importer) read(r io.Reader, f func(*line) error) error {
	d := json.NewDecoder(bufio.NewReaderSize(r, 1<<16))
	d.DisallowUnknownFields()
	for n := 1; ; n++ {
		var l line
		err := d.Decode(&l)
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: line %d: it ends before its end line: it is not complete", ErrFile, n)
		case err != nil:
			return fmt.Errorf("%w: line %d: %w", ErrFile, n, err)
		case n == 1 && l.Header == nil:
			return fmt.Errorf("%w: line 1: want {\"wheelmq_export\": {\"version\": %d}}", ErrFile, exportVersion)
		case n == 1 && l.Header.Version != exportVersion:
			return fmt.Errorf("%w: version %d, this one reads %d", ErrFile, l.Header.Version, exportVersion)
		case n == 1:
			continue
		case l.End != nil:
			return nil
		}
		if err := f(&l); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFile, fmt.Sprintf(format, args...))
}

// look checks a line, and notes its identifiers down.
func (im *importer) look(l *line) error {
	switch {
	case l.Message != nil:
		if _, there := im.waiting[l.Message.ID]; there || l.Message.ID == 0 {
			return wrong("message %d: want an identifier of its own", l.Message.ID)
		}
		im.waiting[l.Message.ID] = store.Message{} // all of them, in the first round
		return l.Message.check()
	case l.Retained != nil:
		im.counts.Retained++
		return l.Retained.check()
	case l.Session != nil:
		return im.lookSession(l.Session)
	case l.Queued != nil:
		im.counts.Queued++
		if _, known := im.known[l.Queued.Session]; !known || l.Queued.State != store.Queued {
			return wrong("queued in state %d for session %d: want state 0, and the session before it", l.Queued.State, l.Queued.Session)
		}
		return im.lookDelivery(l.Queued)
	default:
		return wrong("want a message, session, queued, retained or end")
	}
}

func (m *message) check() error {
	if m.QoS > 2 || !topic.ValidName(m.Topic) {
		return wrong("a message of topic %q with QoS %d", m.Topic, m.QoS)
	}
	return nil
}

func (im *importer) lookSession(s *session) error {
	im.counts.Sessions++
	im.counts.Subscriptions += len(s.Subscriptions)
	im.counts.InFlight += len(s.InFlight)
	im.sessions.add(s.ID)
	if _, known := im.known[s.ID]; known || s.ID == 0 {
		return wrong("session %d: want an identifier of its own", s.ID)
	}
	im.known[s.ID] = struct{}{}
	if s.Will != nil {
		if err := s.Will.Message.check(); err != nil {
			return err
		}
	}
	for _, x := range s.Subscriptions {
		if _, rest, _, ok := topic.ParseShared(x.Filter); !ok || !topic.ValidFilter(rest) {
			return wrong("session of %q: filter %q", s.ClientID, x.Filter)
		}
	}
	for i := range s.InFlight {
		if err := im.lookDelivery(&s.InFlight[i]); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) lookDelivery(d *delivery) error {
	_, there := im.waiting[d.Message]
	switch {
	case d.QoS < 1 || d.QoS > 2 || d.State > store.AwaitPubcomp, (d.PacketID == 0) != (d.State == store.Queued),
		(d.Message == 0) != (d.State == store.AwaitPubcomp):
		return wrong("delivery at %d: state %d, QoS %d, packet %d, message %d", d.Position, d.State, d.QoS, d.PacketID, d.Message)
	case d.Message != 0 && !there:
		return wrong("delivery at %d: message %d does not come before it", d.Position, d.Message)
	case d.Message != 0 && uint64(d.Position) != uint64(d.Message):
		return wrong("delivery at %d: its message is %d: want the same", d.Position, d.Message)
	}
	im.places.add(d.Position)
	return nil
}

func (m *message) record() store.Message {
	return store.Message{Topic: []byte(m.Topic), Payload: m.Payload, QoS: m.QoS, Retained: m.Retain, Expires: m.Expires,
		Publisher: m.Publisher, Properties: codec.Properties(m.Properties)}
}

// size is what a delivery of m says of its size.
func size(m *store.Message) uint32 { return uint32(len(m.Topic) + len(m.Properties) + len(m.Payload)) }

// take writes a line.
func (im *importer) take(l *line) error {
	b := &im.to.b
	switch {
	case l.Message != nil:
		m := l.Message.record()
		im.waiting[l.Message.ID], im.sizes[l.Message.ID] = m, size(&m)
	case l.Retained != nil:
		m := l.Retained.record()
		b.PutRetained(&m)
	case l.Session != nil:
		im.takeSession(b, l.Session)
	case l.Queued != nil:
		id := im.sessions.of(l.Queued.Session)
		im.takeDelivery(b, id, l.Queued)
	}
	return im.to.step()
}

func (im *importer) takeSession(b *store.Batch, s *session) {
	id := im.sessions.of(s.ID)
	own := store.Session{ClientID: s.ClientID, UserName: s.UserName, Expiry: s.Expiry, EndsAt: s.EndsAt}
	if w := s.Will; w != nil {
		own.Will = &store.Will{Message: w.Message.record(), Delay: w.Delay, Expiry: w.Expiry, HasExpiry: w.HasExpiry, At: w.At}
	}
	b.PutSession(id, &own)
	for _, x := range s.Subscriptions {
		x := store.Subscription(x)
		b.PutSubscription(id, &x)
	}
	for _, packet := range s.Received {
		b.Receive(id, packet)
	}
	for i := range s.InFlight {
		im.takeDelivery(b, id, &s.InFlight[i])
	}
}

func (im *importer) takeDelivery(b *store.Batch, id store.SessionID, d *delivery) {
	at := im.places.of(d.Position)
	to := store.Delivery{QoS: d.QoS, Retain: d.Retain, Shared: d.Shared, Size: im.sizes[d.Message], State: d.State, PacketID: d.PacketID, IDs: d.IDs}
	if d.Message != 0 {
		to.Message = store.MessageID(at)
		if m, waits := im.waiting[d.Message]; waits && m.Topic != nil {
			b.PutMessage(to.Message, &m)
			delete(im.waiting, d.Message)
		}
	}
	b.Deliver(id, at, &to)
}
