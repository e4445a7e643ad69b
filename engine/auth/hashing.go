package auth

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// calm is how long no hash must be computed until Options.HashesBusy is told.
const calm = time.Second

// hashing bounds how many passwords are hashed at once: each may take 64 MiB,
// and more than there are processors end no sooner.
type hashing struct {
	slots chan struct{}
	busy  func(bool) // nil: nobody wants to know

	mu      sync.Mutex
	running int
	quiet   *time.Timer // runs while busy was told and nothing is hashed
	told    bool
}

func newHashing(busy func(bool)) *hashing {
	return &hashing{slots: make(chan struct{}, runtime.NumCPU()), busy: busy}
}

// matches is h.Matches when its turn comes; an error when ctx ends before.
func (x *hashing) matches(ctx context.Context, h *Hash, password []byte) (bool, error) {
	select {
	case x.slots <- struct{}{}:
		defer func() { <-x.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	x.begin()
	defer x.end()
	return h.Matches(password), nil
}

func (x *hashing) begin() {
	if x.busy == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running++
	if x.quiet != nil {
		x.quiet.Stop()
		x.quiet = nil
	}
	if !x.told {
		x.told = true
		x.busy(true)
	}
}

func (x *hashing) end() {
	if x.busy == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running--; x.running == 0 {
		x.quiet = time.AfterFunc(calm, x.rest)
	}
}

func (x *hashing) rest() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running == 0 && x.told {
		x.told = false
		x.busy(false)
	}
}
