package pebblestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
)

// counting counts what a store tells of itself.
type counting struct {
	mu                         sync.Mutex
	sessions, queued, retained int
	damaged                    []string
}

func (c *counting) Session(store.SessionID, *store.Loaded)  { c.add(&c.sessions, 1) }
func (c *counting) Queue(_ store.SessionID, q store.Extent) { c.add(&c.queued, q.Messages) }
func (c *counting) Retained(*store.Message)                 { c.add(&c.retained, 1) }

func (c *counting) add(to *int, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*to += n
}

func (c *counting) Damaged(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged = append(c.damaged, fmt.Sprint(what, ": ", err))
}

// TestDamagedTables: where bytes of the tables on disk have changed, what can be
// read is there, the rest is told, and put aside once; the store goes on.
func TestDamagedTables(t *testing.T) {
	const n = 20_000
	dir := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, dir, Options{Reserve: -1})
	next := s.First()
	b := &store.Batch{}
	for i := range n {
		id := store.SessionID(next)
		b.PutSession(id, &store.Session{ClientID: fmt.Sprint("client ", i), Expiry: 1})
		b.DeliverOwn(id, store.Position(next+1), &store.Delivery{Message: store.MessageID(next + 1), QoS: 1, Own: true}, &store.Message{Topic: []byte("t"), Payload: fmt.Append(nil, i)})
		b.PutRetained(&store.Message{Topic: fmt.Append(nil, "topic/", i)})
		next += 2
	}
	commitAll(t, s, b)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, path := range tables {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 64 { // of one block, in the middle
			data[len(data)/2+i] ^= 0xFF
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	s = mustOpen(t, dir, Options{Reserve: -1})
	var got counting
	if err := s.Load(context.Background(), &got); err != nil {
		t.Fatal(err)
	}
	if all := got.sessions + got.queued + got.retained; len(got.damaged) == 0 || all < 2*n || all == 3*n {
		t.Errorf("%d sessions, %d queued, %d retained, damaged %v", got.sessions, got.queued, got.retained, got.damaged)
	}
	more := &store.Batch{}
	more.PutSession(store.SessionID(s.First()), &store.Session{ClientID: "new", Expiry: 1})
	commitAll(t, s, more)
	if err := s.db.Compact(context.Background(), []byte{0}, []byte{0xFF}, false); err != nil {
		t.Errorf("compaction of what is left: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}

	s = mustOpen(t, dir, Options{Reserve: -1})
	defer s.Close()
	var again counting
	if err := s.Load(context.Background(), &again); err != nil || len(again.damaged) > 0 {
		t.Errorf("the second time: %v, damaged %v", err, again.damaged)
	}
	if again.sessions <= got.sessions || again.queued < got.queued || again.retained < got.retained {
		t.Errorf("the second time: %d sessions, %d queued, %d retained; the first %d, %d, %d", again.sessions, again.queued, again.retained, got.sessions, got.queued, got.retained)
	}
	aside, err := filepath.Glob(dir + ".damaged-*")
	if err != nil || len(aside) != 1 || strings.HasSuffix(aside[0], ".part") {
		t.Errorf("put aside: %v, %v", aside, err)
	}
}

func commitAll(t *testing.T, s *Store, b *store.Batch) {
	t.Helper()
	done := make(chan error, 1)
	if err := s.Commit(b, func(_ *store.Batch, err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
