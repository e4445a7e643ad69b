package engine

import (
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
