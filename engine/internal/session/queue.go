package session

// queue is a ring of waiting messages: nil until the first push, nil again
// when it runs empty after having grown large.
type queue struct {
	buf   []Outbound // power of two long
	head  int
	n     int
	bytes int // sum of the messages' sizes
}

const (
	queueFirst = 8   // slots of the first ring
	queueKeep  = 128 // a larger ring is let go when it runs empty
)

func (q *queue) len() int { return q.n }

func (q *queue) push(o Outbound) {
	if q.n == len(q.buf) {
		q.grow()
	}
	q.buf[(q.head+q.n)&(len(q.buf)-1)] = o
	q.n++
	q.bytes += o.Message.Size()
}

// peek is the next to pop; valid until the queue changes.
func (q *queue) peek() *Outbound { return &q.buf[q.head] }

func (q *queue) pop() Outbound {
	o := q.buf[q.head]
	q.buf[q.head] = Outbound{}
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
	q.bytes -= o.Message.Size()
	if q.n == 0 && len(q.buf) > queueKeep {
		*q = queue{}
	}
	return o
}

func (q *queue) grow() {
	buf := make([]Outbound, max(queueFirst, 2*len(q.buf)))
	n := copy(buf, q.buf[q.head:])
	copy(buf[n:], q.buf[:q.head])
	q.buf, q.head = buf, 0
}
