package engine

import (
	"sync/atomic"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/limits"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/router/retained"
)

// retainedStore is the broker's retained messages with their bounds. Any loop.
// A retained message is never released: readers take what they see without
// counting, and the collector has the rest.
type retainedStore struct {
	index *retained.Index[*message.Message]
	bytes atomic.Int64 // of clients' messages
	own   atomic.Int64 // messages that are the broker's own: $SYS, outside the bounds
	brief atomic.Int64 // messages that expire

	holdings *limits.Holdings // of each client; nil where that has no bound

	sweeping retained.Cursor // loop 0: where the search for expired ones stands
}

// messages is the number of clients' messages.
func (s *retainedStore) messages() int64 { return int64(s.index.Len()) - s.own.Load() }

// storeRetained sets, replaces or clears the retained message of p's topic
// (MQTT 5.0 section 3.3.1.3). It reports whether the bounds allow it.
func (l *loop) storeRetained(p *publication) bool {
	s := &l.b.retained
	name := string(p.topic)
	if len(p.payload) == 0 {
		l.clearRetained(name)
		if !p.sys {
			l.keepRetained(name, p)
		}
		return true
	}
	m := message.NewLasting(p.topic, p.payload, p.properties)
	m.Expires, m.QoS, m.Retained, m.Publisher = p.expires, p.qos, true, p.from
	if p.sys {
		if _, had := s.index.Set(name, m); !had {
			s.own.Add(1)
		}
		return true
	}
	if which, ok := s.fits(name, m, l.b.options()); !ok {
		l.counters.Limited[which]++
		l.drop(hook.DropRefusedPublish, nil, p.topic)
		return false
	}
	s.count(m, 1)
	if old, had := s.index.Set(name, m); had {
		s.count(old, -1)
	}
	l.keepRetained(name, p)
	l.tellRetained(name, m)
	return true
}

// clearRetained removes the retained message of a topic, if there is one.
func (l *loop) clearRetained(name string) bool {
	old, had := l.b.retained.index.Delete(name)
	if had {
		l.b.retained.count(old, -1)
		l.tellRetained(name, nil)
	}
	return had
}

// count takes a client's message into the accounts, or out of them with n -1.
func (s *retainedStore) count(m *message.Message, n int64) {
	s.bytes.Add(n * int64(m.Size()))
	if m.Expires != 0 {
		s.brief.Add(n)
	}
	if s.holdings != nil && m.Publisher != "" {
		s.holdings.Add(m.Publisher, n, n*int64(m.Size()))
	}
}

// forgetRetained removes m, which has expired, and tells.
func (l *loop) forgetRetained(m *message.Message) {
	if l.b.retained.forget(m) {
		l.keepRetained(string(m.Topic), nil)
		l.tellRetained(string(m.Topic), nil)
	}
}

// forget removes m, which has expired, unless another message took its place.
func (s *retainedStore) forget(m *message.Message) bool {
	if s.index.DeleteIf(string(m.Topic), func(now *message.Message) bool { return now == m }) {
		s.count(m, -1)
		return true
	}
	return false
}

// sweepRetained looks at a few retained messages and removes those that have
// expired. Topics that begin with $ wait for a subscriber to find them.
func (l *loop) sweepRetained() {
	s := &l.b.retained
	if s.brief.Load() == 0 {
		return
	}
	found := l.found[:0]
	done := s.index.Match("#", &s.sweeping, sweepChunk, func(_ string, m *message.Message) {
		if m.Expired(l.now) {
			found = append(found, m)
		}
	})
	for _, m := range found {
		l.forgetRetained(m)
	}
	clear(found)
	l.found = found[:0]
	if done {
		s.sweeping = retained.Cursor{}
	}
}

// sweepChunk is how many retained messages one tick looks at: a million are
// through in a quarter of an hour, at about 10 µs a tick.
const sweepChunk = 256

// fits reports whether the bounds allow m under name, in the place of the
// message that may be there, and which of them does not. Loops that store at the
// same moment may together exceed a bound by one message each.
func (s *retainedStore) fits(name string, m *message.Message, o *Options) (which metrics.Limit, ok bool) {
	size := int64(m.Size())
	added, grown, own, ownGrown := int64(1), size, int64(1), size
	s.index.Get(name, func(old *message.Message) {
		added, grown = 0, size-int64(old.Size())
		if old.Publisher == m.Publisher {
			own, ownGrown = added, grown
		}
	})
	if over(o.MaxRetainedMessages, s.messages(), added) || over(o.MaxRetainedBytes, s.bytes.Load(), grown) {
		return metrics.Retained, false
	}
	if s.holdings != nil && m.Publisher != "" {
		n, bytes := s.holdings.Of(m.Publisher)
		if over(o.ClientRetainedMessages, n, own) || over(o.ClientRetainedBytes, bytes, ownGrown) {
			return metrics.ClientRetained, false
		}
	}
	return 0, true
}

