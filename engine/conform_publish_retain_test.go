package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// retainedFor subscribes as a new client and returns what it is sent at once.
func retainedFor(h *harness, v codec.Version, f string) []string {
	h.t.Helper()
	p := h.client(v, "reader").subscribed(filter(f, 2))
	got := p.all()
	p.cut()
	return got
}

// expectRetained checks what a new subscriber of f gets.
func expectRetained(h *harness, v codec.Version, f string, want ...string) {
	h.t.Helper()
	got := retainedFor(h, v, f)
	if !slices.Equal(got, want) {
		h.t.Fatalf("retained for %s: %q, want %q", f, got, want)
	}
}

func TestRetainedMessageIsStoredAndReplaced(t *testing.T) {
	covers(t, "MQTT-3.3.1-5", "MQTT-3.3.1-8", "311:MQTT-3.3.1-7", "311:MQTT-3.3.1-8")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "t", "1", 1, 1, retain))
			expectRetained(h, v, "t", `PUBLISH q1 r1 d0 id=1 "t" "1"`)
			pub.send(publishPacket(v, "t", "2", 2, 2, retain))
			expectRetained(h, v, "t", `PUBLISH q2 r1 d0 id=1 "t" "2"`)
			pub.send(publishPacket(v, "t", "3", 0, 0, retain)) // of QoS 0 too
			expectRetained(h, v, "#", `PUBLISH q0 r1 d0 "t" "3"`)
			pub.send(publishPacket(v, "t", "4", 1, 4)) // without RETAIN: the stored one stays
			expectRetained(h, v, "+", `PUBLISH q0 r1 d0 "t" "3"`)
			pub.send(publishPacket(v, "t", "", 1, 5)) // nor does an empty one without RETAIN touch it
			expectRetained(h, v, "t", `PUBLISH q0 r1 d0 "t" "3"`)
			pub.send(publishPacket(v, "t", "", 0, 0, retain))
			pub.cut()
		}
	})
}

func TestEmptyRetainedMessageIsDeliveredAndRemoves(t *testing.T) {
	covers(t, "MQTT-3.3.1-6", "MQTT-3.3.1-7")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			pub := h.client(v, "pub")
			live := h.client(v, "live").subscribed(filter("#", 1))
			for qos := codec.QoS(0); qos <= 2; qos++ {
				pub.send(publishPacket(v, "t", "x", 1, 1, retain))
				live.read()
				pub.send(publishPacket(v, "t", "", qos, 2, retain))
				got := live.all()
				if len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf("PUBLISH q%d r0 d0", min(qos, 1))) || !strings.HasSuffix(got[0], `"t" ""`) {
					t.Fatalf("live subscriber got %q, want the empty message", got)
				}
				expectRetained(h, v, "t")
			}
			pub.send(publishPacket(v, "fresh", "", 1, 3, retain))
			expectRetained(h, v, "fresh")
			if n := h.b.retained.index.Len(); n != 0 {
				t.Errorf("%d retained messages stored, want 0", n)
			}
			live.cut()
			pub.cut()
		}
	})
}

func TestRetainHandling(t *testing.T) {
	covers(t, "MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11")
	each(t, Options{}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "x", 0, 0, retain))
		message := `PUBLISH q0 r1 d0 "t" "x"`
		s := h.client(codec.V5, "s")
		subscribe := func(handling uint8, want ...string) {
			t.Helper()
			f := filter("t", 0)
			f.RetainHandling = handling
			s.send(subscribePacket(codec.V5, 1, f))
			s.expect(append([]string{"SUBACK 1 [00]"}, want...)...)
		}
		unsubscribe := func() {
			t.Helper()
			s.send(unsubscribePacket(codec.V5, 2, "t"))
			s.expect("UNSUBACK 2 [00]")
		}
		subscribe(0, message)
		subscribe(0, message)
		subscribe(1) // exists
		unsubscribe()
		subscribe(1, message)
		subscribe(1)
		unsubscribe()
		subscribe(1, message)
		unsubscribe()
		subscribe(2)
		subscribe(2)
		subscribe(0, message)

		old := h.client(codec.V311, "old")
		old.subscribed(filter("t", 0)).expect(message)
		old.subscribed(filter("t", 0)).expect(message)
	})
}

func TestRetainHandlingOneKnowsTheSessionsSubscriptions(t *testing.T) {
	covers(t, "MQTT-3.3.1-10")
	each(t, Options{}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "x", 0, 0, retain))
		f := filter("t", 0)
		f.RetainHandling = 1
		s := h.client(codec.V5, "s", keepFor(100)).subscribed(f)
		s.expect(`PUBLISH q0 r1 d0 "t" "x"`)
		s.cut()
		h.back(codec.V5, "s", keepFor(100)).subscribed(f).expect()
		h.client(codec.V5, "s").subscribed(f).expect(`PUBLISH q0 r1 d0 "t" "x"`) // Clean Start
	})
}

func TestRetainAsPublished(t *testing.T) {
	covers(t, "MQTT-3.3.1-12", "MQTT-3.3.1-13")
	each(t, Options{}, func(t *testing.T, h *harness) {
		kept := filter("t", 1)
		kept.RetainAsPublished = true
		plain := h.client(codec.V5, "plain").subscribed(filter("t", 1))
		asPublished := h.client(codec.V5, "asPublished").subscribed(kept)
		old := h.client(codec.V311, "old").subscribed(filter("t", 1))
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "0", 0, 0, retain), publishPacket(codec.V5, "t", "1", 1, 1, retain), publishPacket(codec.V5, "t", "2", 1, 2))
		cleared := []string{`PUBLISH q0 r0 d0 "t" "0"`, `PUBLISH q1 r0 d0 id=1 "t" "1"`, `PUBLISH q1 r0 d0 id=2 "t" "2"`}
		plain.expect(cleared...)
		old.expect(cleared...)
		asPublished.expect(`PUBLISH q0 r1 d0 "t" "0"`, `PUBLISH q1 r1 d0 id=1 "t" "1"`, `PUBLISH q1 r0 d0 id=2 "t" "2"`)

		pubOld := h.client(codec.V311, "pubOld")
		pubOld.send(publishPacket(codec.V311, "t", "3", 0, 0, retain))
		plain.expect(`PUBLISH q0 r0 d0 "t" "3"`)
		old.expect(`PUBLISH q0 r0 d0 "t" "3"`)
		asPublished.expect(`PUBLISH q0 r1 d0 "t" "3"`)
	})
}
