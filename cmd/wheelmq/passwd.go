package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wheelmq/wheelmq/engine/auth"
)

// newPasswd returns the command that keeps password files, with the flags of mosquitto_passwd.
func newPasswd(stdin io.Reader, stdout io.Writer) *cobra.Command {
	var p passwd
	c := &cobra.Command{
		Use:   "passwd [-H ALGORITHM] [-c | -D] FILE USER\n  wheelmq passwd [-H ALGORITHM] [-c] -b FILE USER PASSWORD\n  wheelmq passwd [-H ALGORITHM] -U FILE",
		Short: "Keep a password file",
		Long: `Adds a user to a password file, changes the password or removes the user. The
file is the one that --password-file names, and that Mosquitto reads.

The password is asked for twice on a terminal; from a pipe it is one line. A
broker that runs takes the change with HUP.`,
		Example: `  wheelmq passwd -c passwords ada        begin a file with one user
  wheelmq passwd passwords eve           add a user, or change the password
  wheelmq passwd -D passwords eve        remove a user
  wheelmq passwd -U passwords            hash the passwords of a file of user:password lines`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.RangeArgs(1, 3),
		RunE: func(_ *cobra.Command, args []string) error {
			p.stdin, p.stdout = stdin, stdout
			return p.run(args)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVarP(&p.create, "create", "c", false, "begin a new file; one that is there is overwritten")
	f.BoolVarP(&p.batch, "batch", "b", false, "take the password from the command line, where others may see it")
	f.BoolVarP(&p.remove, "delete", "D", false, "remove the user")
	f.BoolVarP(&p.update, "update", "U", false, "hash the passwords of a file that has them in plain text")
	f.StringVarP(&p.algorithm, "hash", "H", string(auth.Argon2id), "argon2id, sha512-pbkdf2 (which Mosquitto 2.0 reads), sha512, or scram-sha-256\n(for clients that do not send their password)")
	return c
}

type passwd struct {
	create, batch, remove, update bool
	algorithm                     string
	stdin                         io.Reader
	stdout                        io.Writer
}

func (p *passwd) run(args []string) error {
	want := 2
	switch {
	case p.update:
		want = 1
	case p.batch:
		want = 3
	}
	switch {
	case len(args) != want:
		return fmt.Errorf("passwd takes %d arguments here, not %d", want, len(args))
	case p.create && (p.remove || p.update) || p.remove && (p.update || p.batch) || p.update && p.batch:
		return errors.New("-c, -D and -U exclude each other, as do -b and -D or -U")
	case p.update:
		return p.hashPlain(args[0])
	}
	file, user := args[0], args[1]
	passwords := new(auth.Passwords)
	if !p.create {
		var err error
		if passwords, err = auth.ReadPasswords(file); errors.Is(err, fs.ErrNotExist) {
			return systemError("%w (-c begins a new file)", err)
		} else if err != nil {
			return systemError("%w", err)
		}
	}
	if p.remove {
		if !passwords.Delete(user) {
			return systemError("%s has no user %q", file, user)
		}
		return p.write(passwords, file)
	}
	var password string
	if p.batch {
		password = args[2]
	} else {
		var err error
		if password, err = p.ask(); err != nil {
			return err
		}
	}
	if err := p.set(passwords, user, password); err != nil {
		return err
	}
	return p.write(passwords, file)
}

func (p *passwd) set(passwords *auth.Passwords, user, password string) error {
	h, err := auth.NewHash(auth.Algorithm(p.algorithm), password)
	if err != nil {
		return err
	}
	return passwords.Set(user, h)
}

func (p *passwd) write(passwords *auth.Passwords, file string) error {
	if err := passwords.Write(file); err != nil {
		return systemError("%w", err)
	}
	return nil
}

// ask reads the password: twice, unseen, from a terminal; one line from anything else.
func (p *passwd) ask() (string, error) {
	f, ok := p.stdin.(*os.File)
	if !ok || !isTerminal(f) {
		line, err := bufio.NewReader(p.stdin).ReadString('\n')
		if err != nil && line == "" {
			return "", errors.New("no password came on the standard input")
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	first, err := p.unseen(f, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := p.unseen(f, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ: nothing was changed")
	}
	return first, nil
}

func (p *passwd) unseen(f *os.File, prompt string) (string, error) {
	fmt.Fprint(p.stdout, prompt)
	line, err := readUnseen(f)
	fmt.Fprintln(p.stdout)
	return line, err
}

// hashPlain hashes the passwords of a file with lines user:password; lines that are hashed stay as they are.
func (p *passwd) hashPlain(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return systemError("%w", err)
	}
	passwords := new(auth.Passwords)
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimRight(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		user, password, ok := strings.Cut(line, ":")
		if !ok {
			return systemError("%s:%d: want user:password", file, i+1)
		}
		if h, err := auth.ParseHash(password); err == nil {
			err = passwords.Set(user, h)
			if err != nil {
				return systemError("%s:%d: %w", file, i+1, err)
			}
			continue
		}
		if err := p.set(passwords, user, password); err != nil {
			return systemError("%s:%d: %w", file, i+1, err)
		}
	}
	return p.write(passwords, file)
}
