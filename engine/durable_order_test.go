package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/store"
)

// A heldStore commits nothing while it is held.
type heldStore struct {
	store.Store
	mu      sync.Mutex
	held    bool
	waiting []func()
}

func (h *heldStore) Commit(b *store.Batch, done func(*store.Batch, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.held {
		return h.Store.Commit(b, done)
	}
	h.waiting = append(h.waiting, func() { _ = h.Store.Commit(b, done) })
	return nil
}

// hold makes commits wait; without, it lets them go in their order.
func (h *heldStore) hold(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = on
	for _, commit := range h.waiting {
		commit()
	}
	h.waiting = nil
}

// TestRetainedOrder: what clients on several loops set last for one topic is
// what the store has.
func TestRetainedOrder(t *testing.T) {
	kept := store.NewMemory()
	b := start(t, kept)
	var wait sync.WaitGroup
	for i := range 8 {
		c := b.Connect(t, fmt.Sprint("p", i), codec.V5)
		wait.Go(func() {
			for j := range 100 {
				payload := ""
				if j%7 != 6 {
					payload = fmt.Sprint(i, "-", j)
				}
				if code := c.Publish("r", payload, 1, enginetest.Retain); code.Failure() {
					t.Errorf("publish: %v", code)
				}
			}
		})
	}
	wait.Wait()
	if live, stored := retainedIn(b), retainedIn(start(t, freeze(t, kept))); live != stored {
		t.Errorf("retained is %q, stored %q", live, stored)
	}
}

func retainedIn(b *enginetest.Broker) (payload string) {
	b.RetainedMessages("r", func(m engine.Message) bool {
		payload = string(m.Payload)
		return true
	})
	return payload
}

// TestFailedChangesFollow: what changed while the store failed is in it once it
// works again.
func TestFailedChangesFollow(t *testing.T) {
	kept := store.NewMemory()
	f := &store.Failing{Store: kept}
	b := enginetest.Start(t, engine.Options{Loops: 1, Store: f}) // one: what p is answered comes after what s changed
	s := b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	s.Subscribe("left", 1)
	s.Subscribe("stays", 1)
	f.Break(true)
	u := codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("left")}}
	s.Send(u.Append(nil, codec.V5))
	if code := s.ExpectDisconnect(); !code.Failure() { // no UNSUBACK before it
		t.Errorf("disconnected with %v", code)
	}
	awaitAbsent(t, b, "s")
	f.Break(false)
	p := b.Connect(t, "p", codec.V5)
	for end := time.Now().Add(enginetest.Patience); p.Publish("stays", "x", 1).Failure(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not taken again")
		}
	}
	_, subs, found, err := start(t, freeze(t, kept)).Session(t.Context(), "s")
	if err != nil || !found || len(subs) != 1 || subs[0].Filter != "stays" {
		t.Errorf("after a restart: found %v, subscriptions %+v, %v", found, subs, err)
	}
}

// TestOwnPublicationWaits: Publish returns once what must survive is stored.
func TestOwnPublicationWaits(t *testing.T) {
	h := &heldStore{Store: store.NewMemory()}
	f := &store.Failing{Store: h}
	b := start(t, f)
	h.hold(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Publish(t.Context(), engine.Message{Topic: "live", QoS: 1}); err != nil {
		t.Errorf("a message that need not survive: %v", err)
	}
	m := engine.Message{Topic: "r", Payload: []byte("x"), QoS: 1, Retain: true}
	if code, err := b.Publish(ctx, m); err == nil {
		t.Errorf("answered %v before it was stored", code)
	}
	h.hold(false)
	if code, err := b.Publish(t.Context(), m); err != nil || code.Failure() {
		t.Errorf("%v, %v", code, err)
	}
	f.Break(true)
	if code, err := b.Publish(t.Context(), m); err != nil || code != codec.QuotaExceeded {
		t.Errorf("while the store fails: %v, %v", code, err)
	}
}

// TestDurabilityReceived: the clients of such a listener do not wait.
func TestDurabilityReceived(t *testing.T) {
	h := &heldStore{Store: store.NewMemory()}
	b := enginetest.Start(t, engine.Options{Store: h, Listeners: []engine.Listener{
		{Address: "127.0.0.1:0", Anonymous: true, Durability: engine.Received}}})
	h.hold(true)
	s := b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	s.Subscribe("t", 2)
	for i, qos := range []codec.QoS{1, 2} {
		if code := s.Publish("other", fmt.Sprint(i), qos, enginetest.Retain); code.Failure() {
			t.Errorf("QoS %d: %v", qos, code)
		}
	}
	h.hold(false)
	s.Ping()
}
