package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/limits"
	"github.com/wheelmq/wheelmq/engine/internal/session"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/router"
)

// Options say what a broker is to be. The zero value is a broker for the local
// machine: port 1883 of the loopback addresses, anonymous.
type Options struct {
	Listeners []Listener // empty: 127.0.0.1:1883 and [::1]:1883, anonymous, with $SYS
	Loops     int        // event loops; 0: [DefaultLoops]
	Logger    *slog.Logger
	Version   string // told in $SYS/broker/version; "" for "wheelmq"

	Store       store.Store   // what outlives the process; nil: nothing. The caller's to close, after Stop
	Hooks       []any         // see package hook
	HookTimeout time.Duration // for a hook off the loops to answer; 0: 5 s
	HookWorkers int           // hooks off the loops that run at once; 0: 64
	HookEvents  int           // that wait for a hook.EventHandler; more are dropped and counted; 0: 10,000
	HookBacklog int           // more that wait for one of these; beyond it connections are refused with 0x89; 0: 10,000

	HandshakesBusy func(bool)    // told when there are several TLS handshakes at once, and when that is over: time for one processor more; off the loops
	MaxConnections int           // more are refused with 0x89; 0: 10,000,000; the command sets what the file limit allows
	MaxSessions    Limit         // connected or not; 0: 1,000,000
	ConnectTimeout time.Duration // from accept to CONNECT; 0: 10 s

	MaximumConnectSize int           // bytes of the first packet, from whoever it is; 0: 16 KiB
	MaximumPacketSize  int           // bytes, fixed header included; 0: 1 MiB
	MaximumQoS         *codec.QoS    // nil: 2
	ReceiveMaximum     uint16        // QoS 1 and 2 a v5 client may have open toward us; 0: 64
	MaxInflight        uint16        // QoS 1 and 2 we have open toward a client, at most; 0: 64
	TopicAliasMaximum  uint16        // aliases we accept; 0: 10
	TopicAliases       uint16        // aliases we use toward a client that allows them; 0: 10
	NoTopicAliases     bool          // neither
	KeepAliveMaximum   time.Duration // longer (or none) asked: Server Keep Alive; 0: no maximum
	SessionExpiryLimit Limit         // seconds a session outlives its connection; 0: 86,400
	EmptyClientID      bool          // refuse clients that want an identifier assigned
	ResponseInfo       string        // Response Information for clients that ask; "" none
	CheckPayloadFormat bool          // refuse payloads that claim to be UTF-8 and are not

	MaxQueuedMessages Limit          // waiting per session; 0: 1,000
	MaxQueuedBytes    Limit          // 0: 4 MiB
	Overflow          OverflowPolicy // what a full queue does
	QueueMemory       Limit          // memory for waiting messages, bytes, of all sessions; durable sessions have what is above in the store alone, but for one each; 0: 64 MiB

	MaxSubscriptions Limit           // per session; 0: 10,000
	MaxFilters       Limit           // of one SUBSCRIBE packet; those beyond are refused with 0x97; 0: 1,000
	MaxTopicLevels   int             // of names and filters; 0: 128
	MaxTopicLength   int             // of names and filters, in bytes; 0: 65,535
	SharedStrategy   router.Strategy // who of a shared subscription gets a message

	MaxRetainedMessages Limit // 0: 1,000,000
	MaxRetainedBytes    Limit // 0: 1 GiB

	ClientRetainedMessages Limit // of messages that one Client Identifier has retained; 0: Unlimited
	ClientRetainedBytes    Limit // the same in bytes; 0: Unlimited

	MessageRate    int  // PUBLISH packets a second that a client may send, a second's worth at once; above it is not read from until that is made up for, or disconnected where that took over a minute; 0: no bound
	ByteRate       int  // the same in bytes of packets of all kinds
	SendRate       int  // PUBLISH packets a second that a client is sent; above it QoS 0 is dropped and the rest waits in its queue; 0: no bound
	SendByteRate   int  // the same in bytes of these packets; 0: no bound
	RateDisconnect bool // a client above its rate is disconnected with 0x96 instead

	UserRates    Rates // of all clients together that have one user name
	AddressRates Rates // of all clients together that have one address (of IPv6: one /64)

	UserConnections    int // clients connected with one user name, one more where it comes back to its session; more are refused with 0x97; 0: no bound
	AddressConnections int // connections of one address (of IPv6: one /64); more are refused with 0x97, or closed before TLS; 0: no bound
	UserConnectRate    int // connects of one user name a second; more are refused with 0x9F; 0: no bound
	AddressConnectRate int // connections of one address that begin within a second; more are refused with 0x9F, or closed before TLS; 0: no bound
	ClientConnectRate  int // connects of one Client Identifier a minute, takeovers included; above it refused with 0x9F for 1 s, then for twice as long each time up to 5 min; 0: no bound

	LoopDelay time.Duration // how late a loop may be before clients without a session are refused with 0x89, and four times as late all others too; TLS handshakes are spread out then; 0: 250 ms; negative: never

	NoRetained                bool // Retain Available 0
	NoWildcardSubscriptions   bool
	NoSharedSubscriptions     bool
	NoSubscriptionIdentifiers bool

	OutboundBytes int           // unread by a client before it counts as slow; 0: 1 MiB
	MailboxBytes  int           // waiting for one loop before QoS 0 is dropped, and four times as many before QoS 1 and 2 are refused with 0x97; 0: 64 MiB
	SysInterval   time.Duration // of $SYS; 0: 10 s; negative: none
	ProfileLabels bool          // profiles tell loops apart (label loop) and what they were at (label work: read, mailbox, tick, poll)
}

