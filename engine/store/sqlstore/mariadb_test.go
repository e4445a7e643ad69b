package sqlstore

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/sqlstore/mariadbtest"
	"github.com/wheelmq/wheelmq/engine/store/storetest"
)

// A mariadb is a server of its own.
type mariadb struct{ *mariadbtest.Server }

func (m mariadb) server(database string) Server {
	return Server{Network: "unix", Address: m.Socket(), User: "anybody", Database: database}
}

func (m mariadb) database(t *testing.T) Server { return m.server(m.Database(t)) }

// await waits until ok says so.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("within a minute not: %s", what)
		}
	}
}

func openServer(t *testing.T, at Server) *Store {
	t.Helper()
	s, err := OpenMySQL(at, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	m := mariadb{mariadbtest.Start(t)}
	databases := map[*testing.T]Server{}
	storetest.Run(t, func(t *testing.T) store.Store {
		if databases[t].Database == "" {
			databases[t] = m.database(t)
		}
		return openServer(t, databases[t])
	})
	t.Run("Contents", func(t *testing.T) {
		at := m.database(t)
		contents(t, func() *Store { return openServer(t, at) })
	})
	t.Run("Damaged", func(t *testing.T) {
		at := m.database(t)
		damaged(t, func() *Store { return openServer(t, at) })
	})
	t.Run("Sweep", func(t *testing.T) {
		at := m.database(t)
		swept(t, func() *Store { return openServer(t, at) })
	})
	t.Run("Format", func(t *testing.T) {
		at := m.database(t)
		formats(t, func(o Options) (*Store, error) { return OpenMySQL(at, o) })
	})
	t.Run("Refused", func(t *testing.T) { refused(t, m) })
	t.Run("Large", func(t *testing.T) { large(t, openServer(t, m.database(t)), 8<<20) })
}

// refused: what is wrong with a server is said when the store is opened.
func refused(t *testing.T, m mariadb) {
	at := m.database(t)
	s := openServer(t, at)
	defer s.Close()
	says := func(at Server, opts Options, want string) {
		t.Helper()
		other, err := OpenMySQL(at, opts)
		if err == nil {
			other.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", at, err, want)
		}
	}
	says(at, Options{}, "in use by another process")
	says(m.server("none"), Options{}, "CREATE DATABASE")
	says(m.database(t), Options{LargestMessage: 1 << 30}, "max_allowed_packet")
	says(Server{Network: "unix", Address: m.Socket() + "none", User: "u", Database: "d"}, Options{}, "no such file")
}

// TestMariaDBGoesAway: the server is killed and stopped under load, and comes
// back. What was answered as kept is there, in order; what was answered as
// failed and not committed again is not there twice.
func TestMariaDBGoesAway(t *testing.T) {
	t.Parallel()
	m := mariadb{mariadbtest.Start(t)}
	at := m.database(t)
	s := openServer(t, at)
	session := store.SessionID(s.First())
	commitTo := func(b *store.Batch) error {
		done := make(chan error, 1)
		if err := s.Commit(b, func(_ *store.Batch, err error) { done <- err }); err != nil {
			return err
		}
		return <-done
	}
	b := &store.Batch{}
	b.PutSession(session, &store.Session{ClientID: "c", Expiry: 1})
	if err := commitTo(b); err != nil {
		t.Fatal(err)
	}
	// One at a time, again until it is taken, as a loop does.
	var kept, failures atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for next := uint64(session) + 1; ; next++ {
			b := &store.Batch{}
			b.PutMessage(store.MessageID(next), &store.Message{Topic: []byte("t"), Payload: fmt.Append(nil, next), QoS: 2})
			b.Deliver(session, store.Position(next), &store.Delivery{Message: store.MessageID(next), QoS: 2})
			for commitTo(b) != nil {
				failures.Add(1)
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
			kept.Add(1)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	further := func(by int64) {
		t.Helper()
		from := kept.Load()
		await(t, "it keeps messages", func() bool { return kept.Load() >= from+by })
	}
	for _, by := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		further(20)
		m.Stop(by)
		await(t, "it is not available", func() bool { return !s.Available() })
		m.Restart(t)
		await(t, "it is available", s.Available)
	}
	further(20)
	close(stop)
	load.Wait()
	if failures.Load() == 0 {
		t.Error("no commit failed while the server was away")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openServer(t, at)
	defer s.Close()
	next := uint64(session) + 1
	err := s.ReadQueue(session, 0, func(at store.Position, _ *store.Delivery, m *store.Message) bool {
		if uint64(at) != next || string(m.Payload) != fmt.Sprint(next) {
			t.Fatalf("%s at %d, want %d", m.Payload, at, next)
		}
		next++
		return true
	})
	if n := int64(next) - int64(session) - 1; err != nil || n < kept.Load() || n > kept.Load()+1 {
		t.Errorf("%d messages are there, %d were kept: %v", n, kept.Load(), err)
	}
}

// TestMariaDBTaken: a broker that lost its server writes no more once another
// one has opened the store.
func TestMariaDBTaken(t *testing.T) {
	t.Parallel()
	m := mariadb{mariadbtest.Start(t)}
	at := m.database(t)
	s := openServer(t, at)
	if _, err := s.bulk.Exec("UPDATE wheelmq SET value = value + 1 WHERE name = 'epoch'"); err != nil { // as the other one does
		t.Fatal(err)
	}
	m.Stop(syscall.SIGKILL)
	m.Restart(t)
	await(t, "it says that another one has opened the store", func() bool {
		b := &store.Batch{}
		b.PutRetained(&store.Message{Topic: []byte("t")})
		err := tryCommit(s, b)
		if err == nil {
			t.Fatal("it writes")
		}
		return strings.Contains(err.Error(), "another process has opened it")
	})
	_ = s.Close()
}
