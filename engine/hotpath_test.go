package engine

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
)

// A rig is a broker with sockets that swallow what they are given, for
// benchmarks of everything between a read and a write.
type rig struct {
	b     *Broker
	clock *clock.Manual
	woken []bool // by loop
}

func newRig(tb testing.TB, loops int, hooks ...any) *rig {
	tb.Helper()
	r := &rig{clock: new(clock.Manual)}
	r.clock.Advance(time.Hour)
	b, err := newBroker(Options{Loops: loops, SysInterval: -1, MaxInflight: 1000, ReceiveMaximum: 1000,
		Listeners: []Listener{{Address: "rig:1883", Anonymous: true}}, Hooks: hooks,
		Logger: slog.New(slog.DiscardHandler)}, r.clock)
	if err != nil {
		tb.Fatal(err)
	}
	r.b, r.woken = b, make([]bool, loops)
	for i, l := range b.loops {
		l.mailbox.bind(func() { r.woken[i] = true })
		l.wakeAfter = func(time.Duration) {}
	}
	return r
}

// sink is a socket that counts.
type sink struct {
	conn    transport.Peer
	door    *door
	written int
	last    []byte // of the last write, when keep is set
	keep    bool
}

func (s *sink) Write(b []byte) {
	s.written += len(b)
	if s.keep {
		s.last = append(s.last[:0], b...)
	}
}
func (s *sink) SetReading(bool)             {}
func (s *sink) Buffered() int               { return 0 }
func (s *sink) Close()                      { s.conn.Closed(io.EOF) }
func (s *sink) CloseWrite() error           { return nil }
func (s *sink) Listener() any               { return s.door }
func (s *sink) TLS() *tls.ConnectionState   { return nil }
func (s *sink) Proxied() *transport.Proxied { return nil }
func (s *sink) RemoteAddr() net.Addr        { return nil }
func (s *sink) LocalAddr() net.Addr         { return nil }

// client connects on a loop and sends the packets.
func (r *rig) client(loop int, id string, packets ...[]byte) *sink {
	s := &sink{door: r.b.listeners[0]}
	s.conn = r.b.loops[loop].Opened(s)
	s.conn.Received(connectPacket(codec.V311, id, true))
	for _, p := range packets {
		s.conn.Received(p)
	}
	return s
}

// settle runs the loops that were woken until none is.
func (r *rig) settle() {
	for again := true; again; {
		again = false
		for i, l := range r.b.loops {
			if r.woken[i] {
				r.woken[i], again = false, true
				l.Woken()
			}
		}
	}
}

const hotTopic = "bench/site7/line3/device12/temperature"

var hotPayload = string(make([]byte, 64))

// batchOf is one read with n times the packets.
func batchOf(n int, one func(id uint16) []byte) []byte {
	var b []byte
	for i := range n {
		b = append(b, one(uint16(i+1))...)
	}
	return b
}

// A workload is one turn of the hot path: run it, and n messages were delivered.
type workload struct {
	name string
	n    int
	make func(tb testing.TB) (*rig, func())
}

