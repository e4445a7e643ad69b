package directory

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

func TestDirectory(t *testing.T) {
	d := New()
	claim := func(clientID string, p, wantOld Place, wantHad bool) {
		t.Helper()
		if old, had := d.Claim(clientID, p); old != wantOld || had != wantHad {
			t.Errorf("Claim(%q, %d) = %d, %v, want %d, %v", clientID, p, old, had, wantOld, wantHad)
		}
	}
	release := func(clientID string, p Place, want bool) {
		t.Helper()
		if got := d.Release(clientID, p); got != want {
			t.Errorf("Release(%q, %d) = %v, want %v", clientID, p, got, want)
		}
	}
	lookup := func(clientID string, want Place, wantOK bool) {
		t.Helper()
		if p, ok := d.Lookup(clientID); p != want || ok != wantOK {
			t.Errorf("Lookup(%q) = %d, %v, want %d, %v", clientID, p, ok, want, wantOK)
		}
	}
	lookup("a", 0, false)
	release("a", 0, false) // a missing entry is not owned by the zero place
	claim("a", 1, 0, false)
	claim("b", 2, 0, false)
	claim("a", 3, 1, true)
	lookup("a", 3, true)
	release("a", 1, false) // taken over
	release("a", 4, false) // never was the owner
	lookup("a", 3, true)
	if n := d.Len(); n != 2 {
		t.Errorf("Len = %d, want 2", n)
	}
	release("a", 3, true)
	release("a", 3, false)
	lookup("a", 0, false)
	lookup("b", 2, true)
	claim("", 0, 0, false) // the zero place and the empty text are as good as any
	lookup("", 0, true)
	release("", 0, true)
}

func TestClaimReplacesTheKey(t *testing.T) {
	d := New()
	first, second := strings.Clone("sensor-17"), strings.Clone("sensor-17")
	d.Claim(first, 1)
	d.Claim(second, 2)
	for key := range d.shard(first).places {
		if unsafe.StringData(key) != unsafe.StringData(second) {
			t.Error("the directory keeps the text of the session taken over")
		}
	}
}

func TestEmptyShardsOwnNoMemory(t *testing.T) {
	d := New()
	for i := range 1000 {
		d.Claim(fmt.Sprint(i), Place(i))
	}
	for i := range 1000 {
		d.Release(fmt.Sprint(i), Place(i))
	}
	for i := range d.shards {
		if d.shards[i].places != nil {
			t.Errorf("shard %d keeps a map", i)
		}
	}
}

func TestShardFillsACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(shard{}); unsafe.Sizeof(uintptr(0)) == 8 && size != 64 {
		t.Errorf("a shard takes %d bytes, want 64", size)
	}
}

// The chain of takeovers of one identifier must be a line: whoever is not told off by a later claim
// is the owner, and every place is told off at most once.
func TestConcurrentClaimsFormOneChain(t *testing.T) {
	const workers, claims = 8, 2000
	d := New()
	var toldOff [workers*claims + 1]atomic.Int32
	var first atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range claims {
				old, had := d.Claim("x", Place(w*claims+i+1))
				if had {
					toldOff[old].Add(1)
				} else {
					first.Add(1)
				}
			}
		})
	}
	wg.Wait()
	owner, _ := d.Lookup("x")
	for p := 1; p < len(toldOff); p++ {
		want := int32(1)
		if Place(p) == owner {
			want = 0
		}
		if got := toldOff[p].Load(); got != want {
			t.Errorf("place %d told off %d times, want %d", p, got, want)
		}
	}
	if first.Load() != 1 {
		t.Errorf("%d claims found no owner, want 1", first.Load())
	}
}

// Of the releases that race with claims, exactly those of the owner count.
func TestConcurrentClaimAndRelease(t *testing.T) {
	d := New()
	var claimed, replaced, released atomic.Int64
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, w))
			for i := range 5000 {
				clientID, p := fmt.Sprint(rng.IntN(200)), Place(w<<32|uint64(i))
				if _, had := d.Claim(clientID, p); had {
					replaced.Add(1)
				}
				claimed.Add(1)
				if rng.IntN(2) == 0 && d.Release(clientID, p) {
					released.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if want := claimed.Load() - replaced.Load() - released.Load(); int64(d.Len()) != want {
		t.Errorf("Len = %d, want %d", d.Len(), want)
	}
}

func TestBytesPerEntry(t *testing.T) {
	const count = 200_000
	ids := make([]string, count)
	for i := range ids {
		ids[i] = fmt.Sprintf("device-%08d", i)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	d := New()
	for i, id := range ids {
		d.Claim(id, Place(i))
	}
	perEntry := float64(heap()-before) / count
	t.Logf("%.1f bytes per entry beside the text", perEntry)
	if perEntry > 64 {
		t.Errorf("%.1f bytes per entry, want at most 64", perEntry)
	}
	runtime.KeepAlive(ids)
	runtime.KeepAlive(d)
}
