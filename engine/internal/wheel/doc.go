// Package wheel is the timing wheel of a loop: keep-alive, connect deadline, will delay, session
// expiry and slow readers wait in it.
//
// A wheel belongs to one loop and is not safe for concurrent use. Nodes are embedded in what they
// time, so arming allocates nothing and frees nothing:
//
//	type conn struct {
//		keepAlive wheel.Node[conn] // Owner set once to the conn, Kind says which timer it is
//	}
//
// Invariants:
//   - a node is in at most one slot of one wheel; a zero node is idle;
//   - time counts in ticks of Tick; a deadline is rounded up, so that nothing fires early;
//   - a node at level l agrees with the current tick in all digits above l (a digit is 6 bits) and
//     lies ahead in digit l, so the lowest occupied level always holds the next node that is due;
//   - bit s of occupied[l] is set exactly when slot s of level l holds a node.
//
// Deadlines further than MaxDistance ahead are pulled in to it. Owners compare their real deadline
// with the time when they fire and arm again, as keep-alive does anyhow.
//
// # Design
//
// Five levels of 64 slots and a sixth of 4 cover the 32 bits of a tick: 16 s, 17 min, 18 h, 48 days,
// 8.5 years, 34 years. The tick wraps after that; distances stay below half of the range, so the wrap
// is harmless and tested. A node is 32 bytes.
//
// With a million timers armed: 20 to 31 ns to cancel or arm nodes that are in the cache or neighbours in
// memory, 190 to 290 ns for scattered ones (a list touches both neighbours, three cache misses), 210 to
// 270 ns for a timer that fires and is armed again with its cascades, 23 ns for a tick at which nothing
// is due. Two noisy cores at 2.8 GHz. So owners re-arm lazily: store the time, look at it when the node fires.
//
// Alternatives: a binary heap costs O(log n) and a cache miss per level for every packet-driven
// re-arm, and needs an index in the node as well. One flat wheel long enough for session expiry would
// need millions of slots or a visit to every timer once per round. time.AfterFunc costs 100 bytes
// and more per timer and fires on a goroutine of its own. 256 slots per level save one cascade for
// timers between 16 and 64 s, but make an occupancy map four words per level; with one word, finding
// the next due slot over any gap is six bit scans, so a loop that slept for a day catches up at once.
package wheel
