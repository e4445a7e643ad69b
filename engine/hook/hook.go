// Package hook holds the interfaces by which a program that embeds the broker
// takes part in what it does. A value given in engine.Options.Hooks, or to
// Broker.AddHook, is asked once which of them it implements; one value may
// implement many. Several are called in the order in which they were given.
//
// # Where hooks run
//
// Most methods run on an event loop: they must not block, byte slices they get
// are borrowed until they return, and several loops call at once. Methods that
// take a context run off the loops, on a bounded number of goroutines, and have
// until the context's deadline (engine.Options.HookTimeout); the client they
// decide about waits, others do not. An answer after the deadline comes too
// late: the broker has answered no by then.
//
// A hook may call every method of the broker that is for any goroutine, AddHook
// and Post included; what it asks for happens after it returned. Methods that
// wait for the loops, such as Publish and Reauthorize, are for hooks off them.
//
// # When a hook fails
//
// A hook that panics is caught and logged. Where it decides the answer is no;
// the connection it was called for is closed, but where a message is on its way
// to a client: then the message is not delivered to it. Off the loops no answer
// in time is a no too.
//
// # Coming from MQTTnet
//
// Each row is an example in package engine, named after its left side.
//
//	ValidatingConnection                   Decider (off the loops), Authenticator (on them)
//	ClientConnected, ClientDisconnected    ClientObserver
//	InterceptingSubscription               SubscribeInterceptor; SubscribeReviewer off the loops
//	InterceptingUnsubscription             UnsubscribeInterceptor
//	ClientSubscribedTopic, …Unsubscribed…  SubscriptionObserver
//	InterceptingPublish                    PublishInterceptor; PublishReviewer off the loops
//	ApplicationMessageNotConsumed          UnconsumedObserver
//	InterceptingClientEnqueue              DeliveryInterceptor
//	ApplicationMessageEnqueuedOrDropped    DeliveryObserver, DropObserver
//	QueueMessageOverwritten                DropObserver, with DropQueueFull
//	ClientAcknowledgedPublishPacket        AckObserver
//	InterceptingInboundPacket, …Outbound…  PacketInterceptor
//	PreparingSession, SessionDeleted       SessionObserver; session items are Decision.Data
//	LoadingRetainedMessage                 RetainedSource
//	RetainedMessageChanged, …Cleared       RetainedObserver
//	Started, Stopped                       LifeObserver, ListenerObserver
//	any of these, in one's own time        EventHandler
//	InjectApplicationMessage               engine.Broker.Publish, Post
//	GetClients, GetSessions                engine.Broker.Sessions, Session
//	GetRetainedMessages, delete them       engine.Broker.RetainedMessages, ClearRetained
//	DisconnectClient, DeleteSession        engine.Broker.Disconnect, DeleteSession
//	SubscribeAsync, UnsubscribeAsync       engine.Broker.SubscribeClient, UnsubscribeClient
package hook

import (
	"crypto/tls"
	"net"

	"github.com/wheelmq/wheelmq/codec"
)

// Connect describes a CONNECT before it is accepted. Fields are owned by the
// hook's receiver for the duration of the call only.
type Connect struct {
	ClientID    string // as sent; when the client wants one assigned, empty for an Authenticator and the assigned one for a Decider
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
	Will        *Will                // nil: none
	Listener    string               // name of the listener it came by
	Anonymous   bool                 // that listener lets clients without user name in
	TLS         *tls.ConnectionState // shared: read only; nil without TLS
	Proxied     *Proxied             // what a trusted proxy told of the client; nil without
	Identified  bool                 // UserName comes from a certificate that was verified: no password is to be asked for
}

// Will is what a CONNECT says of its Will Message.
type Will struct {
	Topic  string
	QoS    codec.QoS
	Retain bool
}

// Proxied is what the PROXY header tells of a client beside its address.
type Proxied struct {
	TLS        bool   // it came to the proxy by TLS
	TLSVersion string // as the proxy writes it
	Authority  string // server name it asked for
	CommonName string // of its certificate, which the proxy has verified; "" without one
}

// An Authenticator decides on a connection (MQTT 5.0 section 4.12, 3.1.4).
// Success or a refusing code of CONNACK; in 3.x it is mapped to the nearest
// return code. Several are asked in order: the first refusal stands.
type Authenticator interface {
	Authenticate(c *Connect) codec.ReasonCode
}

// A Client names who acts: a session, with its connection if it has one.
type Client struct {
	ClientID   string
	UserName   string
	Version    codec.Version // 0 while absent
	Listener   string        // by which it came in; "" while absent
	RemoteAddr net.Addr      // nil while absent
	Data       any           // what [Decision.Data] gave it
}

// Action is what a client wants to do with a topic name or filter.
type Action uint8

// The actions.
const (
	Publish     Action = iota // topic name
	Subscribe                 // topic filter, without $share/name/
	Retain                    // topic name, asked after Publish or PublishWill where RETAIN is set
	PublishWill               // topic name, asked when a Will Message is to be published, in place of Publish
)

func (a Action) String() string { return [...]string{"publish", "subscribe", "retain", "will"}[a] }

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
