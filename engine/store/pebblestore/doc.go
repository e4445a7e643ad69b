// Package pebblestore is the embedded default store, on Pebble
// (github.com/cockroachdb/pebble/v2): a log-structured store in plain Go, with
// one write-ahead log that takes the commits of all loops in one sync, and a
// file system that tests replace by one that loses what was not synced.
//
// # Layout
//
// Integers are big-endian, so that keys sort by them.
//
//	m format                    version of this layout
//	m epoch                     openings so far; identifiers are epoch<<40 + n
//	s hash session 0            Session
//	s hash session 1 filter     Subscription
//	s hash session 2 packet     QoS 2 identifier received, no value
//	s hash session 3 position   Delivery in flight: its state; the one at q stays until PUBREC or PUBACK
//	q session position          Delivery, or 0xFF length Delivery Message where no other refers to it
//	p message                   Message
//	c message                   number of its deliveries
//	r hash topic                retained Message
//
// hash is one byte, for as many parts as can be loaded at once.
//
// # Design
//
// One goroutine commits: what came in while it synced is the next group. Deliveries
// with a message of their own are written and deleted without a look; the message is
// written once. It alone changes the counts of other messages: one read and one write to a message
// and group, and a look at each delivery that is begun, moved or finished. Merging instead of reading was built first: an
// operand per change, and a DeletableValueMerger that drops a message at 0. In
// v2.1.7 a compaction panics where such a merge meets a Set that an earlier
// compaction made of its base ("compaction iterator has skip=true").
//
// Written is given as Synced: Pebble has no wait for the operating system alone.
// Received is answered at once where nothing that must wait is ahead.
//
// The free space is looked at ten times a second, and whenever a sixteenth of
// Options.Reserve was taken: with less than the reserve beyond what Pebble is yet
// to write the store is full, and flushes once a second, so that what is deleted
// leaves the disk. Below a quarter of the reserve nothing is written and commits
// fail until there is room again, because Pebble does not
// outlive a log it cannot write. Where a write fails all the same the database
// is closed and opened again, once a second until it succeeds.
//
// Where Load meets blocks that are damaged it goes on behind them, and copies all
// that can be read into a new database; the damaged one is renamed
// DIR.damaged-TIME. A database that does not open because of what is in its
// files is read table by table and log by log, and put aside in the same way.
package pebblestore
