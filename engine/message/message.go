package message

import (
	"sync/atomic"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// A Message is an application message that outlives the packet it came in.
//
// Ownership: [Pool.New] returns it with one reference. Handing it to another loop,
// to a session's queue or to the retained index takes one more (Retain);
// whoever holds a reference calls Release exactly once. All fields are shared
// and read-only afterwards; they never alias a network buffer.
type Message struct {
	Topic      []byte           // valid topic name, no wildcards
	Payload    []byte           // at most the broker's maximum packet size
	Properties codec.Properties // what is forwarded unaltered, in the publisher's order
	Expires    clock.Time       // when the Message Expiry Interval runs out; 0 never
	QoS        codec.QoS        // as published
	Retained   bool             // RETAIN flag as published
	Publisher  string           // client identifier of who published it; "" for the broker's own

	Stored uint64 // identifier in the store; 0 not there. Set by the loop that publishes, before anybody else has it
	Own    bool   // with Stored: kept with its one delivery

	class uint8        // size class of buf; unpooled for those that live long
	refs  atomic.Int32 // any goroutine; 0 means recycled
	buf   []byte       // backs Topic, Properties and Payload
	next  *Message     // in a pool: the next free one of the class
}

// NewLasting is Pool.New for a message that is kept for long, such as a retained
// one: exactly as large as it must be, and not recycled.
func NewLasting(topic, payload []byte, props codec.Properties) *Message {
	n := len(topic) + len(props) + len(payload)
	return fill(&Message{class: unpooled, buf: make([]byte, 0, n)}, topic, payload, props)
}

func fill(m *Message, topic, payload []byte, props codec.Properties) *Message {
	b := append(m.buf[:0], topic...)
	b = append(b, props...)
	b = append(b, payload...)
	m.buf = b
	t, p := len(topic), len(topic)+len(props)
	m.Topic, m.Properties, m.Payload = b[:t:t], codec.Properties(b[t:p:p]), b[p:]
	m.Stored, m.Own = 0, false
	m.refs.Store(1)
	return m
}

// Retain takes one more reference. Any goroutine that holds one.
func (m *Message) Retain() { m.refs.Add(1) }

// Release gives a reference back; the last one puts the message into pool, the
// stock of the calling loop.
func (m *Message) Release(pool *Pool) {
	n := m.refs.Add(-1)
	if n > 0 {
		return
	}
	if n < 0 {
		panic("message: released more often than retained")
	}
	if invariant.Enabled {
		poison(m.buf)
	}
	if m.class != unpooled {
		pool.put(m)
	}
}

// poison overwrites a released buffer so that use after release shows.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}

// Size is what the message counts against a byte bound: its bytes and a fixed
// part for the rest.
func (m *Message) Size() int { return m.Length() + Overhead }

// Length is the bytes of topic, payload and properties.
func (m *Message) Length() int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// Memory is about what it takes while it waits in a queue, slot and all.
func (m *Message) Memory() int { return m.Size() + Waiting }

const (
	// Overhead is the fixed part of Size.
	Overhead = 64
	// Waiting is what Memory is above Size.
	Waiting = 128
)

// Expired reports whether the Message Expiry Interval has run out at now.
func (m *Message) Expired(now clock.Time) bool { return m.Expires != 0 && now >= m.Expires }
