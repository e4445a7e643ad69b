package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/wheelmq/wheelmq/engine/store"
)

// A committer makes groups durable. One goroutine.
type committer struct {
	writer  writer
	changes changes
	live    []commit // of a group, those that may succeed

	// Sessions that were deleted; what still comes for them is dropped. Two
	// generations, so that it is bounded: a change on its way for longer than
	// two turns of deadFor is none.
	dead, dying map[store.SessionID]struct{}
	turned      time.Time

	lookedAt time.Time // at the free space
	unlooked int64     // bytes taken since
	full     bool      // it was, at the last look

	cause   error         // of the last failure
	pause   time.Duration // before the next attempt, while it fails
	retryAt time.Time
}

const deadFor = 5 * time.Minute

func (c *committer) isDead(id store.SessionID) bool {
	_, dead := c.dead[id]
	if !dead {
		_, dead = c.dying[id]
	}
	return dead
}

// run is the committer.
func (s *Store) run() {
	defer close(s.stopped)
	c := &s.committer
	c.dead, c.turned = map[store.SessionID]struct{}{}, time.Now()
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
	c := &s.committer
	if !s.failed.Load() && !c.full {
		<-s.wake
		return
	}
	wait := firstPause
	if s.failed.Load() {
		wait = time.Until(c.retryAt)
	}
	retry := time.NewTimer(wait)
	defer retry.Stop()
	select {
	case <-s.wake:
	case <-retry.C:
		err := s.ready(0)
		if err == nil {
			err = s.probe()
		}
		if err == nil {
			s.recovered()
		}
	}
}

func (s *Store) commitGroup(commits []commit, size int) {
	live := s.committer.live[:0]
	for i := range commits {
		if commits[i].err = commits[i].b.Begin(); commits[i].err == nil {
			live = append(live, commits[i])
		}
	}
	err := s.ready(int64(size))
	if err == nil {
		if err = s.write(live); err != nil {
			err = s.fail(err)
		} else {
			s.recovered()
		}
	}
	clear(live)
	s.committer.live = live[:0]
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
	c := &s.committer
	now := time.Now()
	if now.Sub(c.turned) > deadFor {
		c.dying, c.dead, c.turned = c.dead, map[store.SessionID]struct{}{}, now
	}
	c.unlooked += size
	if (now.Sub(c.lookedAt) >= lookEvery || c.unlooked > s.opts.Reserve/16) && !now.Before(c.retryAt) {
		c.lookedAt, c.unlooked = now, size
		if err := s.room(); err != nil {
			return s.fail(err)
		}
	}
	if c.writer.conn != nil {
		return nil
	}
	if now.Before(c.retryAt) {
		return c.cause
	}
	if err := s.connect(); err != nil {
		return s.fail(err)
	}
	return nil
}

// probe writes something: a connection alone says nothing of the disk.
func (s *Store) probe() error {
	w := &s.committer.writer
	err := w.once("REPLACE INTO wheelmq (name, value) VALUES ('probe', 0)")
	if err == nil {
		err = w.send()
	}
	if err != nil {
		return s.fail(err)
	}
	return nil
}

// fail gives the connection up, with what was written by it since the last commit.
func (s *Store) fail(err error) error {
	c := &s.committer
	c.writer.close()
	err = s.suspect(err)
	c.pause = min(max(2*c.pause, firstPause), longestPause)
	c.retryAt = time.Now().Add(c.pause)
	if !s.failed.Swap(true) {
		s.opts.Logger.Error("store: cannot keep messages now", "database", s.name, "error", err)
	}
	c.cause = fmt.Errorf("sqlstore: %w: %w", store.ErrUnavailable, err)
	return c.cause
}

func (s *Store) recovered() {
	s.committer.pause = 0
	if s.failed.Swap(false) {
		s.opts.Logger.Info("store: keeps messages again", "database", s.name)
	}
}

