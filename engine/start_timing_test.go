package engine_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/store"
	"github.com/wheelmq/wheelmq/engine/store/pebblestore"
)

// BenchmarkStart starts a broker on a store with as many durable sessions of 3
// subscriptions each, and as many retained messages, as WHEELMQ_SESSIONS says;
// one in ten has 10 messages waiting.
func BenchmarkStart(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("WHEELMQ_SESSIONS"))
	if err != nil {
		n = 10_000
	}
	dir := b.TempDir()
	fillStore(b, dir, n)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		b.StartTimer()
		s, err := pebblestore.Open(dir, pebblestore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		broker, err := engine.New(engine.Options{Store: s, SessionExpiryLimit: engine.Unlimited,
			Listeners: []engine.Listener{{Address: "127.0.0.1:0", Anonymous: true}}})
		if err != nil {
			b.Fatal(err)
		}
		if err := broker.Start(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/session")
		if err := broker.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func fillStore(b *testing.B, dir string, n int) {
	s, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	next := s.First()
	draw := func() uint64 { next++; return next - 1 }
	done := make(chan error, 1)
	for i := 0; i < n; {
		batch := &store.Batch{}
		for range min(1000, n-i) {
			id := store.SessionID(draw())
			batch.PutSession(id, &store.Session{ClientID: fmt.Sprintf("device-%07d", i), Expiry: 0xFFFFFFFF})
			for j := range 3 {
				batch.PutSubscription(id, &store.Subscription{Filter: fmt.Sprintf("site/%d/device/%07d/%d", i%1000, i, j), Options: 1})
			}
			if i%10 == 0 {
				for range 10 {
					at := draw()
					batch.DeliverOwn(id, store.Position(at), &store.Delivery{Message: store.MessageID(at), QoS: 1, Own: true, Size: 84},
						&store.Message{Topic: []byte("site/device/state01"), Payload: make([]byte, 64), QoS: 1})
				}
			}
			batch.PutRetained(&store.Message{Topic: fmt.Appendf(nil, "site/%d/device/%07d/state", i%1000, i), Payload: make([]byte, 64), QoS: 1, Retained: true})
			i++
		}
		batch.Level = store.Received
		if err := s.Commit(batch, func(_ *store.Batch, err error) { done <- err }); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
