package engine

import (
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/router"
)

// A subscription as the session keeps it.
type subscription struct {
	filter            string // as sent, $share/name/ included
	id                uint32 // Subscription Identifier; 0 none
	qos               codec.QoS
	noLocal           bool
	retainAsPublished bool
	member            *router.Member // of a shared subscription, else nil
}

// matched is the filter that names are matched with: without $share/name/.
func (s *subscription) matched() string {
	if s.member == nil {
		return s.filter
	}
	_, rest, _, _ := topic.ParseShared(s.filter)
	return rest
}

// fewSubscriptions is up to how many a session is searched one by one: most
// have no more, and need no index then.
const fewSubscriptions = 16

// find returns the subscription to filter, or nil. It is valid until the next
// addSubscription or removeSubscription.
func (cl *client) find(filter []byte) *subscription {
	if len(cl.subs) > fewSubscriptions {
		if i, ok := cl.indexed()[string(filter)]; ok {
			return &cl.subs[i]
		}
		return nil
	}
	for i := range cl.subs {
		if cl.subs[i].filter == string(filter) {
			return &cl.subs[i]
		}
	}
	return nil
}

// indexed returns the index of subs by filter, and makes it if there is none.
func (cl *client) indexed() map[string]uint32 {
	x := cl.extend()
	if x.byFilter == nil {
		x.byFilter = make(map[string]uint32, 2*len(cl.subs))
		for i := range cl.subs {
			x.byFilter[cl.subs[i].filter] = uint32(i)
		}
	}
	return x.byFilter
}

// addSubscription adds one to a filter that has none.
func (cl *client) addSubscription(filter string) *subscription {
	n := len(cl.subs)
	cl.subs = append(cl.subs, subscription{filter: filter})
	if cl.ext != nil && cl.ext.byFilter != nil {
		cl.ext.byFilter[filter] = uint32(n)
	}
	return &cl.subs[n]
}

// removeSubscription takes s out; the last one takes its place.
func (cl *client) removeSubscription(s *subscription) {
	n := len(cl.subs) - 1
	if cl.ext != nil && cl.ext.byFilter != nil {
		index := cl.ext.byFilter
		index[cl.subs[n].filter] = index[s.filter]
		delete(index, s.filter)
		if n <= fewSubscriptions {
			cl.ext.byFilter = nil
		}
	}
	*s = cl.subs[n]
	cl.subs[n] = subscription{}
	cl.subs = cl.subs[:n]
}

// clearSubscriptions forgets all of them.
func (cl *client) clearSubscriptions() {
	cl.subs = nil
	if cl.ext != nil {
		cl.ext.byFilter = nil
	}
}
