package load

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wheelmq/wheelmq/codec/topic"
)

// A fakeBroker relays QoS 0 to 2 between a handful of clients, one goroutine each, keeps retained
// messages and sessions, and passes every delivery through mangle.
type fakeBroker struct {
	address string
	mangle  func(n int, packet []byte) [][]byte // n counts deliveries from 1; nil relays all
	refuse  func(n int) bool                    // n counts CONNECT from 1; nil refuses none
	mute    bool                                // does not answer PINGREQ

	mu         sync.Mutex
	connects   int
	deliveries int
	turn       int // of shared subscriptions
	sessions   map[string]*fakeSession
	retained   map[string][]byte // whole packets by topic name
}

type fakeSession struct {
	clientID   string
	persistent bool
	filters    []string
	conn       net.Conn // nil: absent
	unacked    [][]byte // QoS 1, of persistent sessions
	queue      [][]byte
}

func startFakeBroker(t *testing.T, mangle func(n int, packet []byte) [][]byte) *fakeBroker {
	t.Helper()
	return startFakeBrokerBehind(t, func(c net.Conn) (net.Conn, error) { return c, nil }, mangle)
}

// startFakeBrokerBehind starts one whose connections pass through layer first.
func startFakeBrokerBehind(t *testing.T, layer func(net.Conn) (net.Conn, error), mangle func(n int, packet []byte) [][]byte) *fakeBroker {
	t.Helper()
	return serveFakeBroker(t, "tcp", "127.0.0.1:0", layer, mangle)
}

