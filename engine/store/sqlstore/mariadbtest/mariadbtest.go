// Package mariadbtest starts MariaDB servers for tests.
package mariadbtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A Server listens on a socket in its folder alone; anybody may do anything.
type Server struct {
	dir string
	cmd *exec.Cmd
	log bytes.Buffer
	n   atomic.Int32 // databases made
}

// Start starts a server that ends with the test.
func Start(t *testing.T) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "mdb") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the server says:\n%s", s.log.String())
		}
		os.RemoveAll(dir)
	})
	s.Restart(t)
	return s
}

// Restart starts it again after Stop, and waits until it answers.
func (s *Server) Restart(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("mariadbd")
	if err != nil {
		program = "/usr/sbin/mariadbd"
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	// Without rights no system tables are needed, and so no installation.
	s.cmd = exec.Command(program, "--no-defaults", "--datadir="+s.dir+"/data", "--socket="+s.Socket(), "--pid-file="+s.dir+"/pid",
		"--skip-networking", "--skip-grant-tables", "--user="+who.Username, "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M",
		"--innodb-data-file-path=ibdata1:4M:autoextend", "--innodb-temp-data-file-path=ibtmp1:4M:autoextend")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%v: run .ci/clients", err)
	}
	greeting := make([]byte, 1)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", s.Socket()); err == nil {
			_, err = c.Read(greeting)
			c.Close()
			if err == nil {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("the server does not answer within a minute")
		}
	}
}

// Stop ends it by a signal, and waits.
func (s *Server) Stop(by os.Signal) {
	if s.cmd != nil && s.cmd.Process != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(by)
		_ = s.cmd.Wait()
	}
}

// Socket is where it listens.
func (s *Server) Socket() string { return s.dir + "/s" }

// Database makes an empty one: a folder, to MariaDB.
func (s *Server) Database(t *testing.T) string {
	t.Helper()
	name := fmt.Sprint("w", s.n.Add(1))
	if err := os.Mkdir(filepath.Join(s.dir, "data", name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}
