package e2e

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"testing"
)

// A forger makes tokens with the claims of another.
type forger struct {
	t      *testing.T
	claims string // as they stand in a token
}

func newForger(t *testing.T, claims string) *forger { return &forger{t, claims} }

func (f *forger) begin(header string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + f.claims
}

func signed(begin string, signature []byte) string {
	return begin + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// none is a token without a signature that says so.
func (f *forger) none() string { return f.begin(`{"alg":"none","typ":"JWT"}`) + "." }

// hs256 is a token signed with a secret, such as a public key that everybody can read.
func (f *forger) hs256(secret []byte) string {
	begin := f.begin(`{"alg":"HS256","typ":"JWT"}`)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(begin))
	return signed(begin, mac.Sum(nil))
}

// rs256 is a token signed with a key.
func (f *forger) rs256(key *rsa.PrivateKey) string {
	f.t.Helper()
	begin := f.begin(`{"alg":"RS256","typ":"JWT"}`)
	sum := sha256.Sum256([]byte(begin))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return signed(begin, signature)
}

// publicPEM is what everybody may know of key.
func publicPEM(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
