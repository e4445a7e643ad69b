package load

import (
	"context"
	"fmt"
	"time"
)

// Retained is a workload of subscribers that come to a broker with many retained messages and ask
// for all of them at once. Its latency is from SUBSCRIBE to each message.
type Retained struct {
	Messages    int
	Subscribers int
	QoS         int // of the subscriptions; the messages are stored with QoS 1
	Payload     int
}

// Validate checks the workload against its bounds.
func (w *Retained) Validate() error {
	return check(
		bound{"messages", w.Messages, 1, maxMessages},
		bound{"subscribers", w.Subscribers, 1, maxClients},
		bound{"qos", w.QoS, 0, 1},
		bound{"payload", w.Payload, stampBytes, maxPayload},
	)
}

// Unit is one delivery.
func (w *Retained) Unit() string { return "message" }

// Clients is the subscribers and the one that stores.
func (w *Retained) Clients() int { return w.Subscribers + 1 }

// Scale changes the number of messages.
func (w *Retained) Scale(factor float64) { w.Messages = scaled(w.Messages, factor) }

// Parameters are the fields by name.
func (w *Retained) Parameters() []Parameter {
	return []Parameter{
		{Name: "messages", About: "retained messages", Number: &w.Messages},
		{Name: "subscribers", About: "clients that ask for all of them at once", Number: &w.Subscribers},
		{Name: "qos", About: "of the subscriptions, 0 or 1", Number: &w.QoS},
		{Name: "payload", About: "bytes of each message", Number: &w.Payload},
	}
}

// Run stores the messages, subscribes, waits for all of them, and removes them.
func (w *Retained) Run(ctx context.Context, b Broker, watch func(Sample)) (*Result, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	r := &retainedRun{Retained: *w, run: newRunID(), seen: make([]bitmap, w.Subscribers)}
	d, err := newDriver(b, r, watch)
	if err != nil {
		return nil, err
	}
	defer d.close()
	r.driver = d
	r.feed = newFeed(d, fmt.Sprintf("load-%x-store", r.run))
	for i := range w.Subscribers {
		d.add(fmt.Sprintf("load-%x-r%06d", r.run, i), uint8(w.QoS)).index = i
		r.seen[i] = newBitmap(w.Messages)
	}
	return r.measure(ctx)
}

// A retainedRun is the state of one run of Retained.
//
// Ownership: the driver's goroutine.
type retainedRun struct {
	Retained
	*driver
	run       uint32
	feed      *feed
	seen      []bitmap // by subscriber
	asked     int64    // driver's clock at SUBSCRIBE; 0: not yet
	unique    uint64
	duplicate uint64
}

func (r *retainedRun) measure(ctx context.Context) (*Result, error) {
	res := &Result{Unit: r.Unit()}
	var err error
	if err := r.open(ctx, r.conns, HandshakesOpen, 0); err != nil {
		return nil, err
	}
	if res.BaseRSS, err = r.startRSS(); err != nil {
		return nil, err
	}
	r.enter(Preparing, 0)
	if res.Storing, err = r.store(ctx, r.Payload); err != nil {
		return nil, err
	}
	res.Sent = uint64(r.Messages)
	if res.QueuedBytes, err = r.growth(res.BaseRSS, r.Messages); err != nil {
		return nil, err
	}
	begin, err := readMeter(r.broker.PID)
	if err != nil {
		return nil, err
	}
	r.enter(Measuring, 0)
	if err := r.ask(ctx); err != nil {
		return nil, err
	}
	r.enter(Cleaning, 0)
	if res.Usage, err = usageSince(begin, r.broker.PID); err != nil {
		return nil, err
	}
	for i := range r.Subscribers {
		r.closeConn(r.conns[1+i]) // else it gets the removals
	}
	if _, err := r.store(ctx, 0); err != nil {
		return nil, fmt.Errorf("removing the retained messages below load/%x: %w", r.run, err)
	}
	r.finish(res)
	res.Done, res.Duplicate, res.Lost = r.unique, r.duplicate, uint64(r.Messages*r.Subscribers)-r.unique
	return res, nil
}

// store publishes each retained message with so many bytes; 0 removes it.
func (r *retainedRun) store(ctx context.Context, payload int) (*Usage, error) {
	zero := make([]byte, payload)
	r.feed.start(r.Messages, func(dst []byte, k uint64, packetID uint16) []byte {
		topicName := fmt.Sprintf("load/%x/retained/%03d/%03d", r.run, k/1000, k%1000)
		dst = appendRemainingLength(append(dst, publishPacket|1<<1|retainFlag), 2+len(topicName)+2+int(r.broker.Version)+payload)
		dst = append(appendString(dst, topicName), byte(packetID>>8), byte(packetID))
		if r.broker.Version == V5 {
			dst = append(dst, 0)
		}
		dst = append(dst, zero...)
		if payload > 0 {
			stamp{run: r.run, sequence: uint32(k)}.put(dst[len(dst)-payload:])
		}
		return dst
	})
	return r.feed.measure(ctx)
}

// ask subscribes and waits until all is there, or nothing more comes.
func (r *retainedRun) ask(ctx context.Context) error {
	r.asked = r.now()
	for i := range r.Subscribers {
		c := r.conns[1+i]
		c.out = appendSubscribe(c.out, r.broker.Version, 1, c.qos, fmt.Sprintf("load/%x/retained/#", r.run))
		if err := r.flush(c); err != nil {
			return err
		}
	}
	want := uint64(r.Messages * r.Subscribers)
	return r.awaitAll(ctx, &r.unique, want)
}

// awaitAll turns until *got is want, or does not grow for stallTimeout: the rest is lost then.
func (d *driver) awaitAll(ctx context.Context, got *uint64, want uint64) error {
	last, at := *got, d.now()
	for *got < want {
		if err := d.turn(ctx, d.now()+int64(longestWait)); err != nil {
			return err
		}
		if now := d.now(); *got != last {
			last, at = *got, now
		} else if now-at > int64(lossTimeout) {
			return nil
		}
	}
	return nil
}

// lossTimeout is after how long a silence a message that did not come counts as lost.
const lossTimeout = 10 * time.Second

func (r *retainedRun) ready(*conn) error { return nil }

func (r *retainedRun) lost(_ *conn, err error) error { return err }

func (r *retainedRun) packet(c *conn, first byte, body []byte, now int64) error {
	switch {
	case c == r.feed.conn:
		return r.feed.packet(first, body)
	case first == subackPacket:
		_, err := parseSuback(r.broker.Version, body, c.qos, 1)
		return err
	case first&0xf0 != publishPacket || r.asked == 0:
		return fmt.Errorf("load: packet 0x%02x at a subscriber", first)
	case first&retainFlag == 0:
		return fmt.Errorf("load: a retained message without RETAIN")
	}
	payload, err := receive(c, r.broker.Version, first, body, r.QoS)
	if err != nil {
		return err
	}
	if len(payload) != r.Payload {
		return fmt.Errorf("load: message of %d bytes, stored were %d", len(payload), r.Payload)
	}
	s := readStamp(payload)
	if s.run != r.run || s.sequence >= uint32(r.Messages) {
		return fmt.Errorf("load: message of another run")
	}
	if !r.seen[c.index].mark(int(s.sequence)) {
		r.duplicate++
		r.flawed++
		return nil
	}
	r.unique++
	r.record(now - r.asked)
	return nil
}

// A bitmap notes which of a number of things were there.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

// mark is false if i was marked before.
func (b bitmap) mark(i int) bool {
	bit := uint64(1) << (i % 64)
	fresh := b[i/64]&bit == 0
	b[i/64] |= bit
	return fresh
}
