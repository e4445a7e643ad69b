package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	lite "modernc.org/sqlite"
)

// damagedFile reports whether SQLite finds the file itself damaged, or none of its own.
func damagedFile(err error) bool {
	var e *lite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xFF
	return code == 11 || code == 26 // SQLITE_CORRUPT, SQLITE_NOTADB
}

// lookThrough has SQLite look at the whole file, which a process that did not
// end well may have left to a failing disk.
func (s *Store) lookThrough(ctx context.Context) error {
	if s.dialect != &sqlite {
		return nil
	}
	wrong, err := s.lines(ctx, "PRAGMA quick_check(1)", 1, "ok")
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("%w: %s", errDamaged, wrong[0])
	}
	return err
}

var errDamaged = errors.New("the file is damaged")

// suspect has the next opening look through a file that could not be read.
func (s *Store) suspect(err error) error {
	if damagedFile(err) {
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		if _, e := s.bulk.ExecContext(ctx, "REPLACE INTO wheelmq (name, value) VALUES ('damaged', 1)"); e == nil {
			err = fmt.Errorf("%w: the next start puts the file aside, and takes over what can be read of it", err)
		}
	}
	return err
}

// salvage puts a damaged file aside, and makes a new one of what can be read.
func salvage(path string, log *slog.Logger, reason error) error {
	aside := fmt.Sprintf("%s.damaged-%s", path, time.Now().UTC().Format("20060102T150405.000"))
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sqlstore: %s is damaged (%w), and cannot be put aside: %w", path, reason, err)
		}
	}
	ctx := context.Background()
	to, err := openSQLite(path, false)
	if err != nil {
		return err
	}
	rows, lost, err := rescue(ctx, aside, to)
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("sqlstore: %s, in place of a damaged one: %w", path, err)
	}
	log.Error("store: the file was damaged; it is put aside, and what could be read of it is taken over",
		"file", path, "aside", aside, "error", reason, "rows", rows, "tables not read to their end", strings.Join(lost, " "))
	return nil
}

// rescue makes the tables in to, and copies what can be read of a damaged file.
func rescue(ctx context.Context, from string, to *sql.DB) (rows int, lost []string, err error) {
	for _, text := range append([]string{sqlite.makeMeta()}, sqlite.steps[0]...) {
		if _, err := to.ExecContext(ctx, text); err != nil {
			return 0, nil, err
		}
	}
	old, err := openSQLite(from, false) // its log may be wanted
	if err != nil {
		return 0, nil, err
	}
	defer old.Close()
	for _, table := range []string{"wheelmq", "sessions", "subscriptions", "received", "messages", "deliveries", "retained"} {
		// From both ends: what lies between is lost.
		n, first, err := copyTable(ctx, old, to, table, "")
		if err != nil {
			return rows, lost, err
		}
		rows += n
		if first == nil {
			continue
		}
		lost = append(lost, table)
		if n, _, err = copyTable(ctx, old, to, table, " DESC"); err != nil {
			return rows, lost, err
		}
		rows += n
	}
	for _, text := range sweep {
		if _, err := to.ExecContext(ctx, text); err != nil {
			return rows, lost, err
		}
	}
	_, err = to.ExecContext(ctx, `REPLACE INTO wheelmq (name, value) SELECT 'format', 1
		UNION ALL SELECT 'damaged', 0
		UNION ALL SELECT 'epoch', MAX(COALESCE((SELECT value FROM wheelmq WHERE name = 'epoch'), 0),
			COALESCE((SELECT MAX(id) >> 40 FROM sessions), 0), COALESCE((SELECT MAX(position) >> 40 FROM deliveries), 0))`)
	return rows, lost, err
}

// copyTable copies rows in one direction until one cannot be read; read is why.
func copyTable(ctx context.Context, from, to *sql.DB, table, direction string) (n int, read, err error) {
	rows, read := from.QueryContext(ctx, "SELECT * FROM "+table+" ORDER BY rowid"+direction)
	if read != nil {
		return 0, read, nil
	}
	defer rows.Close()
	names, read := rows.Columns()
	if read != nil {
		return 0, read, nil
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	tx, err := to.BeginTx(ctx, nil)
	if err != nil {
		return 0, nil, err
	}
	text := fmt.Sprintf("INSERT OR IGNORE INTO %s (%s) VALUES (?%s)", table, strings.Join(names, ","), strings.Repeat(",?", len(names)-1))
	for rows.Next() {
		if read = rows.Scan(into...); read != nil {
			break
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok && len(b) == 0 { // read as nil, which is NULL when it is written
				values[i] = []byte{}
			}
		}
		done, err := tx.ExecContext(ctx, text, values...)
		if err != nil {
			return n, nil, errors.Join(err, tx.Rollback())
		}
		if added, err := done.RowsAffected(); err == nil {
			n += int(added)
		}
	}
	return n, errors.Join(read, rows.Err()), tx.Commit()
}
