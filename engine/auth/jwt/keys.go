package jwt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

// Bounds of what a provider may send, and how often it is asked.
const (
	maxDocument  = 1 << 20
	fetchTimeout = 10 * time.Second
	refreshKeys  = 5 * time.Minute
	unknownKey   = 5 * time.Second // between two looks for a key that is not known
	retryFirst   = time.Second     // between two attempts to get the keys for the first time
)

// keys find the key of a token.
type keys interface {
	find(ctx context.Context, t *jwt.Token) (any, error)
}

// fixedKeys are those of a file. Immutable.
type fixedKeys jwt.VerificationKeySet

func (k fixedKeys) find(context.Context, *jwt.Token) (any, error) {
	return jwt.VerificationKeySet(k), nil
}

// secretKey is a shared secret.
type secretKey []byte

func (k secretKey) find(context.Context, *jwt.Token) (any, error) { return []byte(k), nil }

// setKeys are a JWK set, in a file or at an address.
type setKeys struct{ keyfunc.Keyfunc }

func (k setKeys) find(ctx context.Context, t *jwt.Token) (any, error) { return k.KeyfuncCtx(ctx)(t) }

// minSecret is how long a shared secret must be (RFC 7518 section 3.2).
const minSecret = 32

func readSecret(path string) (keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("jwt: secret: %w", err)
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) < minSecret {
		return nil, fmt.Errorf("jwt: secret %s: %d bytes: want at least %d", path, len(b), minSecret)
	}
	return secretKey(b), nil
}

// readKeys reads public keys and certificates in PEM, or a JWK set.
func readKeys(path string) (keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("jwt: keys: %w", err)
	}
	if strings.HasPrefix(strings.TrimSpace(string(b)), "{") {
		k, err := keyfunc.NewJWKSetJSON(b)
		if err != nil {
			return nil, fmt.Errorf("jwt: keys %s: %w", path, err)
		}
		return setKeys{k}, nil
	}
	var set fixedKeys
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		key, err := publicKey(block)
		if err != nil {
			return nil, fmt.Errorf("jwt: keys %s: %w", path, err)
		}
		set.Keys = append(set.Keys, key)
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("jwt: keys %s: neither PEM nor a JWK set", path)
	}
	return set, nil
}

func publicKey(b *pem.Block) (crypto.PublicKey, error) {
	var key any
	var err error
	switch b.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(b.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(b.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(b.Bytes); err == nil {
			key = c.PublicKey
		}
	default:
		return nil, fmt.Errorf("a %q: want public keys or certificates", b.Type)
	}
	if err != nil {
		return nil, err
	}
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return key, nil
	default:
		return nil, fmt.Errorf("a key of kind %T", key)
	}
}

// A provider has its keys at an address, which may be found by its issuer
// (OpenID Connect Discovery 1.0). It is asked for the first time when a token
// comes, and again until it answers. Any goroutine.
type provider struct {
	issuer, address string // one of them
	client          *http.Client
	end             context.Context
	between         time.Duration // two looks for a key that is not known

	mu      sync.Mutex
	set     keyfunc.Keyfunc // nil until it has answered
	failed  error           // of the last attempt
	tried   time.Time
	asking  chan struct{} // closed when the attempt under way has ended; nil: none
	waiting int           // for it
}

// maxWaiting bounds who waits for a provider that does not answer: the others
// who decide about clients have the broker's workers too.
const maxWaiting = 8

func (p *provider) find(ctx context.Context, t *jwt.Token) (any, error) {
	set, err := p.keys(ctx)
	if err != nil {
		return nil, err
	}
	return set.KeyfuncCtx(ctx)(t)
}

// errUnavailable: the keys cannot be had now. It is no fault of the token's.
var errUnavailable = errors.New("the provider of the keys does not answer")

func (p *provider) keys(ctx context.Context) (keyfunc.Keyfunc, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.set != nil:
		return p.set, nil
	case p.asking == nil && p.failed != nil && time.Since(p.tried) < retryFirst:
		return nil, p.failed
	case p.waiting >= maxWaiting:
		return nil, fmt.Errorf("jwt: %w: too many tokens wait for it", errUnavailable)
	case p.asking == nil:
		p.asking = make(chan struct{})
		go p.ask(p.asking)
	}
	asking := p.asking
	p.waiting++
	p.mu.Unlock()
	select {
	case <-asking:
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.waiting--
	if err := ctx.Err(); p.set == nil && err != nil {
		return nil, fmt.Errorf("jwt: %w: %w", errUnavailable, err)
	}
	return p.set, p.failed
}

// ask makes one attempt to get the keys, and closes asking.
func (p *provider) ask(asking chan struct{}) {
	set, err := p.fetch()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set, p.failed, p.tried, p.asking = set, nil, time.Now(), nil
	if err != nil {
		p.set, p.failed = nil, fmt.Errorf("jwt: %w: %w", errUnavailable, err)
	}
	close(asking)
}

// fetch gets the keys for the first time; from then on they are kept up to date.
func (p *provider) fetch() (keyfunc.Keyfunc, error) {
	address := p.address
	if address == "" {
		var err error
		if address, err = p.discover(); err != nil {
			return nil, err
		}
	}
	storage, err := jwkset.NewStorageFromHTTP(address, jwkset.HTTPClientStorageOptions{
		Client: p.client, Ctx: p.end, HTTPTimeout: fetchTimeout, RefreshInterval: refreshKeys})
	if err != nil {
		return nil, err
	}
	set, err := jwkset.NewHTTPClient(jwkset.HTTPClientOptions{
		HTTPURLs:          map[string]jwkset.Storage{address: storage},
		RateLimitWaitMax:  fetchTimeout, // for the look and the wait before it: two tokens can wait, more are refused at once
		RefreshUnknownKID: rate.NewLimiter(rate.Every(p.between), 1),
	})
	if err != nil {
		return nil, err
	}
	return keyfunc.New(keyfunc.Options{Ctx: p.end, Storage: set})
}

// discover asks the issuer where its keys are.
func (p *provider) discover() (string, error) {
	ctx, cancel := context.WithTimeout(p.end, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(p.issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return "", err
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", request.URL, answer.Status)
	}
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&document); err != nil {
		return "", fmt.Errorf("%s: %w", request.URL, err)
	}
	if document.Issuer != p.issuer { // section 4.3
		return "", fmt.Errorf("%s is of issuer %q", request.URL, document.Issuer)
	}
	if _, err := checkURL(document.Keys); err != nil {
		return "", fmt.Errorf("%s: jwks_uri: %w", request.URL, err)
	}
	return document.Keys, nil
}

func checkURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%q: want an address, as https://id.example.org", s)
	}
	return u, nil
}

// newClient asks providers; caFile is who signs their certificates, "": the system's.
func newClient(caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("jwt: CA: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("jwt: CA %s: no certificate in it", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: bounded{transport}, Timeout: fetchTimeout}, nil
}

// bounded bounds the documents that come.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, maxDocument), answer.Body}
	}
	return answer, err
}
