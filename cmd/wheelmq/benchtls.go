package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
)

// clientTLS are the flags of a client for TLS, as given.
type clientTLS struct {
	ca, cert, key string
	insecure      bool
}

func (c *clientTLS) add(f *pflag.FlagSet) {
	f.StringVar(&c.ca, "ca", "", "TLS: who signs the broker's certificate, a PEM file (default: whom the system trusts)")
	f.BoolVar(&c.insecure, "insecure", false, "TLS: take any certificate of the broker")
	f.StringVar(&c.cert, "cert", "", "TLS: certificate of all clients, a PEM file")
	f.StringVar(&c.key, "key", "", "TLS: its key, a PEM file")
}

// apply reads the files into config, which is nil where the address does not ask for TLS.
func (c *clientTLS) apply(config *tls.Config) error {
	switch {
	case *c == clientTLS{}:
		return nil
	case config == nil:
		return errors.New("--ca, --insecure, --cert and --key are for --broker mqtts://HOST and wss://HOST")
	case (c.cert == "") != (c.key == ""):
		return errors.New("--cert and --key go together")
	}
	config.InsecureSkipVerify = c.insecure
	if c.ca != "" {
		text, err := os.ReadFile(c.ca)
		if err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("--ca: %s has no certificate in PEM", c.ca)
		}
	}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return fmt.Errorf("--cert, --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return nil
}
