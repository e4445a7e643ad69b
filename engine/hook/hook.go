// Package hook holds the interfaces by which a program that embeds the broker
// takes part in its decisions. A value given in engine.Options.Hooks is asked
// once, at the start, which of them it implements.
//
// All methods here run on an event loop: they must not block, and byte slices
// they get are borrowed until they return. Several loops call at once.
//
// A hook that panics is caught and logged: the connection it was asked for is
// closed, or, for wills and deliveries, the answer is no.
package hook

import (
	"crypto/tls"
	"net"

	"github.com/wheelmq/wheelmq/codec"
)

// Connect describes a CONNECT before it is accepted. Fields are owned by the
// hook's receiver for the duration of the call only.
type Connect struct {
	ClientID    string // as sent; empty when the client wants one assigned
	UserName    string
	Password    []byte
	HasUserName bool
	HasPassword bool
	Version     codec.Version
	CleanStart  bool
	KeepAlive   uint16 // seconds
	Properties  codec.Properties
	RemoteAddr  net.Addr // the client's, also behind a proxy that tells it
	LocalAddr   net.Addr
	Listener    string               // name of the listener it came by
	TLS         *tls.ConnectionState // shared: read only; nil without TLS
}

// An Authenticator decides on a connection (MQTT 5.0 section 4.12, 3.1.4).
// Success or a refusing code of CONNACK; in 3.x it is mapped to the nearest
// return code. Several are asked in order: the first refusal stands.
type Authenticator interface {
	Authenticate(c *Connect) codec.ReasonCode
}

// A Client names who acts.
type Client struct {
	ClientID string
	UserName string
}

// Action is what a client wants to do with a topic name or filter.
type Action uint8

// The actions. A will is published with the rights at the time it fires.
const (
	Publish   Action = iota // topic name
	Subscribe               // topic filter, without $share/name/
)

// An Authorizer allows or denies an action. Several are asked in order: the
// first denial stands.
type Authorizer interface {
	Authorize(c Client, a Action, topic []byte) bool
}

// A DeliveryAuthorizer is asked again for each message that a subscription
// brings to a client, live or retained: for rules that change at run time, or
// that grant filters which match more than the client may read. It runs for
// every recipient of every message, so it must be fast.
type DeliveryAuthorizer interface {
	AuthorizeDelivery(c Client, topicName []byte) bool
}

// An EnhancedAuthenticator offers one Authentication Method (MQTT 5.0 section 4.12).
type EnhancedAuthenticator interface {
	Method() string
	// Begin starts one exchange, at CONNECT and again at each re-authentication.
	Begin(c *Connect) Exchange
}

// An Exchange is one authentication in progress, owned by one connection.
type Exchange interface {
	// Step takes the client's Authentication Data (nil when absent) and returns
	// the answer: with ContinueAuthentication it goes out in AUTH, with Success
	// in CONNACK or AUTH; any failing code refuses.
	Step(data []byte) (reply []byte, code codec.ReasonCode)
}
