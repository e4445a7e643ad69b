package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wheelmq/wheelmq/engine/store"
)

// A group is what one sync makes durable. Committer's.
type group struct {
	live  []commit // of its commits, those that may succeed
	batch *pebble.Batch
	key   []byte
	sent  []byte
	value []byte
	refs  map[store.MessageID]int64  // differences, of this group
	put   map[store.MessageID][]byte // records, borrowed from the batches

	// Sessions that were deleted; what still comes for them is dropped. Two
	// generations, so that it is bounded: a change on its way for longer than
	// two turns of deadFor is none.
	dead, dying map[store.SessionID]struct{}
	turned      time.Time

	lookedAt  time.Time
	unlooked  int64 // bytes taken since
	full      bool  // it was, at the last look
	flushedAt time.Time
	written   bool // something since the last flush that makes room
}

const deadFor = 5 * time.Minute

// run is the committer.
func (s *Store) run() {
	defer close(s.stopped)
	s.group.refs, s.group.put = map[store.MessageID]int64{}, map[store.MessageID][]byte{}
	s.group.dead, s.group.turned = map[store.SessionID]struct{}{}, time.Now()
	for {
		s.mu.Lock()
		commits, closed := s.pending, s.closed
		s.pending = nil
		s.mu.Unlock()
		for len(commits) > 0 {
			n, size := 0, 0
			for n < len(commits) && (n == 0 || size+commits[n].b.Size() <= groupBytes) {
				size += commits[n].b.Size()
				n++
			}
			s.commitGroup(commits[:n], size)
			commits = commits[n:]
		}
		s.mu.Lock()
		more := len(s.pending) > 0
		s.mu.Unlock()
		if !more {
			if closed {
				return
			}
			s.await()
		}
	}
}

// await waits for work; while the store fails or is full it looks whether that
// is over.
func (s *Store) await() {
	if !s.failed.Load() && !s.group.full {
		<-s.wake
		return
	}
	retry := time.NewTimer(reopenEvery)
	defer retry.Stop()
	select {
	case <-s.wake:
	case <-retry.C:
		_ = s.ready(0) // tells by Available, Full and log
	}
}

func (s *Store) commitGroup(commits []commit, size int) {
	live := s.group.live[:0]
	for i := range commits {
		if commits[i].err = commits[i].b.Begin(); commits[i].err == nil {
			live = append(live, commits[i])
		}
	}
	err := s.ready(int64(size))
	if err == nil {
		if err = s.write(live); err != nil {
			s.fail(err)
			err = fmt.Errorf("pebblestore: %w: %w", store.ErrUnavailable, err)
		}
	}
	clear(live)
	s.group.live = live[:0]
	s.mu.Lock()
	s.bytes.Add(-int64(size))
	s.mu.Unlock()
	for _, c := range commits {
		if c.err == nil && err != nil {
			c.err = err
			c.b.Fail()
		}
		c.done(c.b, c.err)
	}
}

// ready answers why size bytes more cannot be written now, or nil.
func (s *Store) ready(size int64) error {
	g := &s.group
	now := time.Now()
	if now.Sub(g.turned) > deadFor {
		g.dying, g.dead, g.turned = g.dead, map[store.SessionID]struct{}{}, now
	}
	wait := lookEvery
	if s.db == nil {
		wait = reopenEvery
	}
	g.unlooked += size
	if now.Sub(g.lookedAt) < wait && g.unlooked <= s.opts.Reserve/16 {
		if s.failed.Load() {
			return store.ErrUnavailable
		}
		return nil
	}
	g.lookedAt, g.unlooked = now, size
	if err := s.room(); err != nil {
		return s.unavailable(err)
	}
	if s.db == nil {
		db, err := s.openDB()
		if err != nil {
			return s.unavailable(err)
		}
		s.using.Lock()
		s.db = db
		s.using.Unlock()
	}
	if s.failed.Swap(false) {
		s.opts.Logger.Info("store: keeps messages again", "dir", s.dir)
	}
	return nil
}

// hardReserve divides Options.Reserve: with less free nothing is written.
const hardReserve = 4

// room looks at the free space. An error says that there is none.
func (s *Store) room() error {
	g := &s.group
	if s.opts.Reserve < 0 {
		return nil
	}
	free := int64(min(s.free(), math.MaxInt64))
	s.spare.Store(free - s.owed() - s.opts.Reserve)
	switch was := g.full; {
	case s.Full() && !was:
		g.full = true
		s.opts.Logger.Error("store: full, messages that are to be kept are refused; make room on its disk, or have the clients take what waits for them",
			"dir", s.dir, "free", free, "reserve", s.opts.Reserve)
	case was && !s.Full():
		g.full = false
		s.opts.Logger.Info("store: has room again", "dir", s.dir, "free", free)
	case was:
		s.makeRoom()
	}
	if free < s.opts.Reserve/hardReserve {
		return fmt.Errorf("%d bytes free on the disk, nothing is written with fewer than %d", free, s.opts.Reserve/hardReserve)
	}
	return nil
}

