package engine

import (
	"context"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// BenchmarkTurn is everything between a read and a write, system calls left out.
func BenchmarkTurn(b *testing.B) { benchmarkTurn(b) }

// BenchmarkTurnHooks is the same with a hook at every point on the loop that
// lies on the path of a message.
func BenchmarkTurnHooks(b *testing.B) {
	b.Run("intercept", func(b *testing.B) { benchmarkTurn(b, &interceptor{}) })
	b.Run("observe", func(b *testing.B) { benchmarkTurn(b, idleObserver{}) })
	b.Run("authorize", func(b *testing.B) { benchmarkTurn(b, idleAuthorizer{}) })
	b.Run("all", func(b *testing.B) { benchmarkTurn(b, idleHooks...) })
}

func benchmarkTurn(b *testing.B, hooks ...any) {
	for _, w := range workloads(hooks...) {
		b.Run(w.name, func(b *testing.B) {
			_, turn := w.make(b)
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*w.n), "ns/msg")
		})
	}
}

// idleHooks have every point on the loop that lies on the path of a message.
var idleHooks = []any{&interceptor{}, idleObserver{}, idleAuthorizer{}}

// idleObserver is the observers of messages, and does nothing.
type idleObserver struct{}

func (idleObserver) Published(hook.Client, hook.Publication, codec.ReasonCode) {}
func (idleObserver) NotConsumed(hook.Client, hook.Publication)                 {}
func (idleObserver) Delivered(hook.Client, hook.Delivery, uint16)              {}
func (idleObserver) Acknowledged(hook.Client, uint16, codec.QoS)               {}
func (idleObserver) Dropped(hook.Drop)                                         {}

// idleAuthorizer allows everything.
type idleAuthorizer struct{}

func (idleAuthorizer) Authorize(hook.Client, hook.Action, []byte) bool { return true }
func (idleAuthorizer) AuthorizeDelivery(hook.Client, []byte) bool      { return true }

// idleReviewer lets everything pass, off the loops.
type idleReviewer struct{}

func (idleReviewer) ReviewPublish(context.Context, hook.Client, *hook.Publication) (hook.Outcome, error) {
	return hook.Outcome{}, nil
}

// BenchmarkReview is a message of one client that is reviewed, from its read to
// the write to a subscriber, as fast as one may follow the other.
func BenchmarkReview(b *testing.B) {
	r := newRig(b, 1, idleReviewer{})
	woken := make(chan struct{}, 1)
	r.b.loops[0].mailbox.bind(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	r.client(0, "s", subscribePacket(codec.V311, 1, filter(hotTopic, 0)))
	p := r.client(0, "p")
	packet := publishPacket(codec.V311, hotTopic, hotPayload, 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		want := r.delivered() + 1
		p.conn.Received(packet)
		for r.delivered() < want {
			<-woken
			r.b.loops[0].Woken()
		}
	}
}
