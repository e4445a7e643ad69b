package engine

import (
	"io"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/router"
)

func TestValidate(t *testing.T) {
	three, two := codec.QoS(3), codec.QoS(2)
	f := func(o Options, wants ...string) {
		t.Helper()
		err := o.Validate()
		if (err == nil) != (len(wants) == 0) {
			t.Errorf("got %v, want %q", err, wants)
			return
		}
		for _, w := range wants {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("got %v, want it to name %q", err, w)
			}
		}
		if _, newErr := New(o); (newErr == nil) != (err == nil) {
			t.Errorf("New says %v, Validate %v", newErr, err)
		}
	}
	f(Options{})
	f(Options{Listeners: []Listener{{Address: "127.0.0.1:0"}, {Address: "[::1]:1883"}, {Address: ":1883"}, {Address: "localhost:mqtt"}}})
	f(Options{Listeners: []Listener{{Address: "127.0.0.1"}}}, `"127.0.0.1"`, "host:port")
	f(Options{Listeners: []Listener{{Address: "::1:1883"}, {}}}, `"::1:1883"`, `""`)
	f(Options{Listeners: make([]Listener, maxListeners+1)}, "listeners")
	f(Options{Loops: maxLoops})
	f(Options{Loops: maxLoops + 1}, "Loops 257")
	f(Options{Loops: -1}, "Loops -1")
	f(Options{MaximumQoS: &two})
	f(Options{MaximumQoS: &three}, "MaximumQoS 3")
	f(Options{MaximumPacketSize: largestPacket})
	f(Options{MaximumPacketSize: largestPacket + 1}, "MaximumPacketSize")
	f(Options{MaximumPacketSize: -1}, "MaximumPacketSize")
	f(Options{Overflow: RejectPublisher})
	f(Options{Overflow: RejectPublisher + 1}, "Overflow")
	f(Options{SharedStrategy: router.LeastInflight})
	f(Options{SharedStrategy: router.LeastInflight + 1}, "SharedStrategy")
	f(Options{KeepAliveMaximum: 65535 * time.Second})
	f(Options{KeepAliveMaximum: 65536 * time.Second}, "KeepAliveMaximum")
	f(Options{KeepAliveMaximum: -time.Second}, "KeepAliveMaximum")
	f(Options{MaxSessions: Unlimited, SessionExpiryLimit: Unlimited, MaxQueuedMessages: Unlimited, MaxQueuedBytes: Unlimited,
		MaxSubscriptions: Unlimited, MaxRetainedMessages: Unlimited, MaxRetainedBytes: Unlimited})
	f(Options{MaxSessions: -2, SessionExpiryLimit: -2, MaxQueuedMessages: -2, MaxQueuedBytes: -2, MaxSubscriptions: -2,
		MaxRetainedMessages: -2, MaxRetainedBytes: -2},
		"MaxSessions", "SessionExpiryLimit", "MaxQueuedMessages", "MaxQueuedBytes", "MaxSubscriptions", "MaxRetainedMessages", "MaxRetainedBytes")
	f(Options{MaxConnections: -1, MaxTopicLevels: -1, OutboundBytes: -1, MailboxBytes: -1, ConnectTimeout: -1},
		"MaxConnections", "MaxTopicLevels", "OutboundBytes", "MailboxBytes", "ConnectTimeout")
}

func TestParseLimit(t *testing.T) {
	f := func(s string, want Limit, ok bool) {
		t.Helper()
		got, err := ParseLimit(s)
		if got != want || (err == nil) != ok {
			t.Errorf("ParseLimit(%q) = %v, %v", s, got, err)
		}
	}
	f("1", 1, true)
	f("9223372036854775807", 1<<63-1, true)
	f("unlimited", Unlimited, true)
	f("0", 0, false)
	f("-1", 0, false)
	f("", 0, false)
	f("Unlimited", 0, false)
	f("1k", 0, false)
	f("9223372036854775808", 0, false)
}

func TestOverflowPolicyNames(t *testing.T) {
	f := func(name string, want OverflowPolicy) {
		t.Helper()
		got, err := ParseOverflowPolicy(name)
		if err != nil || got != want || got.String() != name {
			t.Errorf("ParseOverflowPolicy(%q) = %v, %v", name, got, err)
		}
	}
	f("drop-newest", DropNewest)
	f("drop-oldest", DropOldest)
	f("reject", RejectPublisher)
	if _, err := ParseOverflowPolicy("drop"); err == nil || !strings.Contains(err.Error(), "drop-oldest") {
		t.Errorf("an unknown policy: %v, want the names there are", err)
	}
}

