package load

import (
	"context"
	"fmt"
	"time"
)

// Replay is a workload of clients with persistent sessions that come back, all together, to the
// messages that were queued for them. Its latency is from the client's connect to each message.
type Replay struct {
	Sessions  int
	Queued    int // QoS 1 messages for each
	Payload   int
	Returning int // clients that come back, the first ones; 0: all
	AtOnce    int // clients in their handshake at once; 0: HandshakesOpen
}

// Validate checks the workload against its bounds.
func (w *Replay) Validate() error {
	return check(
		bound{"sessions", w.Sessions, 1, maxClients},
		bound{"queued", w.Queued, 1, maxMessages / w.Sessions},
		bound{"payload", w.Payload, stampBytes, maxPayload},
		bound{"returning", w.Returning, 0, w.Sessions},
		bound{"at-once", w.AtOnce, 0, maxClients},
	)
}

// Unit is one delivery.
func (w *Replay) Unit() string { return "message" }

// Clients is those that come back, or are in their handshake when the sessions
// are made, and the one that publishes.
func (w *Replay) Clients() int { return max(w.returning(), min(w.Sessions, HandshakesOpen)) + 1 }

func (w *Replay) returning() int {
	if w.Returning == 0 {
		return w.Sessions
	}
	return w.Returning
}

// Scale changes the number of sessions.
func (w *Replay) Scale(factor float64) {
	w.Sessions = scaled(w.Sessions, factor)
	if w.Returning > 0 {
		w.Returning = scaled(w.Returning, factor)
	}
}

// Parameters are the fields by name.
func (w *Replay) Parameters() []Parameter {
	return []Parameter{
		{Name: "sessions", About: "clients with a persistent session", Number: &w.Sessions},
		{Name: "queued", About: "messages queued for each", Number: &w.Queued},
		{Name: "payload", About: "bytes of each message", Number: &w.Payload},
		{Name: "returning", About: "clients that come back; 0: all", Number: &w.Returning},
		{Name: "at-once", About: "clients in their handshake at once; 0: 64", Number: &w.AtOnce},
	}
}

// Run makes the sessions, queues the messages, lets the clients return, and removes the sessions.
func (w *Replay) Run(ctx context.Context, b Broker, watch func(Sample)) (*Result, error) {
	if w.Sessions < 1 {
		return nil, check(bound{"sessions", w.Sessions, 1, maxClients})
	}
	if err := w.Validate(); err != nil {
		return nil, err
	}
	r := &replayRun{Replay: *w, run: newRunID(), streams: make([]stream, w.Sessions)}
	d, err := newDriver(b, r, watch)
	if err != nil {
		return nil, err
	}
	defer d.close()
	r.driver = d
	r.feed = newFeed(d, fmt.Sprintf("load-%x-queue", r.run))
	for i := range w.Sessions {
		c := d.add(fmt.Sprintf("load-%x-q%06d", r.run, i), 1, r.topicName(i))
		c.index, c.persistent = i, true
	}
	return r.measure(ctx)
}

// What the clients of a replay do when they are connected.
type replayStep uint8

const (
	makeSession   replayStep = iota // subscribe, then leave
	returnToIt                      // stay and receive
	removeSession                   // leave at once
)

// A replayRun is the state of one run of Replay.
//
// Ownership: the driver's goroutine.
type replayRun struct {
	Replay
	*driver
	run     uint32
	step    replayStep
	feed    *feed
	streams []stream
	unique  uint64
	absent  uint64 // sessions that the broker did not have any more
}

func (r *replayRun) topicName(i int) string { return fmt.Sprintf("load/%x/queue/%06d", r.run, i) }

func (r *replayRun) clients() []*conn { return r.conns[1:] }

// back are the clients that come back.
func (r *replayRun) back() []*conn { return r.conns[1 : 1+r.returning()] }

