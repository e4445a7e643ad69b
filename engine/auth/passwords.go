package auth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of the files.
const (
	maxLine  = 64 << 10
	maxUsers = 1_000_000
)

// Passwords is the content of a password file: a line "user:hash" each. Empty
// lines and lines that begin with # are passed over.
type Passwords struct {
	byUser map[string]*Hash
}

// ReadPasswords reads a password file.
func ReadPasswords(path string) (*Passwords, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: password file: %w", err)
	}
	defer f.Close()
	p := &Passwords{byUser: make(map[string]*Hash)}
	err = eachLine(f, path, func(line string, _ int) error {
		user, hash, ok := strings.Cut(line, ":")
		if !ok || user == "" {
			return errors.New("want user:hash")
		}
		if p.byUser[user] != nil {
			return fmt.Errorf("user %q stands there twice", user)
		}
		h, err := ParseHash(hash)
		if err != nil {
			return fmt.Errorf("user %q: %w", user, err)
		}
		if len(p.byUser) >= maxUsers {
			return fmt.Errorf("more than %d users", maxUsers)
		}
		p.byUser[user] = h
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// eachLine calls f for each line of r with content, and says of an error where it is.
func eachLine(r io.Reader, path string, f func(line string, n int) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), maxLine)
	n := 0
	for s.Scan() {
		n++
		line := strings.TrimSpace(strings.TrimPrefix(s.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line, n); err != nil {
			return fmt.Errorf("auth: %s:%d: %w", path, n, err)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("auth: %s:%d: %w", path, n+1, err)
	}
	return nil
}

// Users are the names of all users, sorted.
func (p *Passwords) Users() []string {
	users := make([]string, 0, len(p.byUser))
	for u := range p.byUser {
		users = append(users, u)
	}
	slices.Sort(users)
	return users
}

// Set gives user a password.
func (p *Passwords) Set(user string, h *Hash) error {
	if user == "" || strings.ContainsAny(user, ":\r\n") || strings.HasPrefix(user, "#") || strings.TrimSpace(user) != user || len(user) > 65535 {
		return fmt.Errorf("auth: user name %q: it must not be empty, contain a colon or a line end, begin with # or with a blank", user)
	}
	if p.byUser == nil {
		p.byUser = make(map[string]*Hash)
	}
	p.byUser[user] = h
	return nil
}

// Delete removes user and reports whether there was one.
func (p *Passwords) Delete(user string) bool {
	_, ok := p.byUser[user]
	delete(p.byUser, user)
	return ok
}

// Write puts p in the place of the file at path, which keeps its mode; a new
// one is for its owner alone. It is replaced in one step, so a broker that
// reads it meanwhile sees the old one or the new one.
func (p *Passwords) Write(path string) error {
	mode := os.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".passwords-*")
	if err != nil {
		return fmt.Errorf("auth: password file: %w", err)
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriter(f)
	for _, u := range p.Users() {
		fmt.Fprintf(w, "%s:%s\n", u, p.byUser[u])
	}
	err = errors.Join(w.Flush(), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("auth: password file: %w", err)
	}
	return nil
}
