package session

import (
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/inflight"
	"github.com/wheelmq/wheelmq/engine/message"
)

// Limits bound a session's queue; one value is shared by all sessions.
type Limits struct {
	Messages int // waiting messages; negative: unlimited
	Bytes    int // their bytes; negative: unlimited
	Policy   OverflowPolicy
}

// OverflowPolicy says what a full queue does with one more message.
type OverflowPolicy uint8

// The policies.
const (
	DropNewest      OverflowPolicy = iota // the arriving message is dropped
	DropOldest                            // the longest waiting one is dropped
	RejectPublisher                       // the publisher is answered 0x97; see [Session.Full]
)

// Outbound is one message on its way to the client.
type Outbound struct {
	Message *message.Message // one reference is the session's
	Extra   *Extra           // what most deliveries do not have, or nil; shared
	Stored  uint64           // the engine's: where the store has it, 0 nowhere
	QoS     codec.QoS        // at which it is delivered: 1 or 2
	Retain  bool             // RETAIN flag of the delivery
	Own     bool             // the engine's: the store has the message for this delivery alone

	counted bool // in the window: its PUBLISH was sent on this connection and takes one of the quota
}

// Shared reports whether it came by a shared subscription.
func (o *Outbound) Shared() bool { return o.Origin() != nil }

// Extra is what some deliveries have beside the message. Immutable.
type Extra struct {
	IDs    []uint32 // Subscription Identifiers
	Origin any      // the engine's: by which shared subscription it came, or nil
}

// IDs are the delivery's Subscription Identifiers, shared.
func (o *Outbound) IDs() []uint32 {
	if o.Extra == nil {
		return nil
	}
	return o.Extra.IDs
}

// Origin is what the engine gave with it, or nil.
func (o *Outbound) Origin() any {
	if o.Extra == nil {
		return nil
	}
	return o.Extra.Origin
}

// Send is what the loop shall encode next.
type Send struct {
	Outbound // Message nil: a PUBREL
	PacketID uint16
	Dup      bool
}

// A Session is the state kept under one client identifier.
type Session struct {
	ClientID string // immutable

	limits      *Limits
	*flow              // the shared empty one until something flows
	quota       uint16 // PUBLISH packets that may still be sent on this connection
	receiveBase uint16 // len(received) when the connection began
	online      bool   // a connection is attached
}

// flow is what a session needs once it has QoS 1 or 2 to do with: most
// sessions of a fleet idle without.
type flow struct {
	window   inflight.Window[Outbound] // sent at least once, not finished
	received inflight.IDSet            // QoS 2 identifiers of the client between PUBLISH and PUBREL
	queue    queue                     // not sent yet, in order
	resend   []uint16                  // window entries still to be sent again on this connection, in order
}

// noFlow is the flow of all sessions without one. It is read by every loop and
// never written: own comes before each change.
var noFlow flow

// own gives the session a flow of its own.
func (s *Session) own() {
	if s.flow == &noFlow {
		s.flow = new(flow)
	}
}

// New returns an empty session without a connection.
func New(clientID string, limits *Limits) *Session {
	return &Session{ClientID: clientID, limits: limits, flow: &noFlow}
}

// Init makes s an empty session without a connection, in place.
func (s *Session) Init(clientID string, limits *Limits) {
	*s = Session{ClientID: clientID, limits: limits, flow: &noFlow}
}

// Attach begins a connection that may have quota PUBLISH packets open; what
// was in flight is to be sent again (MQTT 5.0 section 4.4), by Next.
func (s *Session) Attach(quota uint16) {
	s.online, s.quota, s.receiveBase = true, quota, uint16(s.received.Len())
	if s.window.Len() == 0 {
		return
	}
	s.resend = s.resend[:0]
	for _, e := range s.window.Ordered(nil) {
		e.Value.counted = false
		s.resend = append(s.resend, e.PacketID)
	}
}

// Detach ends the connection.
func (s *Session) Detach() {
	s.online = false
	if s.flow == &noFlow {
		return
	}
	s.resend = nil
	s.window.Trim()
	if s.window.Len() == 0 && s.received.Len() == 0 && s.queue.len() == 0 {
		s.flow = &noFlow
	}
}

// A Verdict is what became of an offered message.
type Verdict uint8

// The verdicts.
const (
	Sent    Verdict = iota // encode it now under the returned packet identifier
	Queued                 // it waits
	Stored                 // it waits, and is in the store alone: the session took nothing
	Dropped                // the queue is full; the session took nothing
	Evicted                // not taken yet: the returned older one was dropped for it; offer it again
)

