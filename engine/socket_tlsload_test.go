package engine

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// processorTime is what a process has used, in ticks of 10 ms.
func processorTime(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	var user, system int64
	for i, f := range strings.Fields(rest) {
		switch i {
		case 11:
			_, _ = fmt.Sscan(f, &user)
		case 12:
			_, _ = fmt.Sscan(f, &system)
		}
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// TestTLSLoad sends messages of 64 bytes over TLS 1.3, in 50 pairs with one and
// with 16 in flight each, and says what they cost the broker's process. By
// itself it is short and looks that they arrive; for figures:
// WHEELMQ_TLSLOAD=5s go test -v -run TLSLoad ./engine
// and against another broker WHEELMQ_STORM_ADDR, _CA and _PID beside it.
func TestTLSLoad(t *testing.T) {
	t.Parallel()
	span, err := time.ParseDuration(os.Getenv("WHEELMQ_TLSLOAD"))
	if err != nil {
		span = 200 * time.Millisecond
	}
	addr, ca, pid := otherBroker(t)
	if addr == "" {
		addr, ca, pid = startTLSBroker(t)
	}
	for _, window := range []int{1, 16} {
		began, used := time.Now(), processorTime(pid)
		n := loadTLS(t, dialerTLS(t, addr, ca), window, span)
		took, cost := time.Since(began), processorTime(pid)-used
		t.Logf("%2d in flight: %7.0f messages a second, %5.2f µs of processor time each", window,
			float64(n)/took.Seconds(), float64(cost.Microseconds())/float64(max(n, 1)))
		if n == 0 {
			t.Errorf("%d in flight: no message arrived", window)
		}
	}
}

// loadTLS keeps window messages in flight in each pair, and returns how many arrived.
func loadTLS(t *testing.T, open func(id string) *socketClient, window int, span time.Duration) (arrived int64) {
	t.Helper()
	const pairs = 50
	var n atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(span)
	for i := range pairs {
		name := fmt.Sprintf("load/%d/%d", window, i)
		sub, pub := open(name+"s"), open(name+"p")
		sub.subscribe(codec.Subscription{Filter: []byte(name)})
		one := publishPacket(codec.V311, name, strings.Repeat("x", 64), 0, 0)
		all.Go(func() {
			_ = pub.send([]byte(strings.Repeat(string(one), window)))
			for time.Now().Before(end) {
				got := 0
				for first := true; first || sub.br.Buffered() >= len(one); first = false {
					if _, _, err := sub.frame(); err != nil {
						t.Error(err)
						return
					}
					got++
				}
				n.Add(int64(got))
				_ = pub.send([]byte(strings.Repeat(string(one), got)))
			}
		})
	}
	all.Wait()
	return n.Load()
}
