package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/pebblestore"
	"github.com/wheelmq/wheelmq/engine/store/sqlstore"
)

// storeFlags say where the store is.
type storeFlags struct {
	store        string
	dataDir      string
	passwordFile string
	none         bool // --no-persistence, of the broker alone
}

func (f *storeFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.store, "store", "", "what keeps sessions, their messages and retained messages over the end of the\n"+
		"process: pebble[:FOLDER], sqlite[:FILE], mysql://USER@HOST/DATABASE, or memory,\n"+
		"which keeps nothing; QoS 1 and 2 are acknowledged once they are on disk\n(default pebble)")
	set.StringVar(&f.dataDir, "data-dir", "", "the same as --store pebble:FOLDER (default: wheelmq in the user's state\ndirectory, ~/.local/state)")
	set.StringVar(&f.passwordFile, "store-password-file", "", "its first line is the password for --store mysql:")
}

// override sets what the flags say, and answers which keys they set.
func (f *storeFlags) override(s *config.Store, changed func(string) bool) (keys map[string]string, err error) {
	keys = map[string]string{}
	chosen := 0
	choose := func(flag, text string) {
		if !changed(flag) {
			return
		}
		chosen++
		keys["store.kind"] = "--" + flag
		if e := s.Choose(text); e != nil {
			err = configurationError("--%s %w", flag, e)
		}
	}
	choose("store", f.store)
	choose("data-dir", "pebble:"+f.dataDir)
	choose("no-persistence", "memory")
	if changed("store-password-file") {
		s.PasswordFile, keys["store.password_file"] = config.Path(f.passwordFile), "--store-password-file"
	}
	if chosen > 1 {
		return nil, configurationError("--store, --data-dir and --no-persistence exclude each other")
	}
	if key := map[string]string{"pebble": "store.dir", "sqlite": "store.file", "mysql": "store.server"}[s.Kind]; chosen == 1 && key != "" {
		keys[key] = keys["store.kind"]
	}
	return keys, err
}

// A place is where a store is.
type place struct {
	kind   string
	path   string // of pebble and SQLite
	server sqlstore.Server
}

func (p place) String() string {
	if p.kind == "mysql" {
		return p.server.String()
	}
	return p.path
}

// placeOf is where the configuration says.
func placeOf(s *config.Store) (place, error) {
	p := place{kind: s.Kind}
	switch s.Kind {
	case "mysql":
		server, err := sqlstore.ParseServer(s.Server)
		if err == nil {
			server.Password, err = s.Password()
		}
		if err != nil {
			return p, configurationError("store: %w", err)
		}
		p.server = server
		return p, nil
	case "sqlite":
		p.path = string(s.File)
	default:
		p.path = string(s.Dir)
	}
	if p.path != "" {
		return p, nil
	}
	dir, err := stateDir()
	if err != nil {
		return p, configurationError("there is no folder to keep sessions and messages in: %w; name one by --data-dir, or --no-persistence", err)
	}
	if p.path = dir; s.Kind == "sqlite" {
		p.path = filepath.Join(dir, "wheelmq.sqlite")
	}
	return p, nil
}

// A closableStore is what open answers.
type closableStore interface {
	store.Store
	Available() bool
}

// open opens the store, and makes it where there is none. A message may have as
// many bytes as largest.
func (p place) open(log *slog.Logger, largest int) (closableStore, error) {
	var s closableStore
	var err error
	switch p.kind {
	case "mysql":
		s, err = sqlstore.OpenMySQL(p.server, sqlstore.Options{Logger: log, LargestMessage: largest})
	case "sqlite":
		if err = os.MkdirAll(filepath.Dir(p.path), 0o700); err == nil {
			s, err = sqlstore.OpenSQLite(p.path, sqlstore.Options{Logger: log})
		}
	default:
		s, err = pebblestore.Open(p.path, pebblestore.Options{Logger: log})
	}
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, store.ErrNewerFormat):
		return nil, &exitError{exitSystem, fmt.Errorf("%w: take the version of wheelmq that wrote it, or a newer one; this one left it as it was", err)}
	case errors.Is(err, store.ErrInUse):
		return nil, &exitError{exitSystem, fmt.Errorf("%w\nif it is used by another broker, give this one a store of its own (--store, --data-dir DIR), or none (--no-persistence); it wants %s", err, p)}
	default:
		return nil, &exitError{exitSystem, err}
	}
}

// leftByMosquitto says what to do about a mosquitto.db beside a store that is
// new: its first identifier is first.
func leftByMosquitto(file string, at place, first uint64, log *slog.Logger) {
	if file == "" || config.IsNative(file) || at.kind != "pebble" || first>>40 > 1 {
		return
	}
	db := filepath.Join(filepath.Dir(at.path), "mosquitto.db")
	if _, err := os.Stat(db); err == nil {
		log.Warn("what Mosquitto kept is not taken over by itself: stop this broker, before clients come, and import it",
			"file", db, "command", fmt.Sprintf("wheelmq store import -c %s --from %s", file, db))
	}
}
