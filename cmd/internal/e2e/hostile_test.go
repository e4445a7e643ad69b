package e2e

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// connectRaw sends a CONNECT of MQTT 3.1.1 with a clean session and these flags and fields behind the empty client
// identifier, and returns the connection and the code of CONNACK.
func connectRaw(b *broker, flags byte, fields ...string) (c net.Conn, code byte, err error) {
	if c, err = net.DialTimeout("tcp", b.address, patience); err != nil {
		return nil, 0, err
	}
	body := append([]byte("\x00\x04MQTT\x04"), flags|2, 0, 60, 0, 0)
	for _, s := range fields {
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(s))), s...)
	}
	_ = c.SetDeadline(time.Now().Add(patience)) // it is open
	if _, err = c.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return c, 0, err
	}
	var connack [4]byte
	_, err = io.ReadFull(c, connack[:])
	return c, connack[3], err
}

const (
	rawWill   = 0x0c // at QoS 1
	rawRetain = 0x20
)

// TestForbidden: what an ACL file forbids is refused also as a shared subscription, as a will and as a retained message.
func TestForbidden(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	acl := filepath.Join(t.TempDir(), "acl.yaml")
	text := `
rules:
  - {anonymous: true, allow: [publish, retain, will, subscribe], topics: ["open/#"]}
  - {anonymous: true, allow: [publish], topics: [plain]}
  - {anonymous: true, allow: [will], topics: [status]}
  - {users: [root], allow: [publish, subscribe], topics: ["#"]}
`
	if err := os.WriteFile(acl, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startBroker(t, "--allow-anonymous", "--acl-file", acl)
	watch := func(id string) (mqtt.Client, chan string) {
		t.Helper()
		got := make(chan string, 100)
		c, err := login(t, b, "root", id, "", func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() })
		if err != nil {
			t.Fatal(err)
		}
		awaitToken(t, "SUBSCRIBE", c.Subscribe("#", 1, nil))
		return c, got
	}
	expect := func(got chan string, want ...string) {
		t.Helper()
		for len(want) > 0 {
			select {
			case topic := <-got:
				i := slices.Index(want, topic)
				if i < 0 {
					t.Errorf("got %s, want %v", topic, want)
					continue
				}
				want = slices.Delete(want, i, i+1)
			case <-time.After(patience):
				t.Fatalf("%v did not come", want)
			}
		}
	}
	root, got := watch("first")
	c, err := login(t, b, "", "c", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]byte{"closed/#": 0x80, "$share/g/closed/#": 0x80, "$share/g/open/a": 1, "open/b": 1} {
		token := c.Subscribe(filter, 1, func(mqtt.Client, mqtt.Message) {})
		if !token.WaitTimeout(patience) {
			t.Fatalf("%s: no SUBACK", filter)
		}
		codes := token.(*mqtt.SubscribeToken).Result() // one, without $share/g/ in its key
		if got := slices.Collect(maps.Values(codes)); len(got) != 1 || got[0] != want {
			t.Errorf("%s is answered %v, want %#x", filter, codes, want)
		}
	}
	for _, topic := range []string{"closed/a", "plain", "status", "open/kept"} { // plain may be published to, and not retained
		awaitToken(t, "PUBLISH", c.Publish(topic, 1, true, "kept"))
	}
	awaitToken(t, "PUBLISH", c.Publish("plain", 1, false, ""))
	expect(got, "open/kept", "plain")
	die := func(flags byte, topic string) {
		t.Helper()
		c, code, err := connectRaw(b, flags, topic, "died")
		if err != nil || code != 0 {
			t.Fatalf("with a will on %s: code %d, %v", topic, code, err)
		}
		c.Close()
	}
	for _, topic := range []string{"closed/will", "plain", "status", "open/will"} {
		die(rawWill, topic)
	}
	die(rawWill|rawRetain, "status") // a will is allowed there, a retained one not
	die(rawWill|rawRetain, "open/died")
	expect(got, "status", "open/will", "open/died")
	awaitToken(t, "PUBLISH", root.Publish("end", 1, false, ""))
	expect(got, "end")
	_, got = watch("second")
	awaitToken(t, "PUBLISH", root.Publish("end", 1, false, ""))
	expect(got, "open/kept", "open/died", "end")
}