// write makes commits durable together.
func (s *Store) write(commits []commit) error {
	c := &s.committer
	defer c.changes.reset()
	if err := c.writer.once("BEGIN"); err != nil {
		return err
	}
	for _, one := range commits {
		if err := one.b.Each(func(o *store.Op) error { return c.changes.add(&c.writer, o) }); err != nil {
			return err
		}
	}
	if err := c.changes.finish(&c.writer); err != nil {
		return err
	}
	if err := c.writer.once("COMMIT"); err != nil {
		return err
	}
	if err := c.writer.send(); err != nil {
		return err
	}
	for id := range c.changes.dead {
		c.dead[id] = struct{}{}
	}
	return nil
}

// A writer executes statements on one connection: at once, or joined.
type writer struct {
	dialect *dialect
	isDead  func(store.SessionID) bool
	conn    *sql.Conn // nil: none
	most    int       // bytes of joined statements

	prepared map[*statement]*sql.Stmt // of conn, where statements are not joined

	text []byte // joined
	args []any
	size int        // of text and args, as they are sent at most
	open *statement // the last of text, which more rows may follow; nil: none
	rows int        // of open
}

const (
	joinedBytes = 1 << 20
	joinedArgs  = 30_000
	joinedRows  = 500
)

// begin takes a connection, whose server takes packet bytes at once.
func (w *writer) begin(conn *sql.Conn, packet int) {
	w.conn, w.most, w.prepared = conn, min(joinedBytes, packet/4), map[*statement]*sql.Stmt{}
	w.forget()
}

func (w *writer) forget() {
	clear(w.args)
	w.text, w.args, w.size, w.open = w.text[:0], w.args[:0], 0, nil
}

// close ends the connection itself: what it was amid of is undone.
func (w *writer) close() {
	if w.conn == nil {
		return
	}
	for _, p := range w.prepared {
		_ = p.Close()
	}
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
	w.conn, w.prepared = nil, nil
	w.forget()
}

// exec executes a statement for one row.
func (w *writer) exec(s *statement, args ...any) error {
	if w.dialect.joins {
		return w.join(s, args)
	}
	p := w.prepared[s]
	if p == nil {
		var err error
		if p, err = w.conn.PrepareContext(context.Background(), s.text(w.dialect)); err != nil {
			return err
		}
		w.prepared[s] = p
	}
	_, err := p.ExecContext(context.Background(), args...)
	return err
}

// once executes a statement of another text each time.
func (w *writer) once(text string) error {
	if w.dialect.joins {
		return w.join(&statement{head: text}, nil)
	}
	_, err := w.conn.ExecContext(context.Background(), text)
	return err
}

func (w *writer) join(s *statement, args []any) error {
	size := len(s.head) + len(s.row) + len(s.tail) + len(w.dialect.stay) + 1
	for _, a := range args {
		size += 24
		switch a := a.(type) {
		case string:
			size += 2 * len(a) // each byte may need another before it
		case []byte:
			size += 2 * len(a)
		}
	}
	if w.size > 0 && (w.size+size > w.most || len(w.args)+len(args) > joinedArgs) {
		if err := w.send(); err != nil {
			return err
		}
	}
	if w.open == s && w.rows < joinedRows {
		w.text = append(append(w.text, s.between...), s.row...)
		w.rows++
	} else {
		w.end()
		if len(w.text) > 0 {
			w.text = append(w.text, ';')
		}
		w.text = append(append(w.text, s.head...), s.row...)
		if s.row != "" {
			w.open, w.rows = s, 1
		}
	}
	w.args, w.size = append(w.args, args...), w.size+size
	return nil
}

// end ends the statement that more rows might have followed.
func (w *writer) end() {
	if w.open != nil {
		w.text = append(w.text, w.open.end(w.dialect)...)
		w.open = nil
	}
}

// send executes what was joined.
func (w *writer) send() error {
	w.end()
	if len(w.text) == 0 {
		return nil
	}
	_, err := w.conn.ExecContext(context.Background(), string(w.text), w.args...)
	w.forget()
	return err
}

// query calls f for each row.
func (w *writer) query(text string, f func(scan func(...any) error) error, args ...any) error {
	if err := w.send(); err != nil {
		return err
	}
	rows, err := w.conn.QueryContext(context.Background(), text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
