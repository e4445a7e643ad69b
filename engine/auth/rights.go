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
	default:
		return r.reaches(string(name)) != nil
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
	v, _, _ := r.judge(string(name))
	r.known[string(name)] = v
	return v
}

// judge returns what may be done with a topic and which rules say so: deny is
// the one that forbids everything, by those that grant, per access.
func (r *Rights) judge(name string) (granted access, deny *Rule, by map[access]*Rule) {
	for _, rule := range r.rules {
		if !topic.Match(rule.filter, name) {
			continue
		}
		if rule.access == 0 {
			return 0, rule, nil
		}
		for _, a := range []access{read, write, retain} {
			if rule.access&a != 0 && granted&a == 0 {
				if by == nil {
					by = make(map[access]*Rule)
				}
				by[a] = rule
			}
		}
		granted |= rule.access
	}
	return granted, nil, by
}

// reaches returns a rule by which a topic that filter matches may be read; nil
// if there is none.
func (r *Rights) reaches(filter string) *Rule {
	for _, rule := range r.rules {
		if rule.access == 0 && covers(rule.filter, filter) {
			return nil // denials stand first: nothing of the filter is left
		}
		if rule.access&read != 0 && overlap(rule.filter, filter) {
			return rule
		}
	}
	return nil
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
