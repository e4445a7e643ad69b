package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// The versions of MQTT.
const (
	V31  = codec.V31
	V311 = codec.V311
	V5   = codec.V5
)

// Options say how a client connects and what it keeps. The zero value connects
// to port 1883 of this machine.
type Options struct {
	// Servers are URLs: mqtt://host:1883, mqtts://host:8883, ws://host/mqtt,
	// wss://host/mqtt, unix:///path. Several are tried in turn. Empty: this machine.
	Servers []string
	Version codec.Version // 0: V5

	ClientID      string        // "": the broker assigns one; before V5 a random one
	CleanStart    bool          // begin without the session that the broker may have; 3.x: and keep none
	SessionExpiry uint32        // seconds that the session outlives a connection, V5; 0xFFFFFFFF: never ends
	KeepAlive     time.Duration // 0: 60 s; negative: off
	Will          *Will

	UserName string
	Password []byte
	// Credentials are asked at each connect, in place of UserName and Password:
	// for tokens that expire, or files that are exchanged (see [TokenFile]).
	Credentials func(context.Context) (userName string, password []byte, err error)
	Auth        Authenticator // enhanced authentication, V5; nil: none

	TLS     *tls.Config                                                       // of mqtts and wss; nil: the system's authorities
	Header  http.Header                                                       // of the request that becomes a WebSocket, beside what that needs
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // nil: [Dial], by the proxy of the environment or directly
	Timeout time.Duration                                                     // of a connect, and for an answer to PINGREQ; 0: 10 s

	// FirstMayFail makes Connect go on trying where the first attempt fails.
	FirstMayFail bool
	NoReconnect  bool          // a connection that is lost ends the client
	MinPause     time.Duration // between two attempts to connect; it doubles with each. 0: 1 s
	MaxPause     time.Duration // 0: 2 min

	ReceiveMaximum    uint16 // QoS 1 and 2 that the broker may have open toward us, V5; 0: 64
	TopicAliasMaximum uint16 // aliases that the broker may use, V5; 0: none
	MaximumPacketSize uint32 // larger ones are refused; 0: 16 MiB
	MaxInflight       uint16 // QoS 1 and 2 that we have open toward the broker; 0: 64
	MaxQueued         int    // messages that wait to be sent; 0: 1,000
	Overflow          Overflow
	RetryDelay        time.Duration // V31 only, whose section 4.2 has it: PUBLISH and PUBREL without an answer are sent again after it, on the same connection; 0: when a connection begins, as later versions want it
	RetryAttempts     int           // so often; without an answer then, the message fails with ErrNoAnswer. 0: 3
	MaxArrived        int           // messages of QoS 0 that wait for a handler; 0: 1,000

	Properties []Property // User Properties of CONNECT, V5

	ManualAck bool           // messages are acknowledged by Message.Ack
	Handler   func(*Message) // of messages that no subscription's handler takes; nil: they are dropped
	Store     Store          // of what is not acknowledged; nil: memory

	OnConnected func(Connected)                                 // each time; must not block
	OnLost      func(error)                                     // a connection is lost, or was ended by the broker ([Refused]); must not block
	OnAttempt   func(server string, n int, pause time.Duration) // before the n-th attempt since the last connection; must not block
	Tap         func(sent bool, packet []byte)                  // each packet, borrowed; on the reading or writing goroutine
	Metrics     Metrics                                         // nil: none
	Logger      *slog.Logger                                    // nil: silent
}

// Overflow says what becomes of one more message where MaxQueued wait.
type Overflow uint8

// The policies.
const (
	Wait       Overflow = iota // Publish waits for room; PublishAsync answers ErrQueueFull
	DropNewest                 // it fails with ErrQueueFull
	DropOldest                 // the longest waiting one fails with ErrQueueFull
)

// Errors of the client's own.
var (
	ErrClosed    = errors.New("client: closed")
	ErrQueueFull = errors.New("client: the queue of messages to send is full")
	ErrLost      = errors.New("client: the connection was lost")
	ErrNoAnswer  = errors.New("client: the broker does not answer")
	ErrNoSession = errors.New("client: not connected, and this is not kept for later")
)

// Refused is a refusal of the broker's: of CONNECT, by DISCONNECT, or by an
// acknowledgement with a failing code.
type Refused struct {
	What   string           // CONNECT, DISCONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, AUTH
	Code   codec.ReasonCode // of CONNECT in 3.x: the return code, 1 to 5
	Reason string           // Reason String, V5
	Server string           // Server Reference, V5
}

// returnCodes are those of CONNACK in 3.x as 5.0 has them (MQTT 3.1.1 section 3.2.2.3).
var returnCodes = [...]codec.ReasonCode{1: codec.UnsupportedProtocolVersion, 2: codec.ClientIdentifierNotValid, 3: codec.ServerUnavailable,
	4: codec.BadUserNameOrPassword, 5: codec.NotAuthorized}

