package main

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"github.com/wheelmq/wheelmq/engine"
)

// reservedDescriptors are not for clients that are let in. Half of them is for connections beyond the limit, which the
// engine keeps just long enough to answer their CONNECT with Server busy; the other half for the standard streams, epoll
// and event descriptors, one listening socket per loop and address, the resolver.
const reservedDescriptors = 128

// storeDescriptors are for the files of the store, beside its 64 tables at most.
const storeDescriptors = 64 + 32

// maxConnections caps what is promised where the file limit is practically infinite (containers report 2^30 and more).
const maxConnections = 1 << 24

// raiseFileLimit sets the soft limit on open files to the hard one and returns it. Today's Go runtime does the same
// before main; doing it here keeps the promise when it does not.
func raiseFileLimit() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, systemError("reading the limit on open files: %w", err)
	}
	if limit.Cur < limit.Max {
		raised := syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
			limit = raised
		} // refused: the limit stays as it is, and the number of connections printed at start says so
	}
	return limit.Cur, nil
}

// connectionsFor is how many connections fit below a limit on open files, which must leave room for at least one.
func connectionsFor(files uint64, store bool) (int, error) {
	reserved := uint64(reservedDescriptors)
	if store {
		reserved += storeDescriptors
	}
	if files <= reserved {
		return 0, systemError("the limit of %d open files leaves none for clients: %d are needed besides; "+
			"raise it with ulimit -Hn or LimitNOFILE=", files, reserved)
	}
	return int(min(files-reserved, maxConnections)), nil
}

// processors lets the runtime have one processor more than there are loops while TLS handshakes or password hashes are
// computed: they take turns on that one, and the loops keep theirs.
type processors struct {
	loops int
	mu    sync.Mutex
	users int // who computes
}

func newProcessors(options *engine.Options) *processors {
	loops := options.Loops
	if loops == 0 {
		loops = engine.DefaultLoops()
	}
	return &processors{loops: loops}
}

// busy is told by each user that it begins to compute, and that it is done for now.
func (p *processors) busy(busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if busy {
		p.users++
	} else {
		p.users--
	}
	setProcessors(p.loops + min(p.users, 1))
}

// setProcessors sets GOMAXPROCS to the number of loops, unless the environment sets it: then the user has decided.
//
// The reason is measured: gnet yields after each batch, and with an idle P in reach every yield wakes another thread that
// finds nothing to do. At 20,000 isolated messages a second over 50 pairs the broker needed 26.0 µs of CPU per message
// with two Ps and 22.0 with one. Work beside the loops is short and rare enough to share their Ps. Raising the number while
// the loops are saturated was tried and brought nothing: five workloads, four runs each, ratios of 0.90 to 1.10.
func setProcessors(loops int) {
	if os.Getenv("GOMAXPROCS") == "" && loops > 0 {
		runtime.GOMAXPROCS(loops)
	}
}
