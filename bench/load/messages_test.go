package load

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func short(w Messages) *Messages {
	if w.Payload == 0 {
		w.Payload = 64
	}
	w.Warmup, w.Duration, w.Drain = 20*time.Millisecond, 100*time.Millisecond, 20*time.Second
	return &w
}

func run(t *testing.T, w Workload, b *fakeBroker, v Version) (*Result, error) {
	t.Helper()
	return runTo(t, w, Broker{Address: b.address, PID: os.Getpid(), Version: v})
}

// runTo runs w. A machine that is busy can let nothing at all happen in a window of 50 ms: then it is run again.
func runTo(t *testing.T, w Workload, b Broker) (r *Result, err error) {
	t.Helper()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		r, err = w.Run(ctx, b, nil)
		cancel()
		if err != nil || r.Done > 0 || r.Flawed() {
			break
		}
	}
	return r, err
}

func TestMessages(t *testing.T) {
	f := func(w Messages) {
		t.Helper()
		for _, v := range []Version{V311, V5} {
			r, err := run(t, short(w), startFakeBroker(t, nil), v)
			if err != nil {
				t.Errorf("MQTT %v, %v QoS %d: %v", v, w.Mapping, w.QoS, err)
				continue
			}
			if r.Flawed() {
				t.Errorf("MQTT %v, %v QoS %d: lost %d, duplicate %d, late %d", v, w.Mapping, w.QoS, r.Lost, r.Duplicate, r.Late)
			}
			if r.Done == 0 || r.Latency.Count != r.Done || r.Latency.At(50) <= 0 || r.Latency.At(100) < r.Latency.At(99) || r.BrokerCPU <= 0 || r.BrokerRSS <= 0 {
				t.Errorf("MQTT %v, %v QoS %d: done %d, latencies %+v, CPU %v, RSS %d",
					v, w.Mapping, w.QoS, r.Done, r.Latency, r.BrokerCPU, r.BrokerRSS)
			}
		}
	}
	f(Messages{Publishers: 3, Subscribers: 3, Window: 4})
	f(Messages{Publishers: 3, Subscribers: 3, Window: 4, QoS: 1})
	f(Messages{Publishers: 3, Subscribers: 3, Window: 4, QoS: 2})
	f(Messages{Publishers: 1, Subscribers: 5, Window: 2, Mapping: FanOut})
	f(Messages{Publishers: 3, Subscribers: 5, Window: 2, Mapping: FanOut, QoS: 2})
	f(Messages{Publishers: 5, Subscribers: 1, Window: 2, Mapping: FanIn, QoS: 1})
	f(Messages{Publishers: 4, Subscribers: 3, Window: 2, Mapping: Shared, QoS: 1})
	f(Messages{Publishers: 2, Subscribers: 2, Window: 2, Filters: 2*filtersPerPacket + 1})
	f(Messages{Publishers: 1, Subscribers: 1, Window: 2, Payload: largePayload})
}

// The window is narrowed to what a broker of version 5 takes at once, and the report says so.
func TestReceiveMaximum(t *testing.T) {
	r, err := run(t, short(Messages{Publishers: 1, Subscribers: 1, Window: 50, QoS: 1}), startFakeBroker(t, nil), V5)
	if err != nil || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "from 50 to 3") {
		t.Errorf("%v, %v", r, err)
	}
}

// What a broker does to messages is counted: it takes one away, doubles one, and delivers one
// after its successor.
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
	r, err := run(t, w, b, V311)
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != mangled.lost || r.Duplicate != mangled.duplicate || r.Late != mangled.late || mangled.late != 1 {
		t.Errorf("lost %d, duplicate %d, late %d; done was %+v", r.Lost, r.Duplicate, r.Late, mangled)
	}
	if want := (Flaw{0, 0, mangled.lost, 1, 1}); len(r.Worst) != 1 || r.Worst[0] != want {
		t.Errorf("worst %+v, want %+v", r.Worst, want)
	}
}

