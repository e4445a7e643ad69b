package engine

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

func TestOrderPerPublisherTopicAndQoS(t *testing.T) {
	covers(t, "MQTT-4.6.0-5", "MQTT-4.6.0-6")
	const n = 1000
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			for qos := codec.QoS(0); qos <= 2; qos++ {
				s := h.client(v, "s").subscribed(filter("t", 2))
				pub := h.client(v, "pub")
				r := newReceiver(s)
				for i := 1; i <= n; i += 25 {
					for j := i; j < i+25; j++ {
						pub.post(publishPacket(v, "t", fmt.Sprint(j), qos, uint16(j)))
						if qos == 2 {
							pub.post(ackPacket(v, codec.PUBREL, uint16(j), 0))
						}
					}
					h.run()
					r.take(t, len(s.in))
				}
				if got := r.last["t"][qos]; got != n || pub.closed {
					t.Errorf("QoS %d: the last in order is %d, want %d", qos, got, n)
				}
			}
		}
	})
}

func TestMemberOfASharedSubscriptionSeesIncreasingSequences(t *testing.T) {
	covers(t, "U5-4.6-shared")
	each(t, Options{}, func(t *testing.T, h *harness) {
		one := h.client(codec.V5, "one").subscribed(filter("$share/g/t", 2))
		two := h.client(codec.V5, "two").subscribed(filter("$share/g/t", 2))
		for qos := codec.QoS(0); qos <= 2; qos++ {
			pub := h.client(codec.V5, "pub")
			publishMany(h, pub, qos, 1, 60)
			total := 0
			for _, p := range []*peer{one, two} {
				last, count := 0, 0
				for _, line := range p.all() {
					n, err := strconv.Atoi(strings.Trim(line[strings.LastIndex(line, " ")+1:], `"`))
					if err != nil || n <= last {
						t.Fatalf("%s after %d", line, last)
					}
					last = n
					count++
					if qos > 0 {
						id, _ := strconv.Atoi(strings.TrimPrefix(strings.Fields(line)[4], "id="))
						if qos == 2 {
							p.send(ackPacket(codec.V5, codec.PUBREC, uint16(id), 0), ackPacket(codec.V5, codec.PUBCOMP, uint16(id), 0))
						} else {
							p.send(ackPacket(codec.V5, codec.PUBACK, uint16(id), 0))
						}
					}
				}
				if count == 0 {
					t.Errorf("QoS %d: one member got nothing", qos)
				}
				total += count
				p.in = nil // PUBREL
			}
			if total != 60 {
				t.Errorf("QoS %d: %d messages, want 60", qos, total)
			}
		}
	})
}

// A receiver is a subscriber that keeps the session's client side over several
// connections and checks the order of what it gets. Payloads are sequence
// numbers from 1, per topic and QoS.
type receiver struct {
	peer *peer
	last map[string]*[3]int // by topic, per QoS: the highest number so far
	open map[uint16]bool    // QoS 2 identifiers between PUBLISH and PUBREL
}

func newReceiver(p *peer) *receiver {
	return &receiver{peer: p, last: make(map[string]*[3]int), open: make(map[uint16]bool)}
}

// take handles packets of about n bytes, at least one, and answers them
// without letting the loops run.
func (r *receiver) take(t *testing.T, n int) {
	t.Helper()
	p := r.peer
	for before := len(p.in); len(p.in) > 0 && before-len(p.in) < max(n, 1); {
		f := p.frame()
		h, _, _ := codec.ReadHeader(f)
		switch h.Type {
		case codec.PUBLISH:
			r.publish(t, h, f)
		case codec.PUBREL:
			a, err := codec.ParseAck(h.Type, f[h.Size:], p.version)
			must(t, err)
			delete(r.open, a.PacketID)
			p.post(ackPacket(p.version, codec.PUBCOMP, a.PacketID, 0))
		case codec.CONNACK:
			ack, err := codec.ParseConnack(f[h.Size:], p.version)
			must(t, err)
			if !ack.SessionPresent {
				t.Fatal("the session was lost")
			}
		default:
			t.Fatalf("got %s", describe(t, f, p.version))
		}
	}
}

