package engine

import (
	"crypto/x509"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

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
		if c.door().PasswordToo && cn.HasUserName && cn.UserName != name {
			return codec.BadUserNameOrPassword, "the certificate is of another user"
		}
		cn.UserName, cn.HasUserName, cn.Identified = name, true, !c.door().PasswordToo
		if cn.Identified {
			cn.Password, cn.HasPassword = nil, false
		}
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
	of := func(field string) string { return "" }
	if p := c.sock.Proxied(); p != nil && p.CommonName != "" {
		of = func(field string) string {
			if field == "cn" {
				return p.CommonName
			}
			return ""
		}
	} else if state := c.sock.TLS(); state != nil && len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		of = func(field string) string { return certificateFields[field](cert) }
	}
	switch c.door().Identity {
	case IdentitySubject:
		return of("subject")
	case IdentityTemplate:
		return fillName(c.door().UserName, of)
	default:
		return of("cn")
	}
}

// certificateFields are what a Listener.UserName may have in it.
var certificateFields = map[string]func(*x509.Certificate) string{
	"cn":      func(c *x509.Certificate) string { return c.Subject.CommonName },
	"subject": func(c *x509.Certificate) string { return c.Subject.String() },
	"o":       func(c *x509.Certificate) string { return first(c.Subject.Organization) },
	"ou":      func(c *x509.Certificate) string { return first(c.Subject.OrganizationalUnit) },
	"serial":  func(c *x509.Certificate) string { return c.SerialNumber.Text(16) },
	"dns":     func(c *x509.Certificate) string { return first(c.DNSNames) },
	"email":   func(c *x509.Certificate) string { return first(c.EmailAddresses) },
	"uri": func(c *x509.Certificate) string {
		if len(c.URIs) == 0 {
			return ""
		}
		return c.URIs[0].String()
	},
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// nameField is one field in a Listener.UserName.
var nameField = regexp.MustCompile(`\$\{([^}]*)\}?`)

// fillName puts fields into a template; "" where the certificate lacks one.
func fillName(template string, of func(field string) string) string {
	complete := true
	name := nameField.ReplaceAllStringFunc(template, func(f string) string {
		value := of(f[2 : len(f)-1])
		complete = complete && value != ""
		return value
	})
	if !complete {
		return ""
	}
	return name
}

// checkName reports what is wrong with a template.
func checkName(template string) error {
	fields := nameField.FindAllStringSubmatch(template, -1)
	if len(fields) == 0 {
		return fmt.Errorf("UserName %q: all clients would have the same: want a field of the certificate, as ${cn}", template)
	}
	for _, f := range fields {
		if certificateFields[f[1]] == nil || f[0] != "${"+f[1]+"}" {
			return fmt.Errorf("UserName %q: %s: want ${%s}", template, f[0], strings.Join(slices.Sorted(maps.Keys(certificateFields)), "}, ${"))
		}
	}
	return nil
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
