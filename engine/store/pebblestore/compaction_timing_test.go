package pebblestore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/bench/load"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/pebblestore"
)

// BenchmarkLatencyWhileCompacting has 10 pairs exchange 2,000 messages a second
// at QoS 1, to sessions that are kept and to others, beside 400 MB of queued
// messages: while these are at rest, and while they are compacted without end.
// Issue 7 wants p99 to be at most twice as long then.
func BenchmarkLatencyWhileCompacting(b *testing.B) {
	s, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	fillQueues(b, s, 400<<20)
	broker, err := engine.New(engine.Options{Store: s, Loops: 1, SessionExpiryLimit: engine.Unlimited,
		Listeners: []engine.Listener{{Address: "127.0.0.1:0", Anonymous: true}}})
	if err != nil {
		b.Fatal(err)
	}
	if err := broker.Start(); err != nil {
		b.Fatal(err)
	}
	defer broker.Stop(context.Background())
	p99 := func(persistent int) (us float64) {
		c := exec.Command(os.Args[0], "-test.run", "^TestGenerator$", "-test.v")
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", generatorEnv, broker.Addrs()[0], persistent))
		out, err := c.CombinedOutput()
		_, text, found := strings.Cut(string(out), "p99 ")
		if n, scanned := fmt.Sscan(text, &us); err != nil || !found || n != 1 {
			b.Fatalf("%v, %v\n%s", err, scanned, out)
		}
		return us
	}
	for range b.N {
		for persistent, name := range []string{"live", "kept"} {
			quiet := p99(persistent)
			ctx, cancel := context.WithCancel(b.Context())
			var done sync.WaitGroup
			before := s.Compactions()
			done.Go(func() {
				for ctx.Err() == nil {
					if err := s.CompactAll(ctx); err != nil && !errors.Is(err, context.Canceled) {
						b.Error(err)
						return
					}
				}
			})
			busy := p99(persistent)
			cancel()
			done.Wait()
			if n := s.Compactions() - before; n < 5 {
				b.Errorf("%d compactions", n)
			}
			b.ReportMetric(quiet, name+"-quiet-p99-us")
			b.ReportMetric(busy, name+"-compacting-p99-us")
		}
	}
}

const generatorEnv = "WHEELMQ_LATENCY_GENERATOR"

// TestGenerator is the clients of BenchmarkLatencyWhileCompacting, in a process
// of their own: in the broker's they would take its processors.
func TestGenerator(t *testing.T) {
	var address string
	var persistent int
	if n, _ := fmt.Sscan(os.Getenv(generatorEnv), &address, &persistent); n != 2 {
		return
	}
	w := load.Messages{Publishers: 10, Subscribers: 10, QoS: 1, Payload: 64, Window: 1000, Rate: 2000, Persistent: persistent,
		Warmup: time.Second, Duration: 5 * time.Second, Drain: 10 * time.Second}
	r, err := w.Run(t.Context(), load.Broker{Address: address, Version: load.V311}, nil)
	if err != nil || r.Flawed() {
		t.Fatal(r, err)
	}
	fmt.Println("p99", r.Latency.Microseconds(99))
}

// fillQueues queues bytes of messages for 100 sessions.
func fillQueues(b *testing.B, s *pebblestore.Store, bytes int) {
	const sessions, each = 100, 2000
	first := s.First()
	next := first + sessions
	payload := make([]byte, bytes/sessions/each)
	done := make(chan error, 1)
	for range each {
		batch := &store.Batch{}
		for i := range uint64(sessions) {
			rand.Read(payload) // does not compress
			id := store.SessionID(first + i)
			batch.PutSession(id, &store.Session{ClientID: fmt.Sprint("absent", i), Expiry: 0xFFFFFFFF})
			batch.DeliverOwn(id, store.Position(next), &store.Delivery{Message: store.MessageID(next), QoS: 1, Own: true, Size: uint32(len(payload))},
				&store.Message{Topic: []byte("absent"), Payload: payload, QoS: 1})
			next++
		}
		if err := s.Commit(batch, func(_ *store.Batch, err error) { done <- err }); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
