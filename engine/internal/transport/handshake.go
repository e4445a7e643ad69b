package transport

import (
	"context"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// A handshake is one TLS handshake under way. crypto/tls runs it on a goroutine
// of the pool, which sleeps while it waits for the client; the loop brings the
// client's bytes and takes the answers.
type handshake struct {
	layer *tlsLayer // only its conn, and its net.Conn methods, off the loop
	pool  *handshakes
	loop  *eventLoop

	mu     sync.Mutex
	more   sync.Cond // in has grown, or ended is set
	in     []byte    // from the client, not read yet
	out    []byte    // to the client, not taken by the loop yet
	posted bool      // the loop is told to look
	ended  bool      // the connection is gone
	done   bool      // it is over, with err
	err    error
}

// pushedBytes is how much a client may send ahead of its handshake.
const pushedBytes = 128 << 10

func newHandshake(t *tlsLayer, hello []byte) *handshake {
	h := &handshake{layer: t, pool: t.s.in.server.handshakes, loop: t.s.loop, in: hello}
	h.more.L = &h.mu
	return h
}

// push adds bytes of the client; false when there are too many. Loop goroutine.
func (h *handshake) push(b []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in = append(h.in, b...)
	h.more.Signal()
	return len(h.in) <= pushedBytes
}

// end makes the goroutine give up: the connection is gone. Loop goroutine.
func (h *handshake) end() {
	h.mu.Lock()
	h.ended = true
	h.more.Signal()
	h.mu.Unlock()
}

// read waits for bytes of the client, and lets others compute meanwhile.
func (h *handshake) read(p []byte) (int, error) {
	h.mu.Lock()
	if len(h.in) == 0 && !h.ended {
		h.pool.pause()
		for len(h.in) == 0 && !h.ended {
			h.more.Wait()
		}
		h.mu.Unlock()
		h.pool.resume()
		h.mu.Lock()
	}
	defer h.mu.Unlock()
	if h.ended {
		return 0, net.ErrClosed
	}
	n := copy(p, h.in)
	h.in = h.in[n:]
	return n, nil
}

// write leaves b for the loop to send.
func (h *handshake) write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return 0, net.ErrClosed
	}
	h.out = append(h.out, b...)
	h.postLocked()
	return len(b), nil
}

func (h *handshake) postLocked() {
	if !h.posted {
		h.posted = h.loop.execute(h)
	}
}

// Run takes what the goroutine has for the loop, on the loop.
func (h *handshake) Run(context.Context) error {
	h.mu.Lock()
	out, in, done, err := h.out, h.in, h.done, h.err
	h.out, h.posted = nil, false
	h.mu.Unlock()
	t := h.layer
	if t.s.closed {
		return nil
	}
	defer t.s.guard(t.s)
	if len(out) > 0 {
		t.s.socket.Write(out)
	}
	if done && !t.s.closed {
		t.opened(in, err)
	}
	return nil
}

// shake runs the handshake to its end.
func (h *handshake) shake() {
	err := h.guarded()
	h.mu.Lock()
	h.done, h.err = true, err
	h.postLocked()
	h.mu.Unlock()
}

// guarded is the handshake; a panic ends it and no more.
func (h *handshake) guarded() (err error) {
	if !invariant.Enabled {
		defer func() {
			if r := recover(); r != nil {
				h.loop.server.panics.Add(1)
				h.loop.server.cfg.Logger.Error("handshake ended by a panic", "panic", r, "stack", string(debug.Stack()))
				err = errors.New("the handshake panicked")
			}
		}()
	}
	return h.layer.conn.Handshake()
}

// handshakes is the pool: it bounds how many are under way, how many wait for
// that, and how many compute at once, so that the loops keep their processors.
type handshakes struct {
	computing chan struct{} // one entry for each that computes
	mostUnder int           // handshakesUnderWay, but in tests
	mostWait  int           // handshakesWaiting
	overload  func() bool   // while it is true, one begins every handshakePace
	pacing    sync.Mutex    // held by the one that waits for that
	busy      func(bool)    // told when there is a lot to do, and when that is over

	mu      sync.Mutex
	under   int          // way
	waiting []*handshake // oldest first
	working bool         // what busy is to be told
	calming bool         // the end of it is looked for

	telling sync.Mutex // never taken on a loop: busy may stop the world
	told    bool       // what busy was told
}

const (
	handshakesUnderWay = 2048 // each with a goroutine
	handshakesWaiting  = 8192
	handshakesBusy     = 4 // under way: fewer hold nobody up, and a processor more costs what is sparse
	handshakeCalm      = 2 * time.Second
	handshakePace      = 20 * time.Millisecond
)

func newHandshakes(atOnce int, busy func(bool), overload func() bool) *handshakes {
	p := &handshakes{computing: make(chan struct{}, atOnce), busy: busy, overload: overload, mostUnder: handshakesUnderWay, mostWait: handshakesWaiting}
	if busy == nil {
		p.busy = func(bool) {}
	}
	if overload == nil {
		p.overload = func() bool { return false }
	}
	return p
}

// start begins h, now or when there is room; false when too many wait. Any goroutine.
func (p *handshakes) start(h *handshake) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.under == p.mostUnder {
		if len(p.waiting) == p.mostWait {
			return false
		}
		p.waiting = append(p.waiting, h)
		return true
	}
	p.under++
	p.working = p.working || p.under >= handshakesBusy
	go p.run(h)
	return true
}

// tell tells busy what has changed, until it knows the last of it.
func (p *handshakes) tell() {
	p.telling.Lock()
	defer p.telling.Unlock()
	for {
		p.mu.Lock()
		working := p.working
		p.mu.Unlock()
		if working == p.told {
			return
		}
		p.told = working
		p.busy(working)
	}
}

// run does h, and those that wait.
func (p *handshakes) run(h *handshake) {
	for h != nil {
		p.pace(h)
		p.resume()
		p.tell()
		h.shake()
		p.pause()
		h = p.next()
	}
}

// pace holds h back while the loops are overloaded, so that those who are
// connected go first; one whose client has gone takes nobody's time.
func (p *handshakes) pace(h *handshake) {
	if !p.overload() {
		return
	}
	p.pacing.Lock()
	defer p.pacing.Unlock()
	for until := time.Now().Add(handshakePace); p.overload() && !h.gone() && time.Now().Before(until); {
		time.Sleep(handshakePace / 4)
	}
}

// gone reports whether the connection is gone.
func (h *handshake) gone() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

func (p *handshakes) next() *handshake {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		h := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		return h
	}
	p.under--
	if p.working && !p.calming && p.under < handshakesBusy {
		p.calming = true
		time.AfterFunc(handshakeCalm, p.calmDown)
	}
	return nil
}

// calmDown ends what busy was told of, unless there is a lot to do again.
func (p *handshakes) calmDown() {
	p.mu.Lock()
	p.calming = false
	p.working = p.under >= handshakesBusy
	p.mu.Unlock()
	p.tell()
}

func (p *handshakes) resume() { p.computing <- struct{}{} }
func (p *handshakes) pause()  { <-p.computing }
