package auth

import (
	"strings"

	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Rights are what an ACL lets one session do. It is asked on the session's
// loop, by that loop alone.
type Rights struct {
	rules []*Rule
	of    *Files // that gave them; nil: none
	// known is what the rules say of topics that were asked about: a client
	// has few, and asks about them again and again.
	known map[string]access
}

// knownTopics bounds Rights.known; when it is full it begins anew.
const knownTopics = 64

// Rights are those of a client. user is "" for a client without a user name.
func (a *ACL) Rights(user, clientID string) *Rights {
	return &Rights{rules: a.rulesFor(user, clientID)}
}

// Of is who gave the rights; nil when no Files did.
func (r *Rights) Of() *Files { return r.of }

// May implements hook.Rights. A filter may be subscribed to if a topic that may
// be read can match it: MayReceive decides about each message.
func (r *Rights) May(a hook.Action, name []byte) bool {
	switch a {
	case hook.Publish:
		return r.on(name)&write != 0
	case hook.Retain:
		return r.on(name)&retain != 0
	case hook.PublishWill:
		return r.on(name)&will != 0
	default:
		_, ok := r.reaches(string(name))
		return ok
	}
}

// MayReceive implements hook.ReceiveRights.
func (r *Rights) MayReceive(name []byte) bool { return r.on(name)&read != 0 }

// on returns what may be done with a topic.
func (r *Rights) on(name []byte) access {
	if v, ok := r.known[string(name)]; ok {
		return v
	}
	if r.known == nil || len(r.known) >= knownTopics {
		r.known = make(map[string]access)
	}
	v := r.judge(string(name), nil)
	r.known[string(name)] = v
	return v
}

// judge returns what may be done with a topic, and puts into by, unless it is
// nil, the rule that says so for each access: one that grants or denies it.
func (r *Rights) judge(name string, by map[access]*Rule) access {
	var granted, denied access
	for _, rule := range r.rules { // denials stand first
		if !topic.Match(rule.filter, name) {
			continue
		}
		for a := read; by != nil && a <= will; a <<= 1 {
			if (rule.access|rule.denied)&a != 0 && by[a] == nil {
				by[a] = rule
			}
		}
		granted |= rule.access
		denied |= rule.denied
	}
	return granted &^ denied
}

// reaches returns the rule by which filter may be subscribed to: a topic that it
// matches may be read. ok is false where none does, and the rule, if there is
// one, denies it.
func (r *Rights) reaches(filter string) (rule *Rule, ok bool) {
	for _, rule := range r.rules {
		if rule.denied&subscribe != 0 && covers(rule.filter, filter) {
			return rule, false // nothing of the filter is left
		}
		if rule.access&subscribe != 0 && overlap(rule.filter, filter) {
			return rule, true
		}
	}
	return nil, false
}

// overlap reports whether a topic name exists that both filters match.
func overlap(a, b string) bool {
	if (a[0] == '$') != (b[0] == '$') && (wild(a) || wild(b)) {
		return false // a leading wildcard does not match $-topics [MQTT-4.7.2-1]
	}
	for {
		la, ra, moreA := strings.Cut(a, "/")
		lb, rb, moreB := strings.Cut(b, "/")
		switch {
		case la == "#" || lb == "#":
			return true
		case la != lb && la != "+" && lb != "+":
			return false
		case !moreA && !moreB:
			return true
		case !moreA:
			return rb == "#" // it includes the parent level
		case !moreB:
			return ra == "#"
		}
		a, b = ra, rb
	}
}

func wild(filter string) bool { return filter[0] == '+' || filter[0] == '#' }

// covers reports whether outer matches every topic name that inner matches.
func covers(outer, inner string) bool {
	if wild(outer) && inner[0] == '$' {
		return false
	}
	for {
		lo, ro, moreO := strings.Cut(outer, "/")
		li, ri, moreI := strings.Cut(inner, "/")
		switch {
		case lo == "#":
			return true
		case li == "#" || lo != li && lo != "+":
			return false
		case !moreO && !moreI:
			return true
		case !moreI:
			return ro == "#"
		case !moreO:
			return false
		}
		outer, inner = ro, ri
	}
}
