// Package router is the subscription index of the broker: it resolves a topic name to the sessions that are
// subscribed to it, grouped by the loop that owns them, and to the groups of shared subscriptions of which one
// member is to get the message. It implements sections 4.7 (topic names and filters), 4.8.2 (shared
// subscriptions) and the rules for overlapping subscriptions, No Local and Subscription Identifiers in 3.3.4
// and 3.8.3 of MQTT 5.0.
//
// # Who may call
//
// A [Router] and everything of a [Group] or [Member] may be used from any goroutine; a [Cache] belongs to one
// loop. The router knows a session only as (loop, [Ref]) and calls nobody. Names and filters are valid when
// they get here, and their number, length and levels are bounded by the caller. Invalid ones take memory or
// match nothing, but do not panic. A loop number out of range is the caller's bug and does.
//
// # Ownership
//
// Topic names are borrowed. The bytes of filters and share names are copied. The lists of a [Route] and the
// groups in it are shared: they never change once handed out and may be kept for ever. Route.Loops, the outer
// slice, is borrowed until the Route's next use.
//
// # Invariants
//
//   - A route lists each (loop, ref) once, at the highest QoS, with each identifier once.
//   - What a call changed is in every match and every cached route that is asked for after the call returned.
//   - Move and MoveShared replace one place by another in one step: no match and no pick sees none or both.
//   - A node exists only while a subscription stands at it or below it. Memory of removed nodes is reused by
//     the same shard and given back when the shard is empty.
//   - Pick takes no lock. Match holds a shard's lock shared for its walk, a change holds it alone for one path
//     and one list; nothing done under a lock takes longer because the index is large (growth: below).
//
// # Design
//
// The index is a trie over levels without child maps. All literal edges of a shard are in one open-addressed
// table whose key is the hash of the path; + and # children hang directly off their parent. The hash of a path
// needs no memory of the nodes above, so the processor fetches several levels at a time. Touching the lines
// beforehand was tried and gained nothing. A hit is verified against the parent and the text of the level, so
// collisions cost time only. Levels are hashed with hash/maphash, whose key differs in each router: with an
// unkeyed hash (xxhash) a client could craft levels that collide. There are 64 shards by the first level and
// one for the filters that begin with a wildcard, so a match looks into two, or into one for names that begin
// with $. [MQTT-4.7.2-1]
//
// Growth is bounded. The edge table is split segment by segment (extendible hashing): an insertion rehashes
// 1024 slots at most. Nodes come in chunks of 128 and never move. A list is made of chunks of 128 subscribers:
// one more subscriber appends in place, a removal copies two chunks at most and puts the last one into the
// gap. What still grows by copying are lists of pointers to all these chunks. The longest of a million
// subscriptions took 0.26 ms of processor time, where an empty operation took up to 0.12 ms.
// A route needs one slice for each loop, so with more than one chunk the first match after a change joins
// them, outside the lock: 24 bytes for each of the subscribers it is about to deliver to.
// Locks are tried for some microseconds before a goroutine waits for them. While one goroutine subscribed
// without a break in the shard of the matches, that brought the 99.9th percentile of matches from 0.7 to 3.5 ms
// down to 4 to 75 µs, on two cores that other processes kept busy.
//
// A cached route stands while the version slots stand that it was made under. A filter without wildcards
// counts up the slot of its full text, another that of its literal levels before the first wildcard, four at
// most; a name depends on six slots, and a counter of all changes makes that one load while nothing changes.
// A version for each shard would be simpler, but then every client that subscribes to a topic of its own below
// "devices" makes all other routes below it outdated, and a connect storm turns each publish into a match.
// A cache counts all bytes of lists against its limit, because an outdated entry may be the last to hold them.
//
// The seats of a group are bits in blocks of 64: ready, connected, taken. A pick finds the next member that
// can take the message without looking at those that cannot. Groups of up to 64 compare all members for
// LeastInflight and hash by highest weight; larger ones sample 32 members or 32 seats, so that a pick does not
// slow down with the group.
//
// Rejected: an exact map beside a wildcard trie (254 ns hot, 3.9 µs cold for a million filters in a prototype,
// the flat trie 106 ns and 2.3 µs), a map in each node (188 ns, 4.1 µs, 367 bytes for each filter), look-ups
// by wildcard shape (6 to 8 µs cold, and a client can make up shapes), lists in one slice that a removal
// copies (quadratic for a popular filter), one Go map for the edges (a slot costs 17 bytes instead of 8).
//
// Measured on one of two cores of a virtual machine at 2.8 GHz under other load, Go 1.26, processor time, a
// million subscriptions (80 % exact, 15 % with +, 5 % with #), best and usual run: cache hit 19 and 32 ns with
// 64 names, 32 and 43 ns with 4096, 140 and 200 ns with 65 536 (memory bound); match 250 and 380 ns for
// 64 names, 1.1 and 1.6 µs for 131 072; cache miss 1.4 and 2.0 µs; subscribe 0.6 and 0.8 µs in order, 1.6 and
// 1.8 µs at random; unsubscribe at random 1.7 µs, from one list of 500 000 3 µs; pick 13 to 60 ns, with 64
// members to compare 170 to 240 ns. Heap for a subscription beside the text of its filter: 81 bytes in this
// mix, 130 if each has two levels of its own, 143 with a UUID as level, 64 under one filter, 116 for a member
// of a large group, 470 for a group of one.
package router
