// Package inflight holds what is between two peers of a QoS 1 or QoS 2 exchange.
//
// A Window is the sending side: it hands out packet identifiers and keeps, for each one open, the
// message and the acknowledgement that is awaited. An IDSet is the receiving side of QoS 2: the
// identifiers seen in a PUBLISH and not yet released by PUBREL. Session and client library use both.
// Sections 2.2.1, 4.3 and 4.4 of MQTT 5.0.
//
// Both belong to one session and are not safe for concurrent use. They do no I/O and bound nothing
// themselves beyond the 65535 identifiers there are: the Receive Maximum is the session's to keep,
// and the session should also set a limit of its own, since a peer may offer 65535.
//
// Invariants:
//   - no identifier is 0 [MQTT-2.2.1-3], and none is handed out while it is open [MQTT-2.2.1-4];
//   - a slot of a window is occupied exactly when its PacketID is not 0, and then its index is the
//     PacketID modulo the number of slots;
//   - open entries have different seq, and ordering by seq is ordering by sending [MQTT-4.6.0-1].
//
// # Design
//
// The window is a ring of a power of two slots, indexed by the low bits of the identifier. Add walks
// on from the identifier handed out last and passes over occupied slots. A lap over a ring that is at
// most 3/4 full passes over 3 slots per free one, so Add takes constant time on average even when
// entries are stuck; that is why the ring grows at 3/4. Only beyond 49152 open entries, in the largest
// ring, can laps get longer. All memory is given back by Trim. An exchange, opened and closed, takes
// 13 to 25 ns with 1 to 1000 others open, and 67 µs with all identifiers but one open: a session that
// let its peer go there would do that much for every acknowledgement (two noisy cores at 2.8 GHz).
//
// Alternatives: a map allocates as it grows and has no order of sending; a list ordered by sending
// makes every acknowledgement out of order a walk; one bit per identifier is 8 KB for each session
// with a single message in flight.
//
// The IDSet is open addressing over 2-byte slots. A removal closes its gap by walking the run of occupied
// slots behind it, so identifiers are spread by a multiplication: used as their own hash, identifiers
// that are counted up form a single run, and every PUBREL walks all that are open. A peer that chooses
// them to collide makes a walk at most as long as the table, which its Receive Maximum bounds.
package inflight
