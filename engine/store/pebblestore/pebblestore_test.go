package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/storetest"
)

func mustOpen(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	dirs := map[*testing.T]string{}
	storetest.Run(t, func(t *testing.T) store.Store {
		if dirs[t] == "" {
			dirs[t] = t.TempDir()
		}
		return mustOpen(t, dirs[t], Options{Reserve: -1})
	})
}

// TestPowerLoss cuts the power at a random moment of a random history: what was
// answered is there, what was not is there as a whole or not at all, and
// nothing later without what was earlier.
func TestPowerLoss(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { powerLoss(t, seed) })
	}
}

func powerLoss(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	disk := vfs.NewCrashableMem()
	s := mustOpen(t, "d", Options{Reserve: -1, fs: disk})
	r := storetest.NewRandom(rng, s.First())
	const n = 60
	batches := make([]*store.Batch, n)
	answered := make(chan int, n)
	cut := rng.IntN(n)
	for i := range batches {
		batches[i] = r.Batch(8)
		if err := s.Commit(batches[i], func(*store.Batch, error) { answered <- i }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range cut { // the rest is on its way
		if got := <-answered; got != i {
			t.Fatalf("answer %d in the place of %d", got, i)
		}
	}
	after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(100), RNG: rand.New(rand.NewPCG(seed, 3))})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, "d", Options{Reserve: -1, fs: after})
	defer s.Close()
	got := storetest.Dump(t, s)
	model := store.NewMemory()
	for i := 0; ; i++ {
		if i >= cut && storetest.Dump(t, model) == got {
			return
		}
		if i == n {
			t.Fatalf("seed %d: after %d answers the store holds what no number of batches makes:\n%s", seed, cut, got)
		}
		if err := model.Commit(batches[i], func(*store.Batch, error) {}); err != nil {
			t.Fatal(err)
		}
	}
}

// put commits a session of that identifier and returns the answer.
func put(t *testing.T, s *Store, id uint64) error {
	t.Helper()
	b := &store.Batch{}
	b.PutSession(store.SessionID(s.First()+id), &store.Session{ClientID: fmt.Sprint("c", id), Expiry: 1})
	done := make(chan error, 1)
	if err := s.Commit(b, func(_ *store.Batch, err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	return <-done
}

// untilKept repeats until the store takes changes again.
func untilKept(t *testing.T, s *Store, id uint64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); put(t, s, id) != nil; {
		if time.Now().After(end) {
			t.Fatal("the store did not recover within a minute")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestFailingWrites: a disk that answers EIO, and then works again.
func TestFailingWrites(t *testing.T) {
	broken := errorfs.InjectorFunc(func(op errorfs.Op) error { return nil })
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EIO
		}
		return broken.MaybeError(op)
	})}
	s := mustOpen(t, "d", Options{Reserve: -1, fs: errorfs.Wrap(vfs.NewMem(), toggle)})
	defer s.Close()
	if err := put(t, s, 1); err != nil {
		t.Fatal(err)
	}
	toggle.On()
	for range 3 {
		if err := put(t, s, 2); !errors.Is(err, store.ErrUnavailable) || s.Available() {
			t.Fatalf("a write to a broken disk: %v, available %v", err, s.Available())
		}
	}
	toggle.Off()
	untilKept(t, s, 3)
	if got := storetest.Dump(t, s); !strings.Contains(got, ": c1 ") || !strings.Contains(got, ": c3 ") {
		t.Errorf("the store holds\n%s", got)
	}
}

// fullDisk says how much is free.
type fullDisk struct {
	vfs.FS
	free func() uint64
}

func (f fullDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free()}, nil
}

// TestFullDisk: below the reserve it is full, and what is deleted is dropped
// soon; far below it nothing is written. Each ends by itself.
func TestFullDisk(t *testing.T) {
	const reserve, plenty = 1 << 20, 1 << 40
	var free atomic.Uint64
	free.Store(plenty)
	disk := fullDisk{vfs.NewMem(), free.Load}
	s := mustOpen(t, "d", Options{Reserve: reserve, fs: disk})
	defer s.Close()
	until := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not within a minute: ", what)
			}
		}
	}
	untilKept(t, s, 1)
	if s.Full() {
		t.Error("full at the start")
	}
	free.Store(reserve - 1)
	until("it is full", func() bool {
		if err := put(t, s, 2); err != nil {
			t.Fatal(err)
		}
		return s.Full()
	})
	before := s.db.Metrics().Flush.Count
	if err := put(t, s, 3); err != nil || !s.Available() {
		t.Errorf("what frees room is not taken: %v", err)
	}
	until("what was deleted is flushed", func() bool { return s.db.Metrics().Flush.Count > before })
	free.Store(plenty)
	until("it has room, without a commit", func() bool { return !s.Full() })
	free.Store(reserve/hardReserve - 1)
	until("it takes nothing", func() bool { return errors.Is(put(t, s, 2), store.ErrUnavailable) })
	if s.Available() {
		t.Error("available, on a full disk")
	}
	free.Store(plenty)
	until("it is available, without a commit", s.Available)
	if err := put(t, s, 4); err != nil || s.Full() {
		t.Error(err)
	}
}

// TestBusy: what waits is bounded.
func TestBusy(t *testing.T) {
	s := mustOpen(t, "d", Options{Reserve: -1, fs: vfs.NewMem(), PendingBytes: 1})
	defer s.Close()
	hold := make(chan struct{})
	b := func() *store.Batch {
		b := &store.Batch{}
		b.Receive(1, 1)
		return b
	}
	held := make(chan struct{})
	if err := s.Commit(b(), func(*store.Batch, error) { close(held); <-hold }); err != nil {
		t.Fatal(err)
	}
	<-held
	if err := s.Commit(b(), func(*store.Batch, error) {}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(b(), nil); !errors.Is(err, store.ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	close(hold)
}

// TestFormat: a newer format is refused and left as it is; a second process is kept out.
func TestFormat(t *testing.T) {
	disk := vfs.NewMem()
	o := Options{Reserve: -1, fs: disk}
	s := mustOpen(t, "d", o)
	if other, err := Open("d", o); err == nil {
		other.Close()
		t.Error("opened twice")
	}
	if err := s.db.Set(keyFormat, binary.AppendUvarint(nil, formatVersion+1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("d", o); !errors.Is(err, store.ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
}

// TestMessagesGo: what nobody refers to is dropped, and read no more.
func TestMessagesGo(t *testing.T) {
	s := mustOpen(t, "d", Options{Reserve: -1, fs: vfs.NewMem()})
	defer s.Close()
	r := storetest.NewRandom(rand.New(rand.NewPCG(1, 1)), s.First())
	var ids []store.SessionID
	for range 200 {
		b := r.Batch(10)
		b.Each(func(o *store.Op) error {
			if o.Kind == store.PutSession {
				ids = append(ids, o.Session)
			}
			return nil
		})
		done := make(chan error, 1)
		s.Commit(b, func(_ *store.Batch, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	b, done := &store.Batch{}, make(chan error, 1)
	for _, id := range ids {
		b.DeleteSession(id)
	}
	s.Commit(b, func(_ *store.Batch, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.db.Compact(context.Background(), []byte("a"), []byte("z"), false); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"c", "p", "q", "s"} {
		s.each([]byte(prefix), func(key, _ []byte) error {
			t.Errorf("left: %x", key)
			return nil
		})
	}
}
