package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/storetest"
)

// A mariadb is a server of its own, on a socket in its folder; anybody may do
// anything.
type mariadb struct {
	dir string
	cmd *exec.Cmd
	log bytes.Buffer
	n   atomic.Int32 // databases made
}

// startMariaDB starts a server that ends with the test.
func startMariaDB(t *testing.T) *mariadb {
	t.Helper()
	if _, err := exec.LookPath("mariadbd"); err != nil {
		if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
			t.Fatal("mariadbd is not installed: run .ci/clients")
		}
	}
	dir, err := os.MkdirTemp("", "mdb") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	m := &mariadb{dir: dir}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the server says:\n%s", m.log.String())
		}
		os.RemoveAll(dir)
	})
	m.start(t)
	return m
}

func (m *mariadb) start(t *testing.T) {
	t.Helper()
	program := "/usr/sbin/mariadbd"
	if found, err := exec.LookPath("mariadbd"); err == nil {
		program = found
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	// Without rights no system tables are needed, and so no installation.
	m.cmd = exec.Command(program, "--no-defaults", "--datadir="+m.dir+"/data", "--socket="+m.dir+"/s", "--pid-file="+m.dir+"/pid",
		"--skip-networking", "--skip-grant-tables", "--user="+who.Username, "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M",
		"--innodb-data-file-path=ibdata1:4M:autoextend", "--innodb-temp-data-file-path=ibtmp1:4M:autoextend")
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	db := m.connect(t, "")
	defer db.Close()
	await(t, "the server answers", func() bool { return db.PingContext(context.Background()) == nil })
}

// stop ends the server by a signal, and waits.
func (m *mariadb) stop(by os.Signal) {
	if m.cmd.ProcessState == nil {
		_ = m.cmd.Process.Signal(by)
		_ = m.cmd.Wait()
	}
}

func (m *mariadb) server(database string) Server {
	return Server{Network: "unix", Address: m.dir + "/s", User: "anybody", Database: database}
}

func (m *mariadb) connect(t *testing.T, database string) *sql.DB {
	t.Helper()
	db, err := m.server(database).open(slog.New(slog.DiscardHandler), true)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// database makes an empty one.
func (m *mariadb) database(t *testing.T) Server {
	t.Helper()
	name := fmt.Sprint("w", m.n.Add(1))
	db := m.connect(t, "")
	defer db.Close()
	if _, err := db.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return m.server(name)
}

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
	m := startMariaDB(t)
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
		formats(t, func() (*Store, error) { return OpenMySQL(at, Options{}) }, &mysqlDialect)
	})
	t.Run("Refused", func(t *testing.T) { refused(t, m) })
	t.Run("Large", func(t *testing.T) { large(t, openServer(t, m.database(t)), 8<<20) })
}

// refused: what is wrong with a server is said when the store is opened.
func refused(t *testing.T, m *mariadb) {
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
	says(Server{Network: "unix", Address: m.dir + "/none", User: "u", Database: "d"}, Options{}, "no such file")
}

// TestMariaDBGoesAway: the server is killed and stopped under load, and comes
// back. What was answered as kept is there, in order; what was answered as
// failed and not committed again is not there twice.
func TestMariaDBGoesAway(t *testing.T) {
	m := startMariaDB(t)
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
		m.stop(by)
		await(t, "it is not available", func() bool { return !s.Available() })
		m.start(t)
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
	m := startMariaDB(t)
	at := m.database(t)
	s := openServer(t, at)
	if _, err := s.bulk.Exec("UPDATE wheelmq SET value = value + 1 WHERE name = 'epoch'"); err != nil { // as the other one does
		t.Fatal(err)
	}
	m.stop(syscall.SIGKILL)
	m.start(t)
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
