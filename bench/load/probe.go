package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// Bounds of a probe.
const (
	probeTimeout   = 5 * time.Second        // to be accepted
	versionTimeout = 500 * time.Millisecond // for the retained message with the version
	probePacket    = 64 << 10               // bytes of a packet that is read
)

// Probe connects once and asks the broker for its version, which many publish under
// $SYS/broker/version. It returns "" where this one does not or may not tell, and an error where no
// client gets in at all: better now than from ten thousand.
func Probe(ctx context.Context, b Broker) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", b.Address)
	if err != nil {
		return "", fmt.Errorf("load: no broker at %s: %w", b.Address, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(probeTimeout)) // fails for a closed connection only, which shows below
	out := connect{
		version: b.Version, clientID: fmt.Sprintf("load-%x-probe", newRunID()),
		username: b.Username, password: b.Password, keepAlive: keepAliveSeconds,
	}.append(nil)
	if _, err := conn.Write(out); err != nil {
		return "", fmt.Errorf("load: %s: %w", b.Address, err)
	}
	in := bufio.NewReader(conn)
	first, body, err := readPacket(in)
	if err != nil {
		return "", fmt.Errorf("load: %s does not answer CONNECT: %w", b.Address, err)
	}
	if first != connackPacket {
		return "", fmt.Errorf("load: %s answers CONNECT with packet 0x%02x", b.Address, first)
	}
	if _, err := parseConnack(b.Version, body); err != nil {
		return "", fmt.Errorf("%w (%s)", err, b.Address)
	}
	_ = conn.SetDeadline(time.Now().Add(versionTimeout))
	if _, err := conn.Write(appendSubscribe(nil, b.Version, 1, 0, "$SYS/broker/version")); err != nil {
		return "", fmt.Errorf("load: %s: %w", b.Address, err)
	}
	for {
		first, body, err := readPacket(in)
		if err != nil {
			return "", nil // it does not tell
		}
		if first&0xf0 != publishPacket {
			continue
		}
		_, _, payload, err := parsePublish(b.Version, first, body)
		if err == nil {
			_, _ = conn.Write(appendDisconnect(nil)) // a courtesy
			return printable(payload), nil
		}
	}
}

// readPacket reads a packet of bounded length.
func readPacket(in *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return 0, nil, err
	}
	if n > probePacket {
		return 0, nil, fmt.Errorf("packet 0x%02x is %d bytes long", first, n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(in, body)
	return first, body, err
}

// printable is a text from outside, cut and without control characters.
func printable(b []byte) string {
	const most = 80
	text := make([]rune, 0, most)
	for _, r := range string(b) {
		if len(text) == most {
			break
		}
		if r >= ' ' && r != 0x7f && r != '\uFFFD' {
			text = append(text, r)
		}
	}
	return string(text)
}
