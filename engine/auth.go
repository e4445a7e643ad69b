package engine

import (
	"bytes"
	"context"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// authExchange is an enhanced authentication in progress (MQTT 5.0 section
// 4.12), at CONNECT or, again, while the connection is open.
type authExchange struct {
	hook.Exchange
	cn    *connecting // of the CONNECT; nil when re-authenticating
	again bool
	busy  bool // a step is on its way off the loop

	replaces uint32 // of the loop when it began
}

// beginAuth starts the exchange that the CONNECT asks for.
func (c *conn) beginAuth(cn *connecting) {
	h := c.loop.hooks.enhanced[cn.method]
	if h == nil {
		c.refuse(codec.BadAuthenticationMethod, "unknown authentication method") // [MQTT-4.12.0-1]
		return
	}
	x := &authExchange{Exchange: h.Begin(&cn.Connect), cn: cn}
	c.ext = &connExt{method: cn.method, maximumPacket: cn.maximumPacket, noProblemInfo: cn.noProblemInfo, exchange: x}
	c.become(connAuth)
	data, _ := cn.Properties.Bytes(codec.AuthenticationData)
	c.stepAuth(data)
}

// auth handles the client's AUTH.
func (c *conn) auth(body []byte) {
	if c.version != codec.V5 {
		c.drop("AUTH is not of this version")
		return
	}
	a, err := codec.ParseAuth(body, codec.FromClient)
	if err != nil {
		c.failWith(err)
		return
	}
	if c.ext == nil || c.ext.method == "" {
		c.fail(codec.ProtocolError, "AUTH without an authentication method in CONNECT") // [MQTT-4.12.0-7]
		return
	}
	if m, _ := a.Properties.Bytes(codec.AuthenticationMethod); string(m) != c.ext.method { // [MQTT-4.12.0-5], [MQTT-4.12.1-1]
		c.fail(codec.ProtocolError, "AUTH with another method than CONNECT")
		return
	}
	switch {
	case a.Code == codec.ReAuthenticate && c.state == connOpen && c.ext.exchange == nil:
		h := c.loop.hooks.enhanced[c.ext.method]
		if h == nil { // the hook was removed
			c.fail(codec.BadAuthenticationMethod, "the authentication method is not offered any more")
			return
		}
		cn := &hook.Connect{ClientID: c.cl.ClientID, UserName: c.cl.identity().UserName, Version: c.version,
			RemoteAddr: c.sock.RemoteAddr(), LocalAddr: c.sock.LocalAddr(), Listener: c.door().name, TLS: c.sock.TLS(), Proxied: c.proxied()}
		c.ext.exchange = &authExchange{Exchange: h.Begin(cn), again: true, replaces: c.loop.replaces}
	case a.Code == codec.ContinueAuthentication && c.ext.exchange != nil && !c.ext.exchange.busy:
	default:
		c.fail(codec.ProtocolError, "AUTH out of turn")
		return
	}
	data, _ := a.Properties.Bytes(codec.AuthenticationData)
	c.stepAuth(data)
}

// stepAuth hands the client's data to the method.
func (c *conn) stepAuth(data []byte) {
	x := c.ext.exchange
	slow, ok := x.Exchange.(hook.SlowExchange)
	if !ok {
		reply, code := x.Step(data)
		c.stepped(x, reply, code)
		return
	}
	type step struct {
		reply []byte
		code  codec.ReasonCode
	}
	own := bytes.Clone(data)
	x.busy = true
	ok = askOff(c.loop, step{code: codec.ServerUnavailable},
		func(ctx context.Context) step {
			reply, code := slow.StepContext(ctx, own)
			return step{reply, code}
		},
		func(s step) {
			defer c.endOnPanic()
			if c.state <= connOpen && c.ext != nil && c.ext.exchange == x { // else it is gone
				x.busy = false
				c.stepped(x, s.reply, s.code)
			}
		})
	if !ok {
		c.stepped(x, nil, codec.ServerBusy)
	}
}

// stepped acts on the method's answer.
func (c *conn) stepped(x *authExchange, reply []byte, code codec.ReasonCode) {
	var terms *hook.Decision
	if d, ok := x.Exchange.(hook.Decided); ok && code == codec.Success {
		v := d.Decision()
		terms = &v
	}
	switch {
	case code.Failure() && x.again:
		c.fail(disconnectCode(code), "authentication failed") // [MQTT-4.12.1-2]
	case code.Failure():
		c.refuse(code, "authentication failed") // [MQTT-4.12.0-4]
	case code == codec.ContinueAuthentication:
		c.sendAuth(codec.ContinueAuthentication, reply)
	case x.again:
		c.ext.exchange = nil
		if terms != nil {
			c.agreeAgain(terms)
			if x.replaces != c.loop.replaces {
				c.loop.reauthorize(c.cl, c.loop.replace)
			}
		}
		c.sendAuth(codec.Success, reply)
	default:
		c.ext.exchange = nil
		x.cn.reply = reply
		if terms != nil {
			x.cn.agree(terms)
		}
		c.loop.accept(c, x.cn)
	}
}

func (c *conn) sendAuth(code codec.ReasonCode, data []byte) {
	a := codec.Auth{Code: code}
	a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationMethod, c.ext.method)
	if len(data) > 0 {
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationData, data)
	}
	b := a.Append(nil)
	if !c.fits(len(b)) { // [MQTT-3.1.2-24]
		c.fail(codec.PacketTooLarge, "the AUTH would be larger than the client takes")
		return
	}
	c.sent(codec.AUTH)
	c.buffer().B = append(c.out.B, b...)
}

// disconnectCode is what DISCONNECT says for a code by which a method refuses:
// it does not have all that CONNACK has [MQTT-3.14.2-1].
func disconnectCode(code codec.ReasonCode) codec.ReasonCode {
	switch code {
	case codec.UnsupportedProtocolVersion, codec.ClientIdentifierNotValid, codec.BadUserNameOrPassword,
		codec.ServerUnavailable, codec.Banned, codec.PacketIdentifierInUse, codec.PacketIdentifierNotFound:
		return codec.NotAuthorized
	default:
		return code
	}
}
