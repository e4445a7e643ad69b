package auth

import (
	"context"
	"errors"
	"net"
	"net/netip"
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
	asked   int                // passwords that are hashed or wait for it
	asking  map[netip.Addr]int // the same by address
	running int
	quiet   *time.Timer // runs while busy was told and nothing is hashed
	told    bool
}

func newHashing(busy func(bool)) *hashing {
	return &hashing{slots: make(chan struct{}, runtime.NumCPU()), busy: busy, asking: make(map[netip.Addr]int)}
}

// Who may wait for a hash: few of one address, so that one that guesses does not
// keep others waiting, and fewer in all than the broker decides about at once.
const (
	waitingByAddress = 4
	waitingInAll     = 32
)

// errCrowded: too many passwords wait to be hashed.
var errCrowded = errors.New("auth: too many passwords wait to be looked at")

// admit lets one more password of an address wait; leave must follow.
func (x *hashing) admit(from netip.Addr) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asked >= waitingInAll || x.asking[from] >= waitingByAddress {
		return errCrowded
	}
	x.asked++
	x.asking[from]++
	return nil
}

func (x *hashing) leave(from netip.Addr) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked--
	if x.asking[from]--; x.asking[from] == 0 {
		delete(x.asking, from)
	}
}

// addressOf is whom a connection counts for: an address, of IPv6 the network of
// 64 bits; zero for Unix sockets.
func addressOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	return ip
}

// matches is h.Matches when its turn comes; an error when ctx ends before, or
// too many wait.
func (x *hashing) matches(ctx context.Context, from netip.Addr, h *Hash, password []byte) (bool, error) {
	if err := x.admit(from); err != nil {
		return false, err
	}
	defer x.leave(from)
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