// workloads are the paths that must not allocate, with the hooks given.
func workloads(hooks ...any) []workload {
	publish := func(qos codec.QoS) func(uint16) []byte {
		return func(id uint16) []byte { return publishPacket(codec.V311, hotTopic, hotPayload, qos, id) }
	}
	sub := func(qos codec.QoS) []byte { return subscribePacket(codec.V311, 1, filter(hotTopic, qos)) }
	pair := func(n int, qos codec.QoS) func(tb testing.TB) (*rig, func()) {
		return func(tb testing.TB) (*rig, func()) {
			r := newRig(tb, 1, hooks...)
			s, p := r.client(0, "s", sub(qos)), r.client(0, "p")
			batch := batchOf(n, publish(qos))
			id := uint16(0)
			acks := make([]byte, 0, 4*n)
			return r, func() {
				p.conn.Received(batch)
				switch qos {
				case 1:
					r.settle()
					acks, id = ackNext(acks[:0], id, n, codec.PUBACK)
					s.conn.Received(acks)
				case 2:
					p.conn.Received(pubrels(n))
					acks, _ = ackNext(acks[:0], id, n, codec.PUBREC)
					s.conn.Received(acks)
					acks, id = ackNext(acks[:0], id, n, codec.PUBCOMP)
					s.conn.Received(acks)
				}
				r.settle()
			}
		}
	}
	return []workload{
		{"pair/qos0/batch1", 1, pair(1, 0)},
		{"pair/qos0/batch64", 64, pair(64, 0)},
		{"pair/qos1/batch20", 20, pair(20, 1)},
		{"pair/qos2/batch20", 20, pair(20, 2)},
		{"fanout500/qos0/batch8", 8 * 500, func(tb testing.TB) (*rig, func()) {
			r := newRig(tb, 1, hooks...)
			for i := range 500 {
				r.client(0, "s"+string(rune('0'+i/100))+string(rune('0'+i/10%10))+string(rune('0'+i%10)), sub(0))
			}
			p := r.client(0, "p")
			batch := batchOf(8, publish(0))
			return r, func() { p.conn.Received(batch); r.settle() }
		}},
		{"cross-loop/qos0/batch64", 64, func(tb testing.TB) (*rig, func()) {
			r := newRig(tb, 2, hooks...)
			r.client(1, "s", sub(0))
			p := r.client(0, "p")
			r.settle()
			batch := batchOf(64, publish(0))
			return r, func() { p.conn.Received(batch); r.settle() }
		}},
		{"cross-loop/qos1/batch20", 20, func(tb testing.TB) (*rig, func()) {
			r := newRig(tb, 2, hooks...)
			s := r.client(1, "s", sub(1))
			p := r.client(0, "p")
			r.settle()
			batch := batchOf(20, publish(1))
			id := uint16(0)
			acks := make([]byte, 0, 80)
			return r, func() {
				p.conn.Received(batch)
				r.settle()
				acks, id = ackNext(acks[:0], id, 20, codec.PUBACK)
				s.conn.Received(acks)
			}
		}},
	}
}

var pubrelBatch = map[int][]byte{}

// pubrels is one read with the PUBRELs of identifiers 1 to n.
func pubrels(n int) []byte {
	if pubrelBatch[n] == nil {
		pubrelBatch[n] = batchOf(n, func(id uint16) []byte { return ackPacket(codec.V311, codec.PUBREL, id, 0) })
	}
	return pubrelBatch[n]
}

// ackNext acknowledges the n identifiers that the broker uses after id.
func ackNext(dst []byte, id uint16, n int, t codec.PacketType) ([]byte, uint16) {
	for range n {
		id++
		if id == 0 {
			id = 1
		}
		dst = codec.AppendAck(dst, codec.V311, t, id, 0, nil)
	}
	return dst, id
}

// delivered is the number of PUBLISH packets sent so far.
func (r *rig) delivered() (n uint64) {
	for _, l := range r.b.loops {
		n += l.counters.PacketsSent[codec.PUBLISH]
	}
	return n
}

func TestHotPathDelivers(t *testing.T) {
	for _, w := range workloads() {
		r, turn := w.make(t)
		before := r.delivered()
		for range 100 {
			turn()
		}
		if got := r.delivered() - before; got != uint64(100*w.n) {
			t.Errorf("%s: %d messages delivered in 100 turns, want %d", w.name, got, 100*w.n)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) { doesNotAllocate(t) }

func TestHooksDoNotAllocate(t *testing.T) { doesNotAllocate(t, idleHooks...) }

func doesNotAllocate(t *testing.T, hooks ...any) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	for _, w := range workloads(hooks...) {
		_, turn := w.make(t)
		for range 200 { // pools and caches fill
			turn()
		}
		if allocs := testing.AllocsPerRun(500, turn); allocs > 0 {
			t.Errorf("%s: %v allocations per turn of %d messages", w.name, allocs, w.n)
		}
	}
}
