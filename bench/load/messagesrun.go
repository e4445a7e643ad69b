package load

import (
	"context"
	"fmt"
	"time"
)

// A messagesRun is the state of one run of Messages; it handles the packets of its driver.
//
// Ownership: the driver's goroutine.
type messagesRun struct {
	Messages
	*driver
	speaks      Version
	topics      topics
	publishers  []publisher
	subscribers []*conn
	streams     []stream // see at
	newest      []uint32 // shared: last sequence plus one of each publisher at each subscriber
	dirty       []*publisher

	sending bool

	// At a fixed rate: message k of the run is due at start + k*interval, and belongs to publisher
	// k mod Publishers. Messages before nextDue have had their publisher marked.
	start    int64
	interval float64 // ns
	nextDue  uint64

	nextCheck  int64  // for messages to be written off
	nextSlow   int64  // for slow subscribers to read
	slowGot    uint64 // messages
	slowClosed int
}

func newMessagesRun(w Messages, v Version) *messagesRun {
	r := &messagesRun{
		Messages:    w,
		speaks:      v,
		topics:      topics{run: newRunID(), Messages: w},
		publishers:  make([]publisher, w.Publishers),
		subscribers: make([]*conn, 0, w.Subscribers),
		nextCheck:   int64(writeOffAfter),
	}
	if w.Rate > 0 {
		r.interval = 1e9 / float64(w.Rate)
	}
	copies := 1
	switch w.Mapping {
	case FanOut, FanIn:
		copies = w.Subscribers
	case Shared:
		r.newest = make([]uint32, w.Publishers*w.Subscribers)
	}
	r.streams = make([]stream, w.Publishers*copies)
	for i := range r.publishers {
		r.publishers[i].init(i, w, v, r.topics.name(i), copies-w.Slow)
	}
	return r
}

// join adds the clients to the driver, subscribers first: they are up before anything is published.
func (r *messagesRun) join(d *driver) {
	r.driver = d
	for i := range r.Subscribers {
		c := d.add(fmt.Sprintf("load-%x-s%06d", r.topics.run, i), uint8(r.QoS), r.topics.filters(i)...)
		c.index, c.slow, c.persistent = i, i < r.Slow, r.Persistent == 1
		r.subscribers = append(r.subscribers, c)
	}
	for i := range r.publishers {
		c := d.add(fmt.Sprintf("load-%x-p%06d", r.topics.run, i), uint8(r.QoS))
		c.index, c.publisher = i, true
		r.publishers[i].conn = c
	}
}

func (r *messagesRun) ready(c *conn) error {
	if c.publisher && r.QoS > 0 {
		r.publishers[c.index].narrow(int(c.receiveMaximum))
	}
	return nil
}

// lost ends the run, unless a slow subscriber was thrown out: brokers may do that.
func (r *messagesRun) lost(c *conn, err error) error {
	if !c.slow || !r.sending {
		return err
	}
	r.slowClosed++
	return nil
}

func (r *messagesRun) measure(ctx context.Context) (*Result, error) {
	res := &Result{Unit: r.Unit()}
	var err error
	if res.BaseRSS, err = r.startRSS(); err != nil {
		return nil, err
	}
	if err := r.open(ctx, r.conns, HandshakesOpen, 0); err != nil {
		return nil, err
	}
	r.start = r.now()
	res.Opening = time.Duration(r.start)
	r.sending = true
	for i := range r.publishers {
		r.mark(&r.publishers[i])
	}
	r.enter(WarmingUp, r.Warmup)
	if err := r.drive(ctx, r.now()+int64(r.Warmup), nil); err != nil {
		return nil, err
	}
	begin, err := readMeter(r.broker.PID)
	if err != nil {
		return nil, err
	}
	r.enter(Measuring, r.Duration)
	if err := r.drive(ctx, r.now()+int64(r.Duration), nil); err != nil {
		return nil, err
	}
	r.enter(Draining, 0)
	if res.Usage, err = usageSince(begin, r.broker.PID); err != nil {
		return nil, err
	}
	r.sending = false
	if err := r.drive(ctx, r.now()+int64(r.Drain), r.drained); err != nil {
		return nil, err
	}
	if r.Persistent == 1 {
		if err := r.remove(ctx); err != nil {
			return nil, err
		}
	}
	r.finish(res)
	res.Done = res.Latency.Count
	r.account(res)
	return res, nil
}

