package engine

import (
	"bufio"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// watcher is an authenticator that keeps what it is asked.
type watcher struct {
	mu   sync.Mutex
	seen []hook.Connect
}

func (w *watcher) Authenticate(c *hook.Connect) codec.ReasonCode {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, *c)
	return codec.Success
}

func (w *watcher) last() hook.Connect {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[len(w.seen)-1]
}

// serverTLS is a listener's TLS with a certificate of a.
func serverTLS(a *certtest.Authority) *TLS {
	cert, key := a.Issue(certtest.Request{})
	return &TLS{Certificates: []KeyPair{{cert, key}}, CAFile: a.File}
}

// dialTLS opens a connection to the broker's first listener.
func dialTLS(t testing.TB, b *Broker, c *tls.Config, v codec.Version) *socketClient {
	t.Helper()
	s := dialSocket(t, b, v)
	s.Conn = tls.Client(s.Conn, c)
	s.br = bufio.NewReader(s.Conn)
	return s
}

// TestOverTLS: MQTT in TLS, with ALPN and without, with the client's identity
// from its certificate, until the certificates are replaced.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	covers(t, "B-alpn")
	a := certtest.New(t, "authority")
	server := serverTLS(a)
	server.ClientCertificates = OptionalClientCertificate
	w := &watcher{}
	b := startBroker(t, Options{Hooks: []any{w}, Listeners: []Listener{{Name: "tls", Address: "127.0.0.1:0", Anonymous: true, TLS: server}}})
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
	for _, protocols := range [][]string{nil, {"mqtt"}, {"other", "mqtt"}} {
		client.NextProtos = protocols
		c := dialTLS(t, b, client, codec.V5)
		if _, err := c.connect("a", true); err != nil {
			t.Fatal(err)
		}
		c.ping()
		got := w.last()
		want := ""
		if protocols != nil {
			want = "mqtt"
		}
		if got.TLS == nil || got.TLS.NegotiatedProtocol != want || got.Listener != "tls" || got.Identified {
			t.Errorf("%q: the hook was told %+v", protocols, got)
		}
	}
	client.NextProtos = []string{"other"}
	if _, err := dialTLS(t, b, client, codec.V5).connect("a", true); err == nil || !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("another protocol: %v", err)
	}
}

