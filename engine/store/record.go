package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/wheelmq/wheelmq/codec"
)

// Identifiers, drawn by the caller; 0 is none.
type (
	SessionID uint64
	MessageID uint64
	Position  uint64 // place of a delivery in its session, increasing
)

// recordVersion begins every encoded record.
const recordVersion = 1

// ErrRecord is wrapped by what decoding answers for bytes that are no record.
var ErrRecord = errors.New("store: damaged record")

// A Session is a session's own record. Times are Unix nanoseconds: the clock of
// the loops does not survive.
type Session struct {
	ClientID string
	UserName string
	Expiry   uint32 // Session Expiry Interval, seconds
	EndsAt   int64  // 0 while connected, and where it never ends
	Will     *Will  // nil: none
}

// A Will is a Will Message (MQTT 5.0 section 3.1.2.5).
type Will struct {
	Message   Message
	Delay     uint32 // Will Delay Interval, seconds
	Expiry    uint32 // Message Expiry Interval from publication, seconds; with HasExpiry
	HasExpiry bool
	At        int64 // when it is due, Unix nanoseconds; 0 while connected
}

// A Subscription is one Topic Filter of a session.
type Subscription struct {
	Filter     string
	Options    byte   // Subscription Options as on the wire, MQTT 5.0 section 3.8.3.1
	Identifier uint32 // Subscription Identifier; 0 none
}

// A Message is an application message. Decoded, its slices are borrowed from
// the bytes it was decoded from.
type Message struct {
	Topic      []byte
	Payload    []byte
	Properties codec.Properties
	Publisher  string // client identifier; "" for the broker's own
	Expires    int64  // Unix nanoseconds; 0 never
	QoS        codec.QoS
	Retained   bool // RETAIN flag as published
}

// A State is how far a delivery is.
type State uint8

// The states, in the order of MQTT 5.0 section 4.3.
const (
	Queued       State = iota // never sent; no packet identifier
	AwaitPuback               // QoS 1 sent
	AwaitPubrec               // QoS 2 sent
	AwaitPubcomp              // PUBREL sent; the message is released
)

// A Delivery is one message on its way to one session.
type Delivery struct {
	Message  MessageID // 0 in AwaitPubcomp
	QoS      codec.QoS // 1 or 2
	Retain   bool      // RETAIN flag of the delivery
	Shared   bool      // by a shared subscription
	Own      bool      // by DeliverOwn
	Size     uint32    // bytes of the message's topic, properties and payload
	State    State
	PacketID uint16   // 0 while Queued
	IDs      []uint32 // Subscription Identifiers
}

func (s *Session) append(b []byte) []byte {
	b = append(b, recordVersion)
	b = appendString(b, s.ClientID)
	b = appendString(b, s.UserName)
	b = binary.AppendUvarint(b, uint64(s.Expiry))
	b = binary.AppendVarint(b, s.EndsAt)
	if s.Will == nil {
		return append(b, 0)
	}
	w := s.Will
	b = append(b, 1|flag(w.HasExpiry, 2))
	b = binary.AppendUvarint(b, uint64(w.Delay))
	b = binary.AppendUvarint(b, uint64(w.Expiry))
	b = binary.AppendVarint(b, w.At)
	return w.Message.append(b)
}

// DecodeSession reads a session's record; its will's message is borrowed from b.
func DecodeSession(b []byte) (Session, error) {
	d := decode(b, "session")
	s := Session{ClientID: d.text(), UserName: d.text(), Expiry: d.uint32(), EndsAt: d.varint()}
	if f := d.byte(); f&1 != 0 {
		s.Will = &Will{HasExpiry: f&2 != 0, Delay: d.uint32(), Expiry: d.uint32(), At: d.varint()}
		d.version()
		s.Will.Message = d.message()
	}
	return s, d.end()
}

