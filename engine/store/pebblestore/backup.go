package pebblestore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wheelmq/wheelmq/engine/store"
)

// Backup copies what is committed into dir, which must not be there: a store
// that Open opens. Tables are linked where both are on one file system. Commits
// go on meanwhile; not on a loop.
func (s *Store) Backup(dir string) error {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.db == nil {
		return fmt.Errorf("pebblestore: %w", store.ErrUnavailable)
	}
	fs := s.opts.fs
	if _, err := fs.Stat(dir); err == nil {
		return fmt.Errorf("pebblestore: %s is there already", dir)
	}
	half := dir + ".part"
	err := fs.RemoveAll(half)
	if err == nil {
		err = s.checkpoint(half)
	}
	if err == nil {
		err = fs.Rename(half, dir)
	}
	if err != nil {
		return fmt.Errorf("pebblestore: backup to %s: %w", dir, errors.Join(err, fs.RemoveAll(half)))
	}
	return nil
}

func (s *Store) checkpoint(dir string) (err error) {
	defer recovered(&err)
	return s.db.Checkpoint(dir, pebble.WithFlushedWAL())
}
