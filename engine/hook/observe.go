package hook

import (
	"context"
	"net"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// What happened is told to observers on the loop where it happened, right then:
// they must not block, and what they get is borrowed. [EventHandler] gets the
// same off the loops.

// A LifeObserver is told of the broker's life, by the goroutine that calls
// Start and Stop.
type LifeObserver interface {
	Started()
	Stopped()
}

// A ListenerObserver is told of listeners; addr is nil where there is none.
// On the goroutine that opens or closes them.
type ListenerObserver interface {
	ListenerOpened(name string, addr net.Addr)
	ListenerClosed(name string, addr net.Addr)
}

// A ConnectionObserver is told of network connections, and of those that end
// without CONNACK 0. Client has what is known by then.
type ConnectionObserver interface {
	ConnectionAccepted(c Client)
	ConnectionRefused(c Client, code codec.ReasonCode, reason string)
}

// A ClientObserver is told when clients come and go.
type ClientObserver interface {
	Connected(c Client, e Connected)
	Disconnected(c Client, e Disconnected)
}

// Connected is what there is to say behind CONNACK 0.
type Connected struct {
	SessionPresent, CleanStart bool
	KeepAlive                  uint16 // seconds, in force
	SessionExpiry              uint32 // seconds, in force
}

// Disconnected is how a client's connection ended.
type Disconnected struct {
	By        By
	Code      codec.ReasonCode // of the DISCONNECT, or what it says of the fault; Success where there is none
	Reason    string
	Connected time.Duration
	Will      bool // a will was published, or waits for its delay
	Ended     bool // its session ended with it
}

// By says who ended a connection.
type By uint8

// The ways.
const (
	ByClient   By = iota // it sent DISCONNECT
	ByNetwork            // it is gone without a word
	ByBroker             // for a fault of the client's, by an administrator, at the broker's end
	ByTakeover           // another connection has its client identifier
)

func (b By) String() string { return [...]string{"client", "network", "broker", "takeover"}[b] }

// A SubscriptionObserver is told when a session's subscriptions change.
type SubscriptionObserver interface {
	Subscribed(c Client, s Subscription)
	Unsubscribed(c Client, filter string)
}

// A PublishObserver is told of each message that was taken, after it was
// routed: code is what its publisher is answered, 0x10 when nobody subscribes.
type PublishObserver interface {
	Published(c Client, p Publication, code codec.ReasonCode)
}

// An UnconsumedObserver is told of messages that matched no subscription.
type UnconsumedObserver interface {
	NotConsumed(c Client, p Publication)
}

// A DeliveryObserver is told of each PUBLISH that is written for a client.
type DeliveryObserver interface {
	Delivered(to Client, d Delivery, packetID uint16)
}

// An AckObserver is told when a client finished a delivery: by PUBACK at QoS
// 1, PUBCOMP at QoS 2.
type AckObserver interface {
	Acknowledged(c Client, packetID uint16, qos codec.QoS)
}

// A DropObserver is told of each message that does not reach a client, or
// nobody at all.
type DropObserver interface {
	Dropped(d Drop)
}

// A Drop is a message that was dropped.
type Drop struct {
	Why   DropReason
	To    string // client identifier; "" where it was for nobody, or several, in particular
	Topic []byte // borrowed
}

// DropReason says why a message was dropped. The names are those of the figures.
type DropReason uint8

// The reasons.
const (
	DropQueueFull      DropReason = iota // the session's queue was at its bound
	DropQoS0Offline                      // QoS 0 for a session without a connection
	DropSlowReader                       // QoS 0 for a connection that does not read
	DropExpired                          // the Message Expiry Interval ran out
	DropPacketTooLarge                   // over the client's Maximum Packet Size
	DropMailboxFull                      // the other loop's mailbox was at its bound
	DropSessionEnded                     // the session ended with the message in its keeping
	DropNotAuthorized                    // the publisher may not publish there, or the subscriber not read it
	DropRefusedPublish                   // refused for another reason, and answered so
	DropIntercepted                      // a hook stopped it
	DropRate                             // QoS 0 for a client that is sent to at its highest rate
	DropLost                             // it waited in the store, and is not there
	NumDropReasons                       // how many there are
)

var dropNames = [NumDropReasons]string{"queue_full", "qos0_offline", "slow_reader", "expired", "packet_too_large",
	"mailbox_full", "session_ended", "not_authorized", "refused", "intercepted", "rate", "lost"}

func (d DropReason) String() string { return dropNames[d] }

// A SessionObserver is told of sessions' lives.
type SessionObserver interface {
	SessionChanged(clientID string, e SessionEvent)
}

// SessionEvent is a step in a session's life.
type SessionEvent uint8

// The steps.
const (
	SessionCreated   SessionEvent = iota
	SessionTakenOver              // by another connection; it goes on, or ends and SessionDeleted follows
	SessionExpired                // SessionDeleted follows
	SessionDeleted
)

func (e SessionEvent) String() string {
	return [...]string{"created", "taken over", "expired", "deleted"}[e]
}

// A RetainedObserver is told when the retained message of a topic changes; p
// is nil when it is gone: cleared, or expired. The broker's own, below $SYS, are
// left out.
type RetainedObserver interface {
	RetainedChanged(topicName string, p *Publication)
}

// A RetainedSource has retained messages from elsewhere: it is asked at Start,
// before anybody can connect, and calls load for each. load copies; it reports
// messages that are not valid. An error, also one of load that is returned,
// ends Start. With a [RetainedObserver], or an [EventHandler] that writes what
// changes, a program keeps retained messages in a database of its own.
type RetainedSource interface {
	LoadRetained(ctx context.Context, load func(Publication) error) error
}

// A WillObserver is told when a will is published.
type WillObserver interface {
	WillPublished(c Client, p Publication)
}
