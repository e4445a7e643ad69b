package engine

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// A reader takes deliveries and acknowledges them, on a goroutine of its own.
type reader struct {
	*socketClient
	taken [3]atomic.Int64 // messages by QoS
	fault atomic.Pointer[string]
	stamp [3]int64 // last seen, by QoS; of the goroutine
}

// run reads until the connection ends. Payloads begin with their number in
// the QoS they were sent with.
func (r *reader) run() {
	for {
		h, body, err := r.frame()
		if err != nil {
			return
		}
		switch h.Type {
		case codec.PUBLISH:
			r.take(h, body)
		case codec.PUBREL:
			a, _ := codec.ParseAck(h.Type, body, r.v)
			_ = r.send(ackPacket(r.v, codec.PUBCOMP, a.PacketID, 0))
		}
	}
}

func (r *reader) take(h codec.Header, body []byte) {
	var p codec.Publish
	if err := codec.ParsePublish(&p, h.Flags, body, r.v, codec.FromServer); err != nil {
		r.failf("%v", err)
		return
	}
	var n int64
	if _, err := fmt.Sscanf(string(p.Payload[:min(len(p.Payload), 20)]), "%d", &n); err != nil {
		r.failf("payload %.20q", p.Payload)
	}
	if last := r.stamp[p.QoS]; n <= last || p.QoS > 0 && n != last+1 {
		r.failf("QoS %d: %d after %d", p.QoS, n, last)
	}
	r.stamp[p.QoS] = n
	switch p.QoS {
	case 1:
		_ = r.send(ackPacket(r.v, codec.PUBACK, p.PacketID, 0))
	case 2:
		_ = r.send(ackPacket(r.v, codec.PUBREC, p.PacketID, 0))
	}
	r.taken[p.QoS].Add(1)
}

func (r *reader) failf(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	r.fault.CompareAndSwap(nil, &s)
}

// TestSlowReaderOverSockets: one subscriber that never reads among fast ones.
func TestSlowReaderOverSockets(t *testing.T) {
	const (
		rounds  = 60
		batch   = 8        // messages of each QoS in a round
		payload = 15 << 10 // kept in 16 KiB
	)
	b := startBroker(t, Options{Loops: 2, OutboundBytes: 64 << 10, MaxQueuedBytes: 64 << 20})
	slow := connectSocket(t, b, codec.V5, "slow", true).subscribe(filter("t", 1))
	var fast [6]*reader
	for i := range fast {
		c := connectSocket(t, b, versions[i%len(versions)], fmt.Sprint("fast", i), true).subscribe(filter("t", 1))
		fast[i] = &reader{socketClient: c}
		go fast[i].run()
	}
	pub := connectSocket(t, b, codec.V5, "pub", true)
	before := heapInUse()
	for round := range rounds {
		sendRound(t, pub, round, batch, payload)
		want := int64((round + 1) * batch)
		eventually(t, 3*time.Second, fmt.Sprintf("round %d has reached all fast readers", round), func() bool {
			for _, r := range fast {
				if r.taken[0].Load() < want || r.taken[1].Load() < want {
					return false
				}
			}
			return true
		})
	}
	for i, r := range fast {
		if f := r.fault.Load(); f != nil {
			t.Errorf("fast reader %d: %s", i, *f)
		}
	}
	// The slow one's QoS 1 messages wait once, for it alone; QoS 0 does not.
	offered := int64(2 * rounds * batch * payload)
	if grown := int64(heapInUse()) - int64(before); grown > offered*3/4 {
		t.Errorf("%d bytes were kept of %d offered", grown, offered)
	}
	eventually(t, socketPatience, "QoS 0 was dropped", func() bool { return b.stats().Dropped[hook.DropSlowReader] > 0 })

	late := &reader{socketClient: slow}
	go late.run()
	eventually(t, socketPatience, "the slow reader has all of QoS 1", func() bool { return late.taken[1].Load() == rounds*batch })
	if f := late.fault.Load(); f != nil {
		t.Errorf("slow reader: %s", *f)
	}
	if got := late.taken[0].Load(); got == rounds*batch {
		t.Errorf("the slow reader has all %d messages of QoS 0", got)
	}
	// and then it is served as everybody else
	before0 := late.taken[0].Load()
	sendRound(t, pub, rounds, batch, payload)
	eventually(t, socketPatience, "the slow reader is served as the others", func() bool {
		return late.taken[0].Load() == before0+batch && late.taken[1].Load() == (rounds+1)*batch
	})
}

// sendRound publishes batch messages of QoS 0 and as many of QoS 1 and takes
// the acknowledgements.
func sendRound(t *testing.T, pub *socketClient, round, batch, payload int) {
	t.Helper()
	var out []byte
	for i := range batch {
		text := fmt.Sprintf("%020d", round*batch+i+1) + strings.Repeat("x", payload-20)
		out = append(out, publishPacket(pub.v, "t", text, 0, 0)...)
		out = append(out, publishPacket(pub.v, "t", text, 1, uint16(i+1))...)
	}
	if err := pub.send(out); err != nil {
		t.Fatal(err)
	}
	for i := range batch {
		pub.expect(fmt.Sprintf("PUBACK %d 00", i+1))
	}
}
