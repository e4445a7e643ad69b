package auth

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wheelmq/wheelmq/codec/topic"
)

// A Grant is what some topics may be used for: a rule of the native ACL file, of
// a token's claims, or of a service's answer.
type Grant struct {
	Allow  []string `yaml:"allow" json:"allow"`   // publish, retain (with RETAIN set, beside publish or will), will, subscribe (with all that comes), receive (what comes alone)
	Forbid []string `yaml:"forbid" json:"forbid"` // some of these, whatever other grants say
	Deny   bool     `yaml:"deny" json:"deny"`     // all of them, whatever other grants say
	Topics []string `yaml:"topics" json:"topics"` // filters, with %u for the user name and %c for the client identifier
}

// MaxGrants bounds the topics of one client that come from outside.
const MaxGrants = 1000

var accessNames = map[string]access{"publish": write, "retain": retain, "will": will, "subscribe": subscribe | read, "receive": read}

// accessOf reads names of what may be done.
func accessOf(key string, words []string) (a access, err error) {
	for _, word := range words {
		bits, ok := accessNames[word]
		if !ok {
			return 0, fmt.Errorf("%s %q: want publish, retain, will, subscribe or receive", key, word)
		}
		a |= bits
	}
	return a, nil
}

// rules are g's, one to a topic.
func (g *Grant) rules(line int) ([]*Rule, error) {
	granted, err := accessOf("allow", g.Allow)
	if err != nil {
		return nil, err
	}
	denied, err := accessOf("forbid", g.Forbid)
	text := "forbid " + strings.Join(g.Forbid, ", ")
	ways := 0
	for _, there := range []bool{g.Deny, granted != 0, denied != 0} {
		if there {
			ways++
		}
	}
	switch {
	case err != nil:
		return nil, err
	case ways > 1:
		return nil, errors.New("allow, forbid and deny: want one of them")
	case ways == 0:
		return nil, errors.New("neither allow, forbid nor deny")
	case len(g.Topics) == 0:
		return nil, errors.New("topics are missing")
	case g.Deny:
		denied, text = everything, "deny"
	case granted != 0:
		text = "allow " + strings.Join(g.Allow, ", ")
	}
	var rules []*Rule
	for _, t := range g.Topics {
		if !topic.ValidFilter(t) {
			return nil, fmt.Errorf("%q is not a topic filter", t)
		}
		rules = append(rules, &Rule{access: granted, denied: denied, filter: t, Line: line, text: text + " " + t, pattern: strings.Contains(t, "%")})
	}
	return rules, nil
}

// NewRights makes the rights of one client from grants. What none allows is
// denied.
func NewRights(user, clientID string, grants []Grant) (*Rights, error) {
	var list []*Rule
	for i := range grants {
		rules, err := grants[i].rules(0)
		if err != nil {
			return nil, fmt.Errorf("auth: rights of %q: %w", user, err)
		}
		if list = append(list, rules...); len(list) > MaxGrants {
			return nil, fmt.Errorf("auth: rights of %q: more than %d topics", user, MaxGrants)
		}
	}
	return &Rights{rules: fillAll(list, user, clientID)}, nil
}

// native is an ACL file in the native form.
type native struct {
	Groups map[string][]string `yaml:"groups"`
	Rules  []nativeRule        `yaml:"rules"`
}

type nativeRule struct {
	Users     []string `yaml:"users"`
	Groups    []string `yaml:"groups"`
	Anonymous bool     `yaml:"anonymous"`
	Grant     `yaml:",inline"`

	line int
}

// UnmarshalYAML keeps the line, and knows no other keys than these.
func (r *nativeRule) UnmarshalYAML(n *yaml.Node) error {
	type plain nativeRule
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; !slices.Contains([]string{"users", "groups", "anonymous", "allow", "forbid", "deny", "topics"}, key.Value) {
			return fmt.Errorf("line %d: unknown key %q", key.Line, key.Value)
		}
	}
	if err := n.Decode((*plain)(r)); err != nil {
		return err
	}
	r.line = n.Line
	return nil
}

const maxNativeBytes = 64 << 20

// readNative reads the native form:
//
//	groups:
//	  operators: [ada, grace]
//	rules:
//	  - groups: [operators]            # or users: [ada]; or anonymous: true; nobody: everyone
//	    allow: [publish, retain, subscribe]
//	    topics: [plant/#]
//	  - allow: [publish]
//	    topics: [devices/%c/#]
//	  - users: [ada]
//	    forbid: [will, retain]         # some; deny: true forbids everything
//	    topics: [plant/#]
//	  - deny: true
//	    topics: [plant/secret/#]
func readNative(f io.Reader, path string) (*ACL, error) {
	var in native
	d := yaml.NewDecoder(io.LimitReader(f, maxNativeBytes))
	d.KnownFields(true)
	if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("auth: %s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	a := &ACL{users: make(map[string][]*Rule)}
	n := 0
	for i := range in.Rules {
		r := &in.Rules[i]
		rules, err := r.rules(r.line)
		if err == nil {
			err = a.give(r, in.Groups, rules)
		}
		if err != nil {
			return nil, fmt.Errorf("auth: %s:%d: %w", path, r.line, err)
		}
		if n += len(rules); n > maxRules {
			return nil, fmt.Errorf("auth: %s: more than %d rules", path, maxRules)
		}
	}
	return a, nil
}

// give puts rules where r says whose they are.
func (a *ACL) give(r *nativeRule, groups map[string][]string, rules []*Rule) error {
	users := slices.Clone(r.Users)
	for _, g := range r.Groups {
		members, ok := groups[g]
		if !ok {
			return fmt.Errorf("there is no group %q", g)
		}
		users = append(users, members...)
	}
	slices.Sort(users)
	for _, u := range slices.Compact(users) {
		if u == "" {
			return errors.New("a user name is empty")
		}
		a.users[u] = append(a.users[u], rules...)
	}
	if r.Anonymous {
		a.anonymous = append(a.anonymous, rules...)
	}
	if len(r.Users) == 0 && len(r.Groups) == 0 && !r.Anonymous {
		for _, rule := range rules {
			own := *rule
			a.patterns = append(a.patterns, &own)
		}
	}
	return nil
}
