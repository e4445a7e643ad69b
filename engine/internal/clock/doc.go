// Package clock is time as the broker uses it: monotonic nanoseconds in one machine word.
//
// State machines take a Time as an argument and never read a clock. Loops read a Clock once per turn
// and hand the reading down. A Clock may be read by any goroutine.
//
// Invariants: readings of one clock never go back. Readings of Real are always positive, so the zero
// Time can stand for "not set". Readings of Real are comparable between loops and between Real
// values, not between processes: what outlives the process is stored as wall time.
//
// # Design
//
// time.Time is 24 bytes, carries a location and compares through a method. A session holds several
// points in time, so 8 bytes each matter at a million sessions. A cached reading updated by a ticker
// was weighed: it wakes a thread for as long as the process lives, while one reading per turn of a
// loop costs less than 50 ns (BenchmarkReal) and an idle loop reads nothing.
package clock
