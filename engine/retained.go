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
	bytes atomic.Int64
}

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
	o := &l.b.opts
	size := int64(len(p.topic) + len(p.payload) + len(p.properties))
	if o.MaxRetainedBytes != Unlimited && s.bytes.Load()+size > int64(o.MaxRetainedBytes) ||
		o.MaxRetainedMessages != Unlimited && s.index.Len() >= int(o.MaxRetainedMessages) && !s.index.Get(name, func(*message.Message) {}) {
		l.counters.Dropped[metrics.DropRefusedPublish]++
		return false
	}
	m := message.NewLasting(p.topic, p.payload, p.properties)
	m.Expires, m.QoS, m.Retained = p.expires, p.qos, true
	if old, had := s.index.Set(name, m); had {
		s.bytes.Add(-int64(old.Size()))
	}
	s.bytes.Add(int64(m.Size()))
	return true
}

// A replay is the delivery of the retained messages that match one new
// subscription. It reads the index as the session has room for more, so that
// nothing is cut off and nothing piles up.
type replay struct {
	filter string
	cursor retained.Cursor
	ids    []uint32
	qos    codec.QoS
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
		r.ids = []uint32{s.id}
	}
	return r
}

// replayStep sends the next retained messages of c's first replay, if there is
// room for them. It reports whether it did anything.
func (l *loop) replayStep(c *conn) bool {
	cl := c.cl
	r := cl.ext.replays[0]
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
		cl.ext.replays[0] = nil
		if cl.ext.replays = cl.ext.replays[1:]; len(cl.ext.replays) == 0 {
			cl.ext.replays = nil
		}
	}
	return true
}

// sendRetained sends one retained message, with RETAIN 1 [311:MQTT-3.3.1-8].
func (l *loop) sendRetained(c *conn, r *replay, m *message.Message) {
	if m.Expired(l.now) {
		l.counters.Dropped[metrics.DropExpired]++
		return
	}
	o := session.Outbound{Message: m, IDs: r.ids, QoS: min(r.qos, m.QoS), Retain: true}
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

func (l *loop) dropReplays(cl *client) {
	if cl.ext != nil {
		cl.ext.replays = nil
	}
}

// dropReplay ends the replay of one filter.
func (l *loop) dropReplay(cl *client, filter string) {
	if cl.ext == nil {
		return
	}
	for i, r := range cl.ext.replays {
		if r.filter == filter {
			cl.ext.replays = append(cl.ext.replays[:i], cl.ext.replays[i+1:]...)
			return
		}
	}
}
