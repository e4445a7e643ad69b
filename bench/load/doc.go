// Package load puts load on an MQTT broker: a workload goes in, figures come out.
//
// A Workload is a pointer to one of five plain structs: Messages (publishers and subscribers, closed
// loop with a window or open loop at a fixed rate), Connections (a connect storm, then idle
// connections with keep-alive), Cycles (connect, subscribe, disconnect), Retained (new subscribers
// ask for many retained messages) and Replay (persistent sessions come back to queued messages).
// Scenarios are workloads by name. Run blocks until its figures are there, may be called from any
// goroutine, and is bounded in time by the durations of the workload or by a time without progress.
//
// What the figures mean:
//   - CPU time is user and system time of the broker's whole process over the measured window, per
//     message delivered in it: on a shared machine the steadiest figure of a broker's speed. It
//     needs the broker's process on this machine, as does its memory; without it both are 0.
//   - Latency ends when the read that brought the message returned. It begins, in the closed loop,
//     with the write that sent the message, and at a fixed rate when the message was due, so a
//     broker that stalls the generator does not look fast for it.
//   - Every message names its publisher and its place in that publisher's sequence. Lost,
//     duplicate and late messages are counted for each publisher at each subscriber.
//   - OtherCPU says what the rest of the machine did meanwhile. GeneratorFull marks a run in which
//     the generator may have been the bottleneck; its CPU time per message still counts.
//   - A Sample, four times a second, is the same of a short span: rates, latencies, memory over time.
//
// # Invariants
//
//   - No publisher has more than Window messages in flight; in flight is what is not both
//     acknowledged and received by all. No queue of the broker can grow beyond that, except where a
//     subscriber is slow on purpose.
//   - A publisher's messages of one turn leave in one write; so do a subscriber's acknowledgements
//     of one read.
//   - A packet that the workload does not explain ends the run with an error, as does a connection
//     that the broker closes; a connect storm counts failures instead.
//   - Nothing is allocated per message. Percentiles, kernel figures and watch are the work of a
//     goroutine beside the driver.
//
// # Design
//
// One locked thread with epoll of its own drives all connections. The alternative was gnet's
// client. It waits twice for each isolated message (once without and once with a timeout, with a
// pass through the scheduler between), dials with a blocking connect and a second descriptor for
// each connection, and has no timer finer than its tick; the open loop needs one of microseconds,
// which epoll_pwait2 has. Against Mosquitto 2.0.11 the generator uses 0.4 to 0.7 of a core while the
// broker uses a whole one.
//
// TLS is crypto/tls over bytes that the driver has read, WebSocket its frames inside or without it. crypto/tls cannot leave a
// handshake half way, so handshakes run in coroutines (package iter) on the driver's thread, and nothing runs beside it. Between
// there are no buffers: what one read brought is decrypted and unframed at once, what is to be sent is sealed when it is written.
// Headers are masked and upgrades asked for by github.com/gobwas/ws, which works on bytes in memory. The time of a handshake is
// part of a connect's latency, and its cost part of GeneratorCPU: with TLS the generator works about as much as the broker.
//
// PUBLISH packets are encoded once per publisher, copied into the output and patched (packet
// identifier, stamp). Encoding and decoding are the generator's own and not package codec's: a
// fault in codec that a broker shares would otherwise not show, and most of what codec checks is
// the broker's business. What the generator does check is that each packet is expected.
//
// Latencies are kept in HDR histograms (github.com/HdrHistogram/hdrhistogram-go): constant memory,
// no allocation per value, an error of a thousandth at any percentile.
package load
