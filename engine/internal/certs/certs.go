package certs

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files says what to load. The zero values of the last five leave it to crypto/tls.
type Files struct {
	Pairs         []Pair // at least one; the first is for clients that name no server we know
	CAFile, CADir string // PEM
	CRLFile       string // PEM or DER
	TicketKeyFile string // at least ticketKeyBytes secret bytes; "": random ones

	ClientAuth   tls.ClientAuthType // NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert
	IgnoreDates  bool               // of clients' certificates
	MinVersion   uint16
	MaxVersion   uint16
	CipherSuites []uint16
	Protocols    []string // of ALPN
}

// A Pair is a certificate with its chain, and its key, in PEM files.
type Pair struct{ Certificate, Key string }

// A Set is what was loaded. Its methods may be called from any goroutine.
type Set struct {
	files   Files
	secret  [sha256.Size]byte // of session tickets where no file gives one
	current atomic.Pointer[loaded]
	failed  atomic.Pointer[error] // the last load, when it has failed
}

// loaded is one version of a Set. Immutable but for the ticket keys.
type loaded struct {
	config   *tls.Config
	notAfter time.Time // when the first of the certificates runs out
	secret   [sha256.Size]byte

	mu    sync.Mutex
	epoch int64 // of the ticket keys in config
}

// Load reads the files for the first time. A certificate that has run out is
// taken, since clients that trust it may be there: see NotAfter.
func Load(f Files) (*Set, error) {
	s := &Set{files: f}
	_, _ = rand.Read(s.secret[:]) // never fails
	l, err := s.load()
	if err != nil {
		return nil, err
	}
	s.current.Store(l)
	return s, nil
}

// Prepare reads the files again and returns what makes them those in use.
// Nothing changes before, nor when they cannot be used: then err says why.
func (s *Set) Prepare() (commit func(), err error) {
	l, err := s.load()
	if now := time.Now(); err == nil && now.After(l.notAfter) {
		err = fmt.Errorf("certs: the certificate ran out on %s", l.notAfter.Format(time.RFC3339))
	}
	if err != nil {
		s.failed.Store(&err)
		return nil, err
	}
	return func() {
		s.current.Store(l)
		s.failed.Store(nil)
	}, nil
}

// Failure is why the last Prepare has failed; nil when it has not.
func (s *Set) Failure() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// NotAfter is when the first of the certificates in use runs out.
func (s *Set) NotAfter() time.Time { return s.current.Load().notAfter }

// Config is what a handshake that begins now goes by. It is shared: read only.
func (s *Set) Config() *tls.Config {
	l := s.current.Load()
	l.renewTickets(time.Now())
	return l.config
}

// load reads all files.
func (s *Set) load() (*loaded, error) {
	f := &s.files
	l := &loaded{secret: s.secret, epoch: -1}
	c := &tls.Config{
		MinVersion: max(f.MinVersion, tls.VersionTLS12), MaxVersion: f.MaxVersion,
		CipherSuites: f.CipherSuites, NextProtos: f.Protocols,
		DynamicRecordSizingDisabled: true, // what leaves together stays together
	}
	for _, p := range f.Pairs {
		pair, err := loadPair(p)
		if err != nil {
			return nil, err
		}
		c.Certificates = append(c.Certificates, pair)
		if end := pair.Leaf.NotAfter; l.notAfter.IsZero() || end.Before(l.notAfter) {
			l.notAfter = end
		}
	}
	if f.TicketKeyFile != "" {
		secret, err := os.ReadFile(f.TicketKeyFile)
		if err != nil {
			return nil, fmt.Errorf("certs: key of session tickets: %w", err)
		}
		if len(secret) < ticketKeyBytes {
			return nil, fmt.Errorf("certs: key of session tickets: %s has %d bytes, want at least %d", f.TicketKeyFile, len(secret), ticketKeyBytes)
		}
		l.secret = sha256.Sum256(secret)
	}
	if f.ClientAuth != tls.NoClientCert {
		v, err := newVerifier(f)
		if err != nil {
			return nil, err
		}
		c.ClientAuth, c.ClientCAs, c.VerifyConnection = v.clientAuth(f.ClientAuth), v.roots, v.verify
	}
	l.config = c
	return l, nil
}

func loadPair(p Pair) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
	if err != nil {
		var path *os.PathError
		if !errors.As(err, &path) { // crypto/tls does not say which file it means
			err = fmt.Errorf("%s with key %s: %w", p.Certificate, p.Key, err)
		}
		return pair, fmt.Errorf("certs: %w", err)
	}
	if pair.Leaf == nil { // GODEBUG=x509keypairleaf=0
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	return pair, err
}
