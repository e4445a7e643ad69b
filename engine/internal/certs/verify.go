package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A verifier says whether a client's certificate is good. Immutable.
type verifier struct {
	roots       *x509.CertPool
	authorities []*x509.Certificate
	lists       map[string]*revocations // by RawIssuer; nil when revocation is not checked
	ignoreDates bool
}

// revocations is the list of one issuer.
type revocations struct {
	serials    map[string]struct{}
	nextUpdate time.Time // zero: none is announced
}

func newVerifier(f *Files) (*verifier, error) {
	v := &verifier{roots: x509.NewCertPool(), ignoreDates: f.IgnoreDates}
	if f.CAFile != "" {
		if err := v.addAuthorities(f.CAFile); err != nil {
			return nil, err
		}
	}
	if f.CADir != "" {
		entries, err := os.ReadDir(f.CADir)
		if err != nil {
			return nil, fmt.Errorf("certs: CA: %w", err)
		}
		for _, e := range entries {
			if path := filepath.Join(f.CADir, e.Name()); !e.IsDir() {
				if err := v.addAuthorities(path); err != nil && !errors.Is(err, errNoCertificate) {
					return nil, err
				}
			}
		}
	}
	if len(v.authorities) == 0 {
		return nil, fmt.Errorf("certs: CA: %s%s: %w", f.CAFile, f.CADir, errNoCertificate)
	}
	if f.CRLFile == "" {
		return v, nil
	}
	return v, v.addRevocations(f.CRLFile)
}

var errNoCertificate = errors.New("no certificate in it")

func (v *verifier) addAuthorities(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("certs: CA: %w", err)
	}
	before := len(v.authorities)
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certs: CA: %s: %w", path, err)
		}
		v.authorities = append(v.authorities, c)
		v.roots.AddCert(c)
	}
	if len(v.authorities) == before {
		return fmt.Errorf("certs: CA: %s: %w", path, errNoCertificate)
	}
	return nil
}

// addRevocations reads lists, each of which must be signed by one of the authorities.
func (v *verifier) addRevocations(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("certs: revocations: %w", err)
	}
	var lists [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "X509 CRL" {
			lists = append(lists, block.Bytes)
		}
	}
	if len(lists) == 0 {
		lists = append(lists, data) // DER
	}
	v.lists = make(map[string]*revocations)
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("certs: revocations: %s: %w", path, err)
		}
		if err := v.signed(list); err != nil {
			return fmt.Errorf("certs: revocations: %s: the list of %s: %w", path, list.Issuer, err)
		}
		if !list.NextUpdate.IsZero() && time.Now().After(list.NextUpdate) {
			return fmt.Errorf("certs: revocations: %s: the list of %s was to be renewed by %s", path, list.Issuer, list.NextUpdate.Format(time.RFC3339))
		}
		r := &revocations{serials: make(map[string]struct{}), nextUpdate: list.NextUpdate}
		for _, e := range list.RevokedCertificateEntries {
			r.serials[string(e.SerialNumber.Bytes())] = struct{}{}
		}
		v.lists[string(list.RawIssuer)] = r
	}
	return nil
}

func (v *verifier) signed(list *x509.RevocationList) error {
	err := errors.New("its issuer is not among the authorities")
	for _, c := range v.authorities {
		if bytes.Equal(c.RawSubject, list.RawIssuer) {
			if err = list.CheckSignatureFrom(c); err == nil {
				return nil
			}
		}
	}
	return err
}

// clientAuth is what crypto/tls is to do by itself: not to verify where dates do not count.
func (v *verifier) clientAuth(want tls.ClientAuthType) tls.ClientAuthType {
	switch {
	case !v.ignoreDates:
		return want
	case want == tls.RequireAndVerifyClientCert:
		return tls.RequireAnyClientCert
	default:
		return tls.RequestClientCert
	}
}

// verify is asked at the end of each handshake, also of one that resumes a
// session: the authorities or the lists may have changed since that began.
func (v *verifier) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil // crypto/tls has refused it where one is required
	}
	chains := state.VerifiedChains
	if state.DidResume || chains == nil {
		var err error
		if chains, err = v.chains(state.PeerCertificates); err != nil {
			return err
		}
	}
	if v.lists == nil {
		return nil
	}
	var err error
	for _, chain := range chains {
		if err = v.checkRevocation(chain); err == nil {
			return nil
		}
	}
	return err
}

func (v *verifier) chains(certificates []*x509.Certificate) ([][]*x509.Certificate, error) {
	leaf := certificates[0]
	o := x509.VerifyOptions{Roots: v.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range certificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if now := time.Now(); v.ignoreDates && (now.Before(leaf.NotBefore) || now.After(leaf.NotAfter)) {
		o.CurrentTime = leaf.NotBefore
	}
	return leaf.Verify(o)
}

// checkRevocation wants a list for the client's certificate, and looks at those
// that there are for its authorities.
func (v *verifier) checkRevocation(chain []*x509.Certificate) error {
	for i, c := range chain[:max(1, len(chain)-1)] {
		list := v.lists[string(c.RawIssuer)]
		switch {
		case list == nil && i == 0:
			return fmt.Errorf("certs: no list of revocations by %s", c.Issuer)
		case list == nil:
			continue
		case !list.nextUpdate.IsZero() && time.Now().After(list.nextUpdate) && !v.ignoreDates:
			return fmt.Errorf("certs: the list of revocations by %s was to be renewed by %s", c.Issuer, list.nextUpdate.Format(time.RFC3339))
		}
		if _, revoked := list.serials[string(c.SerialNumber.Bytes())]; revoked {
			return fmt.Errorf("certs: the certificate of %s is revoked", c.Subject)
		}
	}
	return nil
}
