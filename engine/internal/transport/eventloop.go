package transport

import (
	"context"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// eventLoop is one of gnet's loops beside the engine's owner of it.
type eventLoop struct {
	server  *Server
	owner   Loop
	waking  atomic.Bool // a wake task is posted and has not begun
	ticking atomic.Bool // the same for a tick
	due     time.Time   // when the tick was posted; the ticker's, the loop's while ticking

	// loop goroutine
	scratch   scratch
	ticks     uint32     // ticks seen
	pinged    []*wsLayer // who is pinged when idle, in no order
	pingNext  int        // index of who was looked at last
	pingRound int        // ticks in which each is looked at once
	poller    int        // epoll descriptor of gnet's loop; 0: not looked for; -1: not found

	mu sync.RWMutex
	el gnet.EventLoop // nil while the loop does not run
}

// execute posts r to the loop. It reports false when the loop does not run:
// a task posted to a loop that has ended would be written to a descriptor that
// may be someone else's by then.
func (l *eventLoop) execute(r gnet.Runnable) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.el != nil && l.el.Execute(context.Background(), r) == nil
}

// unbind is called when the loop is about to end: nothing is posted from then on.
func (l *eventLoop) unbind() {
	l.mu.Lock()
	l.el = nil
	l.mu.Unlock()
	l.waking.Store(false)
	l.ticking.Store(false)
}

// Wake makes the loop run its owner's Woken soon. Any goroutine.
func (l *eventLoop) Wake() {
	if l.waking.CompareAndSwap(false, true) && !l.execute((*wakeTask)(l)) {
		l.waking.Store(false)
	}
}

// tick posts a tick, unless one is under way. The ticker.
func (l *eventLoop) tick() {
	if !l.ticking.CompareAndSwap(false, true) {
		return
	}
	l.due = time.Now()
	if !l.execute((*tickTask)(l)) {
		l.ticking.Store(false)
	}
}

// findPoller makes sure that poller is known, and reports whether it is. fd is
// one that the loop watches.
func (l *eventLoop) findPoller(fd int) bool {
	if l.poller == 0 {
		l.poller = pollerOf(fd)
		if l.poller < 0 {
			l.server.cfg.Logger.Warn("the poller cannot be told to pause reading: clients over their rate are disconnected when too much of theirs waits")
		}
	}
	return l.poller > 0
}

type wakeTask eventLoop

func (t *wakeTask) Run(context.Context) error {
	t.waking.Store(false)
	defer (*eventLoop)(t).guard()
	t.owner.Woken()
	return nil
}

type tickTask eventLoop

func (t *tickTask) Run(context.Context) error {
	late := time.Since(t.due)
	t.ticking.Store(false)
	defer (*eventLoop)(t).guard()
	(*eventLoop)(t).pingIdle()
	t.owner.Ticked(late)
	return nil
}

// guard keeps a panic of ours outside any connection from ending the process.
func (l *eventLoop) guard() {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		l.server.panics.Add(1)
		l.server.cfg.Logger.Error("event loop recovered from a panic", "panic", r, "stack", string(debug.Stack()))
	}
}

// bind returns our side of el, giving it one at first sight.
func (s *Server) bind(el gnet.EventLoop) *eventLoop {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.bound[el]
	if l == nil {
		l = s.loops[len(s.bound)]
		s.bound[el] = l
		l.poller = 0
		l.mu.Lock()
		l.el = el
		l.mu.Unlock()
		l.owner.Bound(l)
	}
	return l
}

// probe marks the connections by which the server learns of gnet's loops.
type probe struct{}

// bindAll makes one connection on each of gnet's loops, since gnet tells of a
// loop only through its connections. It runs off the loops.
func (s *Server) bindAll(ending <-chan struct{}) error {
	for range s.loops {
		if err := s.probeNext(ending); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) probeNext(ending <-chan struct{}) error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer syscall.Close(fds[1])
	c, err := connOf(fds[0])
	if err != nil {
		return err
	}
	s.mu.Lock()
	engine := s.engine
	s.mu.Unlock()
	res, err := engine.Register(gnet.NewNetConnContext(gnet.NewContext(context.Background(), probe{}), c))
	if err != nil {
		return err
	}
	select {
	case r := <-res:
		return r.Err
	case <-ending: // nobody answers any more
		return net.ErrClosed
	}
}

// descriptorLimit is the first descriptor that is too high for a connection.
// The kernel gives out the lowest one that is free, so a connection's number
// says how full the process is, whatever else it has open. The reserve is for
// connections that several loops accept at once, and for the rest of the process.
func descriptorLimit(loops int) (int, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	most := int(min(r.Cur, 1<<30))
	return most - min(reservedDescriptors+loops, most/2), nil
}

const reservedDescriptors = 64