func (r *receiver) publish(t *testing.T, h codec.Header, f []byte) {
	t.Helper()
	p := r.peer
	var in codec.Publish
	must(t, codec.ParsePublish(&in, h.Flags, append([]byte(nil), f[h.Size:]...), p.version, codec.FromServer))
	n, err := strconv.Atoi(string(in.Payload))
	must(t, err)
	if r.last[string(in.Topic)] == nil {
		r.last[string(in.Topic)] = new([3]int)
	}
	last := &r.last[string(in.Topic)][in.QoS]
	wrong := func(what string) {
		t.Helper()
		t.Fatalf("%s at QoS %d, dup %v: %d after %d: %s", in.Topic, in.QoS, in.Dup, n, *last, what)
	}
	switch in.QoS {
	case 0:
		if n <= *last {
			wrong("out of order")
		}
	case 1:
		p.post(ackPacket(p.version, codec.PUBACK, in.PacketID, 0))
		if n > *last+1 {
			wrong("a gap")
		}
		if n <= *last {
			if !in.Dup {
				wrong("out of order")
			}
			return
		}
	case 2:
		p.post(ackPacket(p.version, codec.PUBREC, in.PacketID, 0))
		if r.open[in.PacketID] {
			if !in.Dup {
				wrong("identifier in use")
			}
			return
		}
		r.open[in.PacketID] = true
		if n != *last+1 {
			wrong("not exactly once, in order")
		}
	}
	*last = n
}

// A loadRun is publishers and subscribers on four loops whose turns, reads and
// reconnections happen in an order drawn from a seed. A turn may stay open
// while other loops go on: what it routed is posted when it ends.
type loadRun struct {
	*harness
	rng        *rand.Rand
	unfinished [4]bool // by loop: a turn is open
	publishers []*loadPublisher
	receivers  []*loadReceiver
}

type loadPublisher struct {
	peer *peer
	name string
	sent [3]int // per QoS
	open map[uint16]bool
}

type loadReceiver struct {
	*receiver
	id    string
	quota uint32
	away  bool
	moves int
}

// turn lets one loop, which has something to do, do it.
func (r *loadRun) turn() {
	first := r.rng.IntN(len(r.envs))
	for i := range r.envs {
		switch e := r.envs[(first+i)%len(r.envs)]; {
		case r.unfinished[e.loop.id]:
			r.unfinished[e.loop.id] = false
			e.loop.end()
			return
		case e.woken:
			e.woken = false
			e.loop.Woken()
			return
		}
	}
}

// settle ends all open turns and lets the loops come to rest.
func (r *loadRun) settle() {
	for i, open := range r.unfinished {
		if open {
			r.unfinished[i] = false
			r.envs[i].loop.end()
		}
	}
	r.run()
}

// connect opens a connection on any loop; the CONNECT is posted, nothing else happens yet.
func (r *loadRun) connect(l *loadReceiver) {
	e := r.envs[r.rng.IntN(len(r.envs))]
	p := &peer{h: r.harness, env: e, version: l.peer.version}
	p.conn = e.loop.Opened(p)
	edit := []func(*codec.Connect){}
	if p.version == codec.V5 {
		edit = append(edit, keepFor(3600), with(codec.ReceiveMaximum, l.quota))
	}
	p.post(connectPacket(p.version, l.id, false, edit...))
	l.peer, l.away = p, false
	l.moves++
}

// lose ends a connection; what was on its way to the client is lost.
func (l *loadReceiver) lose() {
	if p := l.peer; !p.gone {
		p.gone, p.in = true, nil
		p.conn.Closed(nil)
	}
	l.away = true
}

const loadMessages = 60 // per publisher and QoS

func (r *loadRun) publish(p *loadPublisher) {
	qos := codec.QoS(r.rng.IntN(3))
	if p.sent[qos] == loadMessages || len(p.open) > 50 {
		return
	}
	p.sent[qos]++
	id := uint16(p.sent[qos])
	if qos == 2 {
		p.open[id] = true
	}
	if l := p.peer.env.loop; r.rng.IntN(4) == 0 && !r.unfinished[l.id] {
		r.unfinished[l.id] = true
		l.begin()
	}
	p.peer.post(publishPacket(p.peer.version, p.name, fmt.Sprint(p.sent[qos]), qos, id))
}

