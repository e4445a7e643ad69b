package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine"
)

// settings are what the broker runs by: a file, the environment and flags, in
// this order, a later one before the earlier ones.
type settings struct {
	*config.Native
	flags   map[string]string // keys that flags set, and which flag
	options engine.Options
	users   []config.Users
	note    string // a line for the start report
}

// readSettings reads the file that flags name, and the environment; it can be
// called again, for what changed.
func readSettings(flags *brokerFlags, r resolver) (*settings, error) {
	native, err := config.Read(flags.config, os.Environ())
	if err != nil {
		return nil, &exitError{exitConfiguration, err}
	}
	s := &settings{Native: native, flags: map[string]string{}}
	if err := s.override(flags); err != nil {
		return nil, err
	}
	if s.options, s.users, err = s.Options(); err != nil {
		return nil, &exitError{exitConfiguration, err}
	}
	s.options.Version = versionNumber()
	if err := s.listeners(flags, r); err != nil {
		return nil, err
	}
	if err := s.options.Validate(); err != nil {
		return nil, &exitError{exitConfiguration, err}
	}
	return s, nil
}

// override takes what flags say.
func (s *settings) override(f *brokerFlags) error {
	set := func(flag, key string, apply func()) {
		if f.changed(flag) {
			apply()
			s.flags[key] = "--" + flag
		}
	}
	set("password-file", "users.password_file", func() { s.Users.PasswordFile = config.Path(f.auth.PasswordFile) })
	set("acl-file", "users.acl_file", func() { s.Users.ACLFile = config.Path(f.auth.ACLFile) })
	set("loops", "loops", func() { s.Loops = f.loops })
	set("log-level", "log.level", func() { s.Log.Level = f.logLevel.text() })
	set("log-format", "log.format", func() { s.Log.Format = string(f.logFormat) })
	set("pprof", "profiles.address", func() { s.Profiles.Address = f.pprof.address })
	set("pprof-remote", "profiles.remote", func() { s.Profiles.Remote = f.pprof.remote })
	keys, err := f.store.override(&s.Store, f.changed)
	maps.Copy(s.flags, keys)
	return err
}

// listeners are those of flags, else of the configuration, else the default.
func (s *settings) listeners(flags *brokerFlags, r resolver) (err error) {
	if len(flags.listen) == 0 && s.SaysListeners() {
		if flags.tls != (tlsFlags{}) || flags.allowAnonymous {
			return configurationError("--cert and the like, and --allow-anonymous, are about listeners of --listen: those of the configuration say it themselves")
		}
		return nil
	}
	s.options.Listeners, s.note, err = flagListeners(flags, s.Users.PasswordFile != "" || len(s.Login) > 0, r)
	s.flags["listeners"] = "default"
	if len(flags.listen) > 0 {
		s.flags["listeners"] = "--listen"
	}
	return err
}

// stateDir is where the broker keeps its state when nobody says where: the
// service manager's folder, or the user's (XDG Base Directory Specification).
func stateDir() (string, error) {
	if dirs := os.Getenv("STATE_DIRECTORY"); dirs != "" { // of systemd, several with colons between
		first, _, _ := strings.Cut(dirs, ":")
		return filepath.Join(first, "store"), nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "wheelmq"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(home) {
		return "", errors.New("HOME is no absolute path")
	}
	return filepath.Join(home, ".local", "state", "wheelmq"), nil
}
