package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keepingMosquitto starts a Mosquitto that keeps what it has in dir when it ends.
func keepingMosquitto(t *testing.T, dir string) *broker {
	t.Helper()
	b := &broker{port: freePort(t)}
	b.address = net.JoinHostPort("127.0.0.1", fmt.Sprint(b.port))
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nmax_queued_messages 0\nuser root\n", b.port, dir)
	if err := os.WriteFile(filepath.Join(dir, "mosquitto.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.process = startProcess(t, nil, nil, "mosquitto", "-c", filepath.Join(dir, "mosquitto.conf"))
	b.awaitOpen(t)
	return b
}

// A rawClient speaks 3.1.1 packet by packet, and acknowledges nothing by itself.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	from *bufio.Reader
}

// rawConnect takes up the session of clientID, which must be there or not.
func rawConnect(t *testing.T, b *broker, clientID string, present byte) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &rawClient{t, conn, bufio.NewReader(conn)}
	c.send(0x10, append([]byte("\x00\x04MQTT\x04\x00\x00\x3C"), field(clientID)...))
	if head, body := c.read(); head != 0x20 || body[0] != present || body[1] != 0 {
		t.Fatalf("%s: CONNACK %x %x, want session present %d", clientID, head, body, present)
	}
	return c
}

func field(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func (c *rawClient) send(head byte, body []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(append([]byte{head, byte(len(body))}, body...)); err != nil { // short ones
		c.t.Fatal(err)
	}
}

func (c *rawClient) read() (head byte, body []byte) {
	c.t.Helper()
	head, err := c.from.ReadByte()
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := binary.ReadUvarint(c.from) // as a Remaining Length
	if err != nil {
		c.t.Fatal(err)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(c.from, body); err != nil {
		c.t.Fatal(err)
	}
	return head, body
}

func (c *rawClient) expect(head byte, body string) {
	c.t.Helper()
	if h, b := c.read(); h != head || string(b) != body {
		c.t.Fatalf("got %x %q, want %x %q", h, b, head, body)
	}
}

// TestMosquittoImport: what a Mosquitto leaves behind is there for its clients: sessions with queues, handshakes that
// are half done with their packet identifiers, retained messages. Mosquitto does not keep shared subscriptions.
func TestMosquittoImport(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	t.Parallel()
	const n = 30
	dir := t.TempDir()
	m := keepingMosquitto(t, dir)
	keepQueue(t, m, n)
	paho5Subscribe(t, m, v5, subscription{clientID: "brief", filter: "q/#", qos: 2}).disconnect() // ends with its connection

	// In flight: a PUBACK and a PUBREC that do not come, a PUBREL whose PUBCOMP does not.
	c := rawConnect(t, m, "flight", 0)
	c.send(0x82, append([]byte{0, 1}, append(field("f/#"), 2)...))
	c.expect(0x90, "\x00\x01\x02")
	c.send(0x82, append([]byte{0, 2}, append(field("$share/g/s"), 1)...))
	c.expect(0x90, "\x00\x02\x01")
	p := paho5Connect(t, m, subscription{clientID: newClientID()})
	for i, qos := range []byte{1, 2, 2} {
		p.mustPublish(t, publication{topic: "f/t", payload: fmt.Append(nil, "m", i+1), qos: qos})
	}
	c.expect(0x32, "\x00\x03f/t\x00\x01m1")
	c.expect(0x34, "\x00\x03f/t\x00\x02m2")
	c.expect(0x34, "\x00\x03f/t\x00\x03m3")
	c.send(0x50, []byte{0, 3})
	c.expect(0x62, "\x00\x03")
	// QoS 2 in the other direction: a PUBREL that does not come.
	c.send(0x34, []byte("\x00\x04late\x00\x4Dlast"))
	c.expect(0x50, "\x00\x4D")
	late := rawConnect(t, m, "late", 0)
	late.send(0x82, append([]byte{0, 1}, append(field("late"), 2)...))
	late.expect(0x90, "\x00\x01\x02")
	late.conn.Close()
	c.conn.Close()
	for i, qos := range []byte{1, 2} {
		p.mustPublish(t, publication{topic: "f/t", payload: fmt.Append(nil, "m", i+4), qos: qos})
	}
	p.mustPublish(t, publication{topic: "s", payload: []byte("shared"), qos: 1})
	p.mustPublish(t, publication{topic: "gone", payload: []byte("1"), qos: 1, retained: true})
	p.mustPublish(t, publication{topic: "gone", qos: 1, retained: true})
	p.mustDisconnect(t)
	if code := m.terminate(t); code != 0 {
		t.Fatalf("Mosquitto ends with status %d\n%s", code, &m.log)
	}

	db := filepath.Join(dir, "mosquitto.db")
	at := "sqlite:" + filepath.Join(dir, "store")
	said := storeCommand(t, 0, "3 sessions, 3 subscriptions, 34 messages queued and 3 in flight, 1 retained", "import", "--from", db, "--store", at)
	if strings.Contains(said, "left out") {
		t.Errorf("something is left out: %s", said)
	}
	b := startBroker(t, "--store", at)
	expectQueue(t, b, n)
	c = rawConnect(t, b, "flight", 1)
	c.expect(0x3A, "\x00\x03f/t\x00\x01m1")
	c.expect(0x3C, "\x00\x03f/t\x00\x02m2")
	c.expect(0x62, "\x00\x03")
	for _, rest := range []string{"f/t m4 1", "f/t m5 2", "s shared 1"} {
		var name, payload string
		var qos byte
		fmt.Sscan(rest, &name, &payload, &qos)
		head, body := c.read()
		if text := string(body); head != 0x30|qos<<1 || !strings.HasPrefix(text, string(field(name))) || !strings.HasSuffix(text, payload) {
			t.Errorf("got %x %q, want %s", head, text, rest)
		}
	}
	c.send(0x62, []byte{0, 0x4D})
	c.expect(0x70, "\x00\x4D")
	late = rawConnect(t, b, "late", 1)
	if head, body := late.read(); head != 0x34 || !strings.HasSuffix(string(body), "last") {
		t.Errorf("got %x %q, want what was not released", head, body)
	}
	late.conn.Close()
	c.conn.Close()
	live := paho5Subscribe(t, b, v5, subscription{filter: "gone", qos: 1})
	paho5Publish(t, b, v5, publication{topic: "gone", payload: []byte("now"), qos: 1})
	if d := live.next(t); string(d.payload) != "now" {
		t.Errorf("a retained message that was removed is there: %v", d)
	}
	live.disconnect()
	b.stop(t)

	text, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.db")
	refused := func(want string, text []byte) {
		t.Helper()
		if err := os.WriteFile(bad, text, 0o600); err != nil {
			t.Fatal(err)
		}
		storeCommand(t, 3, want, "import", "--from", bad, "--store", "sqlite:"+filepath.Join(dir, "other"))
	}
	refused("cut off", text[:len(text)-5])
	refused("does not begin", text[:3])
	text[22] = 4
	refused("version 4", text)
}

// TestMosquittoDirectory: a mosquitto.conf with what its Mosquitto kept: the broker says how to take it over, and its own
// configuration is enough for that.
func TestMosquittoDirectory(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	t.Parallel()
	dir := t.TempDir()
	m := keepingMosquitto(t, dir)
	keepQueue(t, m, 4)
	if code := m.terminate(t); code != 0 {
		t.Fatalf("Mosquitto ends with status %d\n%s", code, &m.log)
	}
	conf := filepath.Join(dir, "mosquitto.conf")
	b := &broker{port: m.port, address: m.address}
	b.process = startProcess(t, nil, nil, wheelmqPath, "-c", conf)
	b.awaitOpen(t)
	b.stop(t)
	if want := "wheelmq store import -c " + conf + " --from " + filepath.Join(dir, "mosquitto.db"); !strings.Contains(b.log.String(), want) {
		t.Errorf("the broker does not say %q\n%s", want, &b.log)
	}
	storeCommand(t, 0, "1 sessions", "import", "-c", conf, "--from", filepath.Join(dir, "mosquitto.db"))
	b.process = startProcess(t, nil, nil, wheelmqPath, "-c", conf)
	b.awaitOpen(t)
	expectQueue(t, b, 4)
	b.stop(t)
	if strings.Contains(b.log.String(), "import") {
		t.Errorf("the broker still speaks of an import\n%s", &b.log)
	}
}