func serveFakeBroker(t *testing.T, network, address string, layer func(net.Conn) (net.Conn, error), mangle func(n int, packet []byte) [][]byte) *fakeBroker {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{address: l.Addr().String(), mangle: mangle, sessions: map[string]*fakeSession{}, retained: map[string][]byte{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				upper, err := layer(conn)
				if err != nil {
					conn.Close()
					return
				}
				b.serve(upper)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return b
}

// set changes what the broker does; connections are open when a test ends, so even between runs.
func (b *fakeBroker) set(change func()) *fakeBroker {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	return b
}

// A fakeClient is one connection.
type fakeClient struct {
	conn    net.Conn
	version Version
	session *fakeSession
}

func (b *fakeBroker) serve(conn net.Conn) {
	c := &fakeClient{conn: conn}
	defer func() {
		conn.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		if s := c.session; s != nil && s.conn == conn {
			if s.conn = nil; !s.persistent {
				delete(b.sessions, s.clientID)
			}
		}
	}()
	in := bufio.NewReader(conn)
	for {
		first, err := in.ReadByte()
		if err != nil {
			return
		}
		remaining, err := binary.ReadUvarint(in)
		if err != nil {
			return
		}
		body := make([]byte, remaining)
		if _, err := io.ReadFull(in, body); err != nil || first == disconnectPacket {
			return
		}
		if !b.packet(c, first, body) {
			return
		}
	}
}

func (b *fakeBroker) packet(c *fakeClient, first byte, body []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch first {
	case connectPacket:
		return b.connect(c, body)
	case subscribePacket:
		b.subscribe(c, body)
	case pingreqPacket:
		if !b.mute {
			c.conn.Write([]byte{pingrespPacket, 0})
		}
	case pubrecPacket:
		c.conn.Write([]byte{pubrelPacket, 2, body[0], body[1]})
	case pubrelPacket:
		c.conn.Write([]byte{pubcompPacket, 2, body[0], body[1]})
	case pubackPacket:
		c.session.acknowledge(body)
	case pubcompPacket:
	default:
		b.publish(c, first, body)
	}
	return true
}

// connect in version 5 tells a Receive Maximum of 3 and a user property.
func (b *fakeBroker) connect(c *fakeClient, body []byte) bool {
	b.connects++
	if b.refuse != nil && b.refuse(b.connects) {
		c.conn.Write([]byte{connackPacket, 2, 0, 5})
		return false
	}
	c.version = Version(body[6] - 4)
	persistent := body[7]&2 == 0
	rest := body[10:]
	if c.version == V5 {
		rest = rest[1+rest[0]:]
	}
	clientID := string(rest[2 : 2+binary.BigEndian.Uint16(rest)])
	old := b.sessions[clientID]
	c.session = &fakeSession{clientID: clientID, persistent: persistent}
	var present byte
	if old != nil && persistent {
		c.session, present = old, 1
	}
	c.session.conn = c.conn
	b.sessions[clientID] = c.session
	if c.version == V5 {
		c.conn.Write([]byte{connackPacket, 13, present, 0, 10, 0x21, 0, 3, 0x26, 0, 1, 'a', 0, 1, 'b'})
	} else {
		c.conn.Write([]byte{connackPacket, 2, present, 0})
	}
	again := append(c.session.unacked, c.session.queue...)
	c.session.unacked, c.session.queue = nil, nil
	for _, p := range again {
		b.deliver(c.session, p)
	}
	return true
}

func (b *fakeBroker) subscribe(c *fakeClient, body []byte) {
	var codes []byte
	rest := body[2+int(c.version):]
	for len(rest) > 0 {
		n := 2 + int(binary.BigEndian.Uint16(rest))
		filter := string(rest[2:n])
		c.session.filters = append(c.session.filters, filter)
		codes = append(codes, rest[n])
		rest = rest[n+1:]
		for name, packet := range b.retained {
			if topic.Match(filter, name) {
				b.deliver(c.session, packet)
			}
		}
	}
	ack := append([]byte{body[0], body[1]}, make([]byte, int(c.version))...)
	ack = append(ack, codes...)
	c.conn.Write(append(appendRemainingLength([]byte{subackPacket}, len(ack)), ack...))
}

// publish acknowledges with the publisher's packet identifier and delivers with the same one.
func (b *fakeBroker) publish(c *fakeClient, first byte, body []byte) {
	qos, packetID, payload, _ := parsePublish(c.version, first, body)
	switch qos {
	case 1:
		c.conn.Write(appendAck(nil, pubackPacket, packetID))
	case 2:
		c.conn.Write(appendAck(nil, pubrecPacket, packetID))
	}
	topicName := string(body[2 : 2+binary.BigEndian.Uint16(body)])
	packet := append(appendRemainingLength([]byte{first}, len(body)), body...)
	if first&retainFlag != 0 {
		// Kept as QoS 0, the one kind of subscription that the tests have to it.
		kept := append([]byte(nil), body[:2+len(topicName)]...)
		kept = append(append(kept, make([]byte, int(c.version))...), payload...)
		b.retained[topicName] = append(appendRemainingLength([]byte{publishPacket | retainFlag}, len(kept)), kept...)
		if len(payload) == 0 {
			delete(b.retained, topicName)
		}
		return
	}
	var members []*fakeSession
	for _, s := range b.sessions {
		for _, f := range s.filters {
			if rest, shared := strings.CutPrefix(f, "$share/load/"); shared && topic.Match(rest, topicName) {
				members = append(members, s)
			} else if topic.Match(f, topicName) {
				b.deliver(s, packet)
			}
		}
	}
	if len(members) > 0 {
		slices.SortFunc(members, func(a, b *fakeSession) int { return strings.Compare(a.clientID, b.clientID) })
		b.turn++
		b.deliver(members[b.turn%len(members)], packet)
	}
}

// acknowledge forgets the delivery that a PUBACK is for.
func (s *fakeSession) acknowledge(body []byte) {
	for i, p := range s.unacked {
		_, n := binary.Uvarint(p[1:])
		name := p[1+n:]
		id := name[2+binary.BigEndian.Uint16(name):]
		if id[0] == body[0] && id[1] == body[1] {
			s.unacked = slices.Delete(s.unacked, i, i+1)
			return
		}
	}
}

func (b *fakeBroker) deliver(s *fakeSession, packet []byte) {
	if s.conn == nil {
		s.queue = append(s.queue, packet)
		return
	}
	if s.persistent && packet[0]>>1&3 == 1 {
		s.unacked = append(s.unacked, packet) // the connection may be gone without our knowing
	}
	b.deliveries++
	out := [][]byte{packet}
	if b.mangle != nil {
		out = b.mangle(b.deliveries, packet)
	}
	for _, p := range out {
		s.conn.Write(p)
	}
}
