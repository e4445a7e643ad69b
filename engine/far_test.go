package engine_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/store"
)

// small is options under which nearly all that waits is in the store alone.
func small(s store.Store, loops int) engine.Options {
	return engine.Options{Loops: loops, Store: s, QueueMemory: 1, MaxQueuedMessages: engine.Unlimited, MaxQueuedBytes: engine.Unlimited}
}

// A farSubscriber takes what comes for a durable session, over connections that
// come and go, and checks that each publisher's "publisher number" come in order
// and once: at QoS 1, what was not known to be acknowledged may come again.
type farSubscriber struct {
	t    *testing.T
	next []int           // of each publisher
	open map[uint16]bool // QoS 2, between PUBLISH and PUBREL
}

// take takes n messages that are new.
func (f *farSubscriber) take(c *enginetest.Client, n int) {
	f.t.Helper()
	for n > 0 {
		h, body, err := c.Packet()
		if err != nil {
			f.t.Fatalf("%v with %d to come; next are %v", err, n, f.next)
		}
		switch h.Type {
		case codec.PUBREL:
			ack, err := codec.ParseAck(codec.PUBREL, body, c.Version)
			if err != nil {
				f.t.Fatal(err)
			}
			delete(f.open, ack.PacketID)
			c.Ack(codec.PUBCOMP, ack.PacketID)
		case codec.PUBLISH:
			var p codec.Publish
			if err := codec.ParsePublish(&p, h.Flags, body, c.Version, codec.FromServer); err != nil {
				f.t.Fatal(err)
			}
			if f.isNew(&p) {
				n--
			}
			c.Ack(map[codec.QoS]codec.PacketType{1: codec.PUBACK, 2: codec.PUBREC}[p.QoS], p.PacketID)
		}
	}
}

func (f *farSubscriber) isNew(p *codec.Publish) bool {
	f.t.Helper()
	if p.QoS == 2 {
		if f.open[p.PacketID] {
			return false
		}
		f.open[p.PacketID] = true
	}
	var publisher, i int
	if _, err := fmt.Sscanf(string(p.Payload), "%d %d", &publisher, &i); err != nil {
		f.t.Fatalf("%q comes", p.Payload)
	}
	switch next := f.next[publisher]; {
	case i == next:
		f.next[publisher]++
		return true
	case i > next || p.QoS == 2 || !p.Dup:
		f.t.Fatalf("%q comes, QoS %d, repeated %v; of its publisher %d is next", p.Payload, p.QoS, p.Dup, next)
	}
	return false
}

// TestLongQueues: queues that the store has come in order and once, while
// publishers on several loops go on, the client comes and goes between loops,
// and the broker is started anew.
func TestLongQueues(t *testing.T) {
	const publishers, n, piece = 4, 1000, 350
	for _, loops := range []int{1, 3} {
		t.Run(fmt.Sprint("loops=", loops), func(t *testing.T) {
			kept := store.NewMemory()
			b := enginetest.Start(t, small(kept, loops))
			f := &farSubscriber{t: t, next: make([]int, publishers), open: map[uint16]bool{}}
			s := b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
			s.Subscribe("t", 2)
			s.Disconnect()
			awaitAbsent(t, b, "s")
			var wait sync.WaitGroup
			for p := range publishers {
				c := b.Connect(t, fmt.Sprint("p", p), codec.V5)
				wait.Go(func() {
					for i := range n {
						if code := c.Publish("t", fmt.Sprint(p, " ", i), codec.QoS(1+i%2)); code.Failure() {
							t.Errorf("publish: %v", code)
						}
					}
				})
			}
			left := publishers * n
			for ; left > publishers*n/2; left -= piece { // while they publish
				s = b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
				f.take(s, piece)
				s.Conn.Close()
			}
			wait.Wait()
			awaitAbsent(t, b, "s")
			b = enginetest.Start(t, small(freeze(t, kept), loops)) // what is in the store is all there is
			for ; left > 0; left -= piece {
				s = b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
				f.take(s, min(left, piece))
				s.Conn.Close()
			}
			awaitAbsent(t, b, "s")
			status, _, _, err := b.Session(t.Context(), "s")
			if err != nil || status.QueuedMessages != 0 || status.QueuedBytes != 0 {
				t.Errorf("%d messages and %d bytes are left, %v", status.QueuedMessages, status.QueuedBytes, err)
			}
		})
	}
}
