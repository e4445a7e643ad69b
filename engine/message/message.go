package message

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// A Message is an application message that outlives the packet it came in.
//
// Ownership: [New] returns it with one reference. Handing it to another loop,
// to a session's queue or to the retained index takes one more (Retain);
// whoever holds a reference calls Release exactly once. All fields are shared
// and read-only after New; they never alias a network buffer.
type Message struct {
	Topic      []byte           // valid topic name, no wildcards
	Payload    []byte           // at most the broker's maximum packet size
	Properties codec.Properties // what is forwarded unaltered, in the publisher's order
	Expires    clock.Time       // when the Message Expiry Interval runs out; 0 never
	QoS        codec.QoS        // as published
	Retained   bool             // RETAIN flag as published

	class uint8        // size class of buf; unpooled for those that live long
	refs  atomic.Int32 // any goroutine; 0 means recycled
	buf   []byte       // backs Topic, Properties and Payload
}

const (
	minClassBits = 7  // smallest pooled buffer: 128 bytes
	maxClassBits = 20 // largest: 1 MiB; beyond it the collector takes them
	unpooled     = 0xFF
)

var pools [maxClassBits - minClassBits + 1]sync.Pool

// New copies topic, properties and payload, all borrowed, into a message with
// one reference, from a pool.
func New(topic, payload []byte, props codec.Properties) *Message {
	n := len(topic) + len(props) + len(payload)
	class := classOf(n)
	if class == unpooled {
		return fill(&Message{class: unpooled, buf: make([]byte, 0, n)}, topic, payload, props)
	}
	m, _ := pools[class].Get().(*Message)
	if m == nil {
		m = &Message{class: class, buf: make([]byte, 0, 1<<(minClassBits+int(class)))}
	}
	return fill(m, topic, payload, props)
}

// NewLasting is New for a message that is kept for long, such as a retained
// one: exactly as large as it must be, and not recycled.
func NewLasting(topic, payload []byte, props codec.Properties) *Message {
	n := len(topic) + len(props) + len(payload)
	return fill(&Message{class: unpooled, buf: make([]byte, 0, n)}, topic, payload, props)
}

func classOf(n int) uint8 {
	if n <= 1<<minClassBits {
		return 0
	}
	b := bits.Len(uint(n - 1))
	if b > maxClassBits {
		return unpooled
	}
	return uint8(b - minClassBits)
}

func fill(m *Message, topic, payload []byte, props codec.Properties) *Message {
	b := append(m.buf[:0], topic...)
	b = append(b, props...)
	b = append(b, payload...)
	m.buf = b
	t, p := len(topic), len(topic)+len(props)
	m.Topic, m.Properties, m.Payload = b[:t:t], codec.Properties(b[t:p:p]), b[p:]
	m.refs.Store(1)
	return m
}

// Retain takes one more reference. Any goroutine that holds one.
func (m *Message) Retain() { m.refs.Add(1) }

// Release gives a reference back; the last one recycles the message.
func (m *Message) Release() {
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
	if m.class == unpooled {
		return
	}
	m.Topic, m.Payload, m.Properties = nil, nil, nil
	m.Expires, m.QoS, m.Retained = 0, 0, false
	pools[m.class].Put(m)
}

// poison overwrites a released buffer so that use after release shows.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}

// Size is what the message counts against a byte bound: its bytes and a fixed
// part for the rest.
func (m *Message) Size() int { return len(m.Topic) + len(m.Payload) + len(m.Properties) + overhead }

const overhead = 64

// Expired reports whether the Message Expiry Interval has run out at now.
func (m *Message) Expired(now clock.Time) bool { return m.Expires != 0 && now >= m.Expires }