// remove ends the sessions of the subscribers: they come again without asking for one.
func (r *messagesRun) remove(ctx context.Context) error {
	r.enter(Cleaning, 0)
	for _, c := range r.subscribers {
		r.closeConn(c)
		c.persistent, c.filters = false, nil
	}
	return r.open(ctx, r.subscribers, HandshakesOpen, 0)
}

// drive turns until the driver's clock reaches until, or done says so.
func (r *messagesRun) drive(ctx context.Context, until int64, done func() bool) error {
	for {
		now := r.now()
		if now >= until || done != nil && done() {
			return nil
		}
		limit := min(until, r.markDue(now))
		if err := r.publishDirty(now); err != nil {
			return err
		}
		if now >= r.nextCheck {
			r.writeOff(now)
		}
		if r.Slow > 0 && now >= r.nextSlow {
			if err := r.readSlow(now); err != nil {
				return err
			}
		}
		if err := r.turn(ctx, limit); err != nil {
			return err
		}
	}
}

// markDue marks the publishers of the messages that are due, and returns when the next one will be.
func (r *messagesRun) markDue(now int64) int64 {
	if r.Rate == 0 || !r.sending {
		return now + int64(longestWait)
	}
	for r.due(r.nextDue) <= now {
		r.mark(&r.publishers[r.nextDue%uint64(r.Publishers)])
		r.nextDue++
	}
	return r.due(r.nextDue)
}

func (r *messagesRun) due(k uint64) int64 { return r.start + int64(float64(k)*r.interval) }

// mark has the publisher publish and flush at the end of this turn.
func (r *messagesRun) mark(p *publisher) {
	if !p.dirty {
		p.dirty = true
		r.dirty = append(r.dirty, p)
	}
}

// publishDirty gives each marked publisher one write with all it has to say.
func (r *messagesRun) publishDirty(now int64) error {
	for _, p := range r.dirty {
		p.dirty = false
		if r.sending {
			r.publish(p, now)
		}
		if err := r.flush(p.conn); err != nil {
			return err
		}
	}
	r.dirty = r.dirty[:0]
	return nil
}

// publish appends what the window allows and, at a fixed rate, what is due.
func (r *messagesRun) publish(p *publisher, now int64) {
	if p.conn.blocked {
		return
	}
	for p.free() {
		due := now
		if r.Rate > 0 {
			due = r.due(p.sent*uint64(r.Publishers) + uint64(p.index))
			if due > now {
				return
			}
		}
		p.publish(stamp{publisher: uint32(p.index), run: r.topics.run, sequence: uint32(p.sent), due: due}, now)
		r.driver.sent++
	}
}

// writeOff gives free the places of messages that did not come.
func (r *messagesRun) writeOff(now int64) {
	r.nextCheck = now + int64(time.Second)
	for i := range r.publishers {
		p := &r.publishers[i]
		if p.inflight > 0 && p.writeOff(now-int64(writeOffAfter)) {
			r.mark(p)
		}
	}
}

// slowReadsPerSecond is how often a slow subscriber reads its share.
const slowReadsPerSecond = 10

func (r *messagesRun) readSlow(now int64) error {
	r.nextSlow = now + int64(time.Second)/slowReadsPerSecond
	for _, c := range r.subscribers[:r.Slow] {
		if err := r.readMost(c, max(1, r.SlowBytes/slowReadsPerSecond)); err != nil {
			if err := r.fail(c, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// drained tells whether nothing is in flight.
func (r *messagesRun) drained() bool {
	for i := range r.publishers {
		if r.publishers[i].inflight > 0 {
			return false
		}
	}
	return true
}