// Offer takes one message of QoS 1 or 2 for the client. With hold set it is
// queued even if it could be sent (the connection does not read fast enough).
// Without room it stays out of memory when it is in the store and some wait
// already. With Sent and Queued the session takes over the caller's reference.
// With Evicted the caller gets the longest waiting message, with its reference.
// Where that is in the store alone, o is taken beyond the bounds: see Over.
func (s *Session) Offer(o Outbound, hold, room bool) (id uint16, v Verdict, evicted Outbound) {
	s.own()
	if s.online && !hold && s.quota > 0 && s.queue.len() == 0 && len(s.resend) == 0 {
		if id, ok := s.add(&o); ok {
			return id, Sent, Outbound{}
		}
	}
	if !s.full(o.Message.Size(), 1) {
		return 0, s.queue.put(o, room), Outbound{}
	}
	switch s.limits.Policy {
	case DropOldest:
		if s.limits.Bytes >= 0 && o.Message.Size() > s.limits.Bytes {
			break
		}
		if s.queue.head.n > 0 {
			return 0, Evicted, s.queue.head.pop()
		}
		if s.queue.far != nil {
			return 0, s.queue.put(o, room), Outbound{}
		}
	case RejectPublisher:
		// What was on its way between loops when the queue filled up was
		// acknowledged already: it gets as much room again.
		if !s.full(o.Message.Size(), 2) {
			return 0, s.queue.put(o, room), Outbound{}
		}
	case DropNewest:
	}
	return 0, Dropped, Outbound{}
}

// add puts o into the window, for its PUBLISH to be sent.
func (s *Session) add(o *Outbound) (id uint16, ok bool) {
	sent := *o
	sent.counted = true
	if id, ok = s.window.Add(sent, firstState(o.QoS)); ok {
		s.quota--
	}
	return id, ok
}

func firstState(q codec.QoS) inflight.State {
	if q == 2 {
		return inflight.AwaitPubrec
	}
	return inflight.AwaitPuback
}

// full reports whether a message of size bytes exceeds times the bounds.
func (s *Session) full(size, times int) bool {
	l := s.limits
	return l.Messages >= 0 && s.queue.len() >= times*l.Messages ||
		l.Bytes >= 0 && s.queue.bytes()+size > times*l.Bytes
}

// Over reports whether the queue is beyond its bounds under DropOldest.
func (s *Session) Over() bool {
	l := s.limits
	return l.Policy == DropOldest && (l.Messages >= 0 && s.queue.len() > l.Messages || l.Bytes >= 0 && s.queue.bytes() > l.Bytes)
}

// Evict takes the longest waiting message out of the head, with its reference,
// when the queue is Over.
func (s *Session) Evict() (Outbound, bool) {
	if s.queue.head.n == 0 || !s.Over() {
		return Outbound{}, false
	}
	return s.queue.head.pop(), true
}

// Expire hands the expired messages at the head of the queue to drop, with
// their references: they must not keep room from others.
func (s *Session) Expire(now clock.Time, drop func(Outbound)) {
	for h := &s.queue.head; h.n > 0 && h.peek().Message.Expired(now); {
		drop(h.pop())
	}
}

// Full reports whether the queue is at its bound for a message of size bytes.
func (s *Session) Full(size int) bool { return s.full(size, 1) }

// Next returns what is to be sent next on the connection: first what was in
// flight when it began, then what waits, as far as the quota allows. Expired
// messages that were never sent are handed to drop, with their reference.
// The returned message stays the session's. Where it returns nothing, Far may
// have more.
func (s *Session) Next(now clock.Time, drop func(Outbound)) (Send, bool) {
	if !s.online {
		return Send{}, false
	}
	if len(s.resend) > 0 {
		if out, ok := s.nextResend(); ok {
			return out, true
		}
	}
	for h := &s.queue.head; h.n > 0 && s.quota > 0 && len(s.resend) == 0; {
		o := h.peek()
		if o.Message.Expired(now) {
			drop(h.pop())
			continue
		}
		id, ok := s.add(o)
		if !ok {
			break
		}
		return Send{Outbound: h.pop(), PacketID: id}, true
	}
	return Send{}, false
}

// nextResend sends the first entry of the resend list that may go: PUBREL
// always, PUBLISH while there is quota (U5-4.9-resend). Entries acknowledged
// meanwhile leave the list.
func (s *Session) nextResend() (Send, bool) {
	for i := 0; i < len(s.resend); {
		id := s.resend[i]
		e := s.window.Get(id)
		if e != nil && e.State != inflight.AwaitPubcomp && s.quota == 0 {
			i++
			continue
		}
		if i == 0 {
			s.resend = s.resend[1:] // in one step, however many there are
		} else {
			s.resend = append(s.resend[:i], s.resend[i+1:]...)
		}
		switch {
		case e == nil:
		case e.State == inflight.AwaitPubcomp:
			return Send{PacketID: id}, true
		default:
			s.quota--
			e.Value.counted = true
			return Send{Outbound: e.Value, PacketID: id, Dup: true}, true
		}
	}
	return Send{}, false
}

// Result says what an acknowledgement did.
type Result uint8

// The results.
const (
	Done      Result = iota // the delivery is finished, the returned Outbound is the caller's
	Continue                // the PUBREL is to be sent
	Unknown                 // no such packet identifier
	WrongKind               // the identifier is open, but for another acknowledgement
)

// Puback finishes a QoS 1 delivery.
func (s *Session) Puback(id uint16) (Outbound, Result) {
	return s.finish(id, inflight.AwaitPuback)
}

