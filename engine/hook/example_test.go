package hook_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// passwords lets clients in whose password has the digest that is known.
type passwords map[string][sha256.Size]byte // by user name; read-only

func (p passwords) Authenticate(c *hook.Connect) codec.ReasonCode {
	want := p[c.UserName]
	got := sha256.Sum256(c.Password)
	if !c.HasUserName || !c.HasPassword || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return codec.BadUserNameOrPassword
	}
	return codec.Success
}

func ExampleAuthenticator() {
	check := passwords{"ada": sha256.Sum256([]byte("engine"))}
	f := func(user, password string) {
		c := &hook.Connect{UserName: user, HasUserName: true, Password: []byte(password), HasPassword: true}
		fmt.Println(user, check.Authenticate(c))
	}
	f("ada", "engine")
	f("ada", "loom")
	f("eve", "")
	// Output:
	// ada success
	// ada bad user name or password
	// eve bad user name or password
}

// ownTree gives each user the topics below the user name, and all of them to
// read what is below "public".
type ownTree struct{}

func (ownTree) Authorize(c hook.Client, a hook.Action, topic []byte) bool {
	if rest, ok := bytes.CutPrefix(topic, []byte(c.UserName)); ok && c.UserName != "" && len(rest) > 0 && rest[0] == '/' {
		return true
	}
	return a == hook.Subscribe && bytes.HasPrefix(topic, []byte("public/"))
}

func ExampleAuthorizer() {
	f := func(a hook.Action, topic string) {
		fmt.Println(topic, ownTree{}.Authorize(hook.Client{ClientID: "loom-1", UserName: "ada"}, a, []byte(topic)))
	}
	f(hook.Publish, "ada/status")
	f(hook.Publish, "adam/status")
	f(hook.Publish, "public/news")
	f(hook.Subscribe, "public/#")
	f(hook.Subscribe, "#")
	// Output:
	// ada/status true
	// adam/status false
	// public/news false
	// public/# true
	// # false
}

// private keeps topics with a level "private" from everybody but the client
// that is named there, whatever filters were granted.
type private struct{}

func (private) AuthorizeDelivery(c hook.Client, topicName []byte) bool {
	_, owner, found := strings.Cut(string(topicName), "/private/")
	return !found || owner == c.ClientID
}

func ExampleDeliveryAuthorizer() {
	ada := hook.Client{ClientID: "ada"}
	fmt.Println(private{}.AuthorizeDelivery(ada, []byte("mail/private/ada")))
	fmt.Println(private{}.AuthorizeDelivery(ada, []byte("mail/private/eve")))
	// Output:
	// true
	// false
}

// sum is an authentication method of one question: the server names a number,
// the client answers with the next one.
type sum struct{ number byte }

func (sum) Method() string                      { return "SUM" }
func (s sum) Begin(*hook.Connect) hook.Exchange { return &question{want: s.number + 1} }

// question is one exchange, of one connection.
type question struct {
	want  byte
	asked bool
}

func (q *question) Step(data []byte) ([]byte, codec.ReasonCode) {
	switch {
	case !q.asked:
		q.asked = true
		return []byte{q.want - 1}, codec.ContinueAuthentication
	case len(data) == 1 && data[0] == q.want:
		return nil, codec.Success
	default:
		return nil, codec.NotAuthorized
	}
}

func ExampleEnhancedAuthenticator() {
	x := sum{number: 6}.Begin(&hook.Connect{})
	fmt.Println(x.Step(nil))
	fmt.Println(x.Step([]byte{7}))
	// Output:
	// [6] continue authentication
	// [] success
}

// Hooks are given to the broker as they are: it finds out what they do.
func Example() {
	b, err := engine.New(engine.Options{
		Listeners: []engine.Listener{{Address: "127.0.0.1:0"}},
		Hooks:     []any{passwords{"ada": sha256.Sum256([]byte("engine"))}, ownTree{}, private{}, sum{number: 6}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Start(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(b.Stop(context.Background()))
	// Output: <nil>
}
