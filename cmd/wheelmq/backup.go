package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A broker with files of its own is asked for a backup through a socket beside
// them: who may open the folder may ask. One line of JSON goes each way.
const backupSocket = "backup.sock"

// longestSocket is what an address of a socket has place for, on all systems.
const longestSocket = 103

type (
	backupRequest struct {
		To string `json:"to"` // absolute
	}
	backupReply struct {
		Error string `json:"error,omitempty"`
	}
)

// A backupServer answers requests, one at a time.
type backupServer struct {
	listener net.Listener
	backup   func(to string) error
	log      *slog.Logger
	ended    chan struct{}
}

// serveBackups listens in dir, which is this process's alone. Where that cannot
// be there is no backup while the broker runs, and the log says so; nil then.
func serveBackups(dir string, backup func(string) error, log *slog.Logger) *backupServer {
	path := filepath.Join(dir, backupSocket)
	err := fmt.Errorf("the path of the folder is too long for a socket: %d bytes, at most %d", len(path), longestSocket)
	var l net.Listener
	if len(path) <= longestSocket {
		if err = os.Remove(path); err == nil || errors.Is(err, os.ErrNotExist) { // of a process that was killed
			l, err = net.Listen("unix", path)
		}
	}
	if err == nil {
		if err = os.Chmod(path, 0o600); err != nil {
			l.Close()
		}
	}
	if err != nil {
		log.Warn("there is no backup while the broker runs", "error", err)
		return nil
	}
	s := &backupServer{l, backup, log, make(chan struct{})}
	go s.run()
	return s
}

func (s *backupServer) run() {
	defer close(s.ended)
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Second) // no descriptor is free
			continue
		}
		s.answer(c)
	}
}

func (s *backupServer) answer(c net.Conn) {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	var request backupRequest
	var reply backupReply
	if err := json.NewDecoder(io.LimitReader(c, 1<<16)).Decode(&request); err != nil || !filepath.IsAbs(request.To) {
		reply.Error = "the request is not one for a backup to an absolute path"
	} else {
		began := time.Now()
		if err := s.backup(request.To); err != nil {
			reply.Error = err.Error()
			s.log.Error("backup", "to", request.To, "error", err)
		} else {
			s.log.Info("backup", "to", request.To, "took", roundDuration(time.Since(began)))
		}
	}
	_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = json.NewEncoder(c).Encode(reply) // who asked may be gone
}

// close ends it, with the backup that is made.
func (s *backupServer) close() {
	if s == nil {
		return
	}
	_ = s.listener.Close() // removes the socket
	<-s.ended
}

// errNobody: no broker has the folder open.
var errNobody = errors.New("no broker answers")

// askForBackup has the broker that has the store in dir open copy it.
func askForBackup(dir, to string) error {
	c, err := net.Dial("unix", filepath.Join(dir, backupSocket))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EINVAL) { // EINVAL: too long
		return errNobody
	}
	if err != nil {
		return fmt.Errorf("asking the broker for a backup: %w", err)
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(backupRequest{to}); err != nil {
		return fmt.Errorf("asking the broker for a backup: %w", err)
	}
	var reply backupReply
	if err := json.NewDecoder(bufio.NewReader(c)).Decode(&reply); err != nil {
		return fmt.Errorf("the broker did not say whether the backup is made: %w", err)
	}
	if reply.Error != "" {
		return fmt.Errorf("the broker says: %s", reply.Error)
	}
	return nil
}
