// Package engine is the MQTT broker: event loops, sessions, fan-out, and the
// API of a program that embeds it.
//
//	b, err := engine.New(engine.Options{})
//	if err != nil { … }
//	if err := b.Start(); err != nil { … }
//	defer b.Stop(ctx)
//
// A program takes part by hooks (package hook), publishes and subscribes
// without a socket (Publish, Subscribe), reads how things stand (Sessions,
// RetainedMessages, Stats) and acts (Disconnect, DeleteSession, OpenListener,
// Adopt, …). Several brokers may run in one process; nothing is global, and the
// package never exits the process.
//
// # Design
//
// A connection and its session belong to one loop and are touched by it alone
// (loop.go, conn.go, client.go). Between loops there is the mailbox
// (mailbox.go): one entry per message and loop with the slice of the
// subscribers there, one wake-up per batch. Shared, each with locks of its
// own inside, are the router, the retained index and the directory of client
// identifiers. A session follows its client from loop to loop (takeover.go).
//
// Bytes are decoded where the socket put them. A message is copied once, when
// it must outlive the read: into another loop's mailbox, a window, a queue,
// the retained index. QoS 0 to subscribers of the same loop is not copied at
// all before it is encoded into each subscriber's output.
//
// What a turn makes leaves in one write per connection at its end, or, where
// several publishers feed one subscriber, at the end of the loop's cycle
// (flush.go).
//
// # Hooks
//
// What a program adds is found by type assertion once and sorted by point
// (hooks.go); loops take the current set at the beginning of each turn, so hooks
// come and go without a lock on any path, and a point without hooks costs a bit
// test or a length check: 70 ns a message from read to write where it was 68
// before there were hooks, 130 with authorizers, 146 with observers, 233 with
// interceptors, 368 with all of them (BenchmarkTurnHooks), no allocations. What
// takes time runs on a bounded number of goroutines and answers by the mailbox
// (offloop.go): 9.5 us for a message that is reviewed (BenchmarkReview).
//
// Where hooks think about a client's packet, what comes behind it waits, so that
// its order stands, and no more than one packet's worth of bytes; above it the
// connection ends with 0x97 (review.go). Pausing the socket instead was weighed:
// gnet has no way to, and its epoll set would have to be changed behind its
// back. A client that sends and hangs up is handled to its last packet first:
// otherwise "publish and leave" would lose what it published. A message that was
// not decided on when its session is taken over is dropped and counted, and its
// QoS 2 identifier forgotten, so that it counts as new when it comes again.
// No answer in time, an error and a panic are a no.
//
// # Choices
//
// What outlives the process goes to Options.Store (durable.go, package store):
// one batch a turn, committed off the loops, ahead of what the turn has for
// other loops. What a connection is told because of it waits as bytes until
// then; a message without a durable subscriber and without RETAIN waits for
// nothing. Where a commit fails the connections that wait end, and for a second
// what must survive is refused with 0x97.
//
// Choices where brokers differ (MQTT 5.0): overlapping subscriptions give one
// copy at the highest QoS with all identifiers; a QoS 2 message is handed on
// at PUBLISH; PUBACK and PUBREC say 0x10 when nobody subscribes; QoS 0 is not
// kept for absent clients; an acknowledgement of the wrong kind is a protocol
// error; client identifiers may have any length and any characters; keep-alive
// counts whole packets from the client; at a takeover and at Stop a will without
// delay is published, at a clean start one with delay too; a connection lost
// before it had its session leaves the will of the one before as it was; No
// Local holds back a client's own retained messages too; $-topics other than $SYS are no
// one's; where bounds on retained messages are reached the whole message is
// refused with 0x97; 3.x clients keep the keep-alive they ask for; the policy
// that rejects for a full queue lets through, up to the bound once more, what
// was acknowledged before word of it came from another loop.
package engine
