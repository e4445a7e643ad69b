package router

import (
	"slices"

	"github.com/wheelmq/wheelmq/codec"
)

// A Ref names one session on one loop. The engine packs it; the router only compares it.
type Ref uint64

// Flags are the Subscription Options a delivery has to look at besides QoS.
type Flags uint8

const (
	// NoLocal: messages of the session itself are not for it. On a merged Subscriber it is set only if every
	// subscription that matched has it.
	NoLocal Flags = 1 << iota
	// RetainAsPublished: the RETAIN flag is passed on unchanged.
	RetainAsPublished
)

// A Subscription is what a session asks for under one topic filter.
type Subscription struct {
	Loop              int // index of the loop that owns the session
	Ref               Ref
	QoS               codec.QoS // maximum QoS
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32 // Subscription Identifier, 0 for none
}

// subscriber returns s in the form in which a route lists it.
func (s *Subscription) subscriber() Subscriber {
	sub := Subscriber{Ref: s.Ref, id: s.ID, QoS: s.QoS}
	if s.NoLocal {
		sub.Flags |= NoLocal
	}
	if s.RetainAsPublished {
		sub.Flags |= RetainAsPublished
	}
	return sub
}

// A Subscriber is one recipient of a route: one session, with all of its subscriptions that match taken
// together. 24 bytes. Immutable and shared once it is in a list; a copy of it may be kept for ever.
type Subscriber struct {
	Ref   Ref
	more  *overlap // nil unless several subscriptions of the session met and one value is not enough
	id    uint32   // first Subscription Identifier, 0 for none
	QoS   codec.QoS
	Flags Flags
}

// An overlap is what several subscriptions of one session leave behind beyond the fields of Subscriber.
type overlap struct {
	ids []uint32    // further identifiers, each once and different from Subscriber.id
	own *Subscriber // the subscriptions without No Local taken together; nil unless some have it and some not
}

// HasIDs reports whether the delivery carries Subscription Identifiers.
func (s *Subscriber) HasIDs() bool { return s.id != 0 }

// AppendIDs appends the Subscription Identifiers of all matching subscriptions to dst, each once.
func (s *Subscriber) AppendIDs(dst []uint32) []uint32 {
	if s.id == 0 {
		return dst
	}
	dst = append(dst, s.id)
	if s.more != nil {
		dst = append(dst, s.more.ids...)
	}
	return dst
}

// Own returns what stands for s when the publisher is the same session: s itself, or what the subscriptions
// without No Local amount to. False: the session must not get its own message. [MQTT-3.8.3-3]
func (s *Subscriber) Own() (Subscriber, bool) {
	if s.Flags&NoLocal != 0 {
		return Subscriber{}, false
	}
	if s.more != nil && s.more.own != nil {
		return *s.more.own, true
	}
	return *s, true
}

// add takes one more subscription of the same session into s, which is owned and not yet listed. t comes from
// a node: it has no overlap.
func (s *Subscriber) add(t *Subscriber) {
	s.addOwn(t)
	s.Flags = (s.Flags & t.Flags & NoLocal) | ((s.Flags | t.Flags) & RetainAsPublished)
	s.QoS = max(s.QoS, t.QoS)
	s.addID(t.id)
}

// addOwn keeps the alternative for the session's own messages; s still stands for the earlier subscriptions.
func (s *Subscriber) addOwn(t *Subscriber) {
	local := t.Flags&NoLocal == 0
	switch {
	case s.more != nil && s.more.own != nil:
		if local {
			s.more.own.add(t)
		}
	case s.Flags&NoLocal != 0 && local:
		own := *t
		s.setOwn(&own)
	case s.Flags&NoLocal == 0 && !local:
		own := *s
		if s.more != nil {
			own.more = &overlap{ids: slices.Clone(s.more.ids)}
		}
		s.setOwn(&own)
	}
}

func (s *Subscriber) setOwn(own *Subscriber) {
	if s.more == nil {
		s.more = new(overlap)
	}
	s.more.own = own
}

// addID keeps one more Subscription Identifier unless it is there.
func (s *Subscriber) addID(id uint32) {
	switch {
	case id == 0 || id == s.id:
	case s.id == 0:
		s.id = id
	case s.more == nil:
		s.more = &overlap{ids: []uint32{id}}
	case !slices.Contains(s.more.ids, id):
		s.more.ids = append(s.more.ids, id)
	}
}
