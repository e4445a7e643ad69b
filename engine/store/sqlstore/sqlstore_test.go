package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/storetest"
)

func openFile(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenSQLite(path, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	paths := map[*testing.T]string{}
	path := func(t *testing.T) string {
		if paths[t] == "" {
			paths[t] = filepath.Join(t.TempDir(), "a ?#%store") // no name is special
		}
		return paths[t]
	}
	storetest.Run(t, func(t *testing.T) store.Store { return openFile(t, path(t)) })
	t.Run("Contents", func(t *testing.T) { contents(t, func() *Store { return openFile(t, path(t)) }) })
	t.Run("Damaged", func(t *testing.T) { damaged(t, func() *Store { return openFile(t, path(t)) }) })
	t.Run("Sweep", func(t *testing.T) { swept(t, func() *Store { return openFile(t, path(t)) }) })
	t.Run("Format", func(t *testing.T) {
		formats(t, func(o Options) (*Store, error) { return OpenSQLite(path(t), o) })
	})
	t.Run("Large", func(t *testing.T) { large(t, openFile(t, path(t)), 8<<20) })
	t.Run("InUse", func(t *testing.T) {
		s := openFile(t, path(t))
		defer s.Close()
		if other, err := OpenSQLite(path(t), Options{}); err == nil {
			other.Close()
			t.Error("opened twice")
		}
	})
}

func tryCommit(s *Store, b *store.Batch) error {
	done := make(chan error, 1)
	if err := s.Commit(b, func(_ *store.Batch, err error) { done <- err }); err != nil {
		return err
	}
	return <-done
}

func mustCommit(t *testing.T, s *Store, fill func(*store.Batch)) {
	t.Helper()
	b := &store.Batch{}
	fill(b)
	if err := tryCommit(s, b); err != nil {
		t.Fatal(err)
	}
}

// contents: people's own queries find what there is, and messages go with the
// last delivery.
func contents(t *testing.T, open func() *Store) {
	s := open()
	defer s.Close()
	id, m := store.SessionID(s.First()), store.MessageID(s.First()+1)
	mustCommit(t, s, func(b *store.Batch) {
		b.PutSession(id, &store.Session{ClientID: "Küche", UserName: "u", Expiry: 60})
		b.PutSession(id+1, &store.Session{ClientID: "other", Expiry: 60})
		b.PutMessage(m, &store.Message{Topic: []byte("a/β"), Payload: []byte("21'\\;?"), Expires: 77, QoS: 1})
		b.Deliver(id, store.Position(m), &store.Delivery{Message: m, QoS: 1, IDs: []uint32{7, 8}})
		b.Deliver(id+1, store.Position(m), &store.Delivery{Message: m, QoS: 1})
		b.PutRetained(&store.Message{Topic: []byte("r"), Payload: []byte{0, 1, 0xFF}, Properties: []byte{1, 1}})
	})
	one := func(want, query string, args ...any) {
		t.Helper()
		var got string
		if err := s.bulk.QueryRow(query, args...).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", query, got, err, want)
		}
	}
	one("21'\\;?", "SELECT payload FROM messages WHERE topic = 'a/β' AND expires = 77 AND qos = 1")
	one("Küche", `SELECT client_id FROM deliveries d JOIN sessions s ON s.id = session_id JOIN messages m ON m.id = message_id
		WHERE subscription_ids = '7,8' AND topic = ? AND state = 0`, "a/β")
	one("\x00\x01\xFF", "SELECT payload FROM retained WHERE topic = 'r'")
	one("1", "SELECT COUNT(*) FROM messages")
	mustCommit(t, s, func(b *store.Batch) { b.Finish(id, store.Position(m), m, false) })
	one("1", "SELECT COUNT(*) FROM messages")
	mustCommit(t, s, func(b *store.Batch) { b.DeleteSession(id + 1) })
	one("0", "SELECT COUNT(*) FROM messages")

	// Whatever happens, nothing is left of sessions that are gone.
	r := storetest.NewRandom(rand.New(rand.NewPCG(1, 1)), s.First()+10)
	var ids []store.SessionID
	for range 100 {
		b := r.Batch(10)
		b.Each(func(o *store.Op) error {
			if o.Kind == store.PutSession {
				ids = append(ids, o.Session)
			}
			return nil
		})
		if err := tryCommit(s, b); err != nil {
			t.Fatal(err)
		}
	}
	mustCommit(t, s, func(b *store.Batch) {
		b.DeleteSession(id)
		for _, id := range ids {
			b.DeleteSession(id)
		}
	})
	for _, table := range []string{"sessions", "subscriptions", "received", "deliveries", "messages"} {
		one("0", "SELECT COUNT(*) FROM "+table)
	}
}