// In a share, what one member got doubled or late is told from what another member got.
func TestSharedMangled(t *testing.T) {
	b := startFakeBroker(t, func(n int, packet []byte) [][]byte {
		switch n {
		case 10:
			return nil
		case 20:
			return [][]byte{packet, packet}
		}
		return [][]byte{packet}
	})
	w := short(Messages{Publishers: 1, Subscribers: 3, Mapping: Shared, Window: 64})
	w.Drain = 50 * time.Millisecond
	r, err := run(t, w, b, V5)
	if err != nil || r.Lost != 1 || r.Duplicate != 1 || r.Late != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A message that is gone does not hold its publisher up for ever.
func TestWriteOff(t *testing.T) {
	r := newMessagesRun(*short(Messages{Publishers: 1, Subscribers: 1, Window: 1}), V311)
	p := &r.publishers[0]
	p.conn = &conn{}
	p.publish(stamp{}, 1000)
	if p.free() || p.writeOff(1000) {
		t.Error("its place is free at once")
	}
	if !p.writeOff(1001) || !p.free() || p.inflight != 0 {
		t.Error("its place is not free")
	}
	if p.delivered(0) {
		t.Error("it came after all and frees a place again")
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
	began := time.Now()
	r, err := run(t, w, b, V311)
	if err != nil {
		t.Fatal(err)
	}
	// A loaded machine begins and ends the window late, and sends meanwhile. Without those due during the pause it would be 300.
	if most := 2000*time.Since(began).Seconds() + 20; r.Sent < 340 || float64(r.Sent) > most {
		t.Errorf("sent %d in %v at 2000 a second", r.Sent, r.Elapsed)
	}
	if slow := r.Latency.At(90); slow < 5*time.Millisecond {
		t.Errorf("a pause of 50 ms in 200 left the latency of the slowest tenth at %v", slow)
	}
}

// A slow subscriber neither holds the others up nor counts as a loss.
func TestSlow(t *testing.T) {
	w := short(Messages{Publishers: 1, Subscribers: 3, Mapping: FanOut, Window: 8, Rate: 500, Slow: 1, SlowBytes: 2000})
	w.Payload, w.Duration = 100, 300*time.Millisecond
	r, err := run(t, w, startFakeBroker(t, nil), V311)
	if err != nil || r.Flawed() || r.Done < 200 {
		t.Fatalf("%+v, %v", r, err)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "slow subscribers: 1, of which the broker disconnected 0; they got ") {
		t.Errorf("%q", r.Notes)
	}
}

func TestMessagesFails(t *testing.T) {
	f := func(want string, mangle func(n int, packet []byte) [][]byte) {
		t.Helper()
		_, err := run(t, short(Messages{Publishers: 1, Subscribers: 1, Window: 4}), startFakeBroker(t, mangle), V311)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	always := func(packet ...byte) func(int, []byte) [][]byte {
		return func(int, []byte) [][]byte { return [][]byte{packet} }
	}
	f("too short", always(0x30, 1, 0))
	f("longer than four bytes", always(0x30, 0xff, 0xff, 0xff, 0xff, 1))
	f("PINGRESP without PINGREQ", always(0xd0, 0))
	f("packet 0x40 at a subscriber", always(0x40, 2, 0, 1))
	f("disconnects: 0x97, quota exceeded", always(0xe0, 2, 0x97, 0))
	f("published was QoS 0", always(0x32, 5, 0, 1, 'a', 0, 1))
	f("message of 0 bytes, published were 64", always(0x30, 3, 0, 1, 'a'))
	f("another run", func(_ int, p []byte) [][]byte { p[len(p)-64+7] ^= 1; return [][]byte{p} })
	f("message of another run", func(_ int, p []byte) [][]byte { p[len(p)-64+4]++; return [][]byte{p} })
	f("never sent", func(_ int, p []byte) [][]byte { p[len(p)-64+3]++; return [][]byte{p} })
}

func TestRefused(t *testing.T) {
	b := startFakeBroker(t, nil)
	b.set(func() { b.refuse = func(int) bool { return true } })
	_, err := run(t, short(Messages{Publishers: 1, Subscribers: 1, Window: 4}), b, V311)
	if err == nil || !strings.Contains(err.Error(), "not authorized") {
		t.Errorf("%v", err)
	}
	_, err = short(Messages{Publishers: 1, Subscribers: 1, Window: 4}).Run(t.Context(), Broker{Address: "127.0.0.1:1"}, nil)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	good := short(Messages{Publishers: 2, Subscribers: 2, Window: 1})
	f := func(ok bool, change func(w *Messages)) {
		t.Helper()
		w := *good
		change(&w)
		if err := w.Validate(); (err == nil) != ok {
			t.Errorf("%+v: %v", w, err)
		}
	}
	f(true, func(*Messages) {})
	f(false, func(w *Messages) { w.Publishers = 1 })
	f(true, func(w *Messages) { w.Mapping = FanOut })
	f(false, func(w *Messages) { w.Mapping, w.Publishers = FanOut, maxFilters+1 })
	f(true, func(w *Messages) { w.Mapping = FanIn })
	f(true, func(w *Messages) { w.Mapping, w.Publishers = Shared, 9 })
	f(false, func(w *Messages) { w.Mapping, w.Publishers, w.Subscribers = Shared, 200_000, 251 })
	f(false, func(w *Messages) { w.Mapping, w.Publishers, w.Subscribers = FanIn, 2000, 1001 })
	f(false, func(w *Messages) { w.Mapping = 4 })
	f(false, func(w *Messages) { w.QoS = 3 })
	f(false, func(w *Messages) { w.Payload = stampBytes - 1 })
	f(false, func(w *Messages) { w.Payload = maxPayload + 1 })
	f(false, func(w *Messages) { w.Window = 0 })
	f(false, func(w *Messages) { w.Window = maxWindow + 1 })
	f(false, func(w *Messages) { w.Rate = -1 })
	f(false, func(w *Messages) { w.Duration = 0 })
	f(false, func(w *Messages) { w.Drain = -1 })
	f(false, func(w *Messages) { w.Mapping, w.Filters = FanIn, 1 })
	f(false, func(w *Messages) { w.Slow, w.SlowBytes = 1, 1000 })
	f(false, func(w *Messages) { w.Mapping, w.Slow = FanOut, 1 })
	f(false, func(w *Messages) { w.Mapping, w.Slow, w.SlowBytes = FanOut, 2, 1000 })
	f(true, func(w *Messages) { w.Mapping, w.Slow, w.SlowBytes = FanOut, 1, 1000 })
}

func TestCancel(t *testing.T) {
	b := startFakeBroker(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w := short(Messages{Publishers: 1, Subscribers: 1, Window: 1})
	w.Duration = time.Hour
	if _, err := w.Run(ctx, Broker{Address: b.address, PID: os.Getpid()}, nil); err != context.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
}

func TestNoAllocs(t *testing.T) {
	r := newMessagesRun(*short(Messages{Publishers: 1, Subscribers: 1, Window: 8, QoS: 2}), V311)
	r.driver = &driver{recorder: startRecorder(0, nil)}
	defer r.driver.stop()
	p := &r.publishers[0]
	p.conn = &conn{publisher: true}
	c := &conn{qos: 2}
	r.sending = true
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
	if allocs != 0 || r.done < 8000 || r.publishers[0].inflight != 0 {
		t.Errorf("%v allocations for 8 messages, %d delivered, %d in flight", allocs, r.done, p.inflight)
	}
}
