// Package invariant holds the switch for checks that are too costly for production.
//
// Build with -tags invariants to turn them on:
//
//	if invariant.Enabled {
//		if len(q.items) != q.count {
//			panic("queue: count differs from items")
//		}
//	}
//
// Enabled is a constant, so without the tag the compiler removes the branch and all it holds.
// With the tag a failed check panics, and nothing recovers it; released buffers are overwritten by
// their owners, so that use after release shows.
//
// Any package under engine may import it, from any goroutine.
//
// # Design
//
// A build tag and not an option: a variable would cost a load and a branch at every check and could
// be switched while half of the state was built without its bookkeeping.
package invariant
