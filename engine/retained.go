package engine

import (
	"sync/atomic"

	"github.com/wheelmq/wheelmq/codec"
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
}

// messages is the number of clients' messages.
func (s *retainedStore) messages() int64 { return int64(s.index.Len()) - s.own.Load() }

// storeRetained sets, replaces or clears the retained message of p's topic
// (MQTT 5.0 section 3.3.1.3). It reports whether the bounds allow it.
func (l *loop) storeRetained(p *publication) bool {
	s := &l.b.retained
	name := string(p.topic)
	if len(p.payload) == 0 {
		if old, had := s.index.Delete(name); had {
			s.bytes.Add(-int64(old.Size()))
		}
		return true
	}
	m := message.NewLasting(p.topic, p.payload, p.properties)
	m.Expires, m.QoS, m.Retained = p.expires, p.qos, true
	if p.publisher == 0 {
		if _, had := s.index.Set(name, m); !had {
			s.own.Add(1)
		}
		return true
	}
	if !s.fits(name, int64(m.Size()), &l.b.opts) {
		l.counters.Dropped[metrics.DropRefusedPublish]++
		return false
	}
	if old, had := s.index.Set(name, m); had {
		s.bytes.Add(-int64(old.Size()))
	}
	s.bytes.Add(int64(m.Size()))
	return true
}

// fits reports whether the bounds allow a message of size bytes under name, in
// the place of the one that may be there. Loops that store at the same moment
// may together exceed a bound by one message each.
func (s *retainedStore) fits(name string, size int64, o *Options) bool {
	added := int64(1)
	s.index.Get(name, func(old *message.Message) {
		added = 0
		size -= int64(old.Size())
	})
	return (o.MaxRetainedMessages == Unlimited || s.messages()+added <= int64(o.MaxRetainedMessages) || added == 0) &&
		(o.MaxRetainedBytes == Unlimited || s.bytes.Load()+size <= int64(o.MaxRetainedBytes) || size <= 0)
}

// A replay is the delivery of the retained messages that match one new
// subscription. It reads the index as the session has room for more, so that
// nothing is cut off and nothing piles up.
type replay struct {
	filter     string
	cursor     retained.Cursor
	extra      *session.Extra // its Subscription Identifier, or nil
	qos        codec.QoS
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
	r := &replay{filter: s.filter, qos: s.qos}
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
		l.counters.Dropped[metrics.DropExpired]++
		return
	}
	if len(l.b.deliveries) > 0 && !l.mayGet(c.cl, m.Topic) {
		return
	}
	o := session.Outbound{Message: m, Extra: r.extra, QoS: min(r.qos, m.QoS), Retain: true}
	if c.ext != nil && c.tooLarge(o) {
		l.counters.Dropped[metrics.DropPacketTooLarge]++
		return
	}
	var id uint16
	if o.QoS > 0 {
		m.Retain()
		if id, _ = c.cl.SendNow(o); id == 0 { // all 65535 identifiers are open
			m.Release(l.pool)
			return
		}
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
