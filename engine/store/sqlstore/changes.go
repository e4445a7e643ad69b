package sqlstore

import (
	"crypto/sha256"
	"fmt"
	"strconv"

	"github.com/wheelmq/wheelmq/engine/store"
)

// An ordered is a map that remembers the order of its keys.
type ordered[K comparable, V any] struct {
	index  map[K]int
	keys   []K
	values []V
}

// at is the place of k's value, made where it is not there; valid until the
// next call.
func (o *ordered[K, V]) at(k K) (v *V, had bool) {
	i, had := o.index[k]
	if !had {
		if o.index == nil {
			o.index = map[K]int{}
		}
		i = len(o.keys)
		var zero V
		o.index[k], o.keys, o.values = i, append(o.keys, k), append(o.values, zero)
	}
	return &o.values[i], had
}

func (o *ordered[K, V]) set(k K, v V) {
	at, _ := o.at(k)
	*at = v
}

func (o *ordered[K, V]) reset() {
	if len(o.index) > 10_000 { // clearing costs what it was at its largest
		*o = ordered[K, V]{}
		return
	}
	clear(o.index)
	clear(o.keys)
	clear(o.values)
	o.keys, o.values = o.keys[:0], o.values[:0]
}

type (
	filterOf struct {
		session store.SessionID
		filter  string
	}
	packetOf struct {
		session store.SessionID
		packet  uint16
	}
	placeOf struct {
		session store.SessionID
		at      store.Position
	}
)

// An effect is what a group does to a row of deliveries that may be there.
type effect uint8

const (
	none   effect = iota
	begin         // made, unless it is there
	put           // made, or changed where it is there
	change        // changed, if it is there
	remove
)

// A fate is a delivery's row behind a group.
type fate struct {
	effect
	d store.Delivery
}

// changes is what a group of batches comes to. What it holds is borrowed from
// the batches. Committer's.
type changes struct {
	sessions      ordered[store.SessionID, []byte]
	subscriptions ordered[filterOf, []byte] // nil: deleted
	received      ordered[packetOf, bool]
	deliveries    ordered[placeOf, fate]
	retained      ordered[string, []byte] // nil: deleted
	messages      ordered[store.MessageID, message]
	released      ordered[store.MessageID, struct{}] // given up by a delivery
	dead          map[store.SessionID]struct{}       // deleted by this group
}

type message struct {
	record []byte
	needed bool // a delivery that is written names it
}

func (c *changes) reset() {
	c.sessions.reset()
	c.subscriptions.reset()
	c.received.reset()
	c.deliveries.reset()
	c.retained.reset()
	c.messages.reset()
	c.released.reset()
	clear(c.dead)
}

// add takes one change in; what cannot be put together with earlier ones has
// these written first.
func (c *changes) add(w *writer, o *store.Op) error {
	switch o.Kind {
	case store.PutMessage:
		if m, had := c.messages.at(o.Message); !had {
			m.record = o.Value
		}
		return nil
	case store.PutRetained:
		c.retained.set(string(o.Name), o.Value)
		return nil
	case store.DeleteRetained:
		c.retained.set(string(o.Name), nil)
		return nil
	}
	if _, dead := c.dead[o.Session]; dead || w.isDead(o.Session) {
		return nil
	}
	switch o.Kind {
	case store.PutSession:
		c.sessions.set(o.Session, o.Value)
	case store.DeleteSession:
		return c.deleteSession(w, o.Session)
	case store.PutSubscription:
		c.subscriptions.set(filterOf{o.Session, string(o.Name)}, o.Value)
	case store.DeleteSubscription:
		c.subscriptions.set(filterOf{o.Session, string(o.Name)}, nil)
	case store.Receive, store.Forget:
		c.received.set(packetOf{o.Session, o.Packet}, o.Kind == store.Receive)
	case store.DeliverOwn: // a row of messages as any other: people read them there
		if m, had := c.messages.at(o.Message); !had {
			m.record = o.Name
		}
		d := *o
		d.Kind = store.Deliver
		return c.deliver(w, &d)
	case store.Deliver, store.Advance, store.Finish:
		return c.deliver(w, o)
	default:
		return fmt.Errorf("unknown change %d", o.Kind)
	}
	return nil
}

func (c *changes) deliver(w *writer, o *store.Op) error {
	var d store.Delivery
	if o.Kind != store.Finish {
		var err error
		if d, err = store.DecodeDelivery(o.Value); err != nil {
			return err
		}
	}
	if o.Message != 0 && o.Kind != store.Deliver {
		c.released.at(o.Message)
	}
	now, _ := c.deliveries.at(placeOf{o.Session, o.At})
	switch {
	case o.Kind == store.Finish:
		now.effect = remove
	case o.Kind == store.Deliver && (now.effect == change || now.effect == remove): // whether it is there decides
		if err := c.flush(w); err != nil {
			return err
		}
		c.deliveries.set(placeOf{o.Session, o.At}, fate{begin, d})
	case o.Kind == store.Deliver && now.effect == none:
		*now = fate{begin, d}
	case o.Kind == store.Deliver: // taken
	case now.effect == none || now.effect == change:
		*now = fate{change, d}
	case now.effect == begin || now.effect == put:
		*now = fate{put, d}
	}
	return nil
}

