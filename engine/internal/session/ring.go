package session

import "github.com/wheelmq/wheelmq/engine/message"

// ring holds waiting messages in order: nil until the first push, nil again
// when it runs empty after having grown large.
type ring struct {
	buf   []Outbound // power of two long
	head  int
	n     int
	bytes int // sum of the messages' sizes
}

const (
	ringFirst = 2   // slots of the first buffer
	ringKeep  = 128 // a larger one is let go when it runs empty
)

func (r *ring) push(o Outbound) {
	if r.n == len(r.buf) {
		r.grow()
	}
	*r.at(r.n) = o
	r.n++
	r.bytes += o.Message.Size()
}

// memory is what its messages take.
func (r *ring) memory() int { return r.bytes + r.n*message.Waiting }

// at is the i-th; valid until the ring changes.
func (r *ring) at(i int) *Outbound { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

// peek is the next to pop; valid until the ring changes.
func (r *ring) peek() *Outbound { return r.at(0) }

func (r *ring) pop() Outbound {
	o := *r.peek()
	*r.peek() = Outbound{}
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	r.bytes -= o.Message.Size()
	if r.n == 0 && len(r.buf) > ringKeep {
		*r = ring{}
	}
	return o
}

func (r *ring) grow() {
	buf := make([]Outbound, max(ringFirst, 2*len(r.buf)))
	n := copy(buf, r.buf[r.head:])
	copy(buf[n:], r.buf[:r.head])
	r.buf, r.head = buf, 0
}
