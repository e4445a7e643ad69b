// Package transfer takes what a store keeps out of it and into another: a
// readable dump, an export that any kind of store imports, and what a Mosquitto
// left in its mosquitto.db.
//
// # Export, version 1
//
// Lines of JSON, each with one key. Fields that are 0, empty or false may be
// left out; bytes are in base64.
//
//	{"wheelmq_export": {"version": 1}}           first
//	{"message":  {"id", "topic", "payload", "qos", "retain", "expires", "publisher", "properties"}}
//	{"session":  {"id", "client_id", "user_name", "expiry", "ends_at",
//	              "will": {"message", "delay", "expiry", "has_expiry", "at"},
//	              "subscriptions": [{"filter", "options", "identifier"}],
//	              "received": [packet identifiers],
//	              "in_flight": [{"position", "message", "qos", "retain", "shared", "state", "packet_id", "ids"}]}}
//	{"queued":   {"session", "position", "message", "qos", "retain", "shared", "ids"}}
//	{"retained": {a message without id}}
//	{"end":      {"sessions", "subscriptions", "in_flight", "queued", "retained"}}  last: how many
//
// What the fields mean is said in package store: times are Unix nanoseconds,
// expiry and delay are seconds, properties are as on the wire. A message comes
// once, before the first line that names it by its id. A session comes before
// what is queued for it, in the order of positions. A reader refuses a newer
// version, keys that it does not know, and a file without its end.
//
// Identifiers mean something within the file alone: an import draws new ones in
// the same order. It takes a store that is empty, and looks at the whole file
// before it writes.
package transfer
