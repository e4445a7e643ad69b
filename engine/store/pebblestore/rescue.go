package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/wheelmq/wheelmq/engine/store"
)

// A rescue makes a new database of the tables and logs of one that does not open,
// because what says which of them belong to it is damaged.
//
// Of each key the version with the highest sequence number counts, deletions
// as well. Pebble gives what has no older version the number 0, and removes files that are
// not needed any more a little later: where the process ended in between, what was deleted
// can come back. Better twice than not at all.
type rescue struct {
	fs      vfs.FS
	from    string
	scratch *pebble.DB // length key ^sequence: kind value
	batch   *pebble.Batch
	deleted []deletedRange
	newest  uint64 // identifier
	damaged []string
	missing bool // a file is
}

type deletedRange struct {
	start, end string
	sequence   uint64
}

// isDamage reports whether err, of opening a database, is about what is in its
// files, rather than about a disk or rights that somebody can mend.
func isDamage(err error) bool {
	var number syscall.Errno
	switch {
	case errors.Is(err, store.ErrNewerFormat), errors.Is(err, store.ErrInUse), strings.Contains(err.Error(), "format major version"):
		return false
	case pebble.IsCorruptionError(err):
		return true
	case errors.As(err, &number):
		return number == syscall.ENOENT // a file that another one names
	default:
		return true
	}
}

// has reports whether there is a file whose name is as f says.
func (s *Store) has(f func(name string) bool) bool {
	names, err := s.opts.fs.List(s.dir)
	return err == nil && slices.ContainsFunc(names, f)
}

// hasTables reports whether there is anything to rescue.
func (s *Store) hasTables() bool {
	return s.has(func(name string) bool { return filepath.Ext(name) == ".sst" || filepath.Ext(name) == ".log" })
}

// orphaned reports whether nothing says what the tables are: Pebble would begin
// anew and remove them.
func (s *Store) orphaned() bool {
	return s.hasTables() && !s.has(func(name string) bool { return strings.HasPrefix(name, "marker.manifest.") })
}

var errOrphaned = errors.New("there are tables, and no file marker.manifest that says which of them are in use")

// rescue puts the directory aside, and makes a new database in its place of what
// its tables and logs hold. The caller holds its lock, which is exchanged.
func (s *Store) rescue(damage error) error {
	fs := s.opts.fs
	aside, part := s.dir+".damaged-"+time.Now().UTC().Format("20060102T150405.000"), s.dir+".part"
	r := &rescue{fs: fs, from: s.dir, missing: errors.Is(damage, os.ErrNotExist)}
	s.opts.Logger.Error("store: damaged, its tables and logs are read one by one", "dir", s.dir, "error", damage)
	if err := errors.Join(fs.RemoveAll(part), fs.RemoveAll(part+".scratch"), r.copyTo(part, s.options())); err != nil {
		return fmt.Errorf("rescuing what the tables of a damaged store hold (%w) to %s: %w", damage, part, err)
	}
	if err := errors.Join(fs.RemoveAll(part+".scratch"), s.lock.Close(), fs.Rename(s.dir, aside), fs.Rename(part, s.dir)); err != nil {
		return fmt.Errorf("putting a damaged store aside as %s: %w", aside, err)
	}
	var err error
	if s.lock, err = pebble.LockDirectory(s.dir, fs); err != nil {
		return err
	}
	s.rescued = append([]string{damage.Error()}, r.damaged...)
	s.opts.Logger.Error("store: it was damaged; it was put aside, and what could be read goes on. Messages may come again", "dir", s.dir, "aside", aside, "files unreadable in part", len(r.damaged))
	return nil
}

func (r *rescue) copyTo(part string, o *pebble.Options) (err error) {
	o.Lock = nil
	scratchOptions := *o
	if r.scratch, err = pebble.Open(part+".scratch", &scratchOptions); err != nil {
		return err
	}
	r.batch = r.scratch.NewBatch()
	err = errors.Join(r.tables(), r.logs())
	if err == nil {
		err = r.scratch.Apply(r.batch, pebble.NoSync)
	}
	if err == nil {
		err = r.write(part, o)
	}
	return errors.Join(err, r.scratch.Close())
}

