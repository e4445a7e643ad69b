package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// BackupSQLite copies the store in the file path into the file to, which must
// not be there. A broker may use the store meanwhile, and writes on.
func BackupSQLite(path, to string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	if _, err := os.Stat(to); err == nil {
		return fmt.Errorf("sqlstore: %s is there already", to)
	}
	db, err := openSQLite(path, true)
	if err != nil {
		return fmt.Errorf("sqlstore: %s: %w", path, err)
	}
	half := to + ".part"
	if err = os.Remove(half); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		_, err = db.Exec("VACUUM INTO ?", half)
	}
	if err == nil {
		err = synced(half)
	}
	if err == nil {
		err = os.Rename(half, to)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		_ = os.Remove(half)
		return fmt.Errorf("sqlstore: backup of %s to %s: %w", path, to, err)
	}
	return nil
}

func synced(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Check has the database look at itself, and answers what it finds wrong.
func (s *Store) Check(ctx context.Context) (wrong []string, err error) {
	if s.dialect == &sqlite {
		return s.lines(ctx, "PRAGMA integrity_check", 1, "ok")
	}
	return s.lines(ctx, "CHECK TABLE wheelmq, sessions, subscriptions, received, messages, deliveries, retained", 4, "OK")
}

// lines are the last of n columns, other than good.
func (s *Store) lines(ctx context.Context, query string, n int, good string) (found []string, err error) {
	rows, err := s.bulk.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", s.name, err)
	}
	defer rows.Close()
	for rows.Next() {
		columns, into := make([]string, n), make([]any, n)
		for i := range columns {
			into[i] = &columns[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		if columns[n-1] != good {
			found = append(found, fmt.Sprint(columns))
		}
	}
	return found, rows.Err()
}
