package load

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func short(w Messages) Messages {
	w.Payload = 64
	w.Warmup, w.Duration, w.Drain = 20*time.Millisecond, 100*time.Millisecond, time.Second
	return w
}

func run(t *testing.T, w Messages, b *fakeBroker) (MessagesResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return w.Run(ctx, Broker{Address: b.address, PID: os.Getpid()})
}

func TestMessages(t *testing.T) {
	f := func(w Messages) {
		t.Helper()
		r, err := run(t, short(w), startFakeBroker(t, nil))
		if err != nil {
			t.Errorf("%v QoS %d: %v", w.Mapping, w.QoS, err)
			return
		}
		if r.Lost+r.Duplicate+r.Late != 0 {
			t.Errorf("%v QoS %d: lost %d, duplicate %d, late %d", w.Mapping, w.QoS, r.Lost, r.Duplicate, r.Late)
		}
		if r.Delivered == 0 || uint64(r.Latency.TotalCount()) != r.Delivered || r.BrokerCPU <= 0 || r.BrokerRSS <= 0 {
			t.Errorf("%v QoS %d: delivered %d, latencies %d, CPU %v, RSS %d",
				w.Mapping, w.QoS, r.Delivered, r.Latency.TotalCount(), r.BrokerCPU, r.BrokerRSS)
		}
	}
	f(Messages{Publishers: 3, Subscribers: 3, Window: 4})
	f(Messages{Publishers: 3, Subscribers: 3, Window: 4, QoS: 1})
	f(Messages{Publishers: 3, Subscribers: 3, Window: 4, QoS: 2})
	f(Messages{Publishers: 1, Subscribers: 5, Window: 2, Mapping: FanOut})
	f(Messages{Publishers: 1, Subscribers: 5, Window: 2, Mapping: FanOut, QoS: 2})
	f(Messages{Publishers: 5, Subscribers: 1, Window: 2, Mapping: FanIn, QoS: 1})
}

// What a broker does to messages is counted: it takes one from every 1000 away, doubles one, and
// delivers one after its successor.
func TestMessagesMangled(t *testing.T) {
	var mangled struct{ lost, duplicate, late uint64 }
	var held []byte
	b := startFakeBroker(t, func(n int, packet []byte) [][]byte {
		if held != nil {
			out := [][]byte{packet, held}
			held = nil
			mangled.late++
			return out
		}
		switch n {
		case 10:
			mangled.lost++
			return nil
		case 20:
			mangled.duplicate++
			return [][]byte{packet, packet}
		case 30:
			held = packet
			return nil
		}
		return [][]byte{packet}
	})
	w := short(Messages{Publishers: 1, Subscribers: 1, Window: 64})
	w.Drain = 50 * time.Millisecond
	r, err := run(t, w, b)
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != mangled.lost || r.Duplicate != mangled.duplicate || r.Late != mangled.late || mangled.late != 1 {
		t.Errorf("lost %d, duplicate %d, late %d; done was %+v", r.Lost, r.Duplicate, r.Late, mangled)
	}
}

// A fixed rate is kept, and a broker that pauses is charged for every message due meanwhile.
func TestMessagesRate(t *testing.T) {
	var paused bool
	b := startFakeBroker(t, func(n int, packet []byte) [][]byte {
		if n == 100 && !paused {
			paused = true
			time.Sleep(50 * time.Millisecond)
		}
		return [][]byte{packet}
	})
	w := short(Messages{Publishers: 2, Subscribers: 2, Window: 4, Rate: 2000})
	w.Warmup, w.Duration = 0, 200*time.Millisecond
	r, err := run(t, w, b)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent < 380 || r.Sent > 402 {
		t.Errorf("sent %d in 200 ms at 2000 a second", r.Sent)
	}
	if slow := r.LatencyAt(90); slow < 5000 {
		t.Errorf("a pause of 50 ms in 200 left the latency of the slowest tenth at %.0f us", slow)
	}
}

