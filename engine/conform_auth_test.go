package engine

import (
	"fmt"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// turnMethod is an Authentication Method of two steps: "hello" is answered by
// a challenge, "proof" lets in, "code:XX" ends with that code, and anything
// else is refused.
type turnMethod struct{}

func (turnMethod) Method() string                    { return "turn" }
func (turnMethod) Begin(*hook.Connect) hook.Exchange { return turnExchange{} }

type turnExchange struct{}

func (turnExchange) Step(data []byte) ([]byte, codec.ReasonCode) {
	var code byte
	switch n, _ := fmt.Sscanf(string(data), "code:%X", &code); {
	case n == 1:
		return nil, codec.ReasonCode(code)
	case string(data) == "hello":
		return []byte("challenge"), codec.ContinueAuthentication
	case string(data) == "proof":
		return []byte("welcome"), codec.Success
	}
	return nil, codec.NotAuthorized
}

var authOptions = Options{Hooks: []any{turnMethod{}}}

// method adds Authentication Method and, if not empty, Authentication Data.
func method(name, data string) func(*codec.Connect) {
	return func(c *codec.Connect) {
		c.Properties = codec.AppendBytes(c.Properties, codec.AuthenticationMethod, name)
		if data != "" {
			c.Properties = codec.AppendBytes(c.Properties, codec.AuthenticationData, data)
		}
	}
}

func authPacket(code codec.ReasonCode, name, data string) []byte {
	a := codec.Auth{Code: code}
	if name != "" {
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationMethod, name)
	}
	if data != "" {
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationData, data)
	}
	return a.Append(nil)
}

const (
	challengeLine = `AUTH 18 {AuthenticationMethod="turn" AuthenticationData="challenge"}`
	welcomeLine   = `AUTH 00 {AuthenticationMethod="turn" AuthenticationData="welcome"}`
	turnConnack   = `CONNACK sp=0 00 {ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10 ` +
		`AuthenticationMethod="turn" AuthenticationData="welcome"}`
)

// turnClient connects with the method, in two steps.
func (h *harness) turnClient(id string, edit ...func(*codec.Connect)) *peer {
	h.t.Helper()
	p := h.dial(codec.V5)
	p.send(connectPacket(codec.V5, id, true, append(edit, method("turn", "hello"))...))
	p.expect(challengeLine)
	p.send(authPacket(codec.ContinueAuthentication, "turn", "proof"))
	p.expect(turnConnack)
	return p
}

