package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wheelmq/wheelmq/engine/store"
)

// Options of a store; the zero value works.
type Options struct {
	// Reserve is how many bytes are to stay free beside a file of SQLite: the
	// store is full with fewer, beside and within it, and takes nothing at all
	// with fewer than a quarter of them beside it. 0: 64 MiB, negative: any.
	Reserve int64
	// PendingBytes bounds what waits to be committed; 0: 256 MiB.
	PendingBytes int
	// LargestMessage is what a server must take in one statement, bytes; 0: 1 MiB.
	LargestMessage int
	// Logger; nil: slog.Default().
	Logger *slog.Logger

	later [][]string // tests: steps to formats that do not exist
}

const (
	defaultReserve = 64 << 20
	defaultPending = 256 << 20
	defaultLargest = 1 << 20
	groupBytes     = 4 << 20                // a group is closed when it has as much
	lookEvery      = 100 * time.Millisecond // at the free space
	firstPause     = 100 * time.Millisecond
	longestPause   = 5 * time.Second
	connectTimeout = 10 * time.Second
)

// Store is a store.Store in a database.
type Store struct {
	// immutable
	dialect *dialect
	name    string // of the database, for people
	opts    Options
	db      *sql.DB // committer's
	bulk    *sql.DB // whatever may take long
	lock    *os.File
	epoch   uint64
	packet  int // bytes that the server takes at once

	mu      sync.Mutex
	pending []commit
	closed  bool

	wake    chan struct{}
	stopped chan struct{}
	bytes   atomic.Int64 // of pending and of the group that is committed; written under mu
	spare   atomic.Int64 // free beyond the reserve, when it was looked at
	failed  atomic.Bool  // what Available tells

	committer committer
}

type commit struct {
	b    *store.Batch
	done func(*store.Batch, error)
	err  error // committer's
}

// OpenSQLite opens the store in the file path, and makes it where there is
// none. A damaged file is put aside under another name, and what can be read of
// it is taken over. An error wraps store.ErrNewerFormat where a newer version of this
// program wrote it.
func OpenSQLite(path string, opts Options) (*Store, error) {
	_, missing := os.Stat(path + ".lock")
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", path, err)
	}
	s, err := openFileOnce(path, opts)
	if missing == nil && (errors.Is(err, errDamaged) || damagedFile(err)) { // else it is a file of somebody's
		if err = salvage(path, newStore(&sqlite, path, opts).opts.Logger, err); err == nil {
			s, err = openFileOnce(path, opts)
		}
	}
	if err != nil {
		if missing != nil {
			err = errors.Join(err, os.Remove(path+".lock"))
		}
		return nil, errors.Join(err, lock.Close())
	}
	s.lock = lock
	return s, nil
}

func openFileOnce(path string, opts Options) (*Store, error) {
	db, err := openSQLite(path, false)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", path, err)
	}
	s := newStore(&sqlite, path, opts)
	s.db, s.bulk = db, db
	return s.open()
}

// OpenMySQL opens the store in the database of a server.
func OpenMySQL(server Server, opts Options) (*Store, error) {
	s := newStore(&mysqlDialect, server.String(), opts)
	var err error
	if s.db, err = server.open(s.opts.Logger, true); err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", s.name, err)
	}
	if s.bulk, err = server.open(s.opts.Logger, false); err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", s.name, err)
	}
	return s.open()
}

func newStore(d *dialect, name string, opts Options) *Store {
	if opts.Reserve == 0 {
		opts.Reserve = defaultReserve
	}
	if opts.PendingBytes == 0 {
		opts.PendingBytes = defaultPending
	}
	if opts.LargestMessage == 0 {
		opts.LargestMessage = defaultLargest
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	s := &Store{dialect: d, name: name, opts: opts, packet: 1 << 30, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	s.spare.Store(math.MaxInt64) // until it is looked at, before the first commit
	return s
}

// lockFile holds path for this process, until the file is closed.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w? %w", store.ErrInUse, err), f.Close())
	}
	return f, nil
}

func (s *Store) open() (*Store, error) {
	w := &s.committer.writer
	w.dialect, w.isDead = s.dialect, s.committer.isDead
	err := s.connect()
	if err == nil {
		err = s.prepare(context.Background())
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("sqlstore: %s: %w", s.name, errors.Join(err, s.closeDBs()))
	}
	go s.run()
	return s, nil
}

