package certs

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// handshake runs one and returns what each side says.
func handshake(server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return state, err, err
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return state, err, err
	}
	defer b.Close()
	a, err := l.Accept()
	if err != nil {
		return state, err, err
	}
	defer a.Close()
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	done := make(chan error, 1)
	srv := tls.Server(a, server)
	go func() {
		err := srv.Handshake()
		if err == nil {
			_, err = srv.Write([]byte("x")) // a ticket is read with it
		}
		if err != nil {
			_ = a.(*net.TCPConn).CloseWrite()
		}
		done <- err
	}()
	c := tls.Client(b, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	b.Close()
	serverErr = <-done
	return srv.ConnectionState(), serverErr, clientErr
}

// always shows c, whatever authorities the server names.
func always(c tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
}

func pair(a *certtest.Authority, r certtest.Request) Pair {
	cert, key := a.Issue(r)
	return Pair{cert, key}
}

func load(t *testing.T, f Files) *Set {
	t.Helper()
	s, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServerNames(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "a")
	s := load(t, Files{Pairs: []Pair{
		pair(a, certtest.Request{CommonName: "first", Names: []string{"first.example"}}),
		pair(a, certtest.Request{CommonName: "second", Names: []string{"*.second.example"}, NotAfter: time.Now().Add(time.Minute)}),
	}})
	f := func(name, want string) {
		t.Helper()
		client := &tls.Config{ServerName: name, InsecureSkipVerify: true}
		var got string
		client.VerifyConnection = func(s tls.ConnectionState) error {
			got = s.PeerCertificates[0].Subject.CommonName
			return nil
		}
		if _, _, err := handshake(s.Config(), client); err != nil || got != want {
			t.Errorf("%s: got the certificate of %q, %v, want %q", name, got, err, want)
		}
	}
	f("first.example", "first")
	f("x.second.example", "second")
	f("other.example", "first")
	f("", "first")
	if d := time.Until(s.NotAfter()); d > time.Minute || d < 50*time.Second {
		t.Errorf("the first runs out in %v, want a minute", d)
	}
}

// TestClients: who is let in with which certificate, by full handshakes and by
// resumed ones.
func TestClients(t *testing.T) {
	t.Parallel()
	a, other := certtest.New(t, "a"), certtest.New(t, "other")
	server := pair(a, certtest.Request{})
	later := time.Now().Add(time.Hour)
	ran := certtest.Request{CommonName: "late", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	f := func(what string, files Files, client *tls.Certificate, want string) {
		t.Helper()
		files.Pairs = []Pair{server}
		if files.CAFile == "" {
			files.CAFile = a.File
		}
		s := load(t, files)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			cfg := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", MaxVersion: version}
			if client != nil {
				cfg.GetClientCertificate = always(*client)
			}
			_, err, _ := handshake(s.Config(), cfg)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, version %x: %v, want %q", what, version, err, want)
			}
		}
	}
	cert := func(a *certtest.Authority, r certtest.Request) *tls.Certificate {
		c := a.Certificate(r)
		return &c
	}
	good := cert(a, certtest.Request{CommonName: "good", Serial: 5001})
	bad := cert(a, certtest.Request{CommonName: "bad", Serial: 5002})
	crl := a.Revoke(later, 5002)
	require, maybe := tls.RequireAndVerifyClientCert, tls.VerifyClientCertIfGiven
	f("none asked for", Files{ClientAuth: tls.NoClientCert}, nil, "")
	f("required and shown", Files{ClientAuth: require}, good, "")
	f("required and not shown", Files{ClientAuth: require}, nil, "didn't provide a certificate")
	f("required, of another authority", Files{ClientAuth: require}, cert(other, certtest.Request{}), "certificate")
	f("optional and not shown", Files{ClientAuth: maybe}, nil, "")
	f("optional and shown", Files{ClientAuth: maybe}, good, "")
	f("optional, of another authority", Files{ClientAuth: maybe, CAFile: other.File}, good, "certificate")
	f("ran out", Files{ClientAuth: require}, cert(a, ran), "expired")
	f("ran out, and dates do not count", Files{ClientAuth: require, IgnoreDates: true}, cert(a, ran), "")
	f("another authority, and dates do not count", Files{ClientAuth: require, IgnoreDates: true, CAFile: other.File}, good, "unknown authority")
	f("required and not shown, and dates do not count", Files{ClientAuth: require, IgnoreDates: true}, nil, "didn't provide a certificate")
	f("not revoked", Files{ClientAuth: require, CRLFile: crl}, good, "")
	f("revoked", Files{ClientAuth: require, CRLFile: crl}, bad, "CN=bad,O=WheelMQ tests is revoked")
	f("revoked, and dates do not count", Files{ClientAuth: require, CRLFile: crl, IgnoreDates: true}, bad, "is revoked")
	dir := t.TempDir()
	for i, a := range []*certtest.Authority{a, other} {
		data, _ := os.ReadFile(a.File)
		_ = os.WriteFile(filepath.Join(dir, string(rune('a'+i))), data, 0o600)
	}
	_ = os.WriteFile(filepath.Join(dir, "README"), []byte("no certificate"), 0o600)
	f("an authority of a folder", Files{ClientAuth: require, CADir: dir}, good, "")
	f("no list by its issuer", Files{ClientAuth: require, CADir: dir, CRLFile: crl}, cert(other, certtest.Request{}), "no list of revocations by CN=other")
}