func TestEnhancedAuthentication(t *testing.T) {
	covers(t, "MQTT-4.12.0-2", "MQTT-4.12.0-5", "MQTT-3.15.2-1")
	each(t, authOptions, func(t *testing.T, h *harness) {
		p := h.turnClient("p").subscribed(filter("t", 0))
		h.client(codec.V5, "pub").send(publishPacket(codec.V5, "t", "m", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "t" "m"`)
		p = h.dial(codec.V5) // let in at once
		p.send(connectPacket(codec.V5, "q", true, method("turn", "proof")))
		p.expect(turnConnack)
		p = h.dial(codec.V5) // asked twice
		p.send(connectPacket(codec.V5, "r", true, method("turn", "hello")))
		p.expect(challengeLine)
		p.send(authPacket(codec.ContinueAuthentication, "turn", "hello"))
		p.expect(challengeLine)
		p.send(authPacket(codec.ContinueAuthentication, "turn", "proof"))
		p.expect(turnConnack)
	})
}

// A session that was on another loop is found after the exchange too.
func TestEnhancedAuthenticationKeepsSession(t *testing.T) {
	covers(t, "MQTT-4.12.0-5")
	each(t, authOptions, func(t *testing.T, h *harness) {
		p := h.turnClient("p", keepFor(60)).subscribed(filter("t", 1))
		p.cut()
		h.client(codec.V5, "pub").send(publishPacket(codec.V5, "t", "m", 1, 1))
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", false, keepFor(60), method("turn", "hello")))
		p.expect(challengeLine)
		p.send(authPacket(codec.ContinueAuthentication, "turn", "proof"), pingreq)
		p.expect(`CONNACK sp=1 00 {ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10 `+
			`AuthenticationMethod="turn" AuthenticationData="welcome"}`,
			`PUBLISH q1 r0 d0 id=1 "t" "m"`, "PINGRESP")
	})
}

func TestAuthenticationRefused(t *testing.T) {
	covers(t, "MQTT-4.12.0-1", "MQTT-4.12.0-4", "MQTT-3.14.0-1")
	each(t, authOptions, func(t *testing.T, h *harness) {
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, method("nope", "hello")))
		p.expectRefused(0x8C)
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, method("Turn", "hello"))) // case counts
		p.expectRefused(0x8C)
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, method("turn", "")))
		p.expectRefused(0x87) // in the first step
		for code := 0x80; code <= 0xA2; code++ {
			p = h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "p", true, method("turn", "hello")))
			p.expect(challengeLine)
			p.send(authPacket(codec.ContinueAuthentication, "turn", fmt.Sprintf("code:%02X", code)))
			if connackCode(codec.ReasonCode(code)) {
				p.expectRefused(byte(code)) // in the second
			} else {
				p.expectEnd()
			}
		}
	})
}

// expectRefused takes the CONNACK that refuses with code; the broker has closed.
func (p *peer) expectRefused(code byte) {
	p.h.t.Helper()
	f := p.frame()
	if len(f) < 4 || f[0] != 0x20 || f[2] != 0 || f[3] != code {
		p.h.t.Fatalf("got % X, want CONNACK %02X", f, code)
	}
	p.expectEnd()
}

// Before CONNACK only AUTH and DISCONNECT may come, AUTH must continue with
// the same method, and no answer is a DISCONNECT.
func TestFaultsDuringAuthentication(t *testing.T) {
	covers(t, "MQTT-4.12.0-5", "MQTT-3.14.0-1", "MQTT-3.15.1-1", "U5-3.15.2.2.2", "MQTT-3.15.2-1")
	each(t, authOptions, func(t *testing.T, h *harness) {
		f := func(code byte, b []byte) {
			t.Helper()
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "p", true, method("turn", "hello")))
			p.expect(challengeLine)
			p.send(b)
			p.expectRefused(code)
		}
		f(0x82, authPacket(codec.ContinueAuthentication, "other", "proof"))
		f(0x82, authPacket(codec.ReAuthenticate, "turn", "proof"))
		f(0x82, authPacket(codec.Success, "turn", "proof"))
		f(0x82, []byte{0xF0, 2, 0x18, 0})
		f(0x82, []byte{0xF0, 0})
		f(0x81, []byte{0xF1, 2, 0x18, 0})
		f(0x82, pingreq)
		f(0x82, subscribePacket(codec.V5, 1, filter("t", 0)))
		f(0x82, connectPacket(codec.V5, "p", true))

		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, method("turn", "hello"),
			willOf(codec.Will{Topic: []byte("w"), Payload: []byte("x")})))
		p.expect(challengeLine)
		watch := h.client(codec.V5, "watch").subscribed(filter("w", 0))
		p.send(disconnectPacket(codec.V5, codec.DisconnectWithWill)) // it has no session, so no will
		p.expectEnd()
		watch.expect()
	})
}

func TestNoMethodNoAuth(t *testing.T) {
	covers(t, "MQTT-4.12.0-6", "MQTT-4.12.0-7")
	each(t, authOptions, func(t *testing.T, h *harness) {
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true))
		p.expect(connackLine(codec.V5, false))
		h.advance(0)
		p.expect()
		for _, b := range [][]byte{
			authPacket(codec.ReAuthenticate, "turn", "hello"),
			authPacket(codec.ContinueAuthentication, "turn", "proof"),
		} {
			p := h.client(codec.V5, "plain")
			p.send(b)
			p.expectEnd("DISCONNECT 82")
		}
		h.fault(codec.V311, "F0 00", 0)
		h.fault(codec.V31, "F0 00", 0)
	})
}

func TestAuthMalformed(t *testing.T) {
	covers(t, "MQTT-3.15.1-1", "MQTT-3.15.2-1", "U5-3.15.2.2.2")
	each(t, authOptions, func(t *testing.T, h *harness) {
		f := func(code codec.ReasonCode, bytes string) {
			t.Helper()
			p := h.turnClient("p")
			p.hex(bytes)
			p.expectEnd(fmt.Sprintf("DISCONNECT %02X", byte(code)))
		}
		const turn = "07 15 0004 7475726E"
		f(0x81, "F1 09 19 "+turn)
		f(0x81, "F2 09 19 "+turn)
		f(0x81, "F8 09 19 "+turn)
		f(0x82, "F0 09 00 "+turn) // codes of the server, of nobody, of other packets
		f(0x82, "F0 09 80 "+turn)
		f(0x82, "F0 09 01 "+turn)
		f(0x82, "F0 09 87 "+turn)
		f(0x82, "F0 00")                                         // as 0x00
		f(0x82, "F0 02 18 00")                                   // no method
		f(0x82, "F0 02 19 00")                                   // no method
		f(0x82, "F0 10 19 0E 15 0004 7475726E 15 0004 7475726E") // two
		f(0x81, "F0 01 19")                                      // no Property Length
		f(0x81, "F0 0E 19 0C 15 0004 7475726E 11 00000001")      // property of another packet
		f(0x82, "F0 09 18 "+turn)                                // nothing to continue
	})
}

func TestReauthentication(t *testing.T) {
	covers(t, "MQTT-4.12.1-1", "MQTT-4.12.1-2", "U5-4.12-flow", "MQTT-3.14.2-1", "MQTT-3.15.2-1")
	each(t, authOptions, func(t *testing.T, h *harness) {
		p := h.turnClient("p").subscribed(filter("t", 1))
		pub := h.client(codec.V5, "pub")
		for id := uint16(1); id <= 2; id++ {
			p.send(authPacket(codec.ReAuthenticate, "turn", "hello"))
			p.expect(challengeLine)
			p.send(publishPacket(codec.V5, "t", "own", 1, 5)) // goes on meanwhile
			p.expect(fmt.Sprintf(`PUBLISH q1 r0 d0 id=%d "t" "own"`, id), "PUBACK 5 00")
			pub.send(publishPacket(codec.V5, "t", "other", 0, 0))
			p.send(ackPacket(codec.V5, codec.PUBACK, id, 0), pingreq)
			p.expect(`PUBLISH q0 r0 d0 "t" "other"`, "PINGRESP")
			p.send(authPacket(codec.ContinueAuthentication, "turn", "proof"))
			p.expect(welcomeLine)
		}
		p.send(authPacket(codec.ReAuthenticate, "turn", "proof")) // in one step
		p.expect(welcomeLine)

		f := func(want string, b ...[]byte) {
			t.Helper()
			p := h.turnClient("p")
			p.send(b...)
			p.expectEnd(want)
		}
		again := authPacket(codec.ReAuthenticate, "turn", "hello")
		f("DISCONNECT 82", authPacket(codec.ReAuthenticate, "other", "hello"))
		f("DISCONNECT 87", authPacket(codec.ReAuthenticate, "turn", "wrong"))
		p = h.turnClient("p")
		p.send(again)
		p.expect(challengeLine)
		p.send(authPacket(codec.ContinueAuthentication, "turn", "wrong"))
		p.expectEnd("DISCONNECT 87")
		p = h.turnClient("p")
		p.send(again)
		p.expect(challengeLine)
		p.send(again) // while one is pending
		p.expectEnd("DISCONNECT 82")
		p = h.turnClient("p")
		p.send(again)
		p.expect(challengeLine)
		p.send(authPacket(codec.ContinueAuthentication, "other", "proof"))
		p.expectEnd("DISCONNECT 82")
	})
}

// Whatever code a method refuses with, DISCONNECT carries one of its own.
func TestReauthenticationRefusedWithAnyCode(t *testing.T) {
	covers(t, "MQTT-3.14.2-1", "MQTT-4.12.1-2")
	each(t, authOptions, func(t *testing.T, h *harness) {
		for code := 0x80; code <= 0xA2; code++ {
			p := h.turnClient("p")
			p.send(authPacket(codec.ReAuthenticate, "turn", fmt.Sprintf("code:%02X", code)))
			f := p.frame()
			if len(f) < 3 || f[0] != 0xE0 || !serverDisconnectCode(f[2]) {
				t.Errorf("refused with %02X: got % X", code, f)
			}
			p.expectEnd()
		}
	})
}

// serverDisconnectCode is the table's column: DISCONNECT sent by a server.
func serverDisconnectCode(code byte) bool {
	switch code {
	case 0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F:
		return true
	}
	return code >= 0x90 && code <= 0xA2 && code != 0x91 && code != 0x92
}

func TestAuthWithinMaximumPacketSize(t *testing.T) {
	covers(t, "MQTT-3.15.2-2", "MQTT-3.15.2-3")
	each(t, authOptions, func(t *testing.T, h *harness) {
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, method("turn", "hello"), with(codec.MaximumPacketSize, 23)))
		p.expect(challengeLine) // 23 bytes, nothing but method and data
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, method("turn", "hello"), with(codec.MaximumPacketSize, 22)))
		p.expectRefused(0x95)
	})
}
