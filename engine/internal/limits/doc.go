// Package limits counts what clients do against bounds: rates by token buckets,
// connections by address, clients that reconnect too often, and who is banned.
//
// A Bucket belongs to one loop. A Shared bucket is one atomic word. Addresses,
// Meters, Flaps and Bans are shared and lock one shard inside: they are asked
// when a client connects, never when it publishes; Holdings are asked when it
// publishes retained messages. Time comes in as an argument.
package limits
