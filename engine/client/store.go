package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/inflight"
)

// A Store keeps what is not acknowledged over the end of the program. It belongs
// to one client.
type Store interface {
	// Load calls f with what is kept: for each ID of a kind the last Change that
	// was not undone, messages in their order.
	Load(f func(Change) error) error
	// Save makes changes durable, in their order, all or none. What follows from
	// them is sent when it returns.
	Save([]Change) error
	Close() error
}

// Kind says what a Change does.
type Kind uint8

// The kinds.
const (
	Put      Kind = iota + 1 // a message of ours: Order, Data; ID is its packet identifier where it was sent, else 0
	Done                     // it is delivered, or given up: Order
	Received                 // a QoS 2 packet identifier of the broker's is open: ID
	Released                 // and closed: ID
)

// A Change is one change of what is kept.
type Change struct {
	Kind  Kind
	Order uint64
	ID    uint64
	Data  []byte
}

// change notes one down for the next write. Under mu.
func (c *Client) change(x Change) {
	if c.o.Store != nil {
		c.changes = append(c.changes, x)
	}
}

// encode is g as the store has it.
func (g *outgoing) encode(state inflight.State) []byte {
	b := []byte{byte(g.qos), byte(state), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if g.retain {
		b[2] = 1
	}
	if !g.expires.IsZero() {
		binary.BigEndian.PutUint64(b[4:], uint64(g.expires.UnixNano()))
	}
	binary.BigEndian.PutUint32(b[12:], uint32(g.topicLen))
	binary.BigEndian.PutUint32(b[16:], uint32(g.propsLen))
	return append(b, g.data...)
}

const recordHead = 20

func decode(b []byte) (*outgoing, inflight.State, error) {
	if len(b) < recordHead {
		return nil, 0, errors.New("a message is cut off")
	}
	g := &outgoing{what: "PUBLISH", qos: codec.QoS(b[0]), retain: b[2] == 1, topicLen: int(binary.BigEndian.Uint32(b[12:])),
		propsLen: int(binary.BigEndian.Uint32(b[16:])), data: append([]byte(nil), b[recordHead:]...), token: newToken(), tried: true}
	if g.qos > 2 || g.topicLen < 0 || g.propsLen < 0 || g.topicLen+g.propsLen > len(g.data) {
		return nil, 0, errors.New("a message is damaged")
	}
	if at := binary.BigEndian.Uint64(b[4:]); at != 0 {
		g.expires = time.Unix(0, int64(at))
	}
	return g, inflight.State(b[1]), nil
}

// keep keeps a message that waits, with id 0, or is sent as packet id. Under mu.
func (c *Client) keep(g *outgoing, id uint16, s inflight.State) {
	if c.o.Store == nil || g.qos == 0 {
		return
	}
	if g.order == 0 {
		c.order++
		g.order = c.order
	}
	c.change(Change{Kind: Put, Order: g.order, ID: uint64(id), Data: g.encode(s)})
}

// save has the store take what has changed.
func (c *Client) save() error {
	if c.o.Store == nil {
		return nil
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	changes := c.changes
	c.changes = nil
	c.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	if err := c.o.Store.Save(changes); err != nil {
		return fmt.Errorf("client: store: %w", err)
	}
	return nil
}

// forget lets go of a message that is delivered, or given up. Under mu.
func (c *Client) forget(g *outgoing) {
	if g.order != 0 {
		c.change(Change{Kind: Done, Order: g.order})
		g.order = 0
	}
}

// restore takes in what the store kept.
func (c *Client) restore() error {
	return c.o.Store.Load(func(x Change) error {
		switch x.Kind {
		case Received:
			c.received.Add(uint16(x.ID))
		case Put:
			g, state, err := decode(x.Data)
			if err != nil {
				return err
			}
			g.order = x.Order
			c.order = max(c.order, x.Order)
			if x.ID == 0 {
				c.queue = append(c.queue, g)
			} else if c.window.Restore(uint16(x.ID), g, state) {
				c.open++
			}
		}
		return nil
	})
}

// Restored are the tokens of the messages that a store brought back, for who
// wants to know what becomes of them. Before Connect.
func (c *Client) Restored() (tokens []*Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.window.Ordered(nil) {
		tokens = append(tokens, e.Value.token)
	}
	for _, g := range c.queue {
		tokens = append(tokens, g.token)
	}
	return tokens
}

// A FileStore is a Store in one file.
type FileStore struct{ db *bbolt.DB }

var (
	bucketMessages = []byte("messages")
	bucketReceived = []byte("received")
)

// OpenFile opens a store, and makes it where there is none. One client at a time.
func OpenFile(path string) (*FileStore, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = errors.New("it is in use by another client")
	}
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err1 := tx.CreateBucketIfNotExists(bucketMessages)
			_, err2 := tx.CreateBucketIfNotExists(bucketReceived)
			return errors.Join(err1, err2)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("client: store %s: %w", path, err)
	}
	return &FileStore{db}, nil
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Load implements Store.
func (s *FileStore) Load(f func(Change) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketMessages).ForEach(func(k, v []byte) error {
			if len(k) != 8 || len(v) < 8 {
				return errors.New("a record is damaged")
			}
			return f(Change{Kind: Put, Order: binary.BigEndian.Uint64(k), ID: binary.BigEndian.Uint64(v), Data: v[8:]})
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketReceived).ForEach(func(k, _ []byte) error {
			if len(k) != 8 {
				return errors.New("a record is damaged")
			}
			return f(Change{Kind: Received, ID: binary.BigEndian.Uint64(k)})
		})
	})
}

// Save implements Store: one transaction, on disk when it returns.
func (s *FileStore) Save(changes []Change) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		messages, received := tx.Bucket(bucketMessages), tx.Bucket(bucketReceived)
		for _, x := range changes {
			var err error
			switch x.Kind {
			case Put:
				err = messages.Put(key(x.Order), append(key(x.ID), x.Data...))
			case Done:
				err = messages.Delete(key(x.Order))
			case Received:
				err = received.Put(key(x.ID), nil)
			case Released:
				err = received.Delete(key(x.ID))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Close implements Store.
func (s *FileStore) Close() error { return s.db.Close() }
