package sqlstore

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
)

// TestBackup: a store that is in use is copied, and is what it was.
func TestBackup(t *testing.T) {
	path, to := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "backup")
	s := openFile(t, path)
	defer s.Close()
	mustCommit(t, s, func(b *store.Batch) {
		b.PutSession(store.SessionID(s.First()), &store.Session{ClientID: "c", Expiry: 9})
		b.PutRetained(&store.Message{Topic: []byte("t"), Payload: []byte("p")})
	})
	if err := BackupSQLite(path, to); err != nil {
		t.Fatal(err)
	}
	if err := BackupSQLite(path, to); err == nil {
		t.Error("a second backup takes the place of the first")
	}
	if err := BackupSQLite(path+"none", to+"2"); err == nil {
		t.Error("a store that is not there has a backup")
	}
	mustCommit(t, s, func(b *store.Batch) { b.DeleteRetained([]byte("t")) })
	b := openFile(t, to)
	defer b.Close()
	h := &heard{sessions: map[string]*store.Loaded{}}
	if err := b.Load(context.Background(), h); err != nil || len(h.retained) != 1 || h.sessions["c"] == nil {
		t.Errorf("the backup has %v and %v: %v", h.sessions, h.retained, err)
	}
	if wrong, err := b.Check(context.Background()); err != nil || len(wrong) > 0 {
		t.Errorf("Check: %v, %v", wrong, err)
	}
}
