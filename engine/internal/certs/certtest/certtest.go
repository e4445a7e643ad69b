// Package certtest makes certificates for tests: an authority, what it signs
// and what it revokes, in files as the broker reads them.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// An Authority signs certificates.
type Authority struct {
	File string // PEM of its own certificate

	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A Request says what certificate is wanted. The zero value is one of a server
// on this machine that is valid for an hour.
type Request struct {
	CommonName string   // "": localhost
	Names      []string // DNS; nil: localhost, and 127.0.0.1 beside it
	Serial     int64    // 0: the next one
	NotBefore  time.Time
	NotAfter   time.Time
}

var serials atomic.Int64

// New makes an authority whose files go when the test ends.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir(), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte(name),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.File = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

// Pool is what trusts the authority.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Issue signs a certificate and returns its files.
func (a *Authority) Issue(r Request) (certFile, keyFile string) {
	a.t.Helper()
	if r.CommonName == "" {
		r.CommonName = "localhost"
	}
	if r.Serial == 0 {
		r.Serial = serials.Add(1)
	}
	if r.NotBefore.IsZero() {
		r.NotBefore = time.Now().Add(-time.Hour)
	}
	if r.NotAfter.IsZero() {
		r.NotAfter = time.Now().Add(time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(r.Serial), Subject: pkix.Name{CommonName: r.CommonName, Organization: []string{"WheelMQ tests"}},
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, DNSNames: r.Names, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if r.Names == nil {
		template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	n := template.SerialNumber.String()
	return a.write(n+".pem", "CERTIFICATE", der), a.write(n+".key", "PRIVATE KEY", keyDER)
}

// Certificate signs a certificate and loads it.
func (a *Authority) Certificate(r Request) tls.Certificate {
	a.t.Helper()
	c, err := tls.LoadX509KeyPair(a.Issue(r))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// Revoke makes a list of these serial numbers, to be renewed by until.
func (a *Authority) Revoke(until time.Time, numbers ...int64) (file string) {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(serials.Add(1)), ThisUpdate: time.Now().Add(-24 * time.Hour), NextUpdate: until}
	for _, n := range numbers {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write("crl"+list.Number.String()+".pem", "X509 CRL", der)
}

func (a *Authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
