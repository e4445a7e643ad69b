package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite"

	"github.com/wheelmq/wheelmq/engine/store"
)

// openSQLite opens a file; readOnly for who looks at it while a broker writes.
func openSQLite(path string, readOnly bool) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"}, "_txlock": {"immediate"}}
	if readOnly {
		q = url.Values{"_pragma": {"busy_timeout(10000)"}, "mode": {"ro"}}
	}
	name := (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String()
	return sql.Open("sqlite", name+"?"+q.Encode())
}

// A Server is where a database of MySQL or MariaDB is.
type Server struct {
	Network  string // "tcp" or "unix"
	Address  string // host:port, or the path of the socket
	User     string
	Password string
	Database string
	TLS      string // "": none; "true", "skip-verify", "preferred" as the driver knows them
}

// ParseServer reads mysql://USER@HOST[:PORT]/DATABASE, with ?tls=true for an
// encrypted connection, or ?socket=PATH for a socket of this machine.
func ParseServer(text string) (Server, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Server{}, err
	}
	s := Server{Network: "tcp", Address: u.Host, User: u.User.Username(), Database: strings.TrimPrefix(u.Path, "/")}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "mysql":
		return s, fmt.Errorf("%q: want mysql://USER@HOST/DATABASE", u.Redacted())
	case password:
		return s, fmt.Errorf("%q has a password, which others can read there: put it into a file, and name that by store.password_file", u.Redacted())
	case s.User == "" || s.Database == "" || strings.Contains(s.Database, "/"):
		return s, fmt.Errorf("%q: want a user and one database, as in mysql://wheelmq@127.0.0.1/wheelmq", text)
	}
	for key, values := range u.Query() {
		switch value := values[0]; {
		case key == "tls" && (value == "true" || value == "skip-verify" || value == "preferred"):
			s.TLS = value
		case key == "socket" && s.Address == "" && value != "":
			s.Network, s.Address = "unix", value
		default:
			return s, fmt.Errorf("%q: %s=%s: want tls=true, tls=skip-verify or tls=preferred, or socket=PATH without a host", text, key, value)
		}
	}
	if s.Address == "" {
		return s, fmt.Errorf("%q: want a host, or ?socket=PATH", text)
	}
	if s.Network == "tcp" && u.Port() == "" {
		s.Address = net.JoinHostPort(u.Hostname(), "3306")
	}
	return s, nil
}

func (s Server) String() string { return s.User + "@" + s.Address + "/" + s.Database }

// open opens connections, which read and write for half a minute at most when
// they are bounded.
func (s Server) open(log *slog.Logger, bounded bool) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName, c.TLSConfig = s.Network, s.Address, s.User, s.Password, s.Database, s.TLS
	c.Collation = "utf8mb4_bin"
	c.MultiStatements, c.InterpolateParams, c.MaxAllowedPacket, c.RejectReadOnly = true, true, 0, true
	c.Timeout = connectTimeout / 2
	if bounded {
		c.ReadTimeout, c.WriteTimeout = 30*time.Second, 30*time.Second
	}
	c.Logger = driverLog{log}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(4*runtime.GOMAXPROCS(0) + 8) // Load has four to a processor, and one
	return db, nil
}

type driverLog struct{ to *slog.Logger }

func (l driverLog) Print(v ...any) { l.to.Debug("store", "mysql", fmt.Sprint(v...)) }

// hardReserve divides Options.Reserve: with less free nothing is written.
const hardReserve = 4

// room looks at the free space of a file. An error says that there is none.
func (s *Store) room() error {
	if s.dialect != &sqlite || s.opts.Reserve < 0 {
		return nil
	}
	var u syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(s.name), &u); err != nil {
		return nil // it cannot be told
	}
	beside := int64(min(u.Bavail*uint64(u.Bsize), math.MaxInt64/2))
	free := beside
	if beside < s.opts.Reserve {
		free += s.within()
	}
	s.spare.Store(free - s.opts.Reserve)
	c := &s.committer
	switch was := c.full; {
	case s.Full() && !was:
		c.full = true
		s.opts.Logger.Error("store: full, messages that are to be kept are refused; make room on its disk, or have the clients take what waits for them",
			"database", s.name, "free", free, "reserve", s.opts.Reserve)
	case was && !s.Full():
		c.full = false
		s.opts.Logger.Info("store: has room again", "database", s.name, "free", free)
	}
	if beside < s.opts.Reserve/hardReserve {
		return fmt.Errorf("%d bytes free on the disk, nothing is written with fewer than %d", beside, s.opts.Reserve/hardReserve)
	}
	return nil
}

// within is how many bytes of the file nothing is kept in.
func (s *Store) within() (bytes int64) {
	c := s.committer.writer.conn
	if c == nil {
		return 0
	}
	if err := c.QueryRowContext(context.Background(), "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size").Scan(&bytes); err != nil {
		return 0 // the next commit will say why
	}
	return bytes
}

// connect gives the committer a connection; an error says why not.
func (s *Store) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	w := &s.committer.writer
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	w.begin(conn, s.packet)
	if s.dialect == &mysqlDialect {
		if err := s.claim(ctx, conn); err != nil {
			w.close()
			return err
		}
	}
	return nil
}

// claim takes the database for this connection.
func (s *Store) claim(ctx context.Context, conn *sql.Conn) error {
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT('wheelmq.', SHA1(DATABASE())), 2)").Scan(&got); err != nil {
		return explain(err)
	}
	if got.Int64 != 1 {
		return store.ErrInUse
	}
	if s.epoch == 0 {
		return nil // it is opened
	}
	var epoch uint64
	if err := conn.QueryRowContext(ctx, "SELECT value FROM wheelmq WHERE name = 'epoch'").Scan(&epoch); err != nil {
		return explain(err)
	}
	if epoch != s.epoch {
		return fmt.Errorf("another process has opened it since (opening %d, this one is %d): restart this one", epoch, s.epoch)
	}
	return nil
}

// explain says what to do about the usual errors.
func explain(err error) error {
	var m *mysql.MySQLError
	if !errors.As(err, &m) {
		return err
	}
	switch m.Number {
	case 1044, 1045, 1698:
		return fmt.Errorf("%w: the user, its password (store.password_file) or its rights on the database are not as the server wants them", err)
	case 1049:
		return fmt.Errorf("%w: an administrator makes it, by CREATE DATABASE", err)
	default:
		return err
	}
}