// Limit is a bound: 0 means the default, [Unlimited] none.
type Limit int64

// Unlimited switches a bound off.
const Unlimited Limit = -1

// ParseLimit reads a bound as users write it: a whole number above 0 or "unlimited".
func ParseLimit(s string) (Limit, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("engine: limit %q: want a number above 0, or \"unlimited\"", s)
	}
	return Limit(n), nil
}

// OverflowPolicy says what a session's full queue does with one more message.
type OverflowPolicy uint8

// The policies.
const (
	DropNewest      OverflowPolicy = iota // the arriving message is dropped
	DropOldest                            // the longest waiting message is dropped
	RejectPublisher                       // the publisher is answered 0x97 and nobody gets the message
)

var overflowNames = []string{"drop-newest", "drop-oldest", "reject"}

func (p OverflowPolicy) String() string { return overflowNames[p] }

// ParseOverflowPolicy reads a policy's name.
func ParseOverflowPolicy(s string) (OverflowPolicy, error) {
	for i, n := range overflowNames {
		if n == s {
			return OverflowPolicy(i), nil
		}
	}
	return 0, fmt.Errorf("engine: overflow policy %q: want one of %v", s, overflowNames)
}

// Bounds of the options themselves.
const (
	maxLoops            = 256
	maxListeners        = 256
	defaultConnectBytes = 16 << 10
	largestPacket       = 268_435_460 // the largest Remaining Length and its header
	defaultPort         = "1883"
	defaultConnections  = 10_000_000
	defaultReceive      = 64
	defaultTopicAliases = 10
)

// DefaultLoops is one loop up to two cores, where a second loop costs more CPU
// a message than it brings, and otherwise one a core.
func DefaultLoops() int {
	if n := runtime.NumCPU(); n > 2 {
		return min(n, maxLoops)
	}
	return 1
}

// Validate reports what is wrong with o, everything at once.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("engine: "+format, a...)) }
	for _, l := range o.Listeners {
		if err := l.validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(o.Listeners) > maxListeners {
		bad("%d listeners: want up to %d", len(o.Listeners), maxListeners)
	}
	if o.Loops < 0 || o.Loops > maxLoops {
		bad("Loops %d: want 1 to %d", o.Loops, maxLoops)
	}
	if o.MaximumQoS != nil && *o.MaximumQoS > 2 {
		bad("MaximumQoS %d: want 0, 1 or 2", *o.MaximumQoS)
	}
	if o.MaximumConnectSize < 0 || o.MaximumConnectSize > largestPacket {
		bad("MaximumConnectSize %d: want up to %d", o.MaximumConnectSize, largestPacket)
	}
	if o.MaximumPacketSize < 0 || o.MaximumPacketSize > largestPacket {
		bad("MaximumPacketSize %d: want up to %d", o.MaximumPacketSize, largestPacket)
	}
	if int(o.Overflow) >= len(overflowNames) {
		bad("Overflow %d: want one of %v", o.Overflow, overflowNames)
	}
	if o.SharedStrategy > router.LeastInflight {
		bad("SharedStrategy %d: want up to %d", o.SharedStrategy, router.LeastInflight)
	}
	if o.KeepAliveMaximum < 0 || o.KeepAliveMaximum > 65535*time.Second {
		bad("KeepAliveMaximum %v: want up to 65535 s", o.KeepAliveMaximum)
	}
	for name, l := range map[string]Limit{"MaxSessions": o.MaxSessions, "SessionExpiryLimit": o.SessionExpiryLimit,
		"MaxQueuedMessages": o.MaxQueuedMessages, "MaxQueuedBytes": o.MaxQueuedBytes, "QueueMemory": o.QueueMemory, "MaxSubscriptions": o.MaxSubscriptions,
		"MaxRetainedMessages": o.MaxRetainedMessages, "MaxRetainedBytes": o.MaxRetainedBytes, "MaxFilters": o.MaxFilters,
		"ClientRetainedMessages": o.ClientRetainedMessages, "ClientRetainedBytes": o.ClientRetainedBytes} {
		if l < Unlimited {
			bad("%s %d: want above 0, or Unlimited", name, l)
		}
	}
	for name, n := range map[string]int{"MessageRate": o.MessageRate, "ByteRate": o.ByteRate, "SendRate": o.SendRate, "SendByteRate": o.SendByteRate,
		"AddressConnectRate": o.AddressConnectRate, "ClientConnectRate": o.ClientConnectRate, "UserConnectRate": o.UserConnectRate} {
		if n < 0 || n > limits.MaxRate {
			bad("%s %d: want up to %d, or 0 for no bound", name, n, limits.MaxRate)
		}
	}
	errs = append(errs, o.UserRates.validate("UserRates"), o.AddressRates.validate("AddressRates"))
	if o.MaxTopicLength < 0 || o.MaxTopicLength > codec.MaxFieldLength {
		bad("MaxTopicLength %d: want up to %d", o.MaxTopicLength, codec.MaxFieldLength)
	}
	for name, n := range map[string]int{"AddressConnections": o.AddressConnections, "UserConnections": o.UserConnections, "MaxConnections": o.MaxConnections, "MaxTopicLevels": o.MaxTopicLevels,
		"OutboundBytes": o.OutboundBytes, "MailboxBytes": o.MailboxBytes, "ConnectTimeout": int(o.ConnectTimeout),
		"HookTimeout": int(o.HookTimeout), "HookWorkers": o.HookWorkers, "HookBacklog": o.HookBacklog, "HookEvents": o.HookEvents} {
		if n < 0 {
			bad("%s %d: want above 0", name, n)
		}
	}
	return errors.Join(errs...)
}

