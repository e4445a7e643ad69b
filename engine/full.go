package engine

import (
	"sync"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/router"
)

// fullSessions knows whose queue is full, for the policy that rejects the
// publisher: the publisher's loop must know before it acknowledges, wherever
// the session is. Empty, as it nearly always is, it costs one load.
type fullSessions struct {
	policy session.OverflowPolicy
	count  atomic.Int32
	mu     sync.Mutex
	refs   map[router.Ref]struct{}
}

func (f *fullSessions) any() bool { return f.count.Load() > 0 }

// update notes whether cl's queue is full now. cl's loop.
func (f *fullSessions) update(cl *client) {
	if f.policy == session.RejectPublisher {
		f.set(cl.ref, cl.Full(0))
	}
}

// clear forgets cl. cl's loop.
func (f *fullSessions) clear(cl *client) {
	if f.policy == session.RejectPublisher {
		f.set(cl.ref, false)
	}
}

func (f *fullSessions) set(ref router.Ref, full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if full {
		f.refs[ref] = struct{}{}
	} else {
		delete(f.refs, ref)
	}
	f.count.Store(int32(len(f.refs)))
}

// blocks reports whether one of r's recipients is full. Members of shared
// subscriptions do not count: another one takes the message.
func (f *fullSessions) blocks(r *router.Route) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, subs := range r.Loops {
		for i := range subs {
			if _, full := f.refs[subs[i].Ref]; full && subs[i].QoS > 0 {
				return true
			}
		}
	}
	return false
}
