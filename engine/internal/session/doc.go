// Package session is the Session of one Client Identifier as a state machine
// (MQTT 5.0 section 4.1): what is in flight toward the client, what waits for
// it, and which QoS 2 identifiers it has open toward us.
//
// It does no I/O, holds no lock and asks no clock: the owning loop feeds it
// messages, acknowledgements and the time, and encodes what it returns. One
// goroutine at a time; a session moves between loops as a whole.
//
// Invariants: a message is in the window or in the queue, never in both, and
// holds one reference while it is there; packet identifiers in the window are
// distinct; on one connection at most the quota of PUBLISH packets is
// unacknowledged; what left the queue never returns to it.
package session
