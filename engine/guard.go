package engine

import (
	"runtime/debug"

	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// endOnPanic, deferred where packets of c are handled in another turn than that
// of their arrival, makes a hook that panics cost c, as the transport does in
// the turn of their arrival; what else the turn has to do is not lost.
func (c *conn) endOnPanic() {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		c.loop.b.log.Error("a hook panicked", "panic", r, "stack", string(debug.Stack()))
		c.sock.Close()
	}
}

// denyOnPanic, deferred, makes a hook that panics say no. It stands where a
// hook is asked about a client whose turn it is not, in a will or a delivery:
// the transport would drop the connection that is being served, and what the
// turn still had to do for others would be lost.
func (l *loop) denyOnPanic(cl *client, allowed *bool) {
	if invariant.Enabled {
		return
	}
	if r := recover(); r != nil {
		*allowed = false
		l.b.log.Error("denied: an authorizer panicked", "client", cl.ClientID, "panic", r, "stack", string(debug.Stack()))
	}
}