// owed is what Pebble will write although nothing more comes: what is in memory
// becomes tables, and it makes logs until it has as many as it uses in turn,
// each of which takes its size in advance.
func (s *Store) owed() int64 {
	if s.db == nil {
		return 0
	}
	m := s.db.Metrics()
	logs := max(0, logsInTurn-m.WAL.Files-m.WAL.ObsoleteFiles)
	return int64(m.MemTable.Size) + logs*memTableSize*11/10
}

// makeRoom has what was deleted in memory alone reach the tables, where Pebble
// drops what it deletes. Pebble would wait for more.
func (s *Store) makeRoom() {
	if s.db == nil || !s.group.written || time.Since(s.group.flushedAt) < reopenEvery {
		return
	}
	s.group.written, s.group.flushedAt = false, time.Now()
	if _, err := s.db.AsyncFlush(); err != nil {
		s.opts.Logger.Warn("store: flushing to make room", "dir", s.dir, "error", err)
	}
}

// free is the free space; where it cannot be told there is enough.
func (s *Store) free() uint64 {
	u, err := s.opts.fs.GetDiskUsage(s.dir)
	if err != nil {
		return 1 << 62
	}
	return u.AvailBytes
}

func (s *Store) unavailable(err error) error {
	if !s.failed.Swap(true) {
		s.opts.Logger.Error("store: cannot keep messages now", "dir", s.dir, "error", err)
	}
	return fmt.Errorf("pebblestore: %w: %w", store.ErrUnavailable, err)
}

// fail closes the database after a write that failed: nothing that Pebble has
// in memory is to be trusted then. ready opens it again.
func (s *Store) fail(err error) {
	_ = s.unavailable(err)
	s.group.lookedAt = time.Now()
	s.using.Lock()
	defer s.using.Unlock()
	if err := s.closeDB(); err != nil {
		s.opts.Logger.Warn("store: closing after a failed write", "dir", s.dir, "error", err)
	}
	s.db = nil
}

// write makes commits durable together.
func (s *Store) write(commits []commit) error {
	g := &s.group
	g.batch, g.written = s.newBatch(commits), true
	defer func() {
		clear(g.refs)
		clear(g.put)
		g.batch = nil
	}()
	level := pebble.NoSync
	for _, c := range commits {
		if c.b.Level != store.Received {
			level = pebble.Sync
		}
		if err := c.b.Each(s.add); err != nil {
			return err
		}
	}
	if err := s.count(); err != nil {
		return err
	}
	return s.apply(g.batch, level)
}

// newBatch makes a batch that can be read, where that is needed.
func (s *Store) newBatch(commits []commit) *pebble.Batch {
	for _, c := range commits {
		if c.b.Looks() {
			return s.db.NewIndexedBatch()
		}
	}
	return s.db.NewBatch()
}

func (s *Store) apply(b *pebble.Batch, level *pebble.WriteOptions) (err error) {
	if b.Empty() {
		return nil
	}
	defer recovered(&err)
	return s.db.Apply(b, level)
}

// add translates one change.
func (s *Store) add(o *store.Op) error {
	g := &s.group
	b := g.batch
	switch o.Kind {
	case store.PutMessage:
		g.put[o.Message] = o.Value
		return nil
	case store.PutRetained:
		g.key = appendRetained(g.key[:0], o.Name)
		return b.Set(g.key, o.Value, nil)
	case store.DeleteRetained:
		g.key = appendRetained(g.key[:0], o.Name)
		return b.Delete(g.key, nil)
	}
	if g.isDead(o.Session) {
		return nil
	}
	switch o.Kind {
	case store.PutSession:
		g.key = append(appendSession(g.key[:0], o.Session), partOwn)
		return b.Set(g.key, o.Value, nil)
	case store.DeleteSession:
		return s.deleteSession(o.Session)
	case store.PutSubscription, store.DeleteSubscription:
		g.key = append(append(appendSession(g.key[:0], o.Session), partSubscription), o.Name...)
		if o.Kind == store.DeleteSubscription {
			return b.Delete(g.key, nil)
		}
		return b.Set(g.key, o.Value, nil)
	case store.Receive:
		return b.Set(appendReceived(g.key[:0], o.Session, o.Packet), nil, nil)
	case store.Forget:
		return b.Delete(appendReceived(g.key[:0], o.Session, o.Packet), nil)
	default:
		return g.deliver(o)
	}
}

