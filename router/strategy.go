package router

import "fmt"

// A Strategy says which member of a group gets a message.
type Strategy uint8

const (
	RoundRobin    Strategy = iota // one after the other
	Random                        // any, all equally likely
	Sticky                        // the same as long as it can take messages
	HashClient                    // the same for all messages of a publisher
	HashTopic                     // the same for all messages of a topic name
	LeastInflight                 // the one with the fewest messages in flight
)

var strategyNames = [...]string{
	RoundRobin:    "round-robin",
	Random:        "random",
	Sticky:        "sticky",
	HashClient:    "hash-client",
	HashTopic:     "hash-topic",
	LeastInflight: "least-inflight",
}

// String returns the name ParseStrategy accepts.
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return fmt.Sprintf("strategy(%d)", uint8(s))
}

// ParseStrategy returns the strategy of a name as String writes it.
func ParseStrategy(name string) (Strategy, error) {
	for s, n := range strategyNames {
		if n == name {
			return Strategy(s), nil
		}
	}
	return 0, fmt.Errorf("router: unknown strategy %q", name)
}
