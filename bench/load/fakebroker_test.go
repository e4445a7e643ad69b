package load

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A fakeBroker relays QoS 0 to 2 between a handful of clients, one goroutine each, and passes every
// delivery through mangle.
type fakeBroker struct {
	address string
	mangle  func(n int, packet []byte) [][]byte // n counts deliveries from 1; nil relays all

	mu          sync.Mutex
	deliveries  int
	subscribers []fakeSubscriber
}

type fakeSubscriber struct {
	filter string
	conn   net.Conn
}

func startFakeBroker(t *testing.T, mangle func(n int, packet []byte) [][]byte) *fakeBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{address: l.Addr().String(), mangle: mangle}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return b
}

func (b *fakeBroker) serve(conn net.Conn) {
	defer conn.Close()
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
		b.packet(conn, first, body)
	}
}

func (b *fakeBroker) packet(conn net.Conn, first byte, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch first {
	case connectPacket:
		conn.Write([]byte{connackPacket, 2, 0, 0})
	case subscribePacket:
		b.subscribers = append(b.subscribers, fakeSubscriber{string(body[4 : len(body)-1]), conn})
		conn.Write([]byte{subackPacket, 3, body[0], body[1], body[len(body)-1]})
	case pubrecPacket:
		conn.Write([]byte{pubrelPacket, 2, body[0], body[1]})
	case pubrelPacket:
		conn.Write([]byte{pubcompPacket, 2, body[0], body[1]})
	case pubackPacket, pubcompPacket:
	default:
		b.publish(conn, first, body)
	}
}

// publish acknowledges with the publisher's packet identifier and delivers with the same one.
func (b *fakeBroker) publish(conn net.Conn, first byte, body []byte) {
	qos, packetID, _, _ := parsePublish(first, body)
	switch qos {
	case 1:
		conn.Write(appendAck(nil, pubackPacket, packetID))
	case 2:
		conn.Write(appendAck(nil, pubrecPacket, packetID))
	}
	topicName := string(body[2 : 2+binary.BigEndian.Uint16(body)])
	packet := append(appendRemainingLength([]byte{first}, len(body)), body...)
	for _, s := range b.subscribers {
		if s.filter != topicName && !strings.HasSuffix(s.filter, "+") {
			continue
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
}
