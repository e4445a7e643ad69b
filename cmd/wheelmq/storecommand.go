package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine/store/pebblestore"
	"github.com/wheelmq/wheelmq/engine/store/sqlstore"
	"github.com/wheelmq/wheelmq/engine/store/transfer"
)

// A storeCommand looks at a store, or fills it.
type storeCommand struct {
	config string
	flags  storeFlags
	stdout io.Writer
	stderr io.Writer
	cobra  *cobra.Command

	damaged atomic.Int64 // records that could not be read
}

// newStore returns the commands about what outlives the broker.
func newStore(stdout, stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "Look at what outlives the broker, save it, move it",
		Long: `The store is the one that the broker takes with the same flags and the same
configuration. The broker must not run meanwhile, backup excepted.`,
	}
	add := func(use, short, long string, run func(*storeCommand) error) *cobra.Command {
		s := &storeCommand{stdout: stdout, stderr: stderr}
		s.cobra = &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return run(s) }}
		f := s.cobra.Flags()
		f.SortFlags = false
		f.StringVarP(&s.config, "config", "c", "", "the broker's configuration")
		s.flags.register(f)
		c.AddCommand(s.cobra)
		return s.cobra
	}
	add("check", "Read everything, and say what is damaged", `Reads all that is kept, as the broker does when it starts, and has a database
look at itself. The exit status is 2 when something is damaged: the broker
starts all the same, without it.`, (*storeCommand).check)
	add("stats", "Count sessions, subscriptions and messages", "Counts what is kept, as JSON.", (*storeCommand).stats)
	add("dump", "Print everything for people to read", `Prints what is kept as lines of JSON: a session, a subscription, a delivery or
a retained message each. Payloads that are no text are in base64. For programs
there is export.`, (*storeCommand).dump)
	var to, from, backup string
	add("export", "Write everything into a file that import reads", `Writes what is kept as lines of JSON, whose format and version are described at
https://pkg.go.dev/github.com/wheelmq/wheelmq/engine/store/transfer. Import reads
them into a store of any kind.`, func(s *storeCommand) error { return s.export(to) }).
		Flags().StringVar(&to, "to", "", "file to write, which must not be there (default: standard output)")
	add("import", "Read an export, or a mosquitto.db, into an empty store", `Reads a file of export, or the mosquitto.db of a Mosquitto 2 that is stopped
(versions 5 and 6): retained messages, sessions with their subscriptions, what
is queued for them and in flight. It looks at the whole file first, and takes a
store that is empty. What it leaves out it says. Shared subscriptions are not in
a mosquitto.db: clients that have them subscribe again.`, func(s *storeCommand) error { return s.importFile(from) }).
		Flags().StringVar(&from, "from", "", "file to read")
	add("backup", "Copy the store, also while the broker runs", `Copies what is kept: a folder of pebble to a folder, a file of SQLite to a file,
which --store takes then. A broker that has the folder open is asked through
backup.sock in it, and writes the copy itself, with the rights of its own user.
For MySQL there are the server's own tools (mariadb-dump --single-transaction),
and export.`, func(s *storeCommand) error { return s.backup(backup) }).
		Flags().StringVar(&backup, "to", "", "folder or file to write, which must not be there")
	return c
}

// place is where the store is. It must be there, unless it may be made.
func (s *storeCommand) place(make bool) (place, error) {
	native, err := config.Read(s.config, os.Environ())
	if err != nil {
		return place{}, &exitError{exitConfiguration, err}
	}
	if _, err := s.flags.override(&native.Store, s.cobra.Flags().Changed); err != nil {
		return place{}, err
	}
	if native.Store.Kind == "memory" {
		return place{}, configurationError("nothing outlives a broker with the store memory: name a store with --store")
	}
	p, err := placeOf(&native.Store)
	if err != nil || p.kind == "mysql" || make {
		return p, err
	}
	if _, err := os.Stat(p.path); err != nil {
		return p, systemError("there is no store: %w", err)
	}
	return p, nil
}

// open opens the store.
func (s *storeCommand) open(make bool) (closableStore, error) {
	p, err := s.place(make)
	if err != nil {
		return nil, err
	}
	return p.open(slog.New(&damageHandler{slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}), &s.damaged}), 0)
}

// A damageHandler counts errors, which is how stores tell of damaged queues.
type damageHandler struct {
	slog.Handler
	count *atomic.Int64
}

func (h *damageHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		h.count.Add(1)
	}
	return h.Handler.Handle(ctx, r)
}

func (s *storeCommand) tell(what string, err error) {
	s.damaged.Add(1)
	fmt.Fprintf(s.stderr, "damaged: %s: %v\n", what, err)
}

