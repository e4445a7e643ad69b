// Package limits counts what clients do against bounds: rates by token buckets,
// connections by address, clients that reconnect too often, and who is banned.
//
// A Bucket belongs to one loop. Addresses, Flaps and Bans are shared: they are
// asked when a client connects, never when it publishes, and lock one shard
// inside. Time comes in as an argument.
package limits