// TestDefaults: what is documented beside each field as its default is it.
func TestDefaults(t *testing.T) {
	o := Options{}.WithDefaults()
	f := func(name string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	f("Listeners", o.Listeners, []Listener{
		{Address: "127.0.0.1:1883", Anonymous: true, Sys: true}, {Address: "[::1]:1883", Anonymous: true, Sys: true}})
	f("Loops", o.Loops, DefaultLoops())
	f("MaxConnections", o.MaxConnections, 10_000_000)
	f("MaxSessions", o.MaxSessions, Limit(1_000_000))
	f("ConnectTimeout", o.ConnectTimeout, 10*time.Second)
	f("MaximumPacketSize", o.MaximumPacketSize, 1<<20)
	f("MaximumQoS", *o.MaximumQoS, codec.QoS(2))
	f("ReceiveMaximum", o.ReceiveMaximum, uint16(64))
	f("MaxInflight", o.MaxInflight, uint16(64))
	f("TopicAliasMaximum", o.TopicAliasMaximum, uint16(10))
	f("TopicAliases", o.TopicAliases, uint16(10))
	f("KeepAliveMaximum", o.KeepAliveMaximum, time.Duration(0))
	f("SessionExpiryLimit", o.SessionExpiryLimit, Limit(86_400))
	f("MaxQueuedMessages", o.MaxQueuedMessages, Limit(1000))
	f("MaxQueuedBytes", o.MaxQueuedBytes, Limit(4<<20))
	f("MaxSubscriptions", o.MaxSubscriptions, Limit(10_000))
	f("MaxTopicLevels", o.MaxTopicLevels, 128)
	f("MaxRetainedMessages", o.MaxRetainedMessages, Limit(1_000_000))
	f("MaxRetainedBytes", o.MaxRetainedBytes, Limit(1<<30))
	f("OutboundBytes", o.OutboundBytes, 1<<20)
	f("MailboxBytes", o.MailboxBytes, 64<<20)
	f("SysInterval", o.SysInterval, 10*time.Second)

	o = Options{NoTopicAliases: true, TopicAliases: 5, Loops: 3, SysInterval: -1, MaxSessions: Unlimited}.WithDefaults()
	f("NoTopicAliases", [2]uint16{o.TopicAliasMaximum, o.TopicAliases}, [2]uint16{})
	f("Loops that are set", o.Loops, 3)
	f("SysInterval that is set", o.SysInterval, time.Duration(-1))
	f("MaxSessions that is set", o.MaxSessions, Unlimited)
	if n := DefaultLoops(); n < 1 || n > runtime.NumCPU() || n > maxLoops || n == 2 {
		t.Errorf("DefaultLoops() = %d on %d cores", n, runtime.NumCPU())
	}
}

// everyHook implements several interfaces.
type everyHook struct{ secrets }

func (everyHook) Authorize(hook.Client, hook.Action, []byte) bool { return true }

func (everyHook) Method() string                    { return "M" }
func (everyHook) Begin(*hook.Connect) hook.Exchange { return nil }

func TestHooksAreFound(t *testing.T) {
	f := func(wrong string, hooks ...any) *Broker {
		t.Helper()
		b, err := New(Options{Hooks: hooks, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Fatalf("got %v, want %q", err, wrong)
		}
		return b
	}
	s := f("", everyHook{}, faultyAuthenticator{}).hooks.current.Load()
	if len(s.authenticators) != 1 || len(s.authorizers) != 1 || len(s.deliveries) != 1 || len(s.enhanced) != 1 {
		t.Errorf("found %d authenticators, %d authorizers, %d delivery authorizers, %d methods",
			len(s.authenticators), len(s.authorizers), len(s.deliveries), len(s.enhanced))
	}
	f("hook 1: int implements no interface", everyHook{}, 5)
	f("hook 0: <nil> implements no interface", nil)
	f(`two hooks offer the authentication method "M"`, everyHook{}, everyHook{})
}

// faultyAuthenticator lets nobody in.
type faultyAuthenticator struct{}

func (faultyAuthenticator) Authenticate(*hook.Connect) codec.ReasonCode { return codec.Banned }
