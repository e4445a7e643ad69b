package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// packetsToSpoil are packets of each type, well formed, with all that the
// version allows in them; and those that only servers send.
func packetsToSpoil(v codec.Version) map[string][]byte {
	var props codec.Properties
	if v == codec.V5 {
		props = codec.AppendUint(props, codec.PayloadFormatIndicator, 1)
		props = codec.AppendBytes(props, codec.ResponseTopic, "r/s")
		props = codec.AppendUserProperty(props, "n", "v")
	}
	publish := func(qos codec.QoS, id uint16) []byte {
		d := codec.Delivery{QoS: qos, PacketID: id, Retain: qos == 1, Dup: qos == 2}
		if v == codec.V5 {
			d.TopicAlias, d.HasMessageExpiry, d.MessageExpiry = 3, true, 9
		}
		return codec.AppendPublish(nil, v, &d, []byte("t/u"), []byte("payload"), props)
	}
	packets := map[string][]byte{
		"CONNECT": connectPacket(v, "c", true, login("user", "word"), keepAlive(60), func(c *codec.Connect) {
			c.Will = &codec.Will{Topic: []byte("w"), Payload: []byte("x"), QoS: 1, Properties: props}
			if v == codec.V5 {
				c.Properties = codec.AppendUint(c.Properties, codec.SessionExpiryInterval, 5)
				c.Properties = codec.AppendUint(c.Properties, codec.MaximumPacketSize, 64)
				c.Properties = codec.AppendUint(c.Properties, codec.TopicAliasMaximum, 2)
			}
		}),
		"PUBLISH 0":   publish(0, 0),
		"PUBLISH 1":   publish(1, 8),
		"PUBLISH 2":   publish(2, 7),
		"PUBACK":      ackPacket(v, codec.PUBACK, 1, codec.UnspecifiedError),
		"PUBREC":      ackPacket(v, codec.PUBREC, 2, 0),
		"PUBREL":      ackPacket(v, codec.PUBREL, 9, codec.PacketIdentifierNotFound),
		"PUBCOMP":     ackPacket(v, codec.PUBCOMP, 3, 0),
		"SUBSCRIBE":   subscribePacket(v, 5, filter("x/+/y", 2), filter("$share/g/t/#", 1)),
		"UNSUBSCRIBE": unsubscribePacket(v, 6, "t/#", "none"),
		"PINGREQ":     {0xC0, 0},
		"DISCONNECT":  disconnectPacket(v, codec.DisconnectWithWill),
		"CONNACK":     {0x20, 2, 0, 0},
		"SUBACK":      {0x90, 3, 0, 5, 0},
		"UNSUBACK":    {0xB0, 2, 0, 5},
		"PINGRESP":    {0xD0, 0},
		"type 0":      {0x00, 2, 0, 5},
		"AUTH":        authPacket(codec.ReAuthenticate, "turn", "hello"),
	}
	if v == codec.V5 {
		d := codec.Disconnect{Properties: codec.AppendUint(nil, codec.SessionExpiryInterval, 1)}
		packets["DISCONNECT 5"] = d.Append(nil, v)
		packets["SUBSCRIBE 5"] = subscribeID(5, 77, option("x", 0x2D))
		packets["AUTH 18"] = authPacket(codec.ContinueAuthentication, "turn", "proof")
	}
	return packets
}

