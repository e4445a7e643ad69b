package sqlstore

import "strings"

// A dialect is what differs between the kinds of databases.
type dialect struct {
	name  string
	steps [][]string // step i makes format i+1 of format i; repeating one changes nothing
	stay  string     // behind an INSERT: a row that is there stays as it is
	joins bool       // several statements at once
}

// The columns of a message, in the order in which they are written and read.
const messageColumns = "topic, payload, qos, retain, expires, publisher, properties"

// A statement is written again and again. Where statements are joined, rows
// that follow each other become one statement.
type statement struct {
	head, row, between, tail string
	stays                    bool // the tail is dialect.stay
}

func (s *statement) text(d *dialect) string { return s.head + s.row + s.end(d) }

func (s *statement) end(d *dialect) string {
	if s.stays {
		return d.stay
	}
	return s.tail
}

func inserts(head string, columns int) statement {
	return statement{head: head + " VALUES ", row: "(" + strings.Repeat("?,", columns-1) + "?)", between: ","}
}

func staying(s statement) statement {
	s.stays = true
	return s
}

func deletes(table, where string) statement {
	return statement{head: "DELETE FROM " + table + " WHERE ", row: "(" + where + ")", between: " OR "}
}

const deliveryColumns = "message_id, state, qos, retain, packet_id, subscription_ids, shared, size"

var (
	putSession = inserts("REPLACE INTO sessions (id, client_id, user_name, expiry, ends_at, will, will_delay, will_expiry, will_at, "+
		"will_topic, will_payload, will_qos, will_retain, will_expires, will_publisher, will_properties)", 16)
	putSubscription    = inserts("REPLACE INTO subscriptions (session_id, filter_key, filter, options, identifier)", 5)
	deleteSubscription = deletes("subscriptions", "session_id = ? AND filter_key = ?")
	putReceived        = inserts("REPLACE INTO received (session_id, packet_id)", 2)
	deleteReceived     = deletes("received", "session_id = ? AND packet_id = ?")
	putRetained        = inserts("REPLACE INTO retained (topic_key, "+messageColumns+")", 8)
	deleteRetained     = deletes("retained", "topic_key = ?")
	beginDelivery      = staying(inserts("INSERT INTO deliveries (session_id, position, "+deliveryColumns+")", 10))
	putDelivery        = inserts("REPLACE INTO deliveries (session_id, position, "+deliveryColumns+")", 10)
	deleteDelivery     = deletes("deliveries", "session_id = ? AND position = ?")
	putMessage         = staying(inserts("INSERT INTO messages (id, "+messageColumns+")", 8))
	changeDelivery     = statement{head: "UPDATE deliveries SET message_id = ?, state = ?, qos = ?, retain = ?, packet_id = ?, " +
		"subscription_ids = ?, shared = ?, size = ? WHERE session_id = ? AND position = ?"}
)

const (
	messagesOf = "SELECT DISTINCT message_id FROM deliveries WHERE session_id = ?"

	// unused ends a DELETE FROM messages.
	unused = "NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.message_id = messages.id)"
)

// What belongs to a session, for its deletion.
var ofSession = [...]statement{
	deletes("deliveries", "session_id = ?"), deletes("received", "session_id = ?"),
	deletes("subscriptions", "session_id = ?"), deletes("sessions", "id = ?"),
}

// sweep removes what belongs to nothing: left by a process that ended between a
// change and the deletion of the session that it was for.
var sweep = [...]string{
	"DELETE FROM deliveries WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.id = session_id)",
	"DELETE FROM received WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.id = session_id)",
	"DELETE FROM subscriptions WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.id = session_id)",
	"DELETE FROM messages WHERE " + unused,
}

// tables makes the tables of format 1 of the words for four types and what ends
// a table.
func tables(number, text, bytes, key, end string) []string {
	message := func(prefix string) string {
		return strings.NewReplacer("P_", prefix).Replace("P_topic TEXT NOT NULL, P_payload BYTES NOT NULL, P_qos NUMBER NOT NULL, P_retain NUMBER NOT NULL, " +
			"P_expires NUMBER NOT NULL, P_publisher TEXT NOT NULL, P_properties BYTES NOT NULL")
	}
	all := []string{
		"sessions (id NUMBER NOT NULL PRIMARY KEY, client_id TEXT NOT NULL, user_name TEXT NOT NULL, expiry NUMBER NOT NULL, " +
			"ends_at NUMBER NOT NULL, will NUMBER NOT NULL, will_delay NUMBER NOT NULL, will_expiry NUMBER NOT NULL, " +
			"will_at NUMBER NOT NULL, " + message("will_") + ")",
		"subscriptions (session_id NUMBER NOT NULL, filter_key KEY NOT NULL, filter TEXT NOT NULL, options NUMBER NOT NULL, " +
			"identifier NUMBER NOT NULL, PRIMARY KEY (session_id, filter_key))",
		"received (session_id NUMBER NOT NULL, packet_id NUMBER NOT NULL, PRIMARY KEY (session_id, packet_id))",
		"messages (id NUMBER NOT NULL PRIMARY KEY, " + message("") + ")",
		"deliveries (session_id NUMBER NOT NULL, position NUMBER NOT NULL, message_id NUMBER NOT NULL, state NUMBER NOT NULL, " +
			"qos NUMBER NOT NULL, retain NUMBER NOT NULL, packet_id NUMBER NOT NULL, subscription_ids TEXT NOT NULL, shared NUMBER NOT NULL, size NUMBER NOT NULL, " +
			"PRIMARY KEY (session_id, position)INDEX)",
		"retained (topic_key KEY NOT NULL PRIMARY KEY, " + message("") + ")",
	}
	words := strings.NewReplacer("NUMBER", number, "TEXT", text, "BYTES", bytes, "filter_key KEY", "filter_key "+key,
		"topic_key KEY", "topic_key "+key)
	for i, t := range all {
		all[i] = "CREATE TABLE IF NOT EXISTS " + words.Replace(t) + end
	}
	return all
}

// withIndex puts the index of deliveries by message into its table, or behind it.
func withIndex(all []string, inside, behind string) []string {
	for i := range all {
		all[i] = strings.Replace(all[i], "INDEX", inside, 1)
	}
	if behind != "" {
		all = append(all, behind)
	}
	return all
}

// makeMeta makes the table that tells the format.
func (d *dialect) makeMeta() string {
	if d.name == sqlite.name {
		return "CREATE TABLE IF NOT EXISTS wheelmq (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL)"
	}
	return "CREATE TABLE IF NOT EXISTS wheelmq (name VARCHAR(32) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)" + mysqlTable
}

const mysqlTable = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

var sqlite = dialect{
	name: "sqlite",
	steps: [][]string{withIndex(tables("INTEGER", "TEXT", "BLOB", "BLOB", ""), "",
		"CREATE INDEX IF NOT EXISTS deliveries_message ON deliveries (message_id)")},
	stay: " ON CONFLICT DO NOTHING",
}

var mysqlDialect = dialect{
	name: "mysql",
	steps: [][]string{withIndex(tables("BIGINT", "MEDIUMTEXT", "LONGBLOB", "BINARY(32)", mysqlTable),
		", INDEX deliveries_message (message_id)", "")},
	stay:  " ON DUPLICATE KEY UPDATE qos = qos",
	joins: true,
}
