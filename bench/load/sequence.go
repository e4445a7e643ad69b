package load

// An arrival says what the sequence number of a message that came in tells about it.
type arrival uint8

const (
	inOrder   arrival = iota // the next one, or one after a gap
	late                     // fills an earlier gap: it was overtaken
	duplicate                // was here before
)

// sequenceWindow is how far back a stream remembers what arrived.
const sequenceWindow = 4096

// A stream follows the messages of one publisher at one subscriber.
type stream struct {
	next      uint64 // one more than the highest sequence seen
	unique    uint64 // messages that were not duplicates
	late      uint64
	duplicate uint64
	seen      [sequenceWindow / 64]uint64 // bit sequence%sequenceWindow, for [next-sequenceWindow, next)
}

// observe notes one message. What is older than the window is late while the stream misses
// anything at all, else a duplicate.
func (s *stream) observe(sequence uint64) arrival {
	if sequence >= s.next {
		s.advance(sequence)
		s.unique++
		return inOrder
	}
	inWindow := s.next-sequence <= sequenceWindow
	if inWindow && s.has(sequence) || !inWindow && s.unique == s.next {
		s.duplicate++
		return duplicate
	}
	if inWindow {
		s.mark(sequence)
	}
	s.unique++
	s.late++
	return late
}

// advance moves the window so that sequence is its newest member, and marks it.
func (s *stream) advance(sequence uint64) {
	if sequence-s.next >= sequenceWindow {
		clear(s.seen[:])
	} else {
		for i := s.next; i < sequence; i++ {
			s.unmark(i)
		}
	}
	s.mark(sequence)
	s.next = sequence + 1
}

func (s *stream) bit(sequence uint64) (*uint64, uint64) {
	i := sequence % sequenceWindow
	return &s.seen[i/64], 1 << (i % 64)
}

func (s *stream) has(sequence uint64) bool { w, b := s.bit(sequence); return *w&b != 0 }
func (s *stream) mark(sequence uint64)     { w, b := s.bit(sequence); *w |= b }
func (s *stream) unmark(sequence uint64)   { w, b := s.bit(sequence); *w &^= b }

// lost is how many of the messages sent never came.
func (s *stream) lost(sent uint64) uint64 { return sent - min(sent, s.unique) }
