package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wheelmq/wheelmq/engine/store"
)

// Options of a store; the zero value works.
type Options struct {
	// Reserve is how many bytes are to stay free on the disk: the store is full
	// with fewer, and takes nothing at all with fewer than a quarter of them.
	// 0: 64 MiB, negative: any.
	Reserve int64
	// PendingBytes bounds what waits to be committed; 0: 256 MiB.
	PendingBytes int
	// Logger; nil: slog.Default().
	Logger *slog.Logger

	fs vfs.FS // tests
}

const (
	defaultReserve = 64 << 20
	defaultPending = 256 << 20
	lookEvery      = 100 * time.Millisecond // at the free space
	reopenEvery    = time.Second
	groupBytes     = 4 << 20 // a group is closed when it has as much
)

// Store is a store.Store in one directory.
type Store struct {
	// immutable
	dir   string
	opts  Options
	epoch uint64
	lock  *pebble.Lock

	rescued []string // what Load is to tell of damage that was found before it

	// committer's, and read under using
	using sync.RWMutex // held for reading by whoever reads db
	db    *pebble.DB   // nil while it could not be opened again

	mu      sync.Mutex
	pending []commit
	closed  bool

	wake    chan struct{}
	stopped chan struct{}
	bytes   atomic.Int64 // of pending and of the group that is committed; written under mu
	spare   atomic.Int64 // free beyond the reserve, when it was looked at
	failed  atomic.Bool  // what Available tells

	group group // committer's
}

type commit struct {
	b    *store.Batch
	done func(*store.Batch, error)
	err  error // committer's
}

// Open opens the store in dir, and makes it where there is none. An error wraps
// store.ErrNewerFormat where a newer version of this program wrote it.
func Open(dir string, opts Options) (*Store, error) {
	if opts.Reserve == 0 {
		opts.Reserve = defaultReserve
	}
	if opts.PendingBytes == 0 {
		opts.PendingBytes = defaultPending
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.fs == nil {
		opts.fs = vfs.Default
	}
	s := &Store{dir: dir, opts: opts, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	s.spare.Store(math.MaxInt64) // until it is looked at, before the first commit
	if err := s.begin(); err != nil {
		return nil, fmt.Errorf("pebblestore: %s: %w", dir, err)
	}
	go s.run()
	return s, nil
}

func (s *Store) begin() error {
	if err := s.opts.fs.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	var err error
	if s.lock, err = pebble.LockDirectory(s.dir, s.opts.fs); err != nil {
		return fmt.Errorf("%w? %w", store.ErrInUse, err)
	}
	err = s.openAnew()
	if err != nil && isDamage(err) && s.hasTables() {
		if err = s.rescue(err); err == nil {
			err = s.openAnew()
		}
	}
	if err != nil {
		return errors.Join(err, s.lock.Close())
	}
	return nil
}

// openAnew opens the database for this process.
func (s *Store) openAnew() (err error) {
	if s.orphaned() {
		return errOrphaned
	}
	if s.db, err = s.openDB(); err != nil {
		return err
	}
	if err = s.nextEpoch(); err != nil {
		return errors.Join(err, s.closeDB())
	}
	return nil
}

const (
	// maxOpenFiles bounds Pebble's open tables: descriptors are for connections.
	maxOpenFiles = 64
	memTableSize = 32 << 20
	logsInTurn   = 4 // seen with this size under load; Pebble keeps three to use again
)

func (s *Store) openDB() (db *pebble.DB, err error) {
	defer recovered(&err)
	return pebble.Open(s.dir, s.options())
}

func (s *Store) options() *pebble.Options {
	return &pebble.Options{
		FS:                    s.opts.fs,
		Lock:                  s.lock,
		MaxOpenFiles:          maxOpenFiles,
		FormatMajorVersion:    pebble.FormatNewest,
		MemTableSize:          memTableSize,
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 24,
		Logger:                logger{s.opts.Logger},
		EventListener: &pebble.EventListener{DataCorruption: func(i pebble.DataCorruptionInfo) { // else fatal
			s.opts.Logger.Error("store: damaged", "file", i.Path, "error", i.Details.Error())
		}},
	}
}

// nextEpoch checks the format and begins a new range of identifiers.
func (s *Store) nextEpoch() error {
	format, err := s.number(keyFormat)
	if err != nil {
		return err
	}
	if format > formatVersion {
		return fmt.Errorf("%w: format %d, this one knows %d", store.ErrNewerFormat, format, formatVersion)
	}
	if s.epoch, err = s.number(keyEpoch); err != nil {
		return err
	}
	s.epoch++
	b := s.db.NewBatch()
	defer b.Close()
	b.Set(keyFormat, binary.AppendUvarint(nil, formatVersion), nil)
	b.Set(keyEpoch, binary.AppendUvarint(nil, s.epoch), nil)
	return s.apply(b, pebble.Sync)
}

// number is the value of key, 0 where it is not there.
func (s *Store) number(key []byte) (uint64, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	n, size := binary.Uvarint(value)
	if size <= 0 {
		return 0, fmt.Errorf("%w: %s", store.ErrRecord, key)
	}
	return n, nil
}

// First is where the identifiers of this opening begin.
func (s *Store) First() uint64 { return s.epoch << 40 }

// Available reports whether commits are taken just now.
func (s *Store) Available() bool { return !s.failed.Load() }

// Full implements store.Store. What waits is counted twice: it goes into the
// log, and into a table while the log is still there.
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
	s.using.Lock()
	defer s.using.Unlock()
	var err error
	if s.db != nil {
		err = s.closeDB()
	}
	return errors.Join(err, s.lock.Close())
}

func (s *Store) closeDB() (err error) {
	defer recovered(&err)
	return s.db.Close()
}

// logger passes Pebble's lines on. What Pebble calls fatal must not end the
// process of whoever embeds it: it panics, and apply answers an error.
type logger struct{ to *slog.Logger }

type fatal struct{ what string }

func (l logger) Infof(format string, args ...any) {
	l.to.Debug("store", "pebble", fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.to.Error("store", "pebble", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) { panic(fatal{fmt.Sprintf(format, args...)}) }

// recovered makes an error of what Pebble calls fatal.
func recovered(err *error) {
	switch r := recover().(type) {
	case nil:
	case fatal:
		*err = errors.New(r.what)
	default:
		panic(r)
	}
}