// spoil gives f the packet in all the ways in which it can arrive wrong: cut
// off, cut off with a length to match, longer, with wrong lengths, and with
// bits of each byte turned over.
func spoil(packet []byte, f func(what string, data []byte)) {
	for i := range packet {
		f(fmt.Sprintf("cut at %d", i), packet[:i:i])
		if i >= 2 {
			b := slices.Clone(packet[:i])
			b[1] = byte(i - 2)
			f(fmt.Sprintf("ends at %d", i), b)
		}
		for _, bits := range []byte{0x01, 0x80, 0xFF} {
			b := slices.Clone(packet)
			b[i] ^= bits
			f(fmt.Sprintf("byte %d ^ %02X", i, bits), b)
		}
	}
	f("longer", append([]byte{packet[0], packet[1] + 1}, append(packet[2:len(packet):len(packet)], 0)...))
	for _, length := range [][]byte{{0}, {packet[1] - 1}, {0x7F}, {0xFF, 0x1F}, {0x80, 0x20}, {0xFF, 0xFF, 0xFF, 0x7F},
		{0x80, 0x80, 0x80, 0x80}, {0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, {packet[1] | 0x80, 0}} {
		f(fmt.Sprintf("length % X", length), slices.Concat(packet[:1], length, packet[2:]))
	}
}

func TestSpoiledPackets(t *testing.T) {
	for s := range hostileStates {
		v := s.version()
		if v == 0 {
			v = codec.V5
		}
		for name, packet := range packetsToSpoil(v) {
			t.Run(fmt.Sprintf("state %d/%s", s, name), func(t *testing.T) {
				loops := 1 + 2*int(packet[0]>>4&1)
				newHostile(t, loops, s).feed(packet, 0)
				spoil(packet, func(what string, data []byte) {
					defer func() {
						if t.Failed() {
							t.Logf("%s: % X", what, data)
						}
					}()
					newHostile(t, loops, s).feed(append(data, pingreq...), 0)
				})
			})
			if t.Failed() {
				return
			}
		}
	}
}

// Random packets one after the other, some of them framed as they should be,
// in pieces of every size.
func TestRandomPackets(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := hostileState(r.IntN(int(hostileStates)))
		var data []byte
		for range 1 + r.IntN(6) {
			data = append(data, randomPacket(r, s.version())...)
		}
		h := newHostile(t, 1+2*r.IntN(2), s)
		h.feed(data, r.IntN(9))
		if t.Failed() {
			t.Fatalf("seed %d: % X", seed, data)
		}
	}
}

func randomPacket(r *rand.Rand, v codec.Version) []byte {
	b := make([]byte, r.IntN(40))
	for i := range b {
		b[i] = byte(r.UintN(256))
		if r.IntN(3) > 0 {
			b[i] &= 0x07 // small numbers get further
		}
	}
	switch r.IntN(4) {
	case 0:
		return b
	case 1:
		return append([]byte{byte(r.UintN(256)), byte(len(b))}, b...)
	}
	if v == 0 {
		v = codec.V311
	}
	var all [][]byte
	for _, name := range []string{"CONNECT", "PUBLISH 0", "PUBLISH 1", "PUBLISH 2", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
		"SUBSCRIBE", "UNSUBSCRIBE", "PINGREQ", "AUTH", "DISCONNECT"} {
		all = append(all, packetsToSpoil(v)[name])
	}
	p := slices.Clone(all[r.IntN(len(all))])
	if r.IntN(3) == 0 {
		p[r.IntN(len(p))] = byte(r.UintN(256))
	}
	return p
}

// Arbitrary bytes in any state: the broker does not panic, stays consistent,
// answers what can be read, ends with the connection open or closed, and
// publishes the will exactly when it must.
func FuzzConn(f *testing.F) {
	for s := range hostileStates {
		v := s.version()
		if v == 0 {
			v = codec.V5
		}
		var all []byte
		for _, packet := range packetsToSpoil(v) {
			f.Add(byte(s), byte(len(packet)%4), packet)
		}
		for _, name := range []string{"SUBSCRIBE", "PUBLISH 2", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "UNSUBSCRIBE", "PINGREQ", "DISCONNECT"} {
			all = append(all, packetsToSpoil(v)[name]...)
		}
		f.Add(byte(s)|0x80, byte(1), all)
		f.Add(byte(s), byte(0), append(packetsToSpoil(v)["CONNECT"], all...))
	}
	f.Fuzz(func(t *testing.T, state, step byte, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		loops := 1 + 2*int(state>>7)
		newHostile(t, loops, hostileState(state&0x7F)%hostileStates).feed(data, int(step))
	})
}

