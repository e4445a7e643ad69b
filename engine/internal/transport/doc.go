// Package transport fences gnet: listeners, sockets and event loops.
//
// The engine hands in one [Loop] per event loop and gets back calls on that
// loop's goroutine: a connection was opened, bytes arrived, it was closed, the
// loop was woken, time passed. Nothing here knows MQTT.
//
// # Ownership
//
// Bytes given to [Peer.Received] are borrowed: they point into the loop's
// shared read buffer and die when the call returns. Bytes given to
// [Socket.Write] stay the caller's; what the kernel does not take at once is
// copied.
//
// # Rules of gnet v2.9.8 that are honoured here
//
//   - A write after close may reach the next client on the same descriptor,
//     so a socket carries its own closed flag.
//   - Write may report the close before it returns.
//   - A failed accept ends gnet's engine. A connection whose descriptor shows
//     that the process is nearly full is closed where it is opened; should
//     accept fail all the same, the engine is run again.
//   - A task posted to a loop that has ended is written to a descriptor that is
//     closed, or someone else's by then: loops are unbound before they end.
//   - gnet's ticker runs on a goroutine of its own: ticks are posted to the
//     loops, one outstanding per loop.
//   - gnet binds with SO_REUSEPORT, which would let a second broker share the
//     port unnoticed: each address is first bound without it, and held until
//     gnet listens.
//   - gnet does not recover: each callback into the engine does.
//
// # Design
//
// gnet is the event loop because the broker is built around it: level
// triggered, SO_REUSEPORT so that each loop accepts for itself, no locked
// threads. All other settings measured were noise or worse.
package transport