// Pubcomp finishes a QoS 2 delivery; its message was let go at Pubrec.
func (s *Session) Pubcomp(id uint16) (Outbound, Result) {
	return s.finish(id, inflight.AwaitPubcomp)
}

func (s *Session) finish(id uint16, want inflight.State) (Outbound, Result) {
	e := s.window.Get(id)
	if e == nil {
		return Outbound{}, Unknown
	}
	if e.State != want {
		return Outbound{}, WrongKind
	}
	return s.remove(id), Done
}

// Pubrec moves a QoS 2 delivery on. With Continue the returned message is the
// caller's to release when it is not nil: after PUBREC it is never sent again
// [MQTT-4.3.3-6]. A refusing code finishes the delivery.
func (s *Session) Pubrec(id uint16, code codec.ReasonCode) (Outbound, Result) {
	e := s.window.Get(id)
	switch {
	case e == nil:
		return Outbound{}, Unknown
	case e.State == inflight.AwaitPuback:
		return Outbound{}, WrongKind
	case e.State == inflight.AwaitPubcomp: // repeated: so is the PUBREL
		return Outbound{}, Continue
	case code.Failure():
		return s.remove(id), Done
	}
	o := e.Value
	e.Value.Message, e.Value.Extra = nil, nil
	e.State = inflight.AwaitPubcomp
	return o, Continue
}

func (s *Session) remove(id uint16) Outbound {
	e, _ := s.window.Remove(id)
	if e.counted {
		s.quota++
		e.counted = false
	}
	return e
}

// Receive opens QoS 2 identifier id of the client's. isNew is false for a
// repetition; within is false when the client has more than max open on this
// connection (0: no bound).
func (s *Session) Receive(id uint16, max uint16) (isNew, within bool) {
	if s.received.Has(id) {
		return false, true
	}
	if max > 0 && s.received.Len() >= int(max)+int(s.receiveBase) {
		return false, false
	}
	s.own()
	return s.received.Add(id), true
}

// Forget closes identifier id, at PUBREL or when its PUBLISH was refused. It
// reports whether it was open.
func (s *Session) Forget(id uint16) bool { return s.received.Remove(id) }

// InFlight is the number of deliveries sent and not finished.
func (s *Session) InFlight() int { return s.window.Len() }

// SendNow puts o straight into the window, ahead of what waits in the queue:
// for retained messages, which are read as the window has room and so never
// fill the queue. ok is false, and nothing taken, when it has none.
func (s *Session) SendNow(o Outbound) (id uint16, ok bool) {
	if !s.CanSendNow() {
		return 0, false
	}
	s.own()
	return s.add(&o)
}

// CanSendNow reports whether SendNow would take a message.
func (s *Session) CanSendNow() bool { return s.online && s.quota > 0 && len(s.resend) == 0 }

// Quota is the number of PUBLISH packets that may be sent now.
func (s *Session) Quota() int { return int(s.quota) }

// Queued is the number of messages that wait, in memory or not, and their bytes.
func (s *Session) Queued() (messages, bytes int) { return s.queue.len(), s.queue.bytes() }

// Blocked reports that a further message cannot be sent at once.
func (s *Session) Blocked() bool { return s.quota == 0 || s.queue.len() > 0 || len(s.resend) > 0 }

// Drain empties the session at its end and hands every message in memory with
// its reference to give; sent tells those that were sent at least once. far is
// how many messages, and bytes, waited in the store alone.
func (s *Session) Drain(give func(o Outbound, sent bool)) (far, bytes int) {
	for _, e := range s.window.Ordered(nil) {
		o := e.Value
		s.window.Remove(e.PacketID)
		if o.Message != nil {
			give(o, true)
		}
	}
	q := &s.queue
	for q.head.n > 0 {
		give(q.head.pop(), false)
	}
	f := q.far
	if f == nil {
		return 0, 0
	}
	for f.rear.n > 0 {
		give(f.rear.pop(), false)
	}
	q.far = nil
	return f.reach.n + f.later.n, f.reach.bytes + f.later.bytes
}

// Discard gives up the delivery of id, which was never really sent, and
// returns it with its reference (MQTT 5.0 section 3.1.2.11.4).
func (s *Session) Discard(id uint16) Outbound { return s.remove(id) }

// RestoreInFlight puts a delivery back that was sent under id before the
// process ended, in the order of sending; its reference is the session's.
func (s *Session) RestoreInFlight(id uint16, o Outbound, state inflight.State) {
	s.own()
	s.window.Restore(id, o, state)
}

// RestoreReceived opens a QoS 2 identifier again.
func (s *Session) RestoreReceived(id uint16) {
	s.own()
	s.received.Add(id)
}

// ReplaceLimits is SetLimits, if the session has the limits old.
func (s *Session) ReplaceLimits(old, now *Limits) {
	if s.limits == old {
		s.limits = now
	}
}

// SetLimits gives the session other bounds; what waits beyond them stays.
func (s *Session) SetLimits(l *Limits) { s.limits = l }