// over reports whether added to now is beyond the bound most. What does not
// grow is never over.
func over(most Limit, now, added int64) bool {
	return most != Unlimited && added > 0 && now+added > int64(most)
}

// A replay is the delivery of the retained messages that match one new
// subscription. It reads the index as the session has room for more, so that
// nothing is cut off and nothing piles up.
type replay struct {
	filter     string
	cursor     retained.Cursor
	extra      *session.Extra // its Subscription Identifier, or nil
	qos        codec.QoS
	noLocal    bool
	prev, next *replay // in the session's replayQueue
}

// replayChunk is how many retained messages are read in one go.
const replayChunk = 32

// newReplay returns the replay of s, nil when no retained message matches.
func (l *loop) newReplay(s *subscription) *replay {
	found := false
	done := l.b.retained.index.Match(s.filter, new(retained.Cursor), 1, func(string, *message.Message) { found = true })
	if done && !found {
		return nil
	}
	r := &replay{filter: s.filter, qos: s.qos, noLocal: s.noLocal}
	if s.id != 0 {
		r.extra = &session.Extra{IDs: []uint32{s.id}}
	}
	return r
}

// replayStep sends the next retained messages of c's first replay, if there is
// room for them. It reports whether it did anything.
func (l *loop) replayStep(c *conn) bool {
	cl := c.cl
	r := cl.ext.replays.first
	limit := replayChunk
	if r.qos > 0 {
		if !cl.CanSendNow() {
			return false
		}
		limit = min(limit, cl.Quota())
	}
	found := l.found[:0]
	done := l.b.retained.index.Match(r.filter, &r.cursor, limit, func(_ string, m *message.Message) {
		found = append(found, m)
	})
	for _, m := range found {
		if c.state != connOpen {
			break
		}
		l.sendRetained(c, r, m)
	}
	clear(found)
	l.found = found[:0]
	if done {
		cl.dropReplay(r.filter)
	}
	return true
}

// sendRetained sends one retained message, with RETAIN 1 [311:MQTT-3.3.1-8].
func (l *loop) sendRetained(c *conn, r *replay, m *message.Message) {
	if m.Expired(l.now) {
		l.drop(hook.DropExpired, c.cl, m.Topic)
		l.forgetRetained(m)
		return
	}
	if r.noLocal && m.Publisher == c.cl.ClientID { // [MQTT-3.8.3-3]
		return
	}
	if l.checksDelivery(c.cl) && !l.mayGet(c.cl, m.Topic) {
		return
	}
	qos := min(r.qos, m.QoS)
	if l.asks&onDelivery != 0 {
		p := publication{}
		p.fromMessage(m, 0)
		changed, ok := l.interceptDelivery(c.cl, &p, qos, true)
		if !ok {
			return
		}
		if changed != nil {
			m = l.own(changed)
			defer l.done(changed)
		}
	}
	o := session.Outbound{Message: m, Extra: r.extra, QoS: qos, Retain: true}
	if c.ext != nil && c.tooLarge(o) {
		l.drop(hook.DropPacketTooLarge, c.cl, m.Topic)
		return
	}
	var id uint16
	if o.QoS > 0 {
		m.Retain()
		l.keepReplay(c.cl, m, &o)
		if id, _ = c.cl.SendNow(o); id == 0 { // all 65535 identifiers are open
			l.finish(c.cl, &o)
			m.Release(l.pool)
			return
		}
		l.progress(c.cl, &o, id, sending(o.QoS))
	}
	c.sendOutbound(&o, id, false)
}

// A replayQueue is the replays of one session, in the order of their
// subscriptions, one to a filter. Never empty.
type replayQueue struct {
	first, last *replay
	byFilter    map[string]*replay
}

// addReplay puts r behind the others; one to the same filter ends, so that a
// repeated subscription begins anew.
func (cl *client) addReplay(r *replay) {
	cl.dropReplay(r.filter)
	x := cl.extend()
	if x.replays == nil {
		x.replays = &replayQueue{first: r, last: r, byFilter: map[string]*replay{r.filter: r}}
		return
	}
	q := x.replays
	r.prev, q.last.next = q.last, r
	q.last = r
	q.byFilter[r.filter] = r
}

// dropReplay ends the replay of one filter, if there is one.
func (cl *client) dropReplay(filter string) {
	if cl.ext == nil || cl.ext.replays == nil {
		return
	}
	q := cl.ext.replays
	r := q.byFilter[filter]
	if r == nil {
		return
	}
	delete(q.byFilter, filter)
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		q.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		q.last = r.prev
	}
	if q.first == nil {
		cl.ext.replays = nil
	}
}
