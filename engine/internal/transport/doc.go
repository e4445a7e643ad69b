// Package transport fences gnet: listeners, sockets and event loops, and what
// stands between a socket's bytes and MQTT: PROXY headers, TLS, WebSocket.
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
// # Listeners
//
// TCP listeners of the start are gnet's: a socket for each loop, accepted in the
// loop. All others, opened later, unix sockets, sockets that were given, have a
// goroutine that accepts and hands over to the loops in turn; that costs about
// 15 µs of CPU a connection more, and gnet allows no other way. A connection
// without a descriptor is carried over a pair of sockets by two goroutines.
//
// # Layers
//
// A connection of a plain listener is a [socket]: gnet's bytes are the peer's.
// Any other is a layered one, whose stages change bytes in place and hold
// nothing while it is idle: PROXY header, TLS, WebSocket, in this order, each
// only if the listener has it; with Detect the first byte decides.
//
// The handshake of TLS needs a goroutine, since crypto/tls cannot leave one half
// way. It gets one when the client's hello is whole; how many are under way,
// wait and compute is bounded (handshakes). Afterwards crypto/tls runs on the
// loop, over what the loop has read, and an error that it takes for temporary
// says that there is no more.
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
//   - gnet cannot close one listener, and ends when accept fails: a listener is
//     closed by putting another socket in the place of its descriptors.
//   - gnet does not run without a listener: where there is none it gets one that
//     is closed before Listen returns.
//   - Unix sockets among gnet's listeners would switch SO_REUSEPORT off: they are
//     not.
//   - gnet does not recover: each callback into the engine does.
//
// # Design
//
// gnet is the event loop because the broker is built around it: level
// triggered, SO_REUSEPORT so that each loop accepts for itself, no locked
// threads. All other settings measured were noise or worse.
//
// gobwas/ws is the WebSocket library because it works on bytes and not on
// connections: it answers the request, judges frames and unmasks. Only the
// stream between frames and packets is written here, and the header is read
// here, which costs gobwas/ws two allocations a frame. go-proxyproto reads PROXY
// headers, since it knows both versions and their TLS part and is widely used.
package transport
