//go:build !invariants

package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// faultyHook panics when it is asked about what is called "boom".
type faultyHook struct{}

func (faultyHook) Authenticate(c *hook.Connect) codec.ReasonCode {
	if c.UserName == "boom" {
		panic("authenticator")
	}
	return codec.Success
}

func (faultyHook) AuthorizeDelivery(_ hook.Client, name []byte) bool {
	if string(name) == "undeliverable" {
		panic("delivery")
	}
	return true
}

func (faultyHook) Authorize(_ hook.Client, _ hook.Action, name []byte) bool {
	if string(name) == "boom" {
		panic("authorizer")
	}
	return true
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// TestPanickingHook: a panic in a hook drops the connection it was asked for,
// is counted and logged, and nobody else notices.
func TestPanickingHook(t *testing.T) {
	t.Parallel()
	for _, loops := range []int{1, 2} {
		log := &lockedBuffer{}
		b := startBroker(t, Options{Loops: loops, Hooks: []any{faultyHook{}}, Logger: slog.New(slog.NewTextHandler(log, nil))})
		watch := connectSocket(t, b, codec.V5, "watch", true).subscribe(filter("t", 1))
		pub := connectSocket(t, b, codec.V5, "pub", true)
		heard := func() {
			t.Helper()
			if err := pub.send(publishPacket(codec.V5, "t", "x", 0, 0)); err != nil {
				t.Fatal(err)
			}
			watch.expect(`PUBLISH q0 r0 d0 "t" "x"`)
			watch.ping()
		}
		dropped := func(what string, panics uint64, c *socketClient) {
			t.Helper()
			if got := c.next(); got != "end" {
				t.Errorf("%s: got %s, want the end", what, got)
			}
			eventually(t, socketPatience, what+" is counted", func() bool { return b.server.Panics() == panics })
			heard()
		}
		heard()

		c := dialSocket(t, b, codec.V5)
		_ = c.send(connectPacket(codec.V5, "a", true, login("boom", "")))
		dropped("CONNECT", 1, c)

		c = connectSocket(t, b, codec.V5, "a", true)
		_ = c.send(publishPacket(codec.V5, "boom", "x", 1, 1))
		dropped("PUBLISH", 2, c)

		c = connectSocket(t, b, codec.V5, "a", true)
		_ = c.send(subscribePacket(codec.V5, 1, filter("boom", 0)))
		dropped("SUBSCRIBE", 3, c)

		// a will is asked about when its client is gone
		for i, end := range []func(c *socketClient){
			func(c *socketClient) { c.Close() },
			func(c *socketClient) { _ = c.send([]byte{0xF0, 0x00}) },
			func(*socketClient) { connectSocket(t, b, codec.V5, "will", true) },
		} {
			c = connectSocket(t, b, codec.V5, "will", true, willOf(codec.Will{Topic: []byte("boom")}))
			end(c)
			eventually(t, socketPatience, "the will is denied", func() bool { return log.count("denied: an authorizer panicked") == i+1 })
			heard()
		}
		// a delivery, on the turn of whoever publishes
		connectSocket(t, b, codec.V5, "taker", true).subscribe(filter("undeliverable", 1))
		if err := pub.send(publishPacket(codec.V5, "undeliverable", "x", 1, 1)); err != nil {
			t.Fatal(err)
		}
		pub.expect("PUBACK 1 00")
		eventually(t, socketPatience, "the delivery is denied", func() bool { return log.count("denied: an authorizer panicked") == 4 })
		heard()
		if got := log.count("connection dropped: its handling panicked"); got != 3 {
			t.Errorf("%d panics logged, want 3", got)
		}
		eventually(t, socketPatience, "no session is left behind", func() bool { return b.stats().Sessions == 4 })
	}
}