// TestTickets: a session is resumed after a restart with the same key file, on
// later days too, and not with another key; nor when its certificate has been
// revoked or its authority is gone since.
func TestTickets(t *testing.T) {
	t.Parallel()
	a, other := certtest.New(t, "a"), certtest.New(t, "other")
	key := filepath.Join(t.TempDir(), "key")
	write := func(s string) { _ = os.WriteFile(key, []byte(s), 0o600) }
	ca := filepath.Join(t.TempDir(), "ca.pem")
	use := func(a *certtest.Authority) {
		data, _ := os.ReadFile(a.File)
		_ = os.WriteFile(ca, data, 0o600)
	}
	use(a)
	files := Files{Pairs: []Pair{pair(a, certtest.Request{})}, TicketKeyFile: key, ClientAuth: tls.RequireAndVerifyClientCert, CAFile: ca}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", MaxVersion: version,
			GetClientCertificate: always(a.Certificate(certtest.Request{Serial: 6001}))}
		write(strings.Repeat("k", ticketKeyBytes))
		f := func(what string, s *Set, resumed bool, want string) {
			t.Helper()
			state, err, _ := handshake(s.Config(), client)
			if state.DidResume != resumed || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, version %x: resumed %v, %v; want %v, %q", what, version, state.DidResume, err, resumed, want)
			}
		}
		again := func() { client.ClientSessionCache = tls.NewLRUClientSessionCache(1) }
		again()
		s := load(t, files)
		f("first", s, false, "")
		f("second", s, true, "")
		f("after a restart", load(t, files), true, "")
		s.current.Load().renewTickets(time.Now().Add(6 * ticketEpoch))
		if state, err, _ := handshake(s.current.Load().config, client); !state.DidResume {
			t.Errorf("after six days, version %x: not resumed, %v", version, err)
		}
		again()
		f("first", load(t, files), false, "")
		write(strings.Repeat("l", ticketKeyBytes))
		f("with another key", load(t, files), false, "")
		revoking := files
		revoking.CRLFile = a.Revoke(time.Now().Add(time.Hour), 6001)
		f("revoked since", load(t, revoking), true, "is revoked")
		again()
		f("first", load(t, files), false, "")
		use(other)
		f("another authority since", load(t, files), false, "unknown authority")
		use(a)
	}
	random := files
	random.TicketKeyFile = ""
	s := load(t, random)
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1),
		Certificates: []tls.Certificate{a.Certificate(certtest.Request{})}}
	_, _, _ = handshake(s.Config(), client)
	commit, err := s.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	commit()
	if state, err, _ := handshake(s.Config(), client); !state.DidResume {
		t.Errorf("after a reload: not resumed, %v", err)
	}
}

