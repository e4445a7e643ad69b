// Package remote asks a service of the user's by HTTP and JSON, so that one
// that is slow, fails or lies costs those alone who have to wait for it: the
// requests under way are bounded, and a service that fails is left alone for a
// while (github.com/sony/gobreaker, the circuit breaker most used in Go).
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Config says whom to ask and how.
type Config struct {
	URL        string
	CAFile     string        // PEM: who signs its certificate; "": the system's
	CertFile   string        // PEM: our certificate, with KeyFile; "": none
	KeyFile    string        // PEM
	Timeout    time.Duration // of one request; 0: 3 s
	AtOnce     int           // requests under way; more are refused; 0: 32
	Failures   int           // in a row, until the service is left alone; 0: 5
	LeaveAlone time.Duration // for so long; 0: 5 s
}

// Errors that tell that the service was not asked.
var (
	ErrBusy = errors.New("too many wait for the service already")
	ErrOpen = errors.New("the service failed, and is left alone for a while")
)

// maxAnswer bounds an answer.
const maxAnswer = 1 << 20

// A Service answers requests. Any goroutine.
type Service struct {
	config  Config
	client  *http.Client
	breaker *gobreaker.CircuitBreaker[[]byte]
	slots   chan struct{}
}

// New reads the files that c names.
func New(c Config) (*Service, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q: want an address, as https://auth.example.org/mqtt", c.URL)
	}
	set(&c.Timeout, 3*time.Second)
	set(&c.AtOnce, 32)
	set(&c.Failures, 5)
	set(&c.LeaveAlone, 5*time.Second)
	if c.Timeout < 0 || c.AtOnce < 0 || c.Failures < 0 || c.LeaveAlone < 0 {
		return nil, errors.New("time limits and numbers are above 0")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = c.AtOnce, c.AtOnce
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA %s: no certificate in it", c.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	s := &Service{config: c, client: &http.Client{Transport: transport, Timeout: c.Timeout}, slots: make(chan struct{}, c.AtOnce)}
	s.breaker = gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{Timeout: c.LeaveAlone,
		ReadyToTrip: func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= c.Failures }})
	return s, nil
}

func set[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Post sends body as JSON, with a bearer token where it is not "", and reads
// the answer into answer. An answer that is not 200 or 201, or no JSON, is a
// failure of the service's.
func (s *Service) Post(ctx context.Context, token string, body, answer any) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return fmt.Errorf("%s: %w", s.config.URL, ErrBusy)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = s.breaker.Execute(func() ([]byte, error) {
		b, err := s.ask(ctx, token, text)
		if err == nil {
			err = json.Unmarshal(b, answer)
		}
		return nil, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = ErrOpen
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.config.URL, err)
	}
	return nil
}

func (s *Service) ask(ctx context.Context, token string, text []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.URL, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is said already
		}
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusCreated:
		return nil, errors.New(answer.Status)
	case len(b) > maxAnswer:
		return nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return b, nil
}
