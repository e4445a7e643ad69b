package enginetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// A Client is a scripted client: what the test sends goes out, what the broker
// sends is expected packet by packet.
type Client struct {
	Conn    net.Conn
	Version codec.Version

	t      testing.TB
	in     *bufio.Reader
	nextID uint16
}

// Over is a client on a connection that is open already. It is closed when the
// test ends.
func Over(t testing.TB, conn net.Conn, v codec.Version) *Client {
	t.Cleanup(func() { conn.Close() })
	return &Client{Conn: conn, Version: v, t: t, in: bufio.NewReader(conn)}
}

// Send sends bytes as they are: one packet, several, or part of one.
func (c *Client) Send(b []byte) {
	c.t.Helper()
	if err := c.Conn.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Conn.Write(b); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
}

// id returns the next Packet Identifier.
func (c *Client) id() uint16 {
	if c.nextID++; c.nextID == 0 {
		c.nextID = 1
	}
	return c.nextID
}

// Subscribe subscribes to filter and expects that to be granted.
func (c *Client) Subscribe(filter string, qos codec.QoS) {
	c.t.Helper()
	s := codec.Subscribe{PacketID: c.id(), Filters: []codec.Subscription{{Filter: []byte(filter), QoS: qos}}}
	c.Send(s.Append(nil, c.Version))
	var ack codec.Suback
	c.expect(codec.SUBACK, func(_ codec.Header, body []byte) error { return codec.ParseSuback(&ack, body, c.Version) })
	if len(ack.Codes) != 1 || ack.Codes[0] != codec.ReasonCode(qos) {
		c.t.Fatalf("SUBSCRIBE %q was answered %v, want QoS %d", filter, ack.Codes, qos)
	}
}

// Publish sends one message and, at QoS 1 and 2, carries its handshake out. It
// returns what it was answered.
func (c *Client) Publish(topic, payload string, qos codec.QoS, edit ...func(*codec.Delivery)) codec.ReasonCode {
	c.t.Helper()
	d := codec.Delivery{QoS: qos}
	if qos > 0 {
		d.PacketID = c.id()
	}
	for _, e := range edit {
		e(&d)
	}
	c.Send(codec.AppendPublish(nil, c.Version, &d, []byte(topic), []byte(payload), nil))
	switch qos {
	case 1:
		return c.ExpectAck(codec.PUBACK, d.PacketID)
	case 2:
		code := c.ExpectAck(codec.PUBREC, d.PacketID)
		if code.Failure() {
			return code
		}
		c.Ack(codec.PUBREL, d.PacketID)
		c.ExpectAck(codec.PUBCOMP, d.PacketID)
		return code
	default:
		return codec.Success
	}
}

// Retain marks a publication as retained.
func Retain(d *codec.Delivery) { d.Retain = true }

// Ack sends PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *Client) Ack(t codec.PacketType, id uint16) {
	c.t.Helper()
	c.Send(codec.AppendAck(nil, c.Version, t, id, codec.Success, nil))
}

// Ping sends PINGREQ and expects the answer.
func (c *Client) Ping() {
	c.t.Helper()
	c.Send(codec.AppendPingreq(nil))
	c.expect(codec.PINGRESP, func(codec.Header, []byte) error { return nil })
}

// Disconnect says goodbye, and waits until the broker has closed.
func (c *Client) Disconnect() {
	c.t.Helper()
	d := codec.Disconnect{}
	c.Send(d.Append(nil, c.Version))
	c.ExpectClosed()
}

// Packet reads the next packet, whatever it is. The body is the caller's.
func (c *Client) Packet() (codec.Header, []byte, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return codec.Header{}, nil, err
	}
	for n := 2; ; n++ {
		head, err := c.in.Peek(n)
		if err != nil {
			return codec.Header{}, nil, err
		}
		h, ok, err := codec.ReadHeader(head)
		if err != nil {
			return h, nil, err
		}
		if !ok {
			continue
		}
		packet := make([]byte, h.Size+h.Remaining)
		if _, err := io.ReadFull(c.in, packet); err != nil {
			return h, nil, err
		}
		return h, packet[h.Size:], nil
	}
}

// expect reads the next packet, which must be of this type.
func (c *Client) expect(want codec.PacketType, parse func(codec.Header, []byte) error) {
	c.t.Helper()
	h, body, err := c.Packet()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.t.Fatalf("no %v came within %v", want, Patience)
	case err != nil:
		c.t.Fatalf("want %v: %v", want, err)
	case h.Type != want:
		c.t.Fatalf("want %v, got %s", want, c.describe(h, body))
	}
	if err := parse(h, body); err != nil {
		c.t.Fatalf("%v: %v", want, err)
	}
}

// describe says what came in place of what was expected.
func (c *Client) describe(h codec.Header, body []byte) string {
	switch h.Type {
	case codec.PUBLISH:
		var p codec.Publish
		if err := codec.ParsePublish(&p, h.Flags, body, c.Version, codec.FromServer); err == nil {
			return fmt.Sprintf("PUBLISH %q %q", p.Topic, p.Payload)
		}
	case codec.DISCONNECT:
		if d, err := codec.ParseDisconnect(body, c.Version, codec.FromServer); err == nil {
			return fmt.Sprintf("DISCONNECT %v", d.Code)
		}
	}
	return h.Type.String()
}

// ExpectConnack expects CONNACK.
func (c *Client) ExpectConnack() (ack codec.Connack) {
	c.t.Helper()
	c.expect(codec.CONNACK, func(_ codec.Header, body []byte) (err error) {
		ack, err = codec.ParseConnack(body, c.Version)
		return err
	})
	return ack
}

// ExpectAck expects an acknowledgement for a Packet Identifier.
func (c *Client) ExpectAck(t codec.PacketType, id uint16) codec.ReasonCode {
	c.t.Helper()
	var ack codec.Ack
	c.expect(t, func(_ codec.Header, body []byte) (err error) {
		ack, err = codec.ParseAck(t, body, c.Version)
		return err
	})
	if ack.PacketID != id {
		c.t.Fatalf("%v for packet %d, want %d", t, ack.PacketID, id)
	}
	return ack.Code
}

// ExpectPublish expects a message and returns all of its packet, which is not
// acknowledged yet.
func (c *Client) ExpectPublish(topic, payload string) codec.Publish {
	c.t.Helper()
	var p codec.Publish
	c.expect(codec.PUBLISH, func(h codec.Header, body []byte) error {
		return codec.ParsePublish(&p, h.Flags, body, c.Version, codec.FromServer)
	})
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("got %q to %q, want %q to %q", p.Payload, p.Topic, payload, topic)
	}
	return p
}

// ExpectDisconnect expects the broker's DISCONNECT (MQTT 5.0) and returns its code.
func (c *Client) ExpectDisconnect() codec.ReasonCode {
	c.t.Helper()
	var d codec.Disconnect
	c.expect(codec.DISCONNECT, func(_ codec.Header, body []byte) (err error) {
		d, err = codec.ParseDisconnect(body, c.Version, codec.FromServer)
		return err
	})
	return d.Code
}

// ExpectNothing expects that the broker has sent nothing. It asks for a
// PINGRESP, before which everything else would have come.
func (c *Client) ExpectNothing() {
	c.t.Helper()
	c.Ping()
}

// ExpectClosed expects that the broker closes the connection.
func (c *Client) ExpectClosed() {
	c.t.Helper()
	h, body, err := c.Packet()
	if err == nil {
		c.t.Fatalf("want the end of the connection, got %s", c.describe(h, body))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("the broker did not close within %v", Patience)
	}
}
