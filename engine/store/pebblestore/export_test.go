package pebblestore

import "context"

// CompactAll compacts all that is there, tables that need not be as well.
func (s *Store) CompactAll(ctx context.Context) error {
	if err := s.db.Flush(); err != nil {
		return err
	}
	return s.db.Compact(ctx, []byte("a"), []byte("z"), false)
}

// Compactions is how many there were.
func (s *Store) Compactions() int64 { return s.db.Metrics().Compact.Count }