// heard is what a store hands over, in short.
type heard struct {
	mu       sync.Mutex
	sessions map[string]*store.Loaded
	retained []string
	damaged  []string
}

func (h *heard) Session(_ store.SessionID, l *store.Loaded) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions[l.ClientID] = l
}

func (h *heard) Queue(store.SessionID, store.Extent) {}

func (h *heard) Retained(m *store.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retained = append(h.retained, string(m.Topic))
}

func (h *heard) Damaged(what string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.damaged = append(h.damaged, fmt.Sprint(what, ": ", err))
}

// damaged: rows that somebody spoilt are told and left out, the others come.
func damaged(t *testing.T, open func() *Store) {
	s := open()
	id := store.SessionID(s.First())
	mustCommit(t, s, func(b *store.Batch) {
		for i := range store.SessionID(3) {
			b.PutSession(id+i, &store.Session{ClientID: fmt.Sprint("c", i), Expiry: 60, Will: &store.Will{}})
			b.PutSubscription(id+i, &store.Subscription{Filter: "f"})
			for p := range store.MessageID(2) {
				m := store.MessageID(id) + store.MessageID(i)*2 + p + 10
				b.PutMessage(m, &store.Message{Topic: []byte("t")})
				b.Deliver(id+i, store.Position(m), &store.Delivery{Message: m, QoS: 1, State: store.AwaitPuback, PacketID: uint16(p + 1)})
			}
		}
		b.PutRetained(&store.Message{Topic: []byte("good")})
		b.PutRetained(&store.Message{Topic: []byte("bad")})
	})
	for text, arg := range map[string]any{
		"UPDATE sessions SET will_qos = 7 WHERE id = ?":        int64(id),
		"DELETE FROM messages WHERE id = ?":                    int64(id) + 12,
		"UPDATE deliveries SET state = 9 WHERE message_id = ?": int64(id) + 14,
		"UPDATE retained SET qos = -1 WHERE topic = ?":         "bad",
		"DELETE FROM sessions WHERE id = ?":                    int64(id) + 99,
	} {
		if _, err := s.bulk.Exec(text, arg); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	h := &heard{sessions: map[string]*store.Loaded{}}
	if err := s.Load(context.Background(), h); err != nil {
		t.Fatal(err)
	}
	if len(h.damaged) != 4 || len(h.sessions) != 2 || fmt.Sprint(h.retained) != "[good]" {
		t.Errorf("%q damaged, %d sessions, retained %v", h.damaged, len(h.sessions), h.retained)
	}
	for _, name := range []string{"c1", "c2"} {
		if l := h.sessions[name]; l == nil || len(l.InFlight) != 1 || len(l.Subscriptions) != 1 {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// swept: what came for a session that never was is gone after the next opening
// behind a process that did not end well.
func swept(t *testing.T, open func() *Store) {
	s := open()
	m := store.MessageID(s.First() + 1)
	mustCommit(t, s, func(b *store.Batch) {
		b.PutMessage(m, &store.Message{Topic: []byte("t")})
		b.Deliver(store.SessionID(s.First()), store.Position(m), &store.Delivery{Message: m, QoS: 1})
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	count := func(want int) {
		t.Helper()
		var n int
		if err := s.bulk.QueryRow("SELECT (SELECT COUNT(*) FROM messages) + (SELECT COUNT(*) FROM deliveries)").Scan(&n); err != nil || n != want {
			t.Errorf("%d rows, %v; want %d", n, err, want)
		}
	}
	count(2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	if err := s.setMeta(context.Background(), "clean", 0); err != nil {
		t.Fatal(err)
	}
	s.committer.writer.close() // Close does not say that all is well
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.poke()
	<-s.stopped
	s.closeDBs()
	s = open()
	defer s.Close()
	count(0)
}

// formats: an older format is migrated, a newer one refused and left alone.
func formats(t *testing.T, open func(Options) (*Store, error)) {
	s, err := open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = open(Options{later: [][]string{{"ALTER TABLE sessions ADD COLUMN later INTEGER"}}})
	if err != nil {
		t.Fatal(err)
	}
	var later sql.NullInt64
	if err := s.bulk.QueryRow("SELECT later FROM sessions").Scan(&later); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("the new column: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = open(Options{}); err == nil {
		s.Close()
	}
	if !errors.Is(err, store.ErrNewerFormat) || !strings.Contains(err.Error(), "format 2, this one knows 1") {
		t.Errorf("a newer format: %v", err)
	}
}

// large: many small changes and a large message in one batch.
func large(t *testing.T, s *Store, size int) {
	defer s.Close()
	id := store.SessionID(s.First())
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = "'\\\x00x"[i%4]
	}
	const n = 5_000
	mustCommit(t, s, func(b *store.Batch) {
		b.PutSession(id, &store.Session{ClientID: "c", Expiry: 1})
		for i := range store.MessageID(n) {
			m := store.MessageID(id) + 1 + i
			p := []byte("small")
			if i == n/2 {
				p = payload
			}
			b.PutMessage(m, &store.Message{Topic: []byte("t"), Payload: p})
			b.Deliver(id, store.Position(m), &store.Delivery{Message: m, QoS: 1})
		}
	})
	read, found := 0, false
	err := s.ReadQueue(id, 0, func(_ store.Position, _ *store.Delivery, m *store.Message) bool {
		read++
		found = found || string(m.Payload) == string(payload)
		return true
	})
	if err != nil || read != n || !found {
		t.Errorf("%d messages, the large one %v: %v", read, found, err)
	}
	mustCommit(t, s, func(b *store.Batch) { b.DeleteSession(id) })
	var left int
	if err := s.bulk.QueryRow("SELECT COUNT(*) FROM messages").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d messages are left: %v", left, err)
	}
}

// TestSQLiteFull: a file that may not grow refuses commits, and takes them
// again by itself.
func TestSQLiteFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openFile(t, path)
	defer s.Close()
	put := func(name string, size int) error {
		b := &store.Batch{}
		b.PutRetained(&store.Message{Topic: []byte(name), Payload: make([]byte, size)})
		return tryCommit(s, b)
	}
	if err := put("a", 1); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := s.committer.writer.conn.QueryRowContext(context.Background(), "PRAGMA max_page_count = 1").Scan(&pages); err != nil { // no fewer than there are
		t.Fatal(err)
	}
	if err := put("b", 1<<20); !errors.Is(err, store.ErrUnavailable) || s.Available() {
		t.Fatalf("a full file: %v, available %v", err, s.Available())
	}
	await(t, "it is available, without a commit", s.Available)
	if err := put("c", 1<<20); err != nil {
		t.Error(err)
	}
}

// TestReserve: fewer bytes free than are to be, and commits fail until there are.
func TestReserve(t *testing.T) {
	s, err := OpenSQLite(filepath.Join(t.TempDir(), "store"), Options{Reserve: 1 << 62, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := &store.Batch{}
	b.PutRetained(&store.Message{Topic: []byte("t")})
	if err := tryCommit(s, b); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "bytes free") || s.Available() {
		t.Errorf("a commit beyond the reserve: %v, available %v", err, s.Available())
	}
}

// TestBusy: what waits is bounded.
func TestBusy(t *testing.T) {
	s, err := OpenSQLite(filepath.Join(t.TempDir(), "store"), Options{PendingBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := func() *store.Batch {
		b := &store.Batch{}
		b.Receive(1, 1)
		return b
	}
	held, hold := make(chan struct{}), make(chan struct{})
	if err := s.Commit(b(), func(*store.Batch, error) { close(held); <-hold }); err != nil {
		t.Fatal(err)
	}
	<-held
	if err := s.Commit(b(), func(*store.Batch, error) {}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(b(), nil); !errors.Is(err, store.ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	close(hold)
}

func TestParseServer(t *testing.T) {
	f := func(text string, want Server, problem string) {
		t.Helper()
		got, err := ParseServer(text)
		if problem != "" {
			if err == nil || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want %q", text, err, problem)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	f("mysql://u@h/d", Server{Network: "tcp", Address: "h:3306", User: "u", Database: "d"}, "")
	f("mysql://u@[::1]:3307/d?tls=true", Server{Network: "tcp", Address: "[::1]:3307", User: "u", Database: "d", TLS: "true"}, "")
	f("mysql://u@/d?socket=/run/s", Server{Network: "unix", Address: "/run/s", User: "u", Database: "d"}, "")
	f("mysql://u:secret@h/d", Server{}, "password_file")
	f("mysql://h/d", Server{}, "want a user")
	f("mysql://u@h/", Server{}, "one database")
	f("mysql://u@h/d/e", Server{}, "one database")
	f("mysql://u@h/d?tls=maybe", Server{}, "tls=true")
	f("mysql://u@h/d?socket=/s", Server{}, "without a host")
	f("mysql://u@/d", Server{}, "want a host")
	f("postgres://u@h/d", Server{}, "want mysql://")
}

// TestReadOnlyFolder: what cannot be opened says why.
func TestReadOnlyFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("no database at all, and long enough for a header of one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{path, filepath.Join(path, "store")} {
		if s, err := OpenSQLite(bad, Options{}); err == nil {
			s.Close()
			t.Errorf("%s is opened", bad)
		} else if !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
