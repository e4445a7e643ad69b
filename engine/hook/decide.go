package hook

import (
	"context"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// Verdict is what a [Decider] says.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // no opinion: the next one decides
	Accept                // the client may come in
	Refuse                // it may not
)

// A Decider decides on a connection off the loops (MQTT 5.0 section 3.1.4):
// for password hashes, tokens, databases and services. It is asked after all
// [Authenticator]s let the client pass. Several are asked in order until one
// accepts or refuses. When none does, the client comes in only where an
// Authenticator let it pass, its certificate says who it is, or the listener
// takes clients without user name and it has none. An error refuses with 0x88 and is logged.
type Decider interface {
	Decide(ctx context.Context, c *Connect) (Decision, error)
}

// A PromptDecider is a [Decider] that knows some answers at once. It is asked on
// the client's loop first, where it must not wait, and by Decide where it does
// not know (nil), or another one of several does not. What it answers is read
// only, and may be the same for many clients.
type PromptDecider interface {
	Decider
	DecideNow(c *Connect) *Decision
}

// A Decision answers a CONNECT, and says under which terms.
type Decision struct {
	Verdict Verdict

	// Refuse
	Code            codec.ReasonCode // 0: 0x87
	Reason          string           // Reason String, v5; accepted connections get it too
	ServerReference string           // with 0x9C and 0x9D, v5

	// Accept; zero values leave things as the client or the options want them.
	ClientID          string           // in place of the one that was sent
	UserName          string           // in place of the one that was sent
	UserProperties    codec.Properties // of CONNACK, encoded; v5
	KeepAlive         uint16           // Server Keep Alive in seconds; v5
	SessionExpiry     *uint32          // seconds at most that the session outlives the connection
	ReceiveMaximum    uint16           // QoS 1 and 2 the client may have open toward us; v5
	MaxInflight       uint16           // QoS 1 and 2 we have open toward the client, at most
	MaximumPacketSize uint32           // bytes of a packet from the client, at most
	MaxQueuedMessages int              // waiting for the client; negative: no bound
	MaxQueuedBytes    int              // the same in bytes
	MaxSubscriptions  int              // of the session; negative: no bound
	MessageRate       int              // PUBLISH packets of the client a second; negative: no bound
	ByteRate          int              // bytes of its packets a second; negative: no bound
	SendRate          int              // PUBLISH packets a second to the client; negative: no bound
	SendByteRate      int              // bytes of these packets a second; negative: no bound
	Until             time.Time        // then the connection ends with 0x87, unless it authenticated again; zero: no end
	Rights            Rights           // of the session; nil: whatever Authorizers say
	Data              any              // Client.Data of the session
}

// Rights are what one session may do, made when it connects: rules that were
// found once are asked on the loop for each PUBLISH and SUBSCRIBE, and for the
// will when it fires. They stay with the session while its client is away; when
// it comes back with others, subscriptions that these do not allow end.
// [Authorizer]s are asked as well.
type Rights interface {
	May(a Action, topic []byte) bool
}

// ReceiveRights are Rights that are asked for each message to the session too,
// live or retained (compare [DeliveryAuthorizer]).
type ReceiveRights interface {
	MayReceive(topicName []byte) bool
}

// An EnhancedAuthenticator offers one Authentication Method (MQTT 5.0 section 4.12).
type EnhancedAuthenticator interface {
	Method() string
	// Begin starts one exchange, at CONNECT and again at each re-authentication.
	Begin(c *Connect) Exchange
}

// An Exchange is one authentication in progress, owned by one connection.
//
// An Exchange that is a [Decided] too says at its end under which terms the
// client comes in; [Decider]s are not asked after an enhanced authentication.
type Exchange interface {
	// Step takes the client's Authentication Data (nil when absent) and returns
	// the answer: with ContinueAuthentication it goes out in AUTH, with Success
	// in CONNACK or AUTH; any failing code refuses. It runs on the loop.
	Step(data []byte) (reply []byte, code codec.ReasonCode)
}

// A SlowExchange is an Exchange whose steps take time: StepContext is called
// in place of Step, off the loops, one step at a time. data is the hook's.
type SlowExchange interface {
	Exchange
	StepContext(ctx context.Context, data []byte) (reply []byte, code codec.ReasonCode)
}

// Decided has the terms of an authentication that succeeded.
type Decided interface {
	Decision() Decision // Verdict and what belongs to Refuse are not looked at
}
