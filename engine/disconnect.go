package engine

import (
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/router"
)

// Disconnect ends the connection of a client with code, which its v5 clients
// are told in DISCONNECT; [codec.AdministrativeAction] is the usual one. The
// session stays as after a lost connection and the will is published. It
// reports whether there is such a session. Any goroutine; the connection ends
// soon after.
func (b *Broker) Disconnect(clientID string, code codec.ReasonCode) bool {
	at, ok := b.directory.Lookup(clientID)
	if !ok {
		return false
	}
	ref := router.Ref(at)
	b.loops[refLoop(ref)].mailbox.post([]item{{kind: itemCall, call: func(l *loop) {
		l.disconnect(ref, clientID, code)
	}}}, 0)
	return true
}

// disconnect ends the connection of the session ref, or follows the session to
// where it is now.
func (l *loop) disconnect(ref router.Ref, clientID string, code codec.ReasonCode) {
	cl := l.client(ref)
	if cl == nil || cl.moving() != nil && cl.moving().departed {
		l.b.Disconnect(clientID, code)
		return
	}
	switch m := cl.moving(); {
	case m != nil && m.conn != nil:
		m.conn.drop("ended by the administrator")
	case cl.conn != nil:
		cl.conn.disconnect(code, "ended by the administrator", true)
	}
}
