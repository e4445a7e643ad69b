package auth

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/wheelmq/wheelmq/codec/topic"
)

// A Verdict is what an ACL says of one question, and why.
type Verdict struct {
	Allowed bool
	Why     string // the rule and its line, or that none applies
}

// Explain answers a question of the ACL as the broker would: "publish", "retain"
// (publish with RETAIN set), "will" and "receive" ask about a topic name, "subscribe"
// about a topic filter.
func (a *ACL) Explain(user, clientID, action, name string) (Verdict, error) {
	r := a.Rights(user, clientID)
	switch action {
	case "publish", "retain", "will", "receive":
		if !topic.ValidName(name) || name == "" {
			return Verdict{}, fmt.Errorf("%q is not a topic name", name)
		}
		need := map[string]access{"publish": write, "retain": retain, "will": will, "receive": read}[action]
		by := make(map[access]*Rule)
		granted := r.judge(name, by)
		if by[need] == nil {
			return Verdict{Why: "no rule grants it"}, nil
		}
		return Verdict{granted&need != 0, by[need].String()}, nil
	case "subscribe":
		if !topic.ValidFilter(name) {
			return Verdict{}, fmt.Errorf("%q is not a topic filter", name)
		}
		rule, ok := r.reaches(name)
		if rule == nil {
			return Verdict{Why: "no topic that it matches may be read"}, nil
		}
		return Verdict{ok, rule.String()}, nil
	default:
		return Verdict{}, fmt.Errorf("%q: want publish, retain, will, subscribe or receive", action)
	}
}

// A Case is one line of a file of cases: who, what, and what is expected.
type Case struct {
	Line           int
	User, ClientID string // "-" in the file: none
	Action, Name   string
	Allowed        bool
}

// ReadCases reads a file of lines "USER CLIENTID ACTION TOPIC allow|deny",
// where "-" stands for no user name; the topic may have blanks in it.
func ReadCases(path string) (cases []Case, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: cases: %w", err)
	}
	defer f.Close()
	err = eachLine(f, path, func(line string, n int) error {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			return errors.New("want USER CLIENTID ACTION TOPIC allow|deny")
		}
		last := fields[len(fields)-1]
		if last != "allow" && last != "deny" {
			return fmt.Errorf("%q: want allow or deny", last)
		}
		c := Case{Line: n, User: fields[0], ClientID: fields[1], Action: fields[2],
			Name: strings.Join(fields[3:len(fields)-1], " "), Allowed: last == "allow"}
		if c.User == "-" {
			c.User = ""
		}
		cases = append(cases, c)
		return nil
	})
	return cases, err
}