func (s *Subscription) append(b []byte) []byte {
	b = append(b, recordVersion)
	b = appendString(b, s.Filter)
	return binary.AppendUvarint(append(b, s.Options), uint64(s.Identifier))
}

// DecodeSubscription reads a subscription's record.
func DecodeSubscription(b []byte) (Subscription, error) {
	d := decode(b, "subscription")
	s := Subscription{Filter: d.text(), Options: d.byte(), Identifier: d.uint32()}
	return s, d.end()
}

func (m *Message) append(b []byte) []byte {
	b = append(b, recordVersion, byte(m.QoS)|flag(m.Retained, 4))
	b = binary.AppendVarint(b, m.Expires)
	b = appendString(b, m.Publisher)
	b = appendString(b, m.Topic)
	b = appendString(b, m.Properties)
	return appendString(b, m.Payload)
}

// DecodeMessage reads a message's record, borrowing from b.
func DecodeMessage(b []byte) (Message, error) {
	d := decode(b, "message")
	m := d.message()
	return m, d.end()
}

func (d *decoder) message() Message {
	f := d.byte()
	m := Message{QoS: codec.QoS(f & 3), Retained: f&4 != 0, Expires: d.varint(), Publisher: d.text()}
	m.Topic, m.Properties, m.Payload = d.bytes(), codec.Properties(d.bytes()), d.bytes()
	if f > 6 || m.QoS > 2 {
		d.fail()
	}
	return m
}

func (e *Delivery) append(b []byte) []byte {
	b = append(b, recordVersion, byte(e.QoS)|flag(e.Retain, 4)|byte(e.State)<<3|flag(e.Shared, 1<<5)|flag(e.Own, 1<<6))
	b = binary.AppendUvarint(b, uint64(e.Message))
	b = binary.AppendUvarint(b, uint64(e.PacketID))
	b = binary.AppendUvarint(b, uint64(len(e.IDs)))
	for _, id := range e.IDs {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return binary.AppendUvarint(b, uint64(e.Size))
}

// DecodeDelivery reads a delivery's record.
func DecodeDelivery(b []byte) (Delivery, error) {
	d := decode(b, "delivery")
	f := d.byte()
	e := Delivery{QoS: codec.QoS(f & 3), Retain: f&4 != 0, State: State(f >> 3 & 3), Shared: f&(1<<5) != 0, Own: f&(1<<6) != 0,
		Message: MessageID(d.uvarint()), PacketID: uint16(d.bounded(0xFFFF))}
	if n := d.bounded(uint64(len(d.rest))); n > 0 { // each takes a byte at least
		e.IDs = make([]uint32, n)
		for i := range e.IDs {
			e.IDs[i] = d.uint32()
		}
	}
	if len(d.rest) > 0 { // records of format 1 end here
		e.Size = d.uint32()
	}
	if f >= 1<<7 || e.QoS == 0 || e.QoS > 2 || e.State > AwaitPubcomp || (e.PacketID == 0) != (e.State == Queued) ||
		(e.Message == 0) != (e.State == AwaitPubcomp) {
		d.fail()
	}
	return e, d.end()
}

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

// A decoder reads fields; after the first wrong one all are zero.
type decoder struct {
	rest []byte
	what string
	bad  bool
}

func decode(b []byte, what string) *decoder {
	d := &decoder{rest: b, what: what}
	d.version()
	return d
}

func (d *decoder) version() {
	if d.byte() != recordVersion {
		d.fail()
	}
}

func (d *decoder) fail() { d.bad, d.rest = true, nil }

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bounded(most uint64) uint64 {
	v := d.uvarint()
	if v > most {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) uint32() uint32 { return uint32(d.bounded(0xFFFFFFFF)) }

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) text() string { return string(d.bytes()) }

func (d *decoder) end() error {
	if d.bad || len(d.rest) > 0 {
		return fmt.Errorf("%w: %s", ErrRecord, d.what)
	}
	return nil
}
