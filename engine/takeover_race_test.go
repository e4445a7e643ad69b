package engine

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// A runner gives one loop of a harness a goroutine of its own, for what only
// loops that run at the same time can show, to the race detector above all.
type runner struct {
	loop *loop
	jobs chan func()
	wake chan struct{} // one waiting wake-up stands for any number
	busy *atomic.Int64 // jobs and wake-ups of all runners that are not done
}

func (r *runner) Wake() {
	r.busy.Add(1)
	select {
	case r.wake <- struct{}{}:
	default:
		r.busy.Add(-1)
	}
}

func (r *runner) do(f func()) {
	r.busy.Add(1)
	r.jobs <- f
}

func (r *runner) run(done *sync.WaitGroup) {
	defer done.Done()
	for {
		select {
		case f, ok := <-r.jobs:
			if !ok {
				return
			}
			f()
		case <-r.wake:
			r.loop.Woken()
		}
		r.busy.Add(-1)
	}
}

// idle waits until no runner has anything to do.
func idle(busy *atomic.Int64, runners []*runner) {
	for busy.Load() != 0 {
		seen := make(chan struct{})
		runners[0].do(func() { close(seen) })
		<-seen
	}
}

// TestTakeoverOnRunningLoops moves a session about while publishers on all
// loops send to it. Each connection must bring each publisher's numbers in
// order, all of them together every number.
func TestTakeoverOnRunningLoops(t *testing.T) {
	covers(t, "B-takeover-race", "B-takeover-order")
	const loops, messages, moves = 3, 200, 40
	h := newHarness(t, loops, Options{MaxQueuedMessages: Unlimited, MaxQueuedBytes: Unlimited, MaxInflight: 65535,
		OutboundBytes: 64 << 20})
	var busy atomic.Int64
	var done sync.WaitGroup
	runners := make([]*runner, loops)
	for i, l := range h.b.loops {
		runners[i] = &runner{loop: l, jobs: make(chan func()), wake: make(chan struct{}, 1), busy: &busy}
	}
	first := h.dialOn(0, codec.V5)
	first.send(connectPacket(codec.V5, "roamer", true, keepFor(1000)))
	first.expectConnack(false)
	first.subscribed(filter("t/#", 1), filter("t/+", 1))
	pubs := make([]*peer, loops)
	for i := range pubs {
		pubs[i] = h.dialOn(i, codec.V5)
		pubs[i].send(connectPacket(codec.V5, fmt.Sprint("source", i), true))
		pubs[i].expectConnack(false)
	}
	for i, l := range h.b.loops {
		l.mailbox.bind(runners[i].Wake)
		done.Add(1)
		go runners[i].run(&done)
	}

	var senders sync.WaitGroup
	for i, p := range pubs {
		senders.Go(func() {
			for n := range messages {
				runners[i].do(func() {
					p.post(publishPacket(codec.V5, fmt.Sprint("t/", i), fmt.Sprint(n+1), 1, uint16(n+1)))
				})
			}
		})
	}
	conns := []*peer{first}
	rng := rand.New(rand.NewPCG(1, 2))
	for range moves {
		i := rng.IntN(loops)
		p := &peer{h: h, env: h.envs[i], version: codec.V5}
		conns = append(conns, p)
		opened := make(chan struct{})
		runners[i].do(func() {
			p.conn = p.env.loop.Opened(p)
			p.post(connectPacket(codec.V5, "roamer", false, keepFor(1000), with(codec.ReceiveMaximum, 65535)))
			close(opened)
		})
		<-opened
		if rng.IntN(4) == 0 {
			idle(&busy, runners)
		}
	}
	senders.Wait()
	idle(&busy, runners)
	for _, r := range runners {
		close(r.jobs)
	}
	done.Wait()

	alive := 0
	var seen [loops][messages + 1]bool
	for _, p := range conns {
		alive += bit(!p.closed)
		var last [loops]int
		for _, s := range p.all() {
			var d, id, from, n int
			if k, _ := fmt.Sscanf(s, `PUBLISH q1 r0 d%d id=%d "t/%d" "%d"`, &d, &id, &from, &n); k != 4 {
				continue
			}
			if n < last[from] {
				t.Fatalf("message %d of source %d after %d", n, from, last[from])
			}
			last[from] = n
			seen[from][n] = true
		}
	}
	if alive != 1 {
		t.Errorf("%d connections are left, want 1", alive)
	}
	for i := range seen {
		for n := 1; n <= messages; n++ {
			if !seen[i][n] {
				t.Errorf("message %d of source %d is lost", n, i)
			}
		}
	}
}
