package engine

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// offLoop runs what takes time off the loops: at most workers at once, and at
// most backlog waiting, first come, first served. Any goroutine.
type offLoop struct {
	workers, backlog int
	timeout          time.Duration
	spawn            func(func())                                           // begins a goroutine
	after            func(ctx context.Context, f func()) (stop func() bool) // calls f when ctx is done

	mu      sync.Mutex
	running int
	waiting []func()
}

// run lets f run soon. It reports false, and does nothing, when too many wait.
func (o *offLoop) run(f func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running < o.workers {
		o.running++
		o.spawn(func() { o.work(f) })
		return true
	}
	if len(o.waiting) >= o.backlog {
		return false
	}
	o.waiting = append(o.waiting, f)
	return true
}

// work runs f and then whatever waits.
func (o *offLoop) work(f func()) {
	for f != nil {
		f()
		f = o.next()
	}
}

func (o *offLoop) next() (f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		o.running--
		o.waiting = nil
		return nil
	}
	f, o.waiting[0] = o.waiting[0], nil
	o.waiting = o.waiting[1:]
	return f
}

// askOff calls f off the loops and then, on l, then with what it returned. then
// gets late when f has not answered in time, or panicked: it fails closed, and
// what f says afterwards is not heard. askOff reports false, and calls nothing,
// when too many wait for an answer already.
func askOff[T any](l *loop, late T, f func(context.Context) T, then func(T)) bool {
	o := &l.b.off
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	var answered atomic.Bool
	answer := func(v T) {
		if answered.CompareAndSwap(false, true) {
			cancel()
			l.mailbox.post([]item{{kind: itemCall, call: func(*loop) { then(v) }}}, callBytes)
		}
	}
	overdue := o.after(ctx, func() {
		if !answered.Load() {
			l.b.log.Error("a hook has not answered in time", "timeout", o.timeout)
		}
		answer(late)
	})
	ok := o.run(func() {
		if answered.Load() {
			return // it waited too long for its turn
		}
		defer func() {
			if r := recover(); r != nil {
				l.b.log.Error("a hook panicked", "panic", r, "stack", string(debug.Stack()))
				overdue()
				answer(late)
			}
		}()
		v := f(ctx)
		overdue()
		answer(v)
	})
	if !ok {
		answered.Store(true)
		overdue()
		cancel()
	}
	return ok
}

// callBytes is what a call counts in a mailbox.
const callBytes = 64
