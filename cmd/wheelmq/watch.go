package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/wheelmq/wheelmq/engine"
)

// watchInterval is how often the files of TLS are looked at. A change counts
// when it was the same at two looks: certificate and key are written one after
// the other.
const watchInterval = 5 * time.Second

// watchFiles calls changed when the files have changed, until ctx is done.
// Looking from time to time sees through links and works on any file system.
func watchFiles(ctx context.Context, every time.Duration, files func() []string, changed func()) {
	known := fingerprint(files())
	last := known
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := fingerprint(files())
		if now == last && now != known {
			known = now
			changed()
		}
		last = now
	}
}

// fingerprint changes with the files.
func fingerprint(files []string) string {
	var b strings.Builder
	for _, f := range files {
		if s, err := os.Stat(f); err == nil {
			inode := uint64(0)
			if x, ok := s.Sys().(*syscall.Stat_t); ok {
				inode = x.Ino
			}
			fmt.Fprintf(&b, "%s %d %d %d\n", f, s.Size(), s.ModTime().UnixNano(), inode)
		} else {
			fmt.Fprintf(&b, "%s is not there\n", f)
		}
	}
	return b.String()
}

// tlsFiles are the files that the listeners' TLS reads.
func tlsFiles(listeners []engine.Listener) (files []string) {
	for _, l := range listeners {
		t := l.TLS
		if t == nil {
			continue
		}
		for _, p := range t.Certificates {
			files = append(files, p.CertificateFile, p.KeyFile)
		}
		for _, f := range []string{t.CAFile, t.CADir, t.CRLFile, t.TicketKeyFile} {
			if f != "" {
				files = append(files, f)
			}
		}
	}
	return files
}
