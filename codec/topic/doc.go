// Package topic holds what MQTT says about Topic Names and Topic Filters as text: which are valid,
// how many levels they have, which name a Shared Subscription, and whether a filter matches a name.
//
// Any package may call it from any goroutine: every function is pure, keeps nothing of its
// arguments and does not allocate. All take strings or byte slices alike, so that borrowed bytes
// are judged where they lie.
//
// Invariants: no argument makes a function panic. UTF-8 is not looked at here: wildcards, '/', and
// '$' are single bytes which never occur inside a longer UTF-8 sequence. Nothing is normalised
// [MQTT-4.7.3-4]: empty levels, case and byte order marks all count.
//
// It implements sections 4.7 (names, filters, wildcards) and 4.8.2 (the form of $share) of MQTT 5.0.
//
// # Design
//
// [Match] is the definition that the indices in packages router and retained are tested against,
// and is meant for rare use (rules, tests). It walks both texts level by level and is kept plain; a
// matcher over many filters belongs in an index, not here.
package topic
