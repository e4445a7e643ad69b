package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine/store/sqlstore"
)

// TestStoreFlags: what flags say of the store, and where it is then.
func TestStoreFlags(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	t.Setenv("STATE_DIRECTORY", "")
	password := filepath.Join(state, "password")
	if err := os.WriteFile(password, []byte("secret\r\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(args string, want place, problem string) {
		t.Helper()
		var flags storeFlags
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.register(set)
		set.BoolVar(&flags.none, "no-persistence", false, "")
		if err := set.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		s := config.Default().Store
		_, err := flags.override(&s, set.Changed)
		var got place
		if err == nil {
			got, err = placeOf(&s)
		}
		if problem != "" {
			if err == nil || !strings.Contains(err.Error(), problem) {
				t.Errorf("%s: %v, want %q", args, err, problem)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", args, got, err, want)
		}
	}
	f("", place{kind: "pebble", path: state + "/wheelmq"}, "")
	f("--data-dir d", place{kind: "pebble", path: "d"}, "")
	f("--store pebble:d", place{kind: "pebble", path: "d"}, "")
	f("--store sqlite", place{kind: "sqlite", path: state + "/wheelmq/wheelmq.sqlite"}, "")
	f("--store sqlite:f", place{kind: "sqlite", path: "f"}, "")
	f("--store mysql://u@h/d --store-password-file "+password, place{kind: "mysql",
		server: sqlstore.Server{Network: "tcp", Address: "h:3306", User: "u", Password: "secret", Database: "d"}}, "")
	f("--store mysql://u@h/d --store-password-file "+state+"/none", place{}, "store.password_file")
	f("--store mysql", place{}, "want pebble")
	f("--store memory:x", place{}, "want pebble")
	f("--store sqlite:", place{}, "behind the colon")
	f("--store mysql://u:p@h/d", place{}, "store.password_file")
	f("--store sqlite --data-dir d", place{}, "exclude each other")
	f("--no-persistence --store memory", place{}, "exclude each other")
}

// TestCheckStore: config check looks at where the store is.
func TestCheckStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wheelmq.yaml")
	f := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		if err := checkConfig(&said, path, false); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	f("store: {kind: mysql, server: mysql://u@h/d}", "")
	f("store: {kind: mysql}", "want mysql://")
	f("store: {kind: mysql, server: mysql://u@h/d, password_file: /none}", "store.password_file")
	f("store: {kind: oracle}", "pebble, sqlite, mysql, memory")
}
