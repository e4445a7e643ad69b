package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// Subscriptions come and go at random, above and below the number from which
// on they are indexed, while the session moves between loops.
func TestManySubscriptions(t *testing.T) {
	each(t, Options{}, func(t *testing.T, h *harness) {
		r := rand.New(rand.NewPCG(3, 5))
		p := h.client(codec.V5, "p", keepFor(60))
		pub := h.client(codec.V5, "pub")
		want := make(map[string]uint32) // Subscription Identifiers by filter
		for step := range uint32(2000) {
			f := fmt.Sprint("t/", r.IntN(2+int(step%60)))
			switch old, had := want[f], want[f] != 0; r.IntN(5) {
			case 0, 1:
				want[f] = step + 1
				p.send(subscribeID(1, step+1, filter(f, 0)))
				p.expect("SUBACK 1 [00]")
			case 2:
				delete(want, f)
				p.send(unsubscribePacket(codec.V5, 2, f))
				p.expect(map[bool]string{true: "UNSUBACK 2 [00]", false: "UNSUBACK 2 [11]"}[had])
			default:
				pub.send(publishPacket(codec.V5, f, "m", 0, 0))
				if had {
					p.expect(fmt.Sprintf(`PUBLISH q0 r0 d0 %q "m" {SubscriptionIdentifier=%d}`, f, old))
				} else {
					p.expect()
				}
			}
			if step%200 == 199 {
				p.cut()
				p = h.back(codec.V5, "p", keepFor(60))
			}
		}
		h.consistent()
		p.send(disconnectPacket(codec.V5, 0))
		h.client(codec.V5, "p").send(disconnectPacket(codec.V5, 0))
		pub.send(disconnectPacket(codec.V5, 0))
		h.consistent()
	})
}

// Replays of retained messages that wait for the window: each filter has one,
// which begins anew or ends with its subscription.
func TestReplaysThatWait(t *testing.T) {
	each(t, Options{}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		for i := range 4 {
			pub.send(publishPacket(codec.V5, fmt.Sprint("t/", i), "m", 1, 1, retain))
		}
		p := h.client(codec.V5, "p", with(codec.ReceiveMaximum, 1))
		p.send(subscribePacket(codec.V5, 1, filter("t/0", 1), filter("t/1", 1), filter("t/2", 1), filter("t/3", 1), filter("t/1", 1)))
		p.expect("SUBACK 1 [01 01 01 01 01]", `PUBLISH q1 r1 d0 id=1 "t/0" "m"`)
		p.send(unsubscribePacket(codec.V5, 2, "t/2"))
		p.expect("UNSUBACK 2 [00]")
		p.send(subscribeID(3, 7, filter("t/3", 1)))
		p.expect("SUBACK 3 [01]")
		for i, next := range []string{`"t/1" "m"`, `"t/3" "m" {SubscriptionIdentifier=7}`} {
			p.send(ackPacket(codec.V5, codec.PUBACK, uint16(i+1), 0))
			p.expect(fmt.Sprintf("PUBLISH q1 r1 d0 id=%d %s", i+2, next))
		}
		p.send(ackPacket(codec.V5, codec.PUBACK, 3, 0))
		p.expect()
		p.send(subscribePacket(codec.V5, 4, filter("t/0", 1), filter("t/1", 1))) // and after they are done
		p.expect("SUBACK 4 [01 01]", `PUBLISH q1 r1 d0 id=4 "t/0" "m"`)
		p.send(ackPacket(codec.V5, codec.PUBACK, 4, 0))
		p.expect(`PUBLISH q1 r1 d0 id=5 "t/1" "m"`)
	})
}

// A SUBSCRIBE costs its filters, not their square: one packet must not hold up
// the loop for seconds.
func TestSubscribeCostIsLinear(t *testing.T) {
	cost := func(n int) time.Duration {
		var filters []codec.Subscription
		for i := range n {
			filters = append(filters, filter(fmt.Sprintf("a/filter/like/the/others/%06d", i), 1))
		}
		b := subscribePacket(codec.V5, 1, filters...)
		best := time.Hour
		for range 3 {
			h := newHarness(t, 1, Options{MaximumPacketSize: 4 << 20})
			p := h.client(codec.V5, "p")
			begin := time.Now()
			p.send(b)
			p.send(b)
			best = min(best, time.Since(begin))
		}
		return best
	}
	for attempt := 1; ; attempt++ {
		few, many := cost(500), cost(10_000)
		if many <= 100*few { // 20 times as much if linear, 400 times if quadratic
			return
		}
		if attempt == 5 { // others may have had the processor once, not five times
			t.Fatalf("500 filters take %v, 10,000 take %v", few, many)
		}
	}
}
