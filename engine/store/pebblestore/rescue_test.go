package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/wheelmq/wheelmq/engine/store/storetest"
)

// makeUsed makes a store that has gone through flushes, compactions and
// openings, with changes in its tables and in its log, and returns what is in it.
func makeUsed(t *testing.T, dir string) string {
	t.Helper()
	var all string
	for opening := range 3 {
		s := mustOpen(t, dir, Options{Reserve: -1})
		r := storetest.NewRandom(rand.New(rand.NewPCG(1, uint64(opening))), s.First())
		for i := range 60 {
			commitAll(t, s, r.Batch(20))
			switch i % 20 {
			case 9:
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			case 19:
				if err := s.db.Compact(context.Background(), []byte("a"), []byte("z"), false); err != nil {
					t.Fatal(err)
				}
			}
		}
		commitAll(t, s, r.Batch(20)) // in the log alone
		all = storetest.Dump(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestDamagedDatabase: a database that does not open, because of whichever of
// its files, is put aside, and what its tables and logs have is there.
func TestDamagedDatabase(t *testing.T) {
	made := filepath.Join(t.TempDir(), "made")
	want := makeUsed(t, made)
	garbage := func(path string) error {
		return os.WriteFile(path, bytes.Repeat([]byte("no such thing "), 100), 0o600)
	}
	half := func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, data[:len(data)/2], 0o600)
	}
	empty := func(path string) error { return os.Truncate(path, 0) }
	for _, one := range []struct {
		files  string
		damage func(path string) error
		aside  int
		whole  bool // nothing is lost
	}{
		{"MANIFEST-*", os.Remove, 1, true},
		{"MANIFEST-*", garbage, 1, true},
		{"MANIFEST-*", empty, 1, true},
		{"MANIFEST-*", half, 1, true},
		{"marker.manifest.*", os.Remove, 1, true},
		{"marker.*", os.Remove, 1, true},
		{"OPTIONS-*", os.Remove, 0, true},
		{"OPTIONS-*", garbage, 1, true},
		{"*.log", os.Remove, 0, false}, // as if the disk had lost what was not synced
		{"*.log", garbage, 0, false},
		{"*.log", half, 0, false},
		{"*.sst", empty, 1, false},
		{"*.sst", half, 1, false},
		{"*.sst", os.Remove, 1, false},
	} {
		dir := filepath.Join(t.TempDir(), "store")
		if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
		paths, err := filepath.Glob(filepath.Join(dir, one.files))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", one.files, paths, err)
		}
		for _, path := range paths {
			if err := one.damage(path); err != nil {
				t.Fatal(err)
			}
		}
		name := fmt.Sprintf("%s, %d files", one.files, len(paths))
		for opening := range 2 {
			s, err := Open(dir, Options{Reserve: -1})
			if err != nil {
				t.Fatalf("%s: opening %d: %v", name, opening, err)
			}
			var l counting
			if err := s.Load(context.Background(), &l); err != nil {
				t.Errorf("%s: opening %d: %v", name, opening, err)
			}
			if one.whole { // else deliveries may be without their messages
				if got := storetest.Dump(t, s); got != want {
					t.Errorf("%s: opening %d holds\n%s\nwant\n%s", name, opening, got, want)
				}
			}
			if opening == 1 && len(l.damaged) > 0 {
				t.Errorf("%s: damaged still: %v", name, l.damaged)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			aside, err := filepath.Glob(dir + ".damaged-*")
			if err != nil || len(aside) != one.aside {
				t.Errorf("%s: put aside: %v, %v; want %d", name, aside, err, one.aside)
			}
			if told := len(l.damaged) > 0; opening == 0 && told != (one.aside > 0) {
				t.Errorf("%s: told of %v", name, l.damaged)
			}
		}
	}
}

// TestForeignDatabase: what is not a store of this program's stays where it is.
func TestForeignDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, dir, Options{Reserve: -1})
	b := s.db.NewBatch()
	b.Delete(keyFormat, nil)
	if err := s.apply(b, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	manifest, _ := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	for _, path := range manifest {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir, Options{Reserve: -1}); err == nil || !strings.Contains(err.Error(), "is it a store of WheelMQ?") {
		t.Errorf("a database without a format: %v", err)
	}
	if aside, _ := filepath.Glob(dir + ".damaged-*"); len(aside) > 0 {
		t.Errorf("put aside: %v", aside)
	}
}

// TestUnreadableDisk: a disk that answers errors is nothing to rescue from: the start
// fails, and all stays where it is.
func TestUnreadableDisk(t *testing.T) {
	for _, number := range []syscall.Errno{syscall.EIO, syscall.EACCES, syscall.ENOSPC} {
		dir := filepath.Join(t.TempDir(), "store")
		makeUsed(t, dir)
		bad := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.Contains(op.Path, "MANIFEST-") {
				return &os.PathError{Op: "read", Path: op.Path, Err: number}
			}
			return nil
		})
		if s, err := Open(dir, Options{Reserve: -1, fs: errorfs.Wrap(vfs.Default, bad)}); !errors.Is(err, number) {
			t.Errorf("%v: opened %v, error %v", number, s, err)
		}
		if aside, err := filepath.Glob(dir + ".*"); err != nil || len(aside) > 0 {
			t.Errorf("%v: put aside %v, %v", number, aside, err)
		}
		s := mustOpen(t, dir, Options{Reserve: -1})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
