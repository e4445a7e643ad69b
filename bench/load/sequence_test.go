package load

import "testing"

func TestStream(t *testing.T) {
	f := func(sent, lost, dup, late uint64, sequences ...uint64) {
		t.Helper()
		var s stream
		for _, n := range sequences {
			s.observe(n)
		}
		if s.lost(sent) != lost || s.duplicate != dup || s.late != late {
			t.Errorf("%v of %d: lost %d, duplicate %d, late %d; want %d, %d, %d",
				sequences, sent, s.lost(sent), s.duplicate, s.late, lost, dup, late)
		}
	}
	f(0, 0, 0, 0)
	f(4, 0, 0, 0, 0, 1, 2, 3)
	f(4, 1, 0, 0, 0, 1, 3)
	f(4, 4, 0, 0)
	f(4, 0, 1, 0, 0, 1, 1, 2, 3)
	f(4, 0, 0, 1, 0, 2, 1, 3)
	f(4, 0, 1, 1, 0, 2, 1, 1, 3)
	f(4, 3, 2, 0, 3, 3, 3)
	f(sequenceWindow+2, sequenceWindow, 0, 0, 0, sequenceWindow+1)
	f(sequenceWindow+2, sequenceWindow, 1, 0, 0, sequenceWindow+1, sequenceWindow+1)
	f(9000, 8997, 0, 1, 0, 8999, 1)    // older than the window, and something is missing: late
	f(9000, 8997, 0, 1, 0, 8999, 8000) // inside the window: its bit of an earlier lap is gone
	f(9000, 8998, 1, 0, 1, 1, 8000)
}

func TestStreamOldDuplicate(t *testing.T) {
	var s stream
	const sent = 3 * sequenceWindow
	for n := range uint64(sent) {
		if got := s.observe(n); got != inOrder {
			t.Fatalf("observe(%d) = %d", n, got)
		}
	}
	if got := s.observe(0); got != duplicate {
		t.Errorf("a message older than the window, nothing missing: %d, want duplicate", got)
	}
	if s.lost(sent) != 0 {
		t.Errorf("lost %d", s.lost(sent))
	}
}
