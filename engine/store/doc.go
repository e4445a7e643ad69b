// Package store is what of a broker survives its process: the interface between
// the engine and a durable store, the records and their encoding, an
// implementation in memory and one that fails on demand. Package storetest
// holds the tests that every implementation passes.
//
// # What is kept
//
// Sessions with an expiry above 0 (3.1.1: clean session 0) with their armed
// will, their subscriptions, the QoS 2 packet identifiers received and not
// released, deliveries waiting and in flight with packet identifier and state,
// and retained messages (MQTT 5.0 sections 3.1.2.11.2, 4.1 and 4.4). Topic
// aliases, quotas and whatever else ends with a Network Connection are not.
//
// An application message is kept once, however many deliveries refer to it. The
// store counts: Deliver takes a reference, Finish and the release in Advance
// give one back, DeleteSession gives back those of its deliveries. A message
// without a reference is gone; nobody deletes one. A Deliver to a position that
// is taken, and a Finish or Advance of a delivery that is not there, do nothing:
// one that is finished twice takes nobody else's reference.
//
// Most messages go to one durable session. DeliverOwn keeps such a message with
// its delivery, so that a store need neither count nor look: whoever calls it
// knows that the position is free, and calls Advance for deliveries that are there.
//
// # Order and ownership
//
//   - A [Batch] is atomic: all of it survives, or nothing.
//   - Batches are applied in the order of the calls of Commit, from whichever
//     goroutines, and done is called in that order, one at a time. A later
//     batch never survives without an earlier one.
//   - Commit neither blocks nor waits for a disk: a loop may call it. It takes
//     the batch over until done is called, which hands it back for reuse. Where
//     Commit itself returns an error the batch stays the caller's and done is
//     not called.
//   - done runs on a goroutine of the store's: it posts to a loop's mailbox and
//     returns. An error means that nothing of the batch will survive.
//   - Identifiers (of sessions, messages, positions) are the caller's to draw,
//     from First upwards, none twice. A new session under an old client
//     identifier has a new one. What arrives for a session that an earlier
//     batch deleted is dropped and takes no reference, so deletion needs no
//     fence between loops.
//   - Deliveries of a session are read in the order of their positions, those in
//     flight too: of each publisher that is the order of sending, in which they
//     are to be sent again [MQTT-4.6.0-1].
//
// # Rules for the engine
//
// The loop that publishes writes message and deliveries to all durable
// subscribers, on whichever loops they are, in one batch, and acknowledges when
// it is committed. A PUBREC's batch holds the Receive too. Weighed against: each
// subscriber's loop writes its own and answers the publisher's loop. That takes
// one more mailbox round per loop and message, a count of answers per publish,
// and leaves a crash between two loops' batches with half a fan-out, whose
// repetition by the publisher doubles the other half at QoS 2. The price of the
// first: a subscriber's loop that drops a message (full queue) must Finish what
// another loop wrote. That Finish is committed after the Deliver, because the
// subscriber's loop learns of the message through the mailbox, and the
// publishing loop commits its batch before it flushes its outboxes.
//
// # Design
//
// Batches are encoded when they are made: the payload is copied once and no
// reference to a message outlives the loop's turn. Values are records behind a
// version byte, which stores keep as they are; one with columns decodes them.
package store