// answer handles what a publisher got.
func (p *loadPublisher) answer(t *testing.T) {
	for f := p.peer.frame(); f != nil; f = p.peer.frame() {
		h, _, _ := codec.ReadHeader(f)
		a, err := codec.ParseAck(h.Type, f[h.Size:], p.peer.version)
		must(t, err)
		switch h.Type {
		case codec.PUBREC:
			p.peer.post(ackPacket(p.peer.version, codec.PUBREL, a.PacketID, 0))
		case codec.PUBCOMP:
			delete(p.open, a.PacketID)
		}
	}
}

// step does one thing, any.
func (r *loadRun) step(t *testing.T) {
	switch l := r.receivers[r.rng.IntN(len(r.receivers))]; r.rng.IntN(20) {
	case 0:
		l.lose()
	case 1, 2:
		r.connect(l) // back, or taking over
	case 3, 4, 5, 6:
		if !l.away {
			l.take(t, r.rng.IntN(len(l.peer.in)+1))
		}
	case 7, 8, 9:
		r.publishers[r.rng.IntN(len(r.publishers))].answer(t)
	case 10, 11, 12, 13, 14:
		r.publish(r.publishers[r.rng.IntN(len(r.publishers))])
	default:
		r.turn()
	}
}

// finish lets everything that is under way arrive.
func (r *loadRun) finish(t *testing.T) {
	for _, l := range r.receivers {
		r.connect(l)
	}
	for busy := true; busy; {
		r.settle()
		busy = false
		for _, p := range r.publishers {
			busy = busy || len(p.peer.in) > 0
			p.answer(t)
		}
		for _, l := range r.receivers {
			busy = busy || len(l.peer.in) > 0
			l.take(t, len(l.peer.in))
		}
	}
}

// TestOrderUnderLoad is about sessions that move between loops while messages
// from all loops are on their way to them: each publisher's messages arrive at
// each subscriber in order, at QoS 1 without a gap, at QoS 2 exactly once.
func TestOrderUnderLoad(t *testing.T) {
	covers(t, "MQTT-4.6.0-1", "MQTT-4.6.0-5", "MQTT-4.6.0-6", "MQTT-4.5.0-1")
	moves := 0
	for seed := uint64(1); seed <= 30; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := &loadRun{rng: rand.New(rand.NewPCG(seed, 1)),
				harness: newHarness(t, 4, Options{MaxQueuedMessages: Unlimited, MaxQueuedBytes: Unlimited, ReceiveMaximum: 100})}
			for i := range 4 {
				p := &loadPublisher{name: fmt.Sprintf("load/%d", i), open: make(map[uint16]bool)}
				p.peer = r.dialOn(i, deliveryVersions[i%2])
				p.peer.send(connectPacket(p.peer.version, p.name, true))
				p.peer.expectConnack(false)
				r.publishers = append(r.publishers, p)
			}
			for i := range 4 {
				l := &loadReceiver{id: fmt.Sprintf("s%d", i), quota: uint32(1 + 20*i)}
				l.receiver = newReceiver(staying(r.harness, deliveryVersions[i%2], l.id).subscribed(filter("load/#", 2)))
				r.receivers = append(r.receivers, l)
			}
			for range 4000 {
				r.step(t)
			}
			for _, p := range r.publishers {
				for p.sent[1] < loadMessages || p.sent[2] < loadMessages {
					r.publish(p)
					r.settle()
					p.answer(t)
				}
			}
			r.finish(t)
			for _, l := range r.receivers {
				moves += l.moves
				for _, p := range r.publishers {
					if got := l.last[p.name]; got == nil || got[1] != loadMessages || got[2] != loadMessages {
						t.Errorf("%s has %v of %s, want all %d of QoS 1 and 2", l.id, got, p.name, loadMessages)
					}
				}
			}
		})
	}
	if moves < 1000 {
		t.Errorf("%d connections: too few to show anything", moves)
	}
}