func TestIdentityFromCertificate(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	server := serverTLS(a)
	server.ClientCertificates = OptionalClientCertificate
	f := func(l Listener, name, id, code string) {
		t.Helper()
		l.Address, l.TLS = "127.0.0.1:0", server
		if code == "invalid" {
			if err := l.validate(); err == nil {
				t.Errorf("%+v is taken", l)
			}
			return
		}
		w := &watcher{}
		b := startBroker(t, Options{Hooks: []any{w}, Listeners: []Listener{l}})
		client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
		if name != "" {
			client.Certificates = []tls.Certificate{a.Certificate(certtest.Request{CommonName: "meter 7"})}
		}
		c := dialTLS(t, b, client, codec.V5)
		_, err := c.connect("given", true, func(p *codec.Connect) {
			p.HasUserName, p.UserName, p.HasPassword, p.Password = true, []byte("forged"), true, []byte("x")
		})
		if code != "" {
			if err == nil || !strings.Contains(err.Error(), "CONNACK 00"+code) {
				t.Errorf("got %v, want CONNACK %s", err, code)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := w.last(); got.UserName != name || got.Identified == l.PasswordToo || got.HasPassword != l.PasswordToo || got.ClientID != id {
			t.Errorf("the hook was told %+v, want user %q, client %q", got, name, id)
		}
	}
	f(Listener{Identity: IdentityCommonName}, "meter 7", "given", "")
	f(Listener{Identity: IdentitySubject}, "CN=meter 7,O=WheelMQ tests", "given", "")
	f(Listener{Identity: IdentityCommonName, ClientIDFromUserName: true}, "meter 7", "meter 7", "")
	f(Listener{Identity: IdentityCommonName}, "", "", "86")
	f(Listener{Identity: IdentityTemplate, UserName: "${cn} of ${o}"}, "meter 7 of WheelMQ tests", "given", "")
	f(Listener{Identity: IdentityTemplate, UserName: "${cn} ${ou}"}, "x", "", "86")              // it has no OU
	f(Listener{Identity: IdentityTemplate, UserName: "${cn}", PasswordToo: true}, "x", "", "86") // and CONNECT says forged
	f(Listener{Identity: IdentityTemplate, UserName: "forged${x"}, "", "", "invalid")            // never starts
	f(Listener{Identity: IdentityTemplate, UserName: "forged"}, "", "", "invalid")               // nor this
	f(Listener{Identity: IdentityCommonName, UserName: "${cn}"}, "", "", "invalid")              // nor this
	f(Listener{PasswordToo: true}, "", "", "invalid")                                            // nor this
}

// TestPasswordToo: the certificate says who the client is, and it is still to
// prove that by its password.
func TestPasswordToo(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	server := serverTLS(a)
	server.ClientCertificates = RequiredClientCertificate
	w := &watcher{}
	b := startBroker(t, Options{Hooks: []any{w}, Listeners: []Listener{{Address: "127.0.0.1:0", TLS: server, Identity: IdentityCommonName, PasswordToo: true}}})
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{a.Certificate(certtest.Request{CommonName: "meter 7"})}}
	for _, user := range []string{"meter 7", ""} {
		_, err := dialTLS(t, b, client, codec.V5).connect("given", true, func(p *codec.Connect) {
			p.HasUserName, p.UserName, p.HasPassword, p.Password = user != "", []byte(user), true, []byte("x")
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.last(); got.UserName != "meter 7" || !got.HasUserName || got.Identified || string(got.Password) != "x" {
			t.Errorf("the hook was told %+v", got)
		}
	}
}

// TestReloadTLS: new certificates are for new connections, all listeners'
// together or none.
func TestReloadTLS(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	dir := t.TempDir()
	install := func(name string, r certtest.Request) KeyPair {
		cert, key := a.Issue(r)
		to := KeyPair{filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")}
		for from, to := range map[string]string{cert: to.CertificateFile, key: to.KeyFile} {
			data, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return to
	}
	one, two := install("one", certtest.Request{CommonName: "old"}), install("two", certtest.Request{CommonName: "old"})
	b := startBroker(t, Options{Listeners: []Listener{
		{Name: "one", Address: "127.0.0.1:0", Anonymous: true, TLS: &TLS{Certificates: []KeyPair{one}}},
		{Name: "two", Address: "127.0.0.1:0", Anonymous: true, TLS: &TLS{Certificates: []KeyPair{two}}}}})
	shown := func() string {
		c := dialTLS(t, b, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}, codec.V5)
		if _, err := c.connect("new", true); err != nil {
			t.Fatal(err)
		}
		return c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	inside := dialTLS(t, b, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}, codec.V5)
	if _, err := inside.connect("inside", true); err != nil {
		t.Fatal(err)
	}
	install("one", certtest.Request{CommonName: "new"})
	install("two", certtest.Request{NotAfter: time.Now().Add(-time.Minute)})
	err := b.ReloadTLS()
	if err == nil || !strings.Contains(err.Error(), `"two"`) || shown() != "old" {
		t.Errorf("a set that ran out: %v, shown %q; want the old one", err, shown())
	}
	if s := b.Listeners(); s[0].CertificateFailure != nil || s[1].CertificateFailure == nil {
		t.Errorf("the listeners say %+v", s)
	}
	until := time.Now().Add(30 * time.Minute).Truncate(time.Second)
	install("two", certtest.Request{NotAfter: until})
	if err := b.ReloadTLS(); err != nil || shown() != "new" {
		t.Errorf("a good set: %v, shown %q; want the new one", err, shown())
	}
	if s := b.Listeners(); s[1].CertificateFailure != nil || !s[1].CertificateNotAfter.Equal(until) {
		t.Errorf("the second listener says %+v, want %v", s[1], until)
	}
	inside.ping()
}