// code is Code as 5.0 has it.
func (r *Refused) code() codec.ReasonCode {
	if r.What == "CONNECT" && r.Code > 0 && int(r.Code) < len(returnCodes) {
		return returnCodes[r.Code]
	}
	return r.Code
}

func (r *Refused) Error() string {
	text := fmt.Sprintf("client: %s refused: %v", r.What, r.code())
	if r.What == "DISCONNECT" {
		text = fmt.Sprintf("client: disconnected by the broker: %v", r.Code)
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// Connected is what there is to know of a new connection.
type Connected struct {
	Server               string
	ClientID             string // the assigned one, where the broker chose
	SessionPresent       bool
	KeepAlive            time.Duration // in force
	SessionExpiry        uint32        // in force
	MaximumQoS           codec.QoS
	RetainAvailable      bool
	MaximumPacketSize    uint32 // of the broker; 0: no bound
	ReceiveMaximum       uint16 // of the broker
	TopicAliasMaximum    uint16 // of the broker
	SharedAvailable      bool
	WildcardAvailable    bool
	IdentifiersAvailable bool // Subscription Identifiers
	ResponseInfo         string
	Properties           []Property
}

// An Authenticator is the client's side of an enhanced authentication (MQTT 5.0
// section 4.12). It is used for one connection at a time.
type Authenticator interface {
	Method() string
	// Begin returns the first Authentication Data.
	Begin(context.Context) ([]byte, error)
	// Step answers the broker's data; at the end it looks at what comes with Success.
	Step(data []byte, success bool) ([]byte, error)
}

// Metrics are told what happens; they must not block. Any goroutine.
type Metrics interface {
	Sent(t codec.PacketType, bytes int)
	Received(t codec.PacketType, bytes int)
	Dropped(reason string, n int) // queue_full, not_taken (no handler had room), no_handler
}

func (o *Options) validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("client: "+format, a...)) }
	for _, s := range o.Servers {
		if _, err := parseServer(s); err != nil {
			bad("%w", err)
		}
	}
	if o.RetryDelay != 0 && (o.Version != V31 || o.RetryDelay < 0) || o.RetryAttempts < 0 {
		bad("RetryDelay %v, RetryAttempts %d: they are above 0, and for MQTT 3.1: later versions forbid to send again on one connection", o.RetryDelay, o.RetryAttempts)
	}
	if v := o.Version; v != 0 && v != V31 && v != V311 && v != V5 {
		bad("Version %v: want V31, V311 or V5", v)
	}
	if !validText(o.ClientID) || !validText(o.UserName) || len(o.Password) > codec.MaxFieldLength {
		bad("client identifier, user name or password of more than %d bytes, or not UTF-8 without NUL", codec.MaxFieldLength)
	}
	if err := validProperties(o.Properties); err != nil {
		errs = append(errs, err)
	}
	if o.KeepAlive > math.MaxUint16*time.Second {
		bad("KeepAlive %v: want up to 65535 s", o.KeepAlive)
	}
	if o.Timeout < 0 || o.MinPause < 0 || o.MaxPause < 0 || o.MaxQueued < 0 || o.MaxArrived < 0 {
		bad("times and bounds are above 0")
	}
	if o.Overflow > DropOldest {
		bad("Overflow %d: want up to %d", o.Overflow, DropOldest)
	}
	if w := o.Will; w != nil && (w.validate() != nil || len(w.Payload) > codec.MaxFieldLength) {
		bad("the will needs a topic name, a QoS from 0 to 2, valid properties and a payload of up to %d bytes", codec.MaxFieldLength)
	}
	if o.Version != 0 && o.Version != V5 && o.Auth != nil {
		bad("enhanced authentication is of MQTT 5.0")
	}
	if o.Version == V31 && len(o.ClientID) > 23 {
		bad("MQTT 3.1 has client identifiers of up to 23 bytes")
	}
	return errors.Join(errs...)
}

func (o *Options) withDefaults() Options {
	d := *o
	if len(d.Servers) == 0 {
		d.Servers = []string{"mqtt://127.0.0.1:1883"}
	}
	set(&d.Version, V5)
	set(&d.KeepAlive, time.Minute)
	d.KeepAlive = max(0, d.KeepAlive)
	set(&d.Timeout, 10*time.Second)
	set(&d.MinPause, time.Second)
	set(&d.MaxPause, max(2*time.Minute, d.MinPause))
	set(&d.ReceiveMaximum, 64)
	set(&d.MaximumPacketSize, 16<<20)
	set(&d.MaxInflight, 64)
	set(&d.MaxQueued, 1000)
	set(&d.MaxArrived, 1000)
	set(&d.RetryAttempts, 3)
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}

func set[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// A QoS is a quality of service: 0 at most once, 1 at least once, 2 exactly once.
type QoS = codec.QoS
