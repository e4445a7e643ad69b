package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wheelmq/wheelmq/engine/store"
)

// salvage goes on behind what is damaged. It is used by Load, from several
// goroutines.
type salvage struct {
	store  *Store
	loader store.Loader
	found  chan struct{}
}

// foundAtMost bounds the damaged ranges of one Load: a disk that answers
// nothing but errors is none to start from.
const foundAtMost = 1024

var errTooDamaged = errors.New("more is damaged than can be put aside")

// each is Store.each: where a table is damaged, what is behind the last key that
// could be read is passed over.
func (v *salvage) each(prefix []byte, f func(key, value []byte) error) error {
	from, end := bytes.Clone(prefix), after(prefix)
	for {
		last := from
		err := v.store.between(from, end, func(key, value []byte) error {
			last = append(append(last[:0:0], key...), 0) // the first key behind it
			return f(key, value)
		})
		if err == nil || !pebble.IsCorruptionError(err) {
			return err
		}
		if from, err = v.pass(last, end, err); err != nil || from == nil {
			return err
		}
	}
}

// pass tells of what is damaged behind from, and answers where it ends: at the
// first key that can be read in growing distances; nil: not before end.
func (v *salvage) pass(from, end []byte, damage error) ([]byte, error) {
	next := []byte(nil)
	for k := uint(0); k < 128; k++ {
		if next = ahead(from, k); next == nil || end != nil && bytes.Compare(next, end) >= 0 {
			next = nil
			break
		}
		err := v.store.between(next, end, func([]byte, []byte) error { return errStop })
		if err == nil || errors.Is(err, errStop) {
			break
		}
		if !pebble.IsCorruptionError(err) {
			return nil, err
		}
	}
	v.loader.Damaged(fmt.Sprintf("keys from %x to %x", from, next), damage)
	select {
	case v.found <- struct{}{}:
		return next, nil
	default:
		return nil, errTooDamaged
	}
}

// ahead is the key 2^k ahead of from, seen as a number of its bytes 1 to 16;
// nil: there is none with its first byte.
func ahead(from []byte, k uint) []byte {
	var key [17]byte
	copy(key[:], from)
	high, low := binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])
	var add [2]uint64 // low, high
	add[k/64] = 1 << (k % 64)
	low, carry := bits.Add64(low, add[0], 0)
	high, carry = bits.Add64(high, add[1], carry)
	if carry != 0 {
		return nil
	}
	binary.BigEndian.PutUint64(key[1:], high)
	binary.BigEndian.PutUint64(key[9:], low)
	return key[:]
}

// putAside makes a new store of all that can be read, and renames the damaged
// one: compactions would fail on it for ever. The caller holds nothing of s.
func (v *salvage) putAside() error {
	s, fs := v.store, v.store.opts.fs
	aside := s.dir + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
	part := s.dir + ".part"
	s.using.Lock()
	defer s.using.Unlock()
	if err := errors.Join(fs.RemoveAll(part), v.copyTo(part)); err != nil {
		return fmt.Errorf("copying what can be read of a damaged store to %s: %w", part, err)
	}
	if err := errors.Join(s.closeDB(), s.lock.Close(), fs.Rename(s.dir, aside), fs.Rename(part, s.dir)); err != nil {
		return fmt.Errorf("putting a damaged store aside as %s: %w", aside, err)
	}
	var err error
	if s.lock, err = pebble.LockDirectory(s.dir, fs); err != nil {
		return err
	}
	if s.db, err = s.openDB(); err != nil {
		return err
	}
	s.opts.Logger.Error("store: a part was damaged; it was put aside, and the rest goes on", "dir", s.dir, "aside", aside)
	return nil
}

// copyTo makes a database in dir of all keys that can be read.
func (v *salvage) copyTo(dir string) error {
	o := v.store.options()
	o.Lock = nil
	to, err := pebble.Open(dir, o)
	if err != nil {
		return err
	}
	b := to.NewBatch()
	w := &salvage{store: v.store, loader: silent{}, found: make(chan struct{}, foundAtMost)}
	put := func(key, value []byte) error {
		if b.Len() > 1<<20 {
			if err := to.Apply(b, pebble.NoSync); err != nil {
				return err
			}
			b = to.NewBatch()
		}
		return b.Set(key, value, nil)
	}
	for _, first := range []byte("mcpqrs") {
		if err == nil {
			err = w.each([]byte{first}, put)
		}
	}
	if err == nil {
		err = to.Apply(b, pebble.Sync)
	}
	return errors.Join(err, to.Close())
}

// silent hears nothing: what is damaged was told before.
type silent struct{}

func (silent) Session(store.SessionID, *store.Loaded) {}
func (silent) Queue(store.SessionID, store.Extent)    {}
func (silent) Retained(*store.Message)                {}
func (silent) Damaged(string, error)                  {}
