package hook

import (
	"context"
	"net"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// EventKind says what an Event tells of, and so which of its fields are set.
type EventKind uint32

// The kinds. Each has the name of the observer's method that tells the same.
const (
	EventListenerOpened     EventKind = 1 << iota // Name, Addr
	EventListenerClosed                           // Name, Addr
	EventConnectionAccepted                       // Client
	EventConnectionRefused                        // Client, Code, Reason
	EventConnected                                // Client, Connected
	EventDisconnected                             // Client, Disconnected
	EventSubscribed                               // Client, Subscription
	EventUnsubscribed                             // Client, Subscription.Filter
	EventPublished                                // Client, Message, Code
	EventNotConsumed                              // Client, Message
	EventDelivered                                // Client, Message, PacketID
	EventAcknowledged                             // Client, PacketID, Message.QoS
	EventDropped                                  // Client.ClientID, Message.Topic, Drop
	EventSessionChanged                           // Client.ClientID, Session
	EventRetainedChanged                          // Message; Message.Topic alone, with Gone, when it is gone
	EventWillPublished                            // Client, Message

	AllEvents EventKind = 1<<iota - 1
)

var eventNames = [...]string{"listener opened", "listener closed", "connection accepted", "connection refused", "connected",
	"disconnected", "subscribed", "unsubscribed", "published", "not consumed", "delivered", "acknowledged", "dropped",
	"session changed", "retained changed", "will published"}

// String is the name of a single kind.
func (k EventKind) String() string {
	for i, name := range eventNames {
		if k == 1<<i {
			return name
		}
	}
	return "several"
}

// An Event is something that happened. All of it is the receiver's.
type Event struct {
	Kind         EventKind
	Time         time.Time
	Client       Client
	Name         string
	Addr         net.Addr
	Code         codec.ReasonCode
	Reason       string
	Connected    Connected
	Disconnected Disconnected
	Subscription Subscription
	Message      Publication
	PacketID     uint16
	Drop         DropReason
	Session      SessionEvent
	Gone         bool
}

// An EventHandler is told what happened off the loops: it may take its time,
// for writing to a database or calling a service. Events come one after the
// other, those of one client in order. Up to engine.Options.HookEvents wait;
// more are dropped and counted (Stats.EventsDropped). Messages are copied for
// it, so ask for published and delivered ones only when they are needed.
type EventHandler interface {
	EventKinds() EventKind // asked once
	HandleEvent(ctx context.Context, e Event)
}
