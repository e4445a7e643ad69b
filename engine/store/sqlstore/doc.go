// Package sqlstore is a store in tables that people read with their own tools:
// a file of SQLite (modernc.org/sqlite, because it is plain Go), or a database
// of a MySQL or MariaDB server (github.com/go-sql-driver/mysql, the only driver
// that both projects test with).
//
// # Tables
//
//	wheelmq        name, value: format of the tables, epoch (openings so far;
//	               identifiers are epoch<<40 + n), whether it was closed
//	sessions       id, client_id, user_name, expiry, ends_at, and the will
//	subscriptions  session_id, filter, options, identifier
//	received       session_id, packet_id: QoS 2 received and not released
//	messages       id, topic, payload, qos, retain, expires, publisher, properties
//	deliveries     session_id, position, message_id, state, qos, retain,
//	               packet_id, subscription_ids, shared, size
//	retained       the columns of messages
//
// expiry is in seconds; expires, ends_at and will_at are Unix nanoseconds, 0 is
// never. state is 0 queued, 1 awaiting PUBACK, 2 PUBREC, 3 PUBCOMP. properties
// are bytes as on the wire (MQTT 5.0 section 2.2.2). filter_key and topic_key
// are SHA-256 of what they are named after: MySQL has no index on long text. A
// message is one row, however many deliveries name it. So what waits for whom is
//
//	SELECT client_id, topic, payload, d.qos FROM deliveries d
//	JOIN sessions s ON s.id = session_id JOIN messages m ON m.id = message_id
//	ORDER BY client_id, position
//
// A file keeps the size that it once had, for what comes: VACUUM makes it
// smaller, or wheelmq store backup a small copy. Others may read at any time. Who writes does so while no broker runs.
//
// # Design
//
// One goroutine commits: what came in while it committed is the next group, and
// one transaction. The changes of a group are put together first, so that a
// delivery that begins and ends within it costs one statement and its message
// none. SQLite runs with a write-ahead log and synchronous=FULL. MySQL gets the
// statements of a group joined, in few round trips, with up to 500 rows each;
// values are then put into the text by the driver, which knows the connection's
// character set. 100,000 messages for 1,000 absent clients were taken, on 2 busy
// cores with everything on one machine, at 28,000 a second by SQLite, 42,000 by
// MariaDB 10.11 and 49,000 by package pebblestore; of the broker's processor
// time they cost 23, 9 and 17 µs each.
//
// Messages are not counted: one that a delivery gave up is deleted unless
// another delivery names it, which the index of message_id tells. A count would
// be one more write to each row, and wrong after somebody's own DELETE.
//
// When a commit fails the connection is given up, and what comes is refused
// until a new one works: after 0.1 s, then twice as long each time, up to 5 s.
// A commit whose answer was lost may have been done all the same. It is told as
// failed; committed again it changes nothing, as every change here does.
//
// A process that did not end well has the next one look through the file. Where
// that, or a failed Load, finds it damaged, it is renamed to PATH.damaged-TIME,
// its tables are read from both ends into a new file, and the log tells it as
// an error. A file that was no store before (PATH.lock tells) is left alone.
//
// A file is locked by a file beside it (PATH.lock), a database by GET_LOCK,
// which goes with the connection; a broker that comes back looks at the epoch,
// and writes no more if another one has opened the store since.
package sqlstore