// WithDefaults fills in what is left at zero.
func (o Options) WithDefaults() Options {
	if len(o.Listeners) == 0 {
		o.Listeners = []Listener{
			{Address: net.JoinHostPort("127.0.0.1", defaultPort), Anonymous: true, Sys: true},
			{Address: net.JoinHostPort("::1", defaultPort), Anonymous: true, Sys: true},
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaximumQoS == nil {
		two := codec.QoS(2)
		o.MaximumQoS = &two
	}
	setDefault(&o.Loops, DefaultLoops())
	setDefault(&o.Version, "wheelmq")
	setDefault(&o.HookTimeout, 5*time.Second)
	setDefault(&o.HookWorkers, 64)
	setDefault(&o.HookBacklog, 10_000)
	setDefault(&o.HookEvents, 10_000)
	setDefault(&o.MaxConnections, defaultConnections)
	setDefault(&o.MaxSessions, 1_000_000)
	setDefault(&o.ConnectTimeout, 10*time.Second)
	setDefault(&o.MaximumConnectSize, defaultConnectBytes)
	setDefault(&o.MaximumPacketSize, 1<<20)
	setDefault(&o.ReceiveMaximum, defaultReceive)
	setDefault(&o.MaxInflight, defaultReceive)
	setDefault(&o.TopicAliasMaximum, defaultTopicAliases)
	setDefault(&o.TopicAliases, defaultTopicAliases)
	if o.NoTopicAliases {
		o.TopicAliasMaximum, o.TopicAliases = 0, 0
	}
	setDefault(&o.SessionExpiryLimit, 86_400)
	setDefault(&o.MaxQueuedMessages, 1000)
	setDefault(&o.MaxQueuedBytes, 4<<20)
	setDefault(&o.QueueMemory, 64<<20)
	setDefault(&o.MaxSubscriptions, 10_000)
	setDefault(&o.MaxFilters, 1000)
	setDefault(&o.MaxTopicLevels, 128)
	setDefault(&o.MaxTopicLength, codec.MaxFieldLength)
	setDefault(&o.MaxRetainedMessages, 1_000_000)
	setDefault(&o.MaxRetainedBytes, 1<<30)
	setDefault(&o.ClientRetainedMessages, Unlimited)
	setDefault(&o.ClientRetainedBytes, Unlimited)
	setDefault(&o.OutboundBytes, 1<<20)
	setDefault(&o.MailboxBytes, 64<<20)
	setDefault(&o.SysInterval, 10*time.Second)
	setDefault(&o.LoopDelay, 250*time.Millisecond)
	return o
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// sessionLimits are the queue's bounds as the session wants them.
func (o *Options) sessionLimits() *session.Limits {
	return &session.Limits{Messages: int(o.MaxQueuedMessages), Bytes: int(o.MaxQueuedBytes),
		Policy: session.OverflowPolicy(o.Overflow)}
}