func (s *Store) closeDBs() error {
	err := s.db.Close()
	if s.bulk != s.db {
		err = errors.Join(err, s.bulk.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// prepare brings the tables to this format, and begins an epoch.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	if _, err := s.bulk.ExecContext(ctx, s.dialect.makeMeta()); err != nil {
		return err
	}
	format, err := s.meta(ctx, "format")
	if err != nil {
		return err
	}
	steps := append(s.dialect.steps[:len(s.dialect.steps):len(s.dialect.steps)], s.opts.later...)
	newest := int64(len(steps))
	if format > newest {
		return fmt.Errorf("%w: format %d, this one knows %d", store.ErrNewerFormat, format, newest)
	}
	for ; format < newest; format++ {
		for _, text := range steps[format] {
			if _, err := s.bulk.ExecContext(ctx, text); err != nil {
				return fmt.Errorf("making format %d: %w", format+1, err)
			}
		}
		if err := s.setMeta(ctx, "format", format+1); err != nil {
			return err
		}
	}
	epoch, err := s.meta(ctx, "epoch")
	if err != nil {
		return err
	}
	s.epoch = uint64(epoch) + 1
	clean, err := s.meta(ctx, "clean")
	if err != nil {
		return err
	}
	suspected, err := s.meta(ctx, "damaged")
	if err != nil {
		return err
	}
	if epoch > 0 && (clean == 0 || suspected != 0) {
		if err := s.lookThrough(ctx); err != nil {
			return err
		}
		if err := s.setMeta(ctx, "damaged", 0); err != nil {
			return err
		}
		for _, text := range sweep {
			if _, err := s.bulk.ExecContext(ctx, text); err != nil {
				return err
			}
		}
	}
	return errors.Join(s.setMeta(ctx, "epoch", int64(s.epoch)), s.setMeta(ctx, "clean", 0))
}

// checkServer looks at the settings of a server that a store depends on.
func (s *Store) checkServer(ctx context.Context) error {
	if s.dialect != &mysqlDialect {
		return nil
	}
	var flush int
	if err := s.bulk.QueryRowContext(ctx, "SELECT @@max_allowed_packet, @@innodb_flush_log_at_trx_commit").Scan(&s.packet, &flush); err != nil {
		return err
	}
	if want := s.opts.LargestMessage + 1<<16; s.packet < want {
		return fmt.Errorf("the server takes %d bytes at once, and a message may need %d: raise its max_allowed_packet, or lower limits.packet", s.packet, want)
	}
	if flush != 1 {
		s.opts.Logger.Warn("store: the server does not write commits to disk at once: its loss of power loses what was acknowledged",
			"database", s.name, "innodb_flush_log_at_trx_commit", flush)
	}
	return nil
}

func (s *Store) meta(ctx context.Context, name string) (int64, error) {
	var n int64
	err := s.bulk.QueryRowContext(ctx, "SELECT value FROM wheelmq WHERE name = ?", name).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

func (s *Store) setMeta(ctx context.Context, name string, value int64) error {
	_, err := s.bulk.ExecContext(ctx, "REPLACE INTO wheelmq (name, value) VALUES (?, ?)", name, value)
	return err
}

// First is where the identifiers of this opening begin.
func (s *Store) First() uint64 { return s.epoch << 40 }

// Available reports whether commits are taken just now.
func (s *Store) Available() bool { return !s.failed.Load() }

// Full implements store.Store. What waits is counted twice: it goes into the
// log, and from there into the file. A server's disk is not looked at: it fails.
func (s *Store) Full() bool { return s.spare.Load() < 2*s.bytes.Load() }

// Commit implements store.Store.
func (s *Store) Commit(b *store.Batch, done func(*store.Batch, error)) error {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return store.ErrClosed
	case s.bytes.Load() > 0 && int(s.bytes.Load())+b.Size() > s.opts.PendingBytes:
		s.mu.Unlock()
		return store.ErrBusy
	}
	s.bytes.Add(int64(b.Size()))
	s.pending = append(s.pending, commit{b: b, done: done})
	s.mu.Unlock()
	s.poke()
	return nil
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return store.ErrClosed
	}
	s.poke()
	<-s.stopped
	var err error
	if s.committer.writer.conn != nil { // else the next opening looks for what was left
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		err = s.setMeta(ctx, "clean", 1)
	}
	s.committer.writer.close()
	if err = errors.Join(err, s.closeDBs()); err != nil {
		return fmt.Errorf("sqlstore: %s: %w", s.name, err)
	}
	return nil
}
