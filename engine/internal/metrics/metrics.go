// Package metrics counts what happens on the loops.
//
// Each loop owns one [Counters] and adds to it without any synchronisation; on
// its tick it publishes a copy into its [Cell]. Readers sum the cells, so a
// figure is at most one tick old and counting costs one add.
package metrics

import "sync"

// Drop says why a message did not reach a client. Every drop has one reason.
type Drop uint8

// The reasons.
const (
	DropQueueFull      Drop = iota // the session's queue was at its bound
	DropQoS0Offline                // QoS 0 for a session without a connection
	DropSlowReader                 // QoS 0 for a connection that does not read
	DropExpired                    // the Message Expiry Interval ran out
	DropPacketTooLarge             // over the client's Maximum Packet Size
	DropMailboxFull                // the other loop's mailbox was at its bound
	DropSessionEnded               // the session ended with the message in its keeping
	DropNotAuthorized              // the publisher may not publish there, or the subscriber not read it
	DropRefusedPublish             // refused for another reason, and answered so
	DropIntercepted                // a hook stopped it
	NumDrops
)

// String is the reason as used in figures' names.
func (d Drop) String() string { return dropNames[d] }

var dropNames = [NumDrops]string{"queue_full", "qos0_offline", "slow_reader", "expired", "packet_too_large",
	"mailbox_full", "session_ended", "not_authorized", "refused", "intercepted"}

// Counters are one loop's figures since the start. Gauges are differences and
// are right only in the sum over all loops. Loop-owned.
type Counters struct {
	BytesReceived, BytesSent               uint64
	PacketsReceived, PacketsSent           [16]uint64 // by control packet type
	PublishBytesReceived, PublishBytesSent uint64     // payload only
	Dropped                                [NumDrops]uint64
	Connects, Disconnects                  uint64 // connections that reached CONNACK 0
	Refused                                uint64 // CONNECTs refused
	SocketsOpened                          uint64
	OutputOverflows                        uint64 // connections closed at the output bound
	SessionsExpired                        uint64
	SessionsTakenOver                      uint64
	Connected, Sessions                    int64 // gauges
	QueuedMessages, QueuedBytes            int64 // gauges: in sessions, sent or not
	Mailbox                                int64 // gauge: entries waiting in this loop's mailbox
}

// Cell is the published copy of one loop's counters.
type Cell struct {
	mu sync.Mutex
	c  Counters
}

// Publish makes c what readers see. Loop goroutine.
func (x *Cell) Publish(c *Counters) {
	x.mu.Lock()
	x.c = *c
	x.mu.Unlock()
}

// AddTo adds the published figures to sum. Any goroutine.
func (x *Cell) AddTo(sum *Counters) {
	x.mu.Lock()
	c := x.c
	x.mu.Unlock()
	sum.BytesReceived += c.BytesReceived
	sum.BytesSent += c.BytesSent
	for i := range c.PacketsReceived {
		sum.PacketsReceived[i] += c.PacketsReceived[i]
		sum.PacketsSent[i] += c.PacketsSent[i]
	}
	sum.PublishBytesReceived += c.PublishBytesReceived
	sum.PublishBytesSent += c.PublishBytesSent
	for i := range c.Dropped {
		sum.Dropped[i] += c.Dropped[i]
	}
	sum.Connects += c.Connects
	sum.Disconnects += c.Disconnects
	sum.Refused += c.Refused
	sum.SocketsOpened += c.SocketsOpened
	sum.OutputOverflows += c.OutputOverflows
	sum.SessionsExpired += c.SessionsExpired
	sum.SessionsTakenOver += c.SessionsTakenOver
	sum.Connected += c.Connected
	sum.Sessions += c.Sessions
	sum.QueuedMessages += c.QueuedMessages
	sum.QueuedBytes += c.QueuedBytes
	sum.Mailbox += c.Mailbox
}