// deleteSession deletes what is kept for a session.
func (c *changes) deleteSession(w *writer, id store.SessionID) error {
	if err := c.flush(w); err != nil {
		return err
	}
	err := w.query(messagesOf, func(scan func(...any) error) error {
		var m int64
		if err := scan(&m); err != nil {
			return err
		}
		c.released.at(store.MessageID(m))
		return nil
	}, int64(id))
	if err != nil {
		return err
	}
	for i := range ofSession {
		if err := w.exec(&ofSession[i], int64(id)); err != nil {
			return err
		}
	}
	if c.dead == nil {
		c.dead = map[store.SessionID]struct{}{}
	}
	c.dead[id] = struct{}{}
	return nil
}

// flush writes what belongs to sessions.
func (c *changes) flush(w *writer) error {
	for i, id := range c.sessions.keys {
		if err := c.writeSession(w, id, c.sessions.values[i]); err != nil {
			return err
		}
	}
	for i, k := range c.subscriptions.keys {
		if err := c.writeSubscription(w, k, c.subscriptions.values[i]); err != nil {
			return err
		}
	}
	for i, k := range c.received.keys {
		text := &deleteReceived
		if c.received.values[i] {
			text = &putReceived
		}
		if err := w.exec(text, int64(k.session), int64(k.packet)); err != nil {
			return err
		}
	}
	for e := begin; e <= remove; e++ { // each row has one: their order is free
		for i, k := range c.deliveries.keys {
			if now := &c.deliveries.values[i]; now.effect == e {
				if err := c.writeDelivery(w, k, now); err != nil {
					return err
				}
			}
		}
	}
	c.sessions.reset()
	c.subscriptions.reset()
	c.received.reset()
	c.deliveries.reset()
	return nil
}

// finish writes all that is left.
func (c *changes) finish(w *writer) error {
	if err := c.flush(w); err != nil {
		return err
	}
	for i, id := range c.messages.keys {
		m := &c.messages.values[i]
		if !m.needed {
			continue
		}
		if err := writeMessage(w, &putMessage, int64(id), m.record); err != nil {
			return err
		}
	}
	for i, name := range c.retained.keys {
		key := sha256.Sum256([]byte(name))
		var err error
		if record := c.retained.values[i]; record != nil {
			err = writeMessage(w, &putRetained, key[:], record)
		} else {
			err = w.exec(&deleteRetained, key[:])
		}
		if err != nil {
			return err
		}
	}
	return c.writeReleased(w)
}

// writeReleased deletes the messages that no delivery names any more.
func (c *changes) writeReleased(w *writer) error {
	ids := c.released.keys
	for len(ids) > 0 {
		n := min(len(ids), 500)
		text := []byte("DELETE FROM messages WHERE id IN (")
		for i, id := range ids[:n] {
			if i > 0 {
				text = append(text, ',')
			}
			text = strconv.AppendUint(text, uint64(id), 10)
		}
		if err := w.once(string(text) + ") AND " + unused); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

func (c *changes) writeSession(w *writer, id store.SessionID, record []byte) error {
	s, err := store.DecodeSession(record)
	if err != nil {
		return err
	}
	will := s.Will
	flags := 0
	switch {
	case will == nil:
		will = &store.Will{}
	case will.HasExpiry:
		flags = 2
	default:
		flags = 1
	}
	args := []any{int64(id), s.ClientID, s.UserName, int64(s.Expiry), s.EndsAt, flags, int64(will.Delay), int64(will.Expiry), will.At}
	return w.exec(&putSession, append(args, messageArgs(&will.Message)...)...)
}

func (c *changes) writeSubscription(w *writer, k filterOf, record []byte) error {
	key := sha256.Sum256([]byte(k.filter))
	if record == nil {
		return w.exec(&deleteSubscription, int64(k.session), key[:])
	}
	s, err := store.DecodeSubscription(record)
	if err != nil {
		return err
	}
	return w.exec(&putSubscription, int64(k.session), key[:], s.Filter, int64(s.Options), int64(s.Identifier))
}

func (c *changes) writeDelivery(w *writer, k placeOf, now *fate) error {
	place := []any{int64(k.session), int64(k.at)}
	switch now.effect {
	case begin, put:
		if m, had := c.messages.index[now.d.Message]; had {
			c.messages.values[m].needed = true
		}
		text := &putDelivery
		if now.effect == begin {
			text = &beginDelivery
		}
		return w.exec(text, append(place, columns(&now.d)...)...)
	case change:
		return w.exec(&changeDelivery, append(columns(&now.d), place...)...)
	case remove:
		return w.exec(&deleteDelivery, place...)
	default:
		return nil
	}
}

// columns are a delivery's, in their order.
func columns(d *store.Delivery) []any {
	var ids []byte
	for i, id := range d.IDs {
		if i > 0 {
			ids = append(ids, ',')
		}
		ids = strconv.AppendUint(ids, uint64(id), 10)
	}
	return []any{int64(d.Message), int64(d.State), int64(d.QoS), number(d.Retain), int64(d.PacketID), string(ids), number(d.Shared), int64(d.Size)}
}

// messageArgs are a message's columns.
func messageArgs(m *store.Message) []any {
	return []any{string(m.Topic), filled(m.Payload), int64(m.QoS), number(m.Retained), m.Expires, m.Publisher, filled(m.Properties)}
}

func writeMessage(w *writer, text *statement, key any, record []byte) error {
	m, err := store.DecodeMessage(record)
	if err != nil {
		return err
	}
	return w.exec(text, append([]any{key}, messageArgs(&m)...)...)
}

// filled is b, or what is empty and not NULL.
func filled(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func number(set bool) int64 {
	if set {
		return 1
	}
	return 0
}
