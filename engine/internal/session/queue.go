package session

// queue is what waits for a client: all of it in memory, in head, or with a far
// part that only the store has:
//
//	head | far.reach | far.rear | far.later
//
// Head and rear are in memory, reach and later in the store. What is in reach
// has positions below far.horizon, and is read from the store into the head.
// Rear and later are what arrived since the horizon was drawn; they are from it
// on. When nothing of reach is left, rear goes behind the head, and later is
// the next reach, below a horizon to be drawn then.
//
// Positions are drawn by publishers and arrive in another order. So a horizon is
// of use only when all that was drawn below it has arrived here: until then,
// what arrives from below it is reach as well. See the engine's far.go.
type queue struct {
	head ring
	far  *Far // nil: nothing is in the store alone
}

// Far is a queue's part beyond its head. The engine compares pointers to know
// whether a session still has the part that it reads for; the fields are the session's.
type Far struct {
	reach   extent
	after   uint64              // reach is behind this position
	horizon uint64              // and below this one; 0: no reach
	arrived bool                // all from below horizon has
	known   map[uint64]struct{} // below horizon, and in memory when it was drawn
	rear    ring
	later   extent

	Pending bool // the engine is about to read for it
}

// extent is messages that are not in memory.
type extent struct {
	n     int
	bytes int
	low   uint64 // lowest position
}

func (e *extent) add(at uint64, bytes int) {
	if e.n == 0 || at < e.low {
		e.low = at
	}
	e.n++
	e.bytes += bytes
}

const (
	headKept = 1    // waiting messages that a session may have in memory whatever room there is
	rearKept = 1024 // behind reach
	headLow  = 64   // more is read when so many or fewer are left
)

func (q *queue) len() int {
	n := q.head.n
	if f := q.far; f != nil {
		n += f.reach.n + f.rear.n + f.later.n
	}
	return n
}

func (q *queue) bytes() int {
	n := q.head.bytes
	if f := q.far; f != nil {
		n += f.reach.bytes + f.rear.bytes + f.later.bytes
	}
	return n
}

// put takes o in, or reports that the store alone has it.
func (q *queue) put(o Outbound, room bool) Verdict {
	f := q.far
	switch {
	case o.Stored == 0 || o.Shared(): // always in memory
		q.head.push(o)
		return Queued
	case f == nil:
		if room || q.head.n < headKept {
			q.head.push(o)
			return Queued
		}
		f = &Far{}
		q.far = f
	case o.Stored < f.horizon:
		if f.arrived { // it is late: it must not be read as well
			f.know(o.Stored)
			q.head.push(o)
			return Queued
		}
		f.reach.add(o.Stored, o.Message.Size())
		f.after = min(f.after, o.Stored-1)
		return Stored
	case f.horizon != 0 && f.later.n == 0 && (f.rear.n < headKept || room && f.rear.n < rearKept):
		f.rear.push(o)
		return Queued
	}
	f.later.add(o.Stored, o.Message.Size())
	return Stored
}

func (f *Far) know(at uint64) {
	if f.known == nil {
		f.known = map[uint64]struct{}{}
	}
	f.known[at] = struct{}{}
}

// Far is the part of the queue that is not in memory, when more of it should be
// read: the head runs low. Otherwise nil.
func (s *Session) Far() *Far {
	if f := s.queue.far; f != nil && s.queue.head.n <= headLow {
		return f
	}
	return nil
}

// StopReading forgets that more was being read, when the session is elsewhere.
func (s *Session) StopReading() {
	if f := s.queue.far; f != nil {
		f.Pending = false
	}
}

// Draw sets the horizon of f, the session's: at is above all positions drawn until now.
// It reports whether f may be read already.
func (s *Session) Draw(f *Far, at uint64) (ready bool) {
	if f.horizon != 0 {
		return f.arrived
	}
	f.reach, f.later = f.later, extent{}
	f.after, f.horizon = f.reach.low-1, at
	q := &s.queue
	for i := range q.head.n {
		if o := q.head.at(i); o.Stored != 0 && !o.Shared() {
			f.know(o.Stored)
		}
	}
	return false
}

// Arrived tells that all from below the horizon has arrived and is in the store.
func (f *Far) Arrived() { f.arrived = true }

// Ready reports whether f may be read now: behind after and below horizon.
func (f *Far) Ready() (after, horizon uint64, ready bool) { return f.after, f.horizon, f.arrived }

// Took puts what was read into the head: up to position last, or, with end, all
// of reach. What is in memory already is handed back with its reference. missing
// is how many were expected at the end and not there.
func (s *Session) Took(f *Far, read []Outbound, last uint64, end bool, back func(Outbound)) (missing int) {
	q := &s.queue
	for _, o := range read {
		if _, known := f.known[o.Stored]; known || f.reach.n == 0 {
			back(o)
			continue
		}
		q.head.push(o)
		f.reach.n--
		f.reach.bytes -= o.Message.Size()
	}
	f.after = last
	if !end && f.reach.n > 0 {
		return 0
	}
	missing = f.reach.n
	f.reach, f.horizon, f.arrived, f.known = extent{}, 0, false, nil
	for f.rear.n > 0 {
		q.head.push(f.rear.pop())
	}
	if f.later.n == 0 {
		q.far = nil
	}
	return missing
}

// Restore sets what the store has for the session from before the process
// began: n messages of bytes from position first on, all below horizon.
func (s *Session) Restore(n, bytes int, first, horizon uint64) {
	s.own()
	s.queue.far = &Far{reach: extent{n: n, bytes: bytes, low: first}, after: first - 1, horizon: horizon, arrived: true}
}

// InMemory is the memory that waiting messages take.
func (s *Session) InMemory() int {
	n := s.queue.head.memory()
	if f := s.queue.far; f != nil {
		n += f.rear.memory()
	}
	return n
}
