package pebblestore

import (
	"path/filepath"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store/storetest"
)

// TestBackup: a backup holds what was committed before it, while more is, and
// is not written over.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, filepath.Join(dir, "store"), Options{Reserve: -1})
	if err := put(t, s, 1); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := uint64(2); ; i++ {
			select {
			case <-stop:
				return
			default:
				if err := put(t, s, i); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	to := filepath.Join(dir, "backup")
	err := s.Backup(to)
	close(stop)
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(to); err == nil {
		t.Error("a second backup takes the place of the first")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b := mustOpen(t, to, Options{Reserve: -1})
	defer b.Close()
	if storetest.Dump(t, b) == "" {
		t.Error("the backup is empty")
	}
}
