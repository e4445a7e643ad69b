package message

import (
	"math/bits"
	"sync"

	"github.com/wheelmq/wheelmq/codec"
)

const (
	minClassBits = 7  // smallest pooled buffer: 128 bytes
	maxClassBits = 20 // largest: 1 MiB; beyond it the collector takes them
	numClasses   = 2*(maxClassBits-minClassBits) + 1
	unpooled     = 0xFF

	batchMessages = 64       // what pools exchange at a time, in messages
	batchBytes    = 64 << 10 // or in bytes, at least one message
	sharedBytes   = 2 << 20  // of a class that may wait between the loops; more goes to the collector
)

// A Pool is one loop's stock of free messages. Loop-owned. Loops that publish
// take more than they release and loops that deliver the other way round, so
// whole batches go from pool to pool through Shared.
type Pool struct {
	shared *Shared
	free   [numClasses]stack
	live   int // made here less released here
}

// Shared is what the pools of one broker exchange. Any goroutine.
type Shared struct {
	mu      sync.Mutex
	batches [numClasses][]*Message // heads of full batches
}

// stack is a list of free messages, linked by next.
type stack struct {
	head  *Message
	count int
	// spare is one full batch that was cut off and may be needed again.
	spare *Message
}

// Live is the number of pooled messages made here less those released here: in
// the sum over all pools of a broker, those in use.
func (p *Pool) Live() int { return p.live }

// NewPool returns an empty pool that exchanges with others through shared.
func NewPool(shared *Shared) *Pool { return &Pool{shared: shared} }

// New copies topic, properties and payload, all borrowed, into a message with
// one reference.
func (p *Pool) New(topic, payload []byte, props codec.Properties) *Message {
	n := len(topic) + len(props) + len(payload)
	class := classOf(n)
	if class == unpooled {
		return NewLasting(topic, payload, props)
	}
	m := p.take(class)
	if m == nil {
		m = &Message{class: class, buf: make([]byte, 0, classSize(class))}
	}
	p.live++
	return fill(m, topic, payload, props)
}

// classOf returns the smallest class that holds n bytes. Classes grow by a
// half and a third in turn: 128, 192, 256, 384, …
func classOf(n int) uint8 {
	if n <= 1<<minClassBits {
		return 0
	}
	b := bits.Len(uint(n - 1)) // n is above 1<<(b-1) and at most 1<<b
	if b > maxClassBits {
		return unpooled
	}
	class := 2 * (b - minClassBits)
	if n <= 3<<(b-2) {
		class--
	}
	return uint8(class)
}

// classSize is what the buffers of a class hold, in bytes.
func classSize(class uint8) int {
	if class%2 == 0 {
		return 1 << (minClassBits + int(class)/2)
	}
	return 3 << (minClassBits + int(class)/2 - 1)
}

// batchOf is the number of messages of a class that pools exchange at a time.
func batchOf(class uint8) int {
	return min(batchMessages, max(1, batchBytes/classSize(class)))
}

// take returns a free message, nil if neither this pool nor the shared one has any.
func (p *Pool) take(class uint8) *Message {
	s := &p.free[class]
	if s.head == nil {
		if s.head, s.spare = s.spare, nil; s.head == nil {
			s.head = p.shared.take(class)
		}
		if s.head == nil {
			return nil
		}
		s.count = batchOf(class)
	}
	m := s.head
	s.head, m.next = m.next, nil
	s.count--
	return m
}

// put takes a message nobody refers to.
func (p *Pool) put(m *Message) {
	p.live--
	m.Topic, m.Payload, m.Properties = nil, nil, nil
	m.Expires, m.QoS, m.Retained = 0, 0, false
	s := &p.free[m.class]
	if s.count == batchOf(m.class) {
		if s.spare != nil {
			p.shared.put(m.class, s.spare)
		}
		s.spare, s.head, s.count = s.head, nil, 0
	}
	m.next, s.head = s.head, m
	s.count++
}

func (x *Shared) take(class uint8) *Message {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.batches[class]
	if len(b) == 0 {
		return nil
	}
	m := b[len(b)-1]
	b[len(b)-1] = nil
	x.batches[class] = b[:len(b)-1]
	return m
}

func (x *Shared) put(class uint8, batch *Message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if (len(x.batches[class])+1)*batchOf(class)*classSize(class) <= sharedBytes {
		x.batches[class] = append(x.batches[class], batch)
	}
}
