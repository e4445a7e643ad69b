package engine

import (
	"sync"

	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router"
)

// item is one entry of a mailbox. What it carries belongs to the receiver.
type item struct {
	kind itemKind
	// fan: one message for subs, all on the receiving loop; one reference goes along.
	msg       *message.Message
	subs      []router.Subscriber // shared, immutable
	publisher router.Ref
	// one: a single recipient, by a shared subscription or forwarded.
	one    router.Subscriber
	origin *router.Member // of a shared subscription, or nil
	// the rest
	call func(l *loop)
}

type itemKind uint8

const (
	itemFan       itemKind = iota // message to subs
	itemOne                       // message to one
	itemForwarded                 // the same, routed to where the session was before (takeover.go)
	itemCall                      // call, on the receiving loop
)

// size is what the entry counts against the mailbox's bound.
func (it *item) size() int {
	if it.msg == nil {
		return 64
	}
	return 64 + it.msg.Size()
}

// A mailbox is a loop's inbox: any goroutine puts in, its loop takes out.
// Entries of one sender come out in the order they went in.
type mailbox struct {
	mu    sync.Mutex
	wake  func() // makes the loop drain soon; any goroutine; nil until bound
	items []item
	bytes int
	woken bool // wake was called and the mailbox not drained since
}

// post appends items, with one wake-up for all that come before the next drain.
func (m *mailbox) post(items []item, bytes int) (waiting int) {
	m.mu.Lock()
	m.items = append(m.items, items...)
	m.bytes += bytes
	waiting = m.bytes
	m.wakeAndUnlock()
	return waiting
}

// take swaps the waiting items for spare, which must be empty.
func (m *mailbox) take(spare []item) []item {
	m.mu.Lock()
	items := m.items
	m.items, m.bytes, m.woken = spare, 0, false
	m.mu.Unlock()
	return items
}

// outbox collects, within one turn, what a loop has for one other loop.
type outbox struct {
	items []item
	bytes int
	// waiting is the target mailbox's size after the last post: the credit
	// that QoS 0 is held against.
	waiting int
}

func (o *outbox) add(it item) {
	o.items = append(o.items, it)
	o.bytes += it.size()
}

// waiting is the number of bytes not taken yet.
func (m *mailbox) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// count is the number of entries not taken yet.
func (m *mailbox) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}

// wakeOnce makes the loop drain soon, unless that is under way.
func (m *mailbox) wakeOnce() {
	m.mu.Lock()
	m.wakeAndUnlock()
}

// wakeAndUnlock wakes the loop unless that is under way.
func (m *mailbox) wakeAndUnlock() {
	wake := m.wake
	if m.woken {
		wake = nil
	}
	m.woken = true
	m.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// bind sets how the loop is woken, and does so if something waits.
func (m *mailbox) bind(wake func()) {
	m.mu.Lock()
	m.wake = wake
	waiting := m.woken
	m.mu.Unlock()
	if waiting {
		wake()
	}
}
