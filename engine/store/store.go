package store

import (
	"context"
	"errors"
)

// A Durability is what a commit has to outlive.
type Durability uint8

// The levels. A store may give more than was asked for.
const (
	Synced   Durability = iota // loss of power
	Written                    // the end of the process
	Received                   // nothing yet: done may be called before anything is written
)

// Errors that callers tell apart; stores wrap them.
var (
	// ErrBusy: as much waits to be committed as may. From Commit.
	ErrBusy = errors.New("store: too much waits to be committed")
	// ErrUnavailable: full, read-only, failing or away. Recovers by itself.
	ErrUnavailable = errors.New("store: cannot keep anything now")
	// ErrClosed: after Close.
	ErrClosed = errors.New("store: closed")
	// ErrInUse: another process has it open. From opening a store.
	ErrInUse = errors.New("store: in use by another process")
	// ErrNewerFormat: written by a newer version of this program.
	ErrNewerFormat = errors.New("store: written by a newer version")
)

// A Store keeps what survives the process. Any goroutine may call any method;
// package comment: order and ownership.
type Store interface {
	// First is the lowest identifier that was never used in this store:
	// sessions, messages and positions are drawn from there upwards.
	First() uint64

	// Commit takes b, and calls done when it is as durable as b.Level says, or
	// cannot be; for the batches of one Stream in their order, and none behind
	// one that failed. It never blocks. An error (ErrBusy, ErrClosed) leaves b the
	// caller's and done uncalled.
	Commit(b *Batch, done func(*Batch, error)) error

	// Full reports that there is little room: what is new (messages, sessions,
	// subscriptions) is to be refused rather than committed, so that there is
	// room for the changes by which what is kept goes. It answers at once.
	Full() bool

	// Load hands every session, every retained message and the extent of every
	// queue to l, from several goroutines. Once, before the first Commit. What is
	// damaged is put aside and told to l. It may read for long: not on a loop.
	Load(ctx context.Context, l Loader) error

	// ReadQueue calls f with the queued deliveries of a session behind
	// position after, in order, until f answers false: all whose batch is done,
	// and none that a batch which is done has moved or ended. Those in flight
	// came with Load. What f is given is borrowed. Not on a loop.
	ReadQueue(id SessionID, after Position, f func(Position, *Delivery, *Message) bool) error

	// Close commits what waits and closes. Commit answers ErrClosed then.
	Close() error
}

// A Loader takes in what a store kept. Its methods are called concurrently.
// Messages are borrowed.
type Loader interface {
	Session(id SessionID, s *Loaded)
	// Queue tells what waits for a session, which may be told before the
	// session itself, or be of none. Sessions with nothing waiting are not told.
	Queue(id SessionID, q Extent)
	Retained(m *Message)
	Damaged(what string, err error)
}

// Loaded is a session as Load hands it over; the caller's to keep, but for
// messages, which are borrowed.
type Loaded struct {
	Session
	Subscriptions []Subscription
	Received      []uint16   // QoS 2 packet identifiers of the client's
	InFlight      []InFlight // in the order of positions
}

// An Extent says how much is queued, without its messages.
type Extent struct {
	Messages int
	Bytes    int64    // sum of Delivery.Size
	First    Position // lowest
}

// Add takes one more delivery in; in any order.
func (q *Extent) Add(at Position, size uint32) {
	if q.Messages == 0 || at < q.First {
		q.First = at
	}
	q.Messages++
	q.Bytes += int64(size)
}

// InFlight is a delivery that was sent and not finished.
type InFlight struct {
	Position Position
	Delivery Delivery
	Message  Message // zero in AwaitPubcomp
}