// tables reads the tables, as far as they can be read.
func (r *rescue) tables() error {
	names, err := r.fs.List(r.from)
	if err != nil {
		return err
	}
	o := &pebble.Options{FS: r.fs}
	o.EnsureDefaults()
	readerOptions := o.MakeReaderOptions()
	for _, name := range names {
		if filepath.Ext(name) != ".sst" {
			continue
		}
		if err := r.table(r.fs.PathJoin(r.from, name), readerOptions); err != nil {
			if !isDamage(err) {
				return err
			}
			r.damaged = append(r.damaged, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return nil
}

func (r *rescue) table(path string, o sstable.ReaderOptions) (err error) {
	defer recovered(&err)
	f, err := r.fs.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	reader, err := sstable.NewReader(context.Background(), readable, o)
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	if err := r.ranges(reader); err != nil {
		return err
	}
	it, err := reader.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for kv := it.First(); kv != nil; kv = it.Next() {
		value, _, err := kv.Value(nil)
		if err != nil {
			return err
		}
		if err := r.add(kv.K.UserKey, uint64(kv.SeqNum()), byte(kv.Kind()), value); err != nil {
			return err
		}
	}
	return it.Error()
}

// ranges reads the deleted ranges of a table.
func (r *rescue) ranges(reader *sstable.Reader) error {
	it, err := reader.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return err
	}
	defer it.Close()
	for {
		span, err := it.Next()
		if err != nil || span == nil {
			return err
		}
		for _, k := range span.Keys {
			r.deleted = append(r.deleted, deletedRange{string(span.Start), string(span.End), uint64(k.SeqNum())})
		}
	}
}

// logs reads the logs. The last one may end in the middle of a batch.
func (r *rescue) logs() error {
	logs, err := wal.Scan(wal.Dir{FS: r.fs, Dirname: r.from})
	if err != nil {
		return err
	}
	for i, log := range logs {
		if err := r.log(log.OpenForRead()); err != nil {
			if !isDamage(err) {
				return err
			}
			if i < len(logs)-1 || !errors.Is(err, io.ErrUnexpectedEOF) {
				r.damaged = append(r.damaged, fmt.Sprintf("%s: %v", log.String(), err))
			}
		}
	}
	return nil
}

func (r *rescue) log(reader wal.Reader) (err error) {
	defer func() { err = errors.Join(err, reader.Close()) }()
	for {
		record, _, err := reader.NextRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		repr, err := io.ReadAll(record)
		if err != nil {
			return err
		}
		h, ok := batchrepr.ReadHeader(repr)
		if !ok {
			return io.ErrUnexpectedEOF
		}
		if err := r.changes(repr, uint64(h.SeqNum)); err != nil {
			return err
		}
	}
}

func (r *rescue) changes(repr []byte, sequence uint64) error {
	changes := batchrepr.Read(repr)
	for {
		kind, key, value, ok, err := changes.Next()
		if err != nil || !ok {
			return err
		}
		switch k := pebble.InternalKeyKind(kind); k {
		case pebble.InternalKeyKindLogData:
			continue // without a number
		case pebble.InternalKeyKindRangeDelete:
			r.deleted = append(r.deleted, deletedRange{string(key), string(value), sequence})
		default:
			if err := r.add(key, sequence, byte(k), value); err != nil {
				return err
			}
		}
		sequence++
	}
}

// add takes one version of a key in.
func (r *rescue) add(key []byte, sequence uint64, kind byte, value []byte) error {
	if r.batch.Len() > 1<<20 {
		if err := r.scratch.Apply(r.batch, pebble.NoSync); err != nil {
			return err
		}
		r.batch = r.scratch.NewBatch()
	}
	k := binary.BigEndian.AppendUint32(nil, uint32(len(key)))
	k = binary.BigEndian.AppendUint64(append(k, key...), math.MaxUint64-sequence)
	return r.batch.Set(k, append([]byte{kind}, value...), nil)
}

// write makes the new database of the latest versions.
func (r *rescue) write(dir string, o *pebble.Options) (err error) {
	to, err := pebble.Open(dir, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	it, err := r.scratch.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b, last := to.NewBatch(), ""
	var epoch, format uint64
	for ok := it.First(); ok; ok = it.Next() {
		k, value := it.Key(), it.Value()
		key, sequence := k[4:len(k)-8], math.MaxUint64-binary.BigEndian.Uint64(k[len(k)-8:])
		if last == string(k[:len(k)-8]) {
			continue
		}
		last = string(k[:len(k)-8])
		switch kind := pebble.InternalKeyKind(value[0]); {
		case kind != pebble.InternalKeyKindSet && kind != pebble.InternalKeyKindSetWithDelete, r.isDeleted(key, sequence):
			continue
		}
		switch string(key) {
		case string(keyEpoch):
			epoch, _ = binary.Uvarint(value[1:])
			continue
		case string(keyFormat):
			format, _ = binary.Uvarint(value[1:])
			continue
		}
		r.newest = max(r.newest, newestIn(key))
		if err := b.Set(key, value[1:], nil); err != nil {
			return err
		}
		if b.Len() > 1<<20 {
			if err := to.Apply(b, pebble.NoSync); err != nil {
				return err
			}
			b = to.NewBatch()
		}
	}
	switch {
	case format == 0 && len(r.damaged) == 0 && !r.missing:
		return errors.New("there is no format in it: is it a store of WheelMQ?")
	case format == 0:
		format = formatVersion // it was in what is lost
	case format > formatVersion:
		return fmt.Errorf("%w: format %d, this one knows %d", store.ErrNewerFormat, format, formatVersion)
	}
	epoch = max(epoch, r.newest>>40)
	b.Set(keyFormat, binary.AppendUvarint(nil, format), nil)
	b.Set(keyEpoch, binary.AppendUvarint(nil, epoch), nil)
	return errors.Join(it.Error(), to.Apply(b, pebble.Sync))
}

func (r *rescue) isDeleted(key []byte, sequence uint64) bool {
	for i := range r.deleted {
		if d := &r.deleted[i]; sequence < d.sequence && d.start <= string(key) && string(key) < d.end {
			return true
		}
	}
	return false
}

// newestIn is the highest identifier that a key names: none may be drawn again.
func newestIn(key []byte) uint64 {
	number := func(at int) uint64 {
		if len(key) < at+8 {
			return 0
		}
		return binary.BigEndian.Uint64(key[at:])
	}
	switch key[0] {
	case 's':
		if len(key) == 19 && key[10] == partInFlight {
			return max(number(2), number(11))
		}
		return number(2)
	case 'q':
		return max(number(1), number(9))
	case 'p', 'c':
		return number(1)
	default:
		return 0
	}
}
