package engine

import (
	"runtime/debug"

	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

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
