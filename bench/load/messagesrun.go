package load

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A messagesRun is the state of one run of Messages; it handles the packets of its driver.
//
// Ownership: the driver's goroutine.
type messagesRun struct {
	Messages
	driver     *driver
	id         uint32 // in every stamp
	publishers []publisher
	streams    []stream // pairs, fan-in: by publisher; fan-out: by subscriber
	dirty      []*publisher

	sending   bool
	measuring bool
	delivered uint64 // in the measured window
	latency   *hdrhistogram.Histogram

	// At a fixed rate: message k of the run is due at start + k*interval, and belongs to publisher
	// k mod Publishers. Messages before nextDue have had their publisher marked.
	start    int64
	interval float64 // ns
	nextDue  uint64
}

func newMessagesRun(w Messages) *messagesRun {
	r := &messagesRun{
		Messages:   w,
		id:         uint32(os.Getpid())<<16 ^ uint32(time.Now().UnixNano()),
		publishers: make([]publisher, w.Publishers),
		streams:    make([]stream, max(w.Publishers, w.Subscribers)),
		latency:    hdrhistogram.New(1000, maxLatency, 3),
	}
	if w.Rate > 0 {
		r.interval = 1e9 / float64(w.Rate)
	}
	copies := 1
	if w.Mapping == FanOut {
		copies = w.Subscribers
	}
	for i := range r.publishers {
		r.publishers[i].init(i, w, r.topicName(i), copies)
	}
	return r
}

func (r *messagesRun) topicName(publisher int) string {
	return fmt.Sprintf("load/%s/%06d", r.Mapping, publisher)
}

func (r *messagesRun) filter(subscriber int) string {
	switch r.Mapping {
	case FanOut:
		return r.topicName(0)
	case FanIn:
		return fmt.Sprintf("load/%s/+", r.Mapping)
	default:
		return r.topicName(subscriber)
	}
}

// join adds the clients to the driver, subscribers first: they are up before anything is published.
func (r *messagesRun) join(d *driver) {
	r.driver = d
	for i := range r.Subscribers {
		c := d.add(fmt.Sprintf("load-s%06d", i), r.filter(i), r.QoS)
		c.index = i
	}
	for i := range r.publishers {
		c := d.add(fmt.Sprintf("load-p%06d", i), "", r.QoS)
		c.index = i
		r.publishers[i].conn = c
	}
}

func (r *messagesRun) ready(*conn) error { return nil }

func (r *messagesRun) measure(ctx context.Context, pid int) (MessagesResult, error) {
	d := r.driver
	r.sending = true
	r.start = d.now()
	for i := range r.publishers {
		r.mark(&r.publishers[i])
	}
	if err := r.drive(ctx, d.now()+int64(r.Warmup), nil); err != nil {
		return MessagesResult{}, err
	}
	begin, err := readMeter(pid)
	if err != nil {
		return MessagesResult{}, err
	}
	r.measuring = true
	if err := r.drive(ctx, d.now()+int64(r.Duration), nil); err != nil {
		return MessagesResult{}, err
	}
	r.measuring = false
	usage, err := usageSince(begin, pid)
	if err != nil {
		return MessagesResult{}, err
	}
	r.sending = false
	if err := r.drive(ctx, d.now()+int64(r.Drain), r.drained); err != nil {
		return MessagesResult{}, err
	}
	return r.result(usage), nil
}

// drive turns until the driver's clock reaches until, or done says so.
func (r *messagesRun) drive(ctx context.Context, until int64, done func() bool) error {
	for {
		now := r.driver.now()
		if now >= until || done != nil && done() {
			return nil
		}
		limit := min(until, r.markDue(now))
		if err := r.publishDirty(now); err != nil {
			return err
		}
		if err := r.driver.turn(ctx, limit); err != nil {
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
		if err := r.driver.flush(p.conn); err != nil {
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
		p.publish(stamp{publisher: uint32(p.index), run: r.id, sequence: p.sent, due: due})
	}
}

func (r *messagesRun) packet(c *conn, first byte, body []byte, now int64) error {
	if c.filter == "" {
		return r.publisherPacket(&r.publishers[c.index], first, body)
	}
	return r.subscriberPacket(c, first, body, now)
}

// publisherPacket takes the acknowledgements of what was published.
func (r *messagesRun) publisherPacket(p *publisher, first byte, body []byte) error {
	packetID, err := parsePacketID(first, body)
	if err != nil {
		return err
	}
	if err := p.acknowledge(first, packetID); err != nil {
		return err
	}
	r.mark(p)
	return nil
}

// subscriberPacket takes deliveries and answers them; the answers of one read leave in one write.
func (r *messagesRun) subscriberPacket(c *conn, first byte, body []byte, now int64) error {
	if first&0xf0 == publishPacket {
		qos, packetID, payload, err := parsePublish(first, body)
		if err != nil {
			return err
		}
		switch qos {
		case 1:
			c.out = appendAck(c.out, pubackPacket, packetID)
		case 2:
			c.out = appendAck(c.out, pubrecPacket, packetID)
		}
		return r.deliver(c, qos, payload, now)
	}
	if first != pubrelPacket || r.QoS != 2 {
		return fmt.Errorf("load: packet 0x%02x at a subscriber", first)
	}
	packetID, err := parsePacketID(first, body)
	if err != nil {
		return err
	}
	c.out = appendAck(c.out, pubcompPacket, packetID)
	return nil
}

// deliver counts one message at one subscriber and, if it was not there before, frees its place.
func (r *messagesRun) deliver(c *conn, qos uint8, payload []byte, now int64) error {
	if qos != r.QoS || len(payload) != r.Payload {
		return fmt.Errorf("load: message with QoS %d and %d bytes, published were QoS %d and %d", qos, len(payload), r.QoS, r.Payload)
	}
	s := readStamp(payload)
	if s.run != r.id || s.publisher >= uint32(r.Publishers) {
		return fmt.Errorf("load: message of another run")
	}
	if r.Mapping == Pairs && s.publisher != uint32(c.index) {
		return fmt.Errorf("load: message of publisher %d", s.publisher)
	}
	p := &r.publishers[s.publisher]
	if s.sequence >= p.sent {
		return fmt.Errorf("load: message %d of publisher %d was never sent", s.sequence, s.publisher)
	}
	if r.stream(c, s).observe(s.sequence) == duplicate {
		return nil
	}
	if r.measuring {
		r.delivered++
		_ = r.latency.RecordValue(min(now-s.due, maxLatency)) // in range by construction
	}
	if p.delivered(s.sequence) {
		r.mark(p)
	}
	return nil
}

func (r *messagesRun) stream(c *conn, s stamp) *stream {
	if r.Mapping == FanOut {
		return &r.streams[c.index]
	}
	return &r.streams[s.publisher]
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

func (r *messagesRun) result(u Usage) MessagesResult {
	res := MessagesResult{Usage: u, Delivered: r.delivered, Latency: r.latency}
	for i := range r.publishers {
		res.Sent += r.publishers[i].sent
	}
	for i := range r.streams {
		s := &r.streams[i]
		p := &r.publishers[0]
		if r.Mapping != FanOut {
			p = &r.publishers[i]
		}
		res.Lost += s.lost(p.sent)
		res.Duplicate += s.duplicate
		res.Late += s.late
	}
	return res
}
