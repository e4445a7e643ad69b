package engine

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/wheelmq/wheelmq/engine/internal/certs"
)

// TLS says how a listener proves who it is and whom it trusts. The files are
// read when the listener opens and at [Broker.ReloadTLS].
type TLS struct {
	Certificates       []KeyPair          // at least one; the first is for clients that name no server we know
	CAFile, CADir      string             // PEM: who signs the certificates of clients
	CRLFile            string             // PEM: revoked ones; the signers of clients' certificates must each have a list
	ClientCertificates ClientCertificates // whether clients show one
	IgnoreClientDates  bool               // certificates of clients may have run out, or not begun
	MinVersion         uint16             // as tls.VersionTLS12, the default
	MaxVersion         uint16             // 0: the newest
	CipherSuites       []uint16           // of TLS 1.2; nil: those of crypto/tls
	TicketKeyFile      string             // at least 32 secret bytes: sessions can be resumed after a restart; "": within one run
}

// A KeyPair is a certificate, with its chain, and its key, in PEM files.
type KeyPair struct{ CertificateFile, KeyFile string }

// ClientCertificates says whether clients show a certificate.
type ClientCertificates uint8

// The choices.
const (
	NoClientCertificate       ClientCertificates = iota // none is asked for
	OptionalClientCertificate                           // one that is shown must be good
	RequiredClientCertificate                           // without a good one the handshake fails
)

// validate tells bad what is wrong with t.
func (t *TLS) validate(bad func(format string, a ...any)) {
	if t.ClientCertificates > RequiredClientCertificate {
		bad("TLS: ClientCertificates %d: want up to %d", t.ClientCertificates, RequiredClientCertificate)
	}
	if len(t.Certificates) == 0 {
		bad("TLS without a certificate")
	}
	if t.ClientCertificates != NoClientCertificate && t.CAFile == "" && t.CADir == "" {
		bad("TLS: client certificates need a CA that signs them")
	}
	if t.MinVersion != 0 && t.MinVersion < tls.VersionTLS12 || t.MaxVersion != 0 && t.MaxVersion < max(t.MinVersion, tls.VersionTLS12) {
		bad("TLS: versions %#x to %#x: want TLS 1.2 (0x303) or later", t.MinVersion, t.MaxVersion)
	}
}

// files is what t loads. Inside TLS there is MQTT, WebSocket, or either.
func (t *TLS) files(webSocket, mqtt bool) certs.Files {
	f := certs.Files{
		CAFile: t.CAFile, CADir: t.CADir, CRLFile: t.CRLFile, TicketKeyFile: t.TicketKeyFile,
		ClientAuth:  [...]tls.ClientAuthType{tls.NoClientCert, tls.VerifyClientCertIfGiven, tls.RequireAndVerifyClientCert}[t.ClientCertificates],
		IgnoreDates: t.IgnoreClientDates, MinVersion: t.MinVersion, MaxVersion: t.MaxVersion, CipherSuites: t.CipherSuites,
	}
	for _, p := range t.Certificates {
		f.Pairs = append(f.Pairs, certs.Pair{Certificate: p.CertificateFile, Key: p.KeyFile})
	}
	if mqtt {
		f.Protocols = append(f.Protocols, "mqtt")
	}
	if webSocket {
		f.Protocols = append(f.Protocols, "http/1.1")
	}
	return f
}

// ReloadTLS reads the TLS files of all listeners again: certificates, keys,
// authorities, revocations and the key of session tickets take effect together,
// for connections that come from then on. When one of them cannot be used,
// all listeners keep what they have, and the error says which and why; it is
// in [Broker.Listeners] too until a reload succeeds. Any goroutine.
func (b *Broker) ReloadTLS() error {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	b.mu.Lock()
	doors := append([]*door(nil), b.listeners...)
	b.mu.Unlock()
	var commits []func()
	var errs []error
	for _, in := range doors {
		if in.certs == nil {
			continue
		}
		commit, err := in.certs.Prepare()
		if err != nil {
			b.log.Error("new TLS files are refused, the old ones stay in use", "listener", in.name, "error", err, "certificate until", in.certs.NotAfter())
			errs = append(errs, fmt.Errorf("engine: listener %q: %w", in.name, err))
		}
		commits = append(commits, commit)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, commit := range commits {
		commit()
	}
	if len(commits) > 0 {
		b.log.Info("TLS files were read again", "listeners", len(commits))
	}
	return nil
}
