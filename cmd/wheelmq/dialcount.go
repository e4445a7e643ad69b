package main

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/engine/client"
)

// countWritten tells how many bytes were written to the network, a piece at a time.
func countWritten(o *client.Options, tell func(n int64)) {
	dial := o.Dial
	if dial == nil {
		dial = client.Dial
	}
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: c, tell: tell}, nil
	}
}

type countedConn struct {
	net.Conn
	n    atomic.Int64
	tell func(int64)
}

// piece is how much is written between two tellings.
const piece = 128 << 10

func (c *countedConn) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := c.Conn.Write(p[written:min(len(p), written+piece)])
		written += n
		c.tell(c.n.Add(int64(n)))
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