func (r *replayRun) measure(ctx context.Context) (*Result, error) {
	res := &Result{Unit: r.Unit(), Sent: uint64(r.Sessions * r.Queued)}
	base, err := r.startRSS()
	if err != nil {
		return nil, err
	}
	if err := r.open(ctx, r.conns, HandshakesOpen, 0); err != nil {
		return nil, err
	}
	if err := r.queue(ctx, res); err != nil {
		return nil, err
	}
	if res.SessionBytes, err = r.growth(base, r.Sessions); err != nil {
		return nil, err
	}
	begin, err := readMeter(r.broker.PID)
	if err != nil {
		return nil, err
	}
	r.step = returnToIt
	for _, c := range r.clients() {
		c.filters = nil // the session has them
	}
	r.enter(Measuring, 0)
	if err := r.open(ctx, r.back(), atOnceOr(r.AtOnce), 0); err != nil {
		return nil, err
	}
	res.Opening = time.Since(begin.at)
	if err := r.awaitAll(ctx, &r.unique, (uint64(r.returning())-r.absent)*uint64(r.Queued)); err != nil {
		return nil, err
	}
	r.enter(Cleaning, 0)
	if res.Usage, err = usageSince(begin, r.broker.PID); err != nil {
		return nil, err
	}
	if err := r.remove(ctx); err != nil {
		return nil, err
	}
	for i := range r.back() {
		s := &r.streams[i]
		res.addFlaw(Flaw{Publisher: 0, Subscriber: i, Lost: s.lost(uint64(r.Queued)), Duplicate: s.duplicate, Late: s.late})
	}
	r.finish(res)
	res.Done, res.Failed = r.unique, r.absent
	if r.absent > 0 {
		res.Notes = append(res.Notes, fmt.Sprintf("%d of %d sessions were not there any more", r.absent, r.returning()))
	}
	return res, nil
}

// queue publishes to the absent clients, in turns, so that no queue is filled at one stretch.
func (r *replayRun) queue(ctx context.Context, res *Result) error {
	var err error
	if res.BaseRSS, err = r.startRSS(); err != nil {
		return err
	}
	frames := make([]publishFrame, r.Sessions)
	for i := range frames {
		frames[i] = newPublishFrame(r.broker.Version, r.topicName(i), 1, false, r.Payload)
	}
	r.enter(Preparing, 0)
	sessions := uint64(r.Sessions)
	r.feed.start(r.Sessions*r.Queued, func(dst []byte, k uint64, packetID uint16) []byte {
		s := stamp{run: r.run, publisher: uint32(k % sessions), sequence: uint32(k / sessions)}
		return frames[k%sessions].append(dst, packetID, s)
	})
	if res.Storing, err = r.feed.measure(ctx); err != nil {
		return err
	}
	res.QueuedBytes, err = r.growth(res.BaseRSS, r.Sessions*r.Queued)
	return err
}

// remove ends the sessions: a client that comes without asking for one takes it away.
func (r *replayRun) remove(ctx context.Context) error {
	r.step = removeSession
	for _, c := range r.clients() {
		r.closeConn(c)
		c.persistent = false
	}
	return r.open(ctx, r.clients(), HandshakesOpen, 0)
}

func (r *replayRun) ready(c *conn) error {
	if c == r.feed.conn {
		return nil
	}
	if r.step == returnToIt {
		if !c.sessionPresent {
			r.absent++
			r.flawed++
		}
		return nil
	}
	c.out = appendDisconnect(c.out)
	if err := r.flush(c); err != nil {
		return err
	}
	r.closeConn(c)
	return nil
}

func (r *replayRun) lost(_ *conn, err error) error { return err }

func (r *replayRun) packet(c *conn, first byte, body []byte, now int64) error {
	if c == r.feed.conn {
		return r.feed.packet(first, body)
	}
	if first&0xf0 != publishPacket || r.step != returnToIt {
		return fmt.Errorf("load: packet 0x%02x at a client with a session", first)
	}
	payload, err := receive(c, r.broker.Version, first, body, 1)
	if err != nil {
		return err
	}
	if len(payload) != r.Payload {
		return fmt.Errorf("load: message of %d bytes, queued were %d", len(payload), r.Payload)
	}
	s := readStamp(payload)
	if s.run != r.run || s.publisher != uint32(c.index) || s.sequence >= uint32(r.Queued) {
		return fmt.Errorf("load: message of another client or run")
	}
	stream := &r.streams[c.index]
	switch stream.observe(uint64(s.sequence)) {
	case duplicate:
		r.flawed++
		return nil
	case late:
		r.flawed++
	}
	r.unique++
	r.record(now - c.began)
	return nil
}
