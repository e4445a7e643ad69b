package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// connackOf connects by MQTT 5.0 with a user name, which is the client identifier too, and a password, and returns the
// reason code of the CONNACK. The connection is closed when the test ends.
func connackOf(t *testing.T, address, user, password string) byte {
	t.Helper()
	c, code, err := connect5(new(net.Dialer), address, user, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return code
}

// connect5 is connackOf without a test.
func connect5(by *net.Dialer, address, user, password string) (c net.Conn, code byte, err error) {
	if c, err = by.Dial("tcp", address); err != nil {
		return nil, 0, err
	}
	body := []byte("\x00\x04MQTT\x05\xc2\x00\x3c\x00") // with a user name, a password and Clean Start
	for _, s := range []string{user, user, password} {
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(s))), s...)
	}
	packet := append(binary.AppendUvarint([]byte{0x10}, uint64(len(body))), body...)
	_ = c.SetDeadline(time.Now().Add(patience)) // it is open
	var connack [4]byte
	if _, err = c.Write(packet); err == nil {
		_, err = io.ReadFull(c, connack[:])
	}
	if err != nil {
		c.Close()
	}
	return c, connack[3], err
}

// Reason codes of a CONNACK.
const (
	accepted      = 0x00
	badPassword   = 0x86
	notAuthorized = 0x87
	unavailable   = 0x88
	tooManyWait   = 0x89
)
