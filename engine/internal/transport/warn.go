package transport

import (
	"net"
	"sync"
	"time"
)

// warnings bounds what a listener logs about its clients. Any goroutine.
type warnings struct {
	mu     sync.Mutex
	last   time.Time
	silent int // since last
}

// warnEvery is the time between two lines.
const warnEvery = time.Second

// warn logs what a client did wrong, not more than once a second.
func (in *listening) warn(what string, client net.Addr, err error) {
	w := &in.warnings
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.last) < warnEvery {
		w.silent++
		return
	}
	args := []any{"listener", in.label()}
	if client != nil {
		args = append(args, "client", client.String())
	}
	if err != nil {
		args = append(args, "error", err)
	}
	if w.silent > 0 {
		args = append(args, "alike since", w.silent)
	}
	in.server.cfg.Logger.Warn("connection refused: "+what, args...)
	w.last, w.silent = now, 0
}

func (in *listening) label() string {
	if in.Name != "" {
		return in.Name
	}
	return in.Address
}