func TestMessagesFails(t *testing.T) {
	f := func(want string, mangle func(n int, packet []byte) [][]byte) {
		t.Helper()
		_, err := run(t, short(Messages{Publishers: 1, Subscribers: 1, Window: 4}), startFakeBroker(t, mangle))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	always := func(packet ...byte) func(int, []byte) [][]byte {
		return func(int, []byte) [][]byte { return [][]byte{packet} }
	}
	f("too short", always(0x30, 1, 0))
	f("longer than four bytes", always(0x30, 0xff, 0xff, 0xff, 0xff, 1))
	f("packet 0xd0 at a subscriber", always(0xd0, 0))
	f("published were QoS 0 and 64", always(0x30, 3, 0, 1, 'a'))
	f("another run", func(_ int, p []byte) [][]byte { p[len(p)-64+4]++; return [][]byte{p} })
	f("never sent", func(_ int, p []byte) [][]byte { p[len(p)-64+15]++; return [][]byte{p} })
}

func TestValidate(t *testing.T) {
	good := short(Messages{Publishers: 2, Subscribers: 2, Window: 1})
	f := func(ok bool, change func(w *Messages)) {
		t.Helper()
		w := good
		change(&w)
		if err := w.Validate(); (err == nil) != ok {
			t.Errorf("%+v: %v", w, err)
		}
	}
	f(true, func(*Messages) {})
	f(false, func(w *Messages) { w.Publishers = 1 })
	f(false, func(w *Messages) { w.Mapping = FanOut })
	f(true, func(w *Messages) { w.Mapping, w.Publishers = FanOut, 1 })
	f(true, func(w *Messages) { w.Mapping, w.Subscribers = FanIn, 1 })
	f(false, func(w *Messages) { w.Mapping = FanIn })
	f(false, func(w *Messages) { w.Mapping = 3 })
	f(false, func(w *Messages) { w.QoS = 3 })
	f(false, func(w *Messages) { w.Payload = stampBytes - 1 })
	f(false, func(w *Messages) { w.Payload = maxPayload + 1 })
	f(false, func(w *Messages) { w.Window = 0 })
	f(false, func(w *Messages) { w.Window = maxWindow + 1 })
	f(false, func(w *Messages) { w.Rate = -1 })
	f(false, func(w *Messages) { w.Duration = 0 })
}

func TestIdle(t *testing.T) {
	b := startFakeBroker(t, nil)
	r, err := Idle{Connections: 50, Settle: 20 * time.Millisecond}.Run(t.Context(), Broker{b.address, os.Getpid()})
	if err != nil || r.Connections != 50 || r.BaseRSS <= 0 || r.Opening <= 0 || r.Elapsed < 20*time.Millisecond {
		t.Errorf("%+v, %v", r, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.subscribers) != 50 {
		t.Errorf("%d subscriptions", len(b.subscribers))
	}
}

func TestCycles(t *testing.T) {
	b := startFakeBroker(t, nil)
	r, err := Cycles{Clients: 4, Duration: 50 * time.Millisecond}.Run(t.Context(), Broker{b.address, os.Getpid()})
	if err != nil || r.Cycles == 0 || r.CPUPerCycle() <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestCancel(t *testing.T) {
	b := startFakeBroker(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w := short(Messages{Publishers: 1, Subscribers: 1, Window: 1})
	w.Duration = time.Hour
	if _, err := w.Run(ctx, Broker{b.address, os.Getpid()}); err != context.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
}

func TestNoAllocs(t *testing.T) {
	r := newMessagesRun(short(Messages{Publishers: 1, Subscribers: 1, Window: 8, QoS: 2}))
	p := &r.publishers[0]
	p.conn = &conn{}
	c := &conn{filter: r.filter(0)}
	r.sending, r.measuring = true, true
	allocs := testing.AllocsPerRun(1000, func() {
		r.publish(p, 1)
		for packet := p.conn.out; len(packet) > 0; {
			body, size, _ := splitPacket(packet)
			if err := r.packet(c, packet[0], body, 2000); err != nil {
				t.Fatal(err)
			}
			packet = packet[size:]
		}
		p.conn.out, c.out = p.conn.out[:0], c.out[:0]
		for id := range uint16(8) {
			for _, first := range []byte{pubrecPacket, pubcompPacket} {
				if err := r.packet(p.conn, first, []byte{0, byte(id + 1)}, 2000); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.conn.out, r.dirty, p.dirty = p.conn.out[:0], r.dirty[:0], false
	})
	if allocs != 0 || r.delivered < 8000 || r.publishers[0].inflight != 0 {
		t.Errorf("%v allocations for 8 messages, %d delivered, %d in flight", allocs, r.delivered, p.inflight)
	}
}
