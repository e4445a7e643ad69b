// Package router is the subscription index of the broker: it resolves a topic name to the sessions that are
// subscribed to it, grouped by the loop that owns them, and to the groups of shared subscriptions of which one
// member is to get the message. It implements sections 4.7 (topic names and filters), 4.8.2 (shared
// subscriptions) and the overlapping, No Local and Subscription Identifier rules of 3.3.4 and 3.8.3 of
// MQTT 5.0.
//
// A [Router] may be used from any goroutine. Each loop has a [Cache] of its own in front of it. The router
// knows a session only as loop and [Ref]; it calls nobody.
//
// Filters and names are valid when they get here, and their number, length and levels are bounded by the
// caller. Invalid ones cost memory or match nothing, but never panic.
package router