// read opens the store, has f read it, and closes it.
func (s *storeCommand) read(f func(ctx context.Context, from closableStore) error) error {
	from, err := s.open(false)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := errors.Join(f(ctx, from), from.Close()); err != nil {
		return &exitError{exitSystem, err}
	}
	return nil
}

func (s *storeCommand) check() error {
	var counts transfer.Counts
	err := s.read(func(ctx context.Context, from closableStore) (err error) {
		if database, ok := from.(*sqlstore.Store); ok {
			wrong, err := database.Check(ctx)
			if err != nil {
				return err
			}
			for _, w := range wrong {
				s.tell("database", errors.New(w))
			}
		}
		counts, err = transfer.Count(ctx, from, s.tell)
		return err
	})
	if err != nil {
		return err
	}
	if n := s.damaged.Load(); n > 0 {
		return &exitError{exitWrong, fmt.Errorf("%d records are damaged", n)}
	}
	fmt.Fprintf(s.stdout, "all is well: %d sessions, %d subscriptions, %d messages queued and %d in flight, %d retained\n",
		counts.Sessions, counts.Subscriptions, counts.Queued, counts.InFlight, counts.Retained)
	return nil
}

func (s *storeCommand) stats() error {
	return s.read(func(ctx context.Context, from closableStore) error {
		counts, err := transfer.Count(ctx, from, s.tell)
		if err != nil {
			return err
		}
		return json.NewEncoder(s.stdout).Encode(counts)
	})
}

func (s *storeCommand) dump() error {
	return s.read(func(ctx context.Context, from closableStore) error {
		_, err := transfer.Dump(ctx, from, s.stdout, s.tell)
		return err
	})
}

func (s *storeCommand) export(path string) error {
	return s.read(func(ctx context.Context, from closableStore) error {
		if path == "" {
			_, err := transfer.Export(ctx, from, s.stdout, s.tell)
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		counts, err := transfer.Export(ctx, from, f, s.tell)
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
			return err
		}
		s.report("written to "+path, counts)
		return nil
	})
}

func (s *storeCommand) report(what string, c transfer.Counts) {
	fmt.Fprintf(s.stdout, "%s: %d sessions, %d subscriptions, %d messages queued and %d in flight, %d retained\n",
		what, c.Sessions, c.Subscriptions, c.Queued, c.InFlight, c.Retained)
}

// importFile reads a file into the store.
func (s *storeCommand) importFile(path string) error {
	if path == "" {
		return errors.New("import needs --from FILE")
	}
	f, err := os.Open(path)
	if err != nil {
		return systemError("%w", err)
	}
	defer f.Close()
	begin := make([]byte, 1)
	if _, err := io.ReadFull(f, begin); err != nil {
		return configurationError("%s: there is nothing in it", path)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return systemError("%w", err)
	}
	to, err := s.open(true)
	if err != nil {
		return err
	}
	var counts transfer.Counts
	var left []string
	if bytes.Equal(begin, []byte{0}) { // a mosquitto.db begins with NUL, an export with {
		counts, left, err = transfer.ImportMosquitto(context.Background(), to, f)
	} else {
		counts, err = transfer.Import(context.Background(), to, f)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		if errors.Is(err, transfer.ErrFile) || errors.Is(err, transfer.ErrNotEmpty) { // nothing is written
			return &exitError{exitConfiguration, fmt.Errorf("%s: %w", path, err)}
		}
		return systemError("%s: %w\nwhat was taken in before this is in the store: empty it, then import again", path, err)
	}
	for _, l := range left {
		fmt.Fprintf(s.stderr, "left out: %s\n", l)
	}
	s.report("taken from "+path, counts)
	return nil
}

// backup copies the store to a path.
func (s *storeCommand) backup(to string) error {
	if to == "" {
		return errors.New("backup needs --to PATH")
	}
	to, err := filepath.Abs(to)
	if err != nil {
		return systemError("%w", err)
	}
	p, err := s.place(false)
	if err != nil {
		return err
	}
	switch p.kind {
	case "mysql":
		return configurationError("a database of a server is saved with the server's own tools, as mariadb-dump --single-transaction, or by wheelmq store export")
	case "sqlite":
		err = sqlstore.BackupSQLite(p.path, to)
	default:
		err = askForBackup(p.path, to)
		if errors.Is(err, errNobody) {
			err = backupOffline(p.path, to)
		}
	}
	if err != nil {
		return &exitError{exitSystem, err}
	}
	fmt.Fprintf(s.stdout, "copied to %s: wheelmq --store %s:%s runs with it\n", to, p.kind, to)
	return nil
}

func backupOffline(dir, to string) error {
	from, err := pebblestore.Open(dir, pebblestore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(from.Backup(to), from.Close())
}
