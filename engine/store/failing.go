package store

import "sync/atomic"

// Failing is a Store whose commits fail while it is told so: for tests. What
// fails does not reach the Store within.
type Failing struct {
	Store
	broken atomic.Bool
	busy   atomic.Bool
	full   atomic.Bool
}

// Break makes commits fail with ErrUnavailable from now on; Refuse makes Commit
// itself answer ErrBusy; Fill makes the store say that it is full, no more.
// Each ends with false.
func (f *Failing) Break(on bool) { f.broken.Store(on) }

// Fill: see Break.
func (f *Failing) Fill(on bool) { f.full.Store(on) }

// Full implements Store.
func (f *Failing) Full() bool { return f.full.Load() || f.Store.Full() }

// Refuse: see Break.
func (f *Failing) Refuse(on bool) { f.busy.Store(on) }

// Commit fails, or hands b on. A failing batch takes its turn among the others:
// an empty one is committed in its place.
func (f *Failing) Commit(b *Batch, done func(*Batch, error)) error {
	if f.busy.Load() {
		return ErrBusy
	}
	if !f.broken.Load() && b.Begin() == nil {
		return f.Store.Commit(b, done)
	}
	b.Fail()
	return f.Store.Commit(&Batch{}, func(*Batch, error) { done(b, ErrUnavailable) })
}
