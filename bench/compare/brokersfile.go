package compare

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// A brokersFile names further brokers, in TOML; brokers.toml beside this file is an example.
type brokersFile struct {
	Broker []struct {
		Name    string   `toml:"name"`
		Version []string `toml:"version"` // a command; the first line that it prints
		setup
		TLS       *setup `toml:"tls"`
		WebSocket *setup `toml:"ws"`
		Both      *setup `toml:"wss"`
		Local     *setup `toml:"unix"`
		Durable   *setup `toml:"durable"`
	} `toml:"broker"`
}

// further are the brokers of a file.
func further(ctx context.Context, path string) ([]candidate, error) {
	var file brokersFile
	known, err := toml.DecodeFile(path, &file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if keys := known.Undecoded(); len(keys) > 0 {
		return nil, fmt.Errorf("%s: %s is not known", path, keys[0])
	}
	var list []candidate
	for i, b := range file.Broker {
		c := candidate{Name: b.Name, setup: b.setup, Modes: map[mode]setup{}}
		for m, s := range map[mode]*setup{secure: b.TLS, web: b.WebSocket, both: b.Both, local: b.Local, durable: b.Durable} {
			if s == nil {
				continue
			}
			if len(s.Command) == 0 {
				s.Command = b.Command
			}
			c.Modes[m] = *s
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("%s: broker %d: %w", path, i+1, err)
		}
		if len(b.Version) > 0 {
			c.Version = versionOf(ctx, b.Version[0], b.Version[1:]...)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no [[broker]]", path)
	}
	return list, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)

// check tells what a broker of a file lacks.
func (c candidate) check() error {
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("name %q: want letters, digits, and . _ / - between them", c.Name)
	}
	for _, m := range []mode{plain, secure, web, both, local, durable} {
		s, ok := c.in(m)
		if !ok {
			continue
		}
		if len(s.Command) == 0 || s.Command[0] == "" {
			return errors.New(c.Name + ": no command")
		}
		told := strings.Join(s.Command, " ") + s.Settings
		if s.Address == "" && !strings.Contains(told, "{port}") && !strings.Contains(told, "{address}") {
			return fmt.Errorf("%s, %s: neither {port} nor {address} in command or settings, and no address of its own", c.Name, m)
		}
	}
	return nil
}
