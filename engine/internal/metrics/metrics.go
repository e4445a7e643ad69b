// Package metrics counts what happens on the loops.
//
// Each loop owns one [Counters] and adds to it without any synchronisation; on
// its tick it publishes a copy into its [Cell]. Readers sum the cells, so a
// figure is at most one tick old and counting costs one add.
package metrics

import (
	"sync"

	"github.com/wheelmq/wheelmq/engine/hook"
)

// Counters are one loop's figures since the start. Gauges are differences and
// are right only in the sum over all loops. Loop-owned.
type Counters struct {
	BytesReceived, BytesSent               uint64
	PacketsReceived, PacketsSent           [16]uint64                  // by control packet type
	PublishBytesReceived, PublishBytesSent uint64                      // payload only
	Dropped                                [hook.NumDropReasons]uint64 // every drop has one reason
	Connects, Disconnects                  uint64                      // connections that reached CONNACK 0
	Refused                                uint64                      // CONNECTs refused
	Limited                                [NumLimits]uint64           // by which limit: some of Refused, and what was done to clients above their rate
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
	for i, n := range c.Limited {
		sum.Limited[i] += n
	}
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
