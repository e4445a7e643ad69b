// Package layout holds the shape of the module as tests: which package may import which, which package may use which
// dependency, what lies at the top level, how long a file may grow. It has nothing else; nothing imports it.
//
// The tables stand in arrows_test.go. A new package, a new arrow or a new dependency is a line there, added on purpose and
// seen in review. An arrow that no package uses any more is only noted (go test -v): a table may be ahead of the code.
//
// # Design
//
// The tests ask go list, so that they see what the compiler sees, build constraints included; one run takes less
// than a second. Imports of tests are not held to the arrows, since a test may look at its neighbours, but they are held to the
// fences: a dependency that only tests need must not spread either.
package layout
