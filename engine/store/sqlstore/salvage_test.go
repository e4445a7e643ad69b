package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
)

// TestSalvage: whichever page of a file is destroyed, the store opens, with a
// file put aside and an error in the log, has most of what it had, and takes
// more.
func TestSalvage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "whole")
	s := openFile(t, path)
	const n = 150
	first := s.First()
	mustCommit(t, s, func(b *store.Batch) {
		for i := range uint64(n) {
			b.PutSession(store.SessionID(first+i), &store.Session{ClientID: fmt.Sprint("client", i), Expiry: 60})
			b.PutSubscription(store.SessionID(first+i), &store.Subscription{Filter: fmt.Sprint("filter/", i)})
			b.PutMessage(store.MessageID(first+n+i), &store.Message{Topic: []byte("t"), Payload: make([]byte, 200), QoS: 1})
			b.Deliver(store.SessionID(first+i), store.Position(first+n+i), &store.Delivery{Message: store.MessageID(first + n + i), QoS: 1})
			b.PutRetained(&store.Message{Topic: fmt.Append(nil, "kept/", i)})
		}
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pages := len(whole) / 4096
	aside := 0
	for page := 0; page < pages; page += 5 {
		path := filepath.Join(dir, fmt.Sprint("damaged", page))
		broken := bytes.Clone(whole)
		for i := range 4096 {
			broken[page*4096+i] ^= 0xA5
		}
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".lock", nil, 0o600); err != nil { // it was a store
			t.Fatal(err)
		}
		var log bytes.Buffer
		opts := Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		h := &heard{sessions: map[string]*store.Loaded{}}
		s, err := OpenSQLite(path, opts)
		if err == nil {
			b := &store.Batch{}
			b.PutRetained(&store.Message{Topic: []byte("first")})
			b.DeleteSession(store.SessionID(first))
			if err = errors.Join(s.Load(context.Background(), h), tryCommit(s, b)); err != nil { // it closed well: the next start sees to it
				s.Close()
				h = &heard{sessions: map[string]*store.Loaded{}}
				if s, err = OpenSQLite(path, opts); err == nil {
					err = s.Load(context.Background(), h)
				}
			}
		}
		if err != nil {
			t.Fatalf("page %d: %v\n%s", page, err, &log)
		}
		found, err := filepath.Glob(path + ".damaged-*")
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(log.String(), "level=ERROR"); told != (len(found) > 0) {
			t.Errorf("page %d: put aside %v, the log says:\n%s", page, found, &log)
		}
		if len(found) > 0 {
			aside++
		}
		if page > 0 && len(h.sessions)+len(h.retained) < n { // 0 is what makes it a file of SQLite
			t.Errorf("page %d: %d sessions and %d retained messages are left\n%s", page, len(h.sessions), len(h.retained), &log)
		}
		if page > 0 && s.First() <= first {
			t.Errorf("page %d: identifiers begin at %d again", page, s.First())
		}
		mustCommit(t, s, func(b *store.Batch) { b.PutRetained(&store.Message{Topic: []byte("later")}) })
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if aside < pages/10 {
		t.Errorf("of %d files with a damaged page %d were put aside", pages/5, aside)
	}
}
