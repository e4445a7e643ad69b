package load

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Bounds of a probe.
const (
	probeTimeout   = 5 * time.Second        // to be accepted
	versionTimeout = 500 * time.Millisecond // for the retained message with the version
)

// Probe connects once and asks the broker for its version, which many publish under
// $SYS/broker/version. It returns "" where this one does not or may not tell, and an error where no
// client gets in at all: better now than from ten thousand.
func Probe(ctx context.Context, b Broker) (version string, err error) {
	b.PID = 0
	p := &probe{}
	d, err := newDriver(b, p, nil)
	if err != nil {
		return "", err
	}
	defer d.close()
	p.driver = d
	c := d.add(fmt.Sprintf("load-%x-probe", newRunID()), 0)
	in, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := d.open(in, d.conns, 1, 0); err != nil && p.err == nil {
		if ctx.Err() == nil && in.Err() != nil {
			err = fmt.Errorf("no answer to CONNECT within %v", probeTimeout)
		}
		p.err = err
	}
	if p.err != nil {
		return "", fmt.Errorf("load: no broker for us at %s: %s", b.Address, strings.TrimPrefix(p.err.Error(), "load: "))
	}
	c.out = appendSubscribe(c.out, b.Version, 1, 0, "$SYS/broker/version")
	if err := d.flush(c); err != nil {
		return "", nil // it does not tell
	}
	if err := d.until(ctx, d.now()+int64(versionTimeout), func() bool { return p.version != "" || p.err != nil }); err != nil {
		return "", err
	}
	c.out = appendDisconnect(c.out)
	_ = d.flush(c) // a courtesy
	return p.version, nil
}

// A probe keeps the version that comes.
type probe struct {
	*driver
	version string
	err     error // why the connection is lost
}

func (p *probe) ready(*conn) error { return nil }

func (p *probe) packet(_ *conn, first byte, body []byte, _ int64) error {
	if first&0xf0 != publishPacket {
		return nil
	}
	_, _, payload, err := parsePublish(p.broker.Version, first, body)
	if err == nil {
		p.version = printable(payload)
	}
	return err
}

func (p *probe) lost(_ *conn, err error) error {
	p.err = err
	return nil
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