// TestReplacing: all files together, or none.
func TestReplacing(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "a")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	put := func(from, name string) {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(at(name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	install := func(r certtest.Request) {
		cert, key := a.Issue(r)
		put(cert, "cert")
		put(key, "key")
	}
	install(certtest.Request{CommonName: "old"})
	put(a.File, "ca")
	put(a.Revoke(time.Now().Add(time.Hour)), "crl")
	s := load(t, Files{Pairs: []Pair{{at("cert"), at("key")}}, CAFile: at("ca"), CRLFile: at("crl"), ClientAuth: tls.VerifyClientCertIfGiven})
	inUse := func() string { return s.Config().Certificates[0].Leaf.Subject.CommonName }
	refused := func(what, want string) {
		t.Helper()
		_, err := s.Prepare()
		if err == nil || !strings.Contains(err.Error(), want) || s.Failure() == nil || inUse() != "old" {
			t.Errorf("%s: %v, in use %s; want %q and the old one", what, err, inUse(), want)
		}
	}
	old, _ := os.ReadFile(at("key"))
	install(certtest.Request{CommonName: "new"})
	_ = os.WriteFile(at("key"), old, 0o600)
	refused("a key that does not fit", at("cert"))
	install(certtest.Request{CommonName: "late", NotAfter: time.Now().Add(-time.Minute)})
	refused("run out", "ran out")
	install(certtest.Request{CommonName: "new"})
	put(certtest.New(t, "other").Revoke(time.Now().Add(time.Hour)), "crl")
	refused("a list by a stranger", "not among the authorities")
	put(a.Revoke(time.Now().Add(-time.Hour)), "crl")
	refused("a list that is old", "was to be renewed")
	put(a.File, "crl")
	refused("no list", at("crl"))
	put(a.Revoke(time.Now().Add(time.Hour)), "crl")
	put(at("key"), "ca")
	refused("no authority", errNoCertificate.Error())
	put(a.File, "ca")
	commit, err := s.Prepare()
	if err != nil || inUse() != "old" {
		t.Fatalf("before the commit: %v, in use %s", err, inUse())
	}
	commit()
	if inUse() != "new" || s.Failure() != nil {
		t.Errorf("after the commit: in use %s, %v", inUse(), s.Failure())
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "a")
	p := pair(a, certtest.Request{})
	short := filepath.Join(t.TempDir(), "short")
	_ = os.WriteFile(short, []byte("short"), 0o600)
	f := func(files Files, want string) {
		t.Helper()
		if _, err := Load(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f(Files{Pairs: []Pair{{"/none", p.Key}}}, "/none")
	f(Files{Pairs: []Pair{{p.Certificate, "/none"}}}, "/none")
	f(Files{Pairs: []Pair{{p.Key, p.Key}}}, p.Key)
	f(Files{Pairs: []Pair{p}, TicketKeyFile: "/none"}, "/none")
	f(Files{Pairs: []Pair{p}, TicketKeyFile: short}, "5 bytes, want at least 32")
	f(Files{Pairs: []Pair{p}, ClientAuth: tls.VerifyClientCertIfGiven, CAFile: "/none"}, "/none")
	f(Files{Pairs: []Pair{p}, ClientAuth: tls.VerifyClientCertIfGiven, CAFile: p.Key}, errNoCertificate.Error())
	f(Files{Pairs: []Pair{p}, ClientAuth: tls.VerifyClientCertIfGiven, CADir: "/none"}, "/none")
	f(Files{Pairs: []Pair{p}, ClientAuth: tls.VerifyClientCertIfGiven, CAFile: a.File, CRLFile: "/none"}, "/none")
	late := pair(a, certtest.Request{NotAfter: time.Now().Add(-time.Minute)})
	if _, err := Load(Files{Pairs: []Pair{late}}); err != nil {
		t.Errorf("a certificate that ran out, at the start: %v", err)
	}
}