// deliver translates the changes of deliveries. Those with a message of their
// own are written without a look: who makes them knows that they are there.
func (g *group) deliver(o *store.Op) error {
	queued, sent := appendQueued(g.key[:0], o.Session, o.At), appendInFlight(g.sent[:0], o.Session, o.At)
	g.key, g.sent = queued, sent
	switch o.Kind {
	case store.DeliverOwn:
		g.value = appendOwn(g.value[:0], o.Value, o.Name)
		return g.begin(queued, sent, g.value, o.Value)
	case store.Deliver:
		if had, _, err := g.has(queued, sent); had || err != nil {
			return err
		}
		if o.Message != 0 {
			g.refs[o.Message]++
		}
		return g.begin(queued, sent, o.Value, o.Value)
	case store.Advance, store.Finish:
		if !o.Own && (o.Kind == store.Advance || o.Message != 0) {
			had, own, err := g.has(queued, sent)
			if !had || err != nil {
				return err
			}
			if o.Message != 0 && !own {
				g.refs[o.Message]--
			}
		}
		return g.move(o, queued, sent)
	default:
		return fmt.Errorf("unknown change %d", o.Kind)
	}
}

// begin writes a delivery, which may be in flight already.
func (g *group) begin(queued, sent, value, record []byte) error {
	d, err := store.DecodeDelivery(record)
	if err != nil {
		return err
	}
	if d.State != store.AwaitPubcomp {
		if err := g.batch.Set(queued, value, nil); err != nil {
			return err
		}
	}
	if d.State == store.Queued {
		return nil
	}
	return g.batch.Set(sent, record, nil)
}

// move writes the mark of a delivery that was sent, beside the delivery while
// its message is needed; and deletes what is not needed any more.
func (g *group) move(o *store.Op, queued, sent []byte) error {
	if o.Kind == store.Finish || o.Message != 0 {
		if err := g.batch.Delete(queued, nil); err != nil {
			return err
		}
	}
	if o.Kind == store.Finish {
		return g.batch.Delete(sent, nil)
	}
	return g.batch.Set(sent, o.Value, nil)
}

// has reports whether a delivery is there, or was made by this group, and
// whether it has a message of its own.
func (g *group) has(queued, sent []byte) (had, own bool, err error) {
	for _, key := range [2][]byte{queued, sent} {
		value, closer, err := g.batch.Get(key)
		switch {
		case err == nil:
			own := isOwn(value)
			return true, own, closer.Close()
		case !errors.Is(err, pebble.ErrNotFound):
			return false, false, err
		}
	}
	return false, false, nil
}

func (g *group) isDead(id store.SessionID) bool {
	_, dead := g.dead[id]
	if !dead {
		_, dead = g.dying[id]
	}
	return dead
}

// count writes what this group changed about messages and their counts.
func (s *Store) count() error {
	g := &s.group
	for id := range g.put {
		g.refs[id] += 0 // so that one loop sees it
	}
	for id, n := range g.refs {
		if err := s.countOne(id, n, g.put[id]); err != nil {
			return err
		}
	}
	clear(g.refs)
	clear(g.put)
	return nil
}

// countOne adds n to the count of a message, which record makes where it is not
// there; without references it goes.
func (s *Store) countOne(id store.MessageID, n int64, record []byte) error {
	g := &s.group
	g.key = appendCount(g.key[:0], id)
	had, err := s.number(g.key)
	if err != nil {
		return err
	}
	now := int64(had) + n
	switch {
	case now > 0 && (had > 0 || record != nil):
		if n != 0 {
			g.value = binary.AppendUvarint(g.value[:0], uint64(now))
			if err := g.batch.Set(g.key, g.value, nil); err != nil {
				return err
			}
		}
		if had == 0 {
			return g.batch.Set(appendMessage(g.key[:0], id), record, nil)
		}
	case had > 0:
		if err := g.batch.Delete(g.key, nil); err != nil {
			return err
		}
		return g.batch.Delete(appendMessage(g.key[:0], id), nil)
	}
	return nil
}

// deleteSession deletes what is kept for a session. What this group has done
// until now is written first, without waiting, for its deliveries to be found:
// it is not lost alone, since it is ahead in the same log.
func (s *Store) deleteSession(id store.SessionID) error {
	g := &s.group
	if err := s.count(); err != nil {
		return err
	}
	if err := s.apply(g.batch, pebble.NoSync); err != nil {
		return err
	}
	g.batch = s.db.NewIndexedBatch()
	g.dead[id] = struct{}{}
	if err := s.deleteAll(appendQueue(nil, id), func(value []byte) {
		if d, err := store.DecodeDelivery(value); !isOwn(value) && err == nil && d.Message != 0 { // damaged: gone all the same
			g.refs[d.Message]--
		}
	}); err != nil {
		return err
	}
	return s.deleteAll(appendSession(nil, id), func([]byte) {})
}

// fewKeys are deleted one by one. Every iterator goes through all ranges that were
// deleted since the last flush: with a range to a session, deleting n took n*n.
const fewKeys = 1024

// deleteAll deletes what begins with prefix, and calls f for each value.
func (s *Store) deleteAll(prefix []byte, f func(value []byte)) error {
	n := 0
	err := s.each(prefix, func(key, value []byte) error {
		f(value)
		if n++; n > fewKeys {
			return nil
		}
		return s.group.batch.Delete(key, nil)
	})
	if err == nil && n > fewKeys {
		err = s.group.batch.DeleteRange(prefix, after(prefix), nil)
	}
	return err
}
