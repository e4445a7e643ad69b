// Package auth lets clients in by a password file and gives them rights by an
// ACL file, both in the formats of Mosquitto.
//
// [Files] is a hook.Decider: the broker asks it off its loops, so a slow hash
// costs its own client alone. What it accepts carries the rights of the session
// (hook.Rights), compiled from the ACL for this user and client identifier; they
// are asked on the loop. [Files.Reload] reads both files again, all or nothing,
// and replaces the rights of live sessions.
//
// # Design
//
// Hashes are those of mosquitto_passwd: $6$ (one round of SHA-512 with a salt),
// $7$ (PBKDF2 with SHA-512) and argon2id. PBKDF2 is the standard library's;
// argon2id is golang.org/x/crypto's, the Go project's own. A password that was
// right is remembered by a keyed hash, with a bound, so that a fleet that comes
// back at once does not hash 15,000 times.
//
// Mosquitto grants every filter at SUBSCRIBE and looks at rights when a message
// is delivered. Here a filter that no readable topic can match is refused with
// 0x87, any other is granted, and each delivery is checked: what a client gets
// is the same, and one that can get nothing is told.
package auth
