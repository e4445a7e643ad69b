package engine

import (
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// identify puts into cn who the client is, where the listener has that from a
// certificate and not from CONNECT.
func (c *conn) identify(cn *connecting) (codec.ReasonCode, string) {
	if c.door().Identity != IdentityConnect {
		name := c.certifiedName()
		if name == "" {
			return codec.BadUserNameOrPassword, "no certificate that names the client"
		}
		cn.UserName, cn.HasUserName, cn.Identified = name, true, true
		cn.Password, cn.HasPassword = nil, false
	}
	if c.door().ClientIDFromUserName {
		if cn.UserName == "" {
			return codec.NotAuthorized, "no user name to be the client identifier"
		}
		cn.ClientID = cn.UserName
	}
	return codec.Success, ""
}

// certifiedName is what the client's certificate says, verified by TLS here or
// by a proxy that is trusted; "" when there is none, or it does not say that.
func (c *conn) certifiedName() string {
	if p := c.sock.Proxied(); p != nil && c.door().Identity == IdentityCommonName && p.CommonName != "" {
		return p.CommonName
	}
	state := c.sock.TLS()
	if state == nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	subject := state.PeerCertificates[0].Subject
	if c.door().Identity == IdentitySubject {
		return subject.String()
	}
	return subject.CommonName
}

// proxied is what a proxy told of the client, for hooks.
func (c *conn) proxied() *hook.Proxied {
	p := c.sock.Proxied()
	if p == nil {
		return nil
	}
	h := hook.Proxied(*p)
	return &h
}
