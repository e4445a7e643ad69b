package engine

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/store"
)

// A keeper hands the batches of all loops to the store, in one order: what one
// loop writes of a delivery follows what another wrote when it was routed there.
// After one that fails no other is taken before it was committed in its place,
// so that the store never has a later change without an earlier one: those at the store
// fail too (store.Stream), and what comes lines up. Any goroutine.
type keeper struct {
	store store.Store
	clock clock.Clock
	log   *slog.Logger
	most  int // bytes of failed

	behind atomic.Bool // failed is not empty

	mu      sync.Mutex
	stream  store.Stream
	seq     uint64
	atStore int
	failed  []keptBatch // in order
	bytes   int         // of failed
	retryAt clock.Time
}

// A keptBatch is a batch in the order of all.
type keptBatch struct {
	sealedBatch
	at   uint64
	loop *loop
	told bool // the loop knows that it failed, and has ended who waited
}

// storeRetry is how long durable messages are refused after a commit failed,
// and what could not be committed waits.
const storeRetry = time.Second

// failedBytes bounds what is kept of changes that could not be committed, for
// each loop.
const failedBytes = 16 << 20

var errLost = errors.New("more changes than may wait for the store")

// commit hands b over, or lines it up. The loop is told by committed, in a turn
// of its own.
func (k *keeper) commit(l *loop, b sealedBatch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seq++
	x := keptBatch{sealedBatch: b, at: k.seq, loop: l}
	if len(k.failed) > 0 {
		k.lineUp(x)
		return
	}
	if err := k.hand(x); err != nil {
		k.lineUp(x)
		k.fail(err)
	}
}

// fail has those in line wait for another try. Their loops are told.
func (k *keeper) fail(err error) {
	k.retryAt = k.clock.Now().Add(storeRetry)
	for i := range k.failed {
		if x := &k.failed[i]; !x.told {
			x.told = true
			x.tell(err)
		}
	}
}

func (k *keeper) hand(x keptBatch) error {
	x.b.Stream = &k.stream
	err := k.store.Commit(x.b, func(_ *store.Batch, err error) { k.done(x, err) })
	if err == nil {
		k.atStore++
	}
	return err
}

func (x keptBatch) tell(err error) {
	x.loop.mailbox.post([]item{{kind: itemCall, call: func(l *loop) { l.committed(x.sealedBatch, err) }}}, 0)
}

// done is told what became of x.
func (k *keeper) done(x keptBatch, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.atStore--
	again := len(k.failed) > 0 && k.failed[0].at == x.at
	switch {
	case err != nil:
		if !again {
			k.lineUp(x)
		}
		k.fail(err)
	case again:
		told := k.failed[0].told
		k.bytes -= x.b.Size()
		k.failed = slices.Delete(k.failed, 0, 1)
		if !told {
			x.tell(nil) // the batch is the loop's again
		}
		k.behind.Store(len(k.failed) > 0)
		k.again()
	case !x.told:
		x.tell(nil)
	}
}

// lineUp keeps what cannot be committed now, in its place.
func (k *keeper) lineUp(x keptBatch) {
	if k.bytes+x.b.Size() > k.most {
		k.log.Error("changes of sessions are lost for the store: more than may wait for it", "batches", len(k.failed)+1, "bytes", k.bytes+x.b.Size())
		k.failed = append(k.failed, x)
		k.fail(errLost)
		k.failed, k.bytes = nil, 0
		k.behind.Store(false)
		return
	}
	at, _ := slices.BinarySearchFunc(k.failed, x, func(a, b keptBatch) int { return cmp.Compare(a.at, b.at) })
	k.failed = slices.Insert(k.failed, at, x)
	k.bytes += x.b.Size()
	k.behind.Store(true)
}

// retry commits the first of what failed again when it is time. At each tick.
func (k *keeper) retry() {
	if k.behind.Load() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.atStore == 0 && k.clock.Now() >= k.retryAt {
			k.again()
		}
	}
}

// again hands the first of what failed over, if there is one.
func (k *keeper) again() {
	if len(k.failed) == 0 {
		return
	}
	k.failed[0].b.Anew = true
	if err := k.hand(k.failed[0]); err != nil {
		k.fail(err)
	}
}
