package auth

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/wheelmq/wheelmq/codec/topic"
)

// access is what a rule grants or denies, a bit each.
type access uint8

const (
	read access = 1 << iota // what comes
	subscribe
	write
	retain // beside write or will: with RETAIN set
	will
	everything = read | subscribe | write | retain | will
)

// A Rule is one line of an ACL file. Immutable.
type Rule struct {
	access  access // granted
	denied  access // in spite of all grants
	filter  string // with %u and %c in a pattern
	Line    int    // in the file
	text    string
	pattern bool
}

// String is the rule as written, with its line.
func (r *Rule) String() string { return fmt.Sprintf("line %d: %s", r.Line, r.text) }

// An ACL is the content of an ACL file, in Mosquitto's grammar:
//
//	user NAME                                         the topic lines below are this user's
//	topic [read|write|readwrite|deny] FILTER          readwrite when nothing is said
//	pattern [read|write|readwrite|deny] FILTER        for everyone; %u is the user name, %c the client identifier
//
// Topic lines before the first user are for clients without a user name. A deny
// counts before any grant. What no rule grants is denied. Immutable.
type ACL struct {
	anonymous []*Rule
	users     map[string][]*Rule
	patterns  []*Rule
}

const maxRules = 1_000_000

// ReadACL reads an ACL file: in Mosquitto's grammar, or in the native form
// where its name ends in .yaml or .yml.
func ReadACL(path string) (*ACL, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: ACL file: %w", err)
	}
	defer f.Close()
	if strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml") {
		return readNative(f, path)
	}
	a := &ACL{users: make(map[string][]*Rule)}
	user, known := "", false
	rules := 0
	err = eachLine(f, path, func(line string, n int) error {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "user":
			if rest == "" {
				return errors.New("user: the name is missing")
			}
			user, known = rest, true
			if a.users[user] == nil {
				a.users[user] = []*Rule{}
			}
			return nil
		case "topic", "pattern":
			if rules++; rules > maxRules {
				return fmt.Errorf("more than %d rules", maxRules)
			}
			r, err := parseRule(rest)
			if err != nil {
				return fmt.Errorf("%s: %w", word, err)
			}
			r.Line, r.text, r.pattern = n, line, word == "pattern"
			switch {
			case r.pattern:
				a.patterns = addRule(a.patterns, r)
			case known:
				a.users[user] = addRule(a.users[user], r)
			default:
				a.anonymous = addRule(a.anonymous, r)
			}
			return nil
		default:
			return fmt.Errorf("%q: want user, topic or pattern", word)
		}
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// addRule puts denials in front: they count first.
func addRule(rules []*Rule, r *Rule) []*Rule {
	if r.denied != 0 {
		return append([]*Rule{r}, rules...)
	}
	return append(rules, r)
}

// parseRule reads "[read|write|readwrite|deny] FILTER".
func parseRule(s string) (*Rule, error) {
	r := &Rule{access: everything, filter: s}
	if word, rest, ok := strings.Cut(s, " "); ok {
		found := true
		switch word {
		case "read":
			r.access = read | subscribe
		case "write":
			r.access = write | retain | will
		case "readwrite":
		case "deny":
			r.access, r.denied = 0, everything
		default:
			found = false // a filter with a blank in it
		}
		if found {
			r.filter = strings.TrimSpace(rest)
		}
	}
	if !topic.ValidFilter(r.filter) {
		return nil, fmt.Errorf("%q is not a topic filter", r.filter)
	}
	return r, nil
}

// rulesFor returns the rules of one client, denials first, with patterns filled in.
func (a *ACL) rulesFor(user, clientID string) []*Rule {
	own := a.anonymous
	if user != "" {
		own = a.users[user]
	}
	return fillAll(append(own[:len(own):len(own)], a.patterns...), user, clientID)
}

// fillAll puts names into those that are patterns, and denials in front.
func fillAll(list []*Rule, user, clientID string) []*Rule {
	sorted := make([]*Rule, 0, len(list))
	for _, deny := range []bool{true, false} {
		for _, r := range list {
			if (r.denied != 0) != deny {
				continue
			}
			if r.pattern {
				filter, ok := r.fill(user, clientID)
				if !ok {
					continue
				}
				filled := *r
				filled.filter = filter
				r = &filled
			}
			sorted = append(sorted, r)
		}
	}
	return sorted
}

// fill puts names into a pattern. ok is false where that gives no rule: a name
// with a wildcard in it would grant more than was meant.
func (r *Rule) fill(user, clientID string) (filter string, ok bool) {
	if strings.Contains(r.filter, "%u") && (user == "" || strings.ContainsAny(user, "+#")) ||
		strings.Contains(r.filter, "%c") && (clientID == "" || strings.ContainsAny(clientID, "+#")) {
		return "", false
	}
	return strings.NewReplacer("%u", user, "%c", clientID).Replace(r.filter), true
}