// A length costs nothing before its bytes are there: 40 connections announce
// 256 MB each and send 1 KiB of it.
func TestAnnouncedLengthCostsNothing(t *testing.T) {
	const announcers, sent = 40, 1 << 10
	f := func(name string, o Options, open bool, packet []byte, stays bool) {
		t.Helper()
		h := newHarness(t, 1, o)
		var peers []*peer
		for i := range announcers {
			p := h.dial(codec.V311)
			if open {
				p.send(connectPacket(codec.V311, fmt.Sprint("p", i), true))
				p.expectConnack(false)
			}
			peers = append(peers, p)
		}
		chunk := make([]byte, 64)
		before := heapInUse()
		for _, p := range peers {
			p.send(packet)
			for range sent / len(chunk) {
				p.send(chunk)
			}
		}
		grown := int64(heapInUse()) - int64(before)
		for _, p := range peers {
			if p.closed == stays {
				t.Fatalf("%s: closed %v", name, p.closed)
			}
		}
		if limit := int64(announcers * 16 * sent); grown > limit {
			t.Errorf("%s: %d connections cost %d bytes, more than %d", name, announcers, grown, limit)
		}
		runtime.KeepAlive(h)
	}
	largest := Options{MaximumPacketSize: largestPacket}
	f("PUBLISH, allowed", largest, true, []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 't'}, true)
	f("SUBSCRIBE, allowed", largest, true, []byte{0x82, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1}, true)
	f("PUBLISH, refused", Options{}, true, []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 't'}, false)
	f("CONNECT", largest, false, []byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, 'M', 'Q', 'T', 'T'}, false)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What counts for the keep-alive is whole packets.
func TestDribblingDoesNotKeepAlive(t *testing.T) {
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p := h.client(v, "p", keepAlive(10), lastWill("w", 0))
			watch := h.client(v, "watch").subscribed(filter("will", 0))
			packet := publishPacket(v, "topic", "a payload of some length", 0, 0)
			for i := range 5 { // dribbled at a pace that completes each in time
				for _, b := range packet[:10] {
					p.send([]byte{b})
					h.advance(time.Second)
				}
				p.send(packet[10:])
				if p.closed {
					t.Fatalf("%v: closed after %d packets", v, i)
				}
			}
			for i, b := range packet { // and one that does not
				p.send([]byte{b})
				h.advance(time.Second)
				if p.closed {
					if i < 14 || i > 16 {
						t.Errorf("%v: closed after %d s", v, i+1)
					}
					break
				}
			}
			if v == codec.V5 {
				p.expectEnd("DISCONNECT 8D")
			} else {
				p.expectEnd()
			}
			watch.expect(`PUBLISH q0 r0 d0 "will" "w"`)
			watch.send(disconnectPacket(v, 0))
		}
	})
}

// A whole session, one byte at a time, says the same as in one piece.
func TestByteByByte(t *testing.T) {
	for _, loops := range []int{1, 3} {
		for _, v := range versions {
			session := slices.Concat(connectPacket(v, "p", true, keepAlive(60)), subscribePacket(v, 1, filter("t/#", 2)),
				publishPacket(v, "t/0", "zero", 0, 0), publishPacket(v, "t/1", strings.Repeat("x", 300), 1, 1),
				publishPacket(v, "t/2", "two", 2, 2), ackPacket(v, codec.PUBREL, 2, 0), ackPacket(v, codec.PUBACK, 1, 0),
				ackPacket(v, codec.PUBREC, 2, 0), ackPacket(v, codec.PUBCOMP, 2, 0), pingreq,
				unsubscribePacket(v, 3, "t/#"), publishPacket(v, "t/0", "gone", 0, 0), disconnectPacket(v, 0))
			var want []string
			for step := len(session); step > 0; step /= 2 {
				h := newHarness(t, loops, Options{})
				p := h.dial(v)
				for rest := session; len(rest) > 0; rest = rest[min(step, len(rest)):] {
					p.send(rest[:min(step, len(rest))])
				}
				got := p.all()
				if want == nil {
					want = got
				}
				if !slices.Equal(got, want) || len(got) != 11 || !p.closed {
					t.Errorf("%v in pieces of %d: closed %v, got %q, want %q", v, step, p.closed, got, want)
				}
				h.consistent()
			}
		}
	}
}
