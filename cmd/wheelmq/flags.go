package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
)

// brokerFlags are the flags that run the broker, as given.
type brokerFlags struct {
	config         string
	listen         endpointsFlag
	allowAnonymous bool
	auth           auth.Options
	tls            tlsFlags
	loops          int // 0: the engine decides
	logLevel       levelFlag
	logFormat      logFormat
	store          storeFlags
	pprof          pprofFlags
	changed        func(name string) bool // whether a flag was given
}

func (f *brokerFlags) register(set *pflag.FlagSet) {
	f.logFormat = formatText
	f.changed = set.Changed
	set.SortFlags = false
	set.StringVarP(&f.config, "config", "c", "", "a configuration: wheelmq.yaml (wheelmq config init writes one) or a mosquitto.conf;\nflags and variables of the environment (WHEELMQ_LIMITS__PACKET) go before it")
	set.Var(&f.listen, "listen", "listen on [SCHEME://]host:port; may be repeated (default 127.0.0.1:1883 and [::1]:1883);\n"+
		"SCHEME is tcp, tls, ws or wss, for the latter two with a path; or unix://PATH")
	set.BoolVar(&f.allowAnonymous, "allow-anonymous", false,
		"let clients without a password in on every address")
	set.StringVar(&f.auth.PasswordFile, "password-file", "", "users and their passwords, as wheelmq passwd writes them; read again on HUP")
	set.StringVar(&f.auth.ACLFile, "acl-file", "", "what users may read and write, in the grammar of Mosquitto; read again on HUP")
	f.tls.register(set)
	f.store.register(set)
	set.BoolVar(&f.store.none, "no-persistence", false, "keep all that in memory only")
	set.IntVar(&f.loops, "loops", 0, "number of event loops (default: 1 with one or two processors, else one each)")
	set.Var(&f.logLevel, "log-level", "least important level that is logged: debug, info, warn, error (default info)")
	set.Var(&f.logFormat, "log-format", "how log lines are written: text, json")
	f.pprof.register(set)
}

// tlsFlags are what listeners with TLS have in common.
type tlsFlags struct {
	cert, key, clientCA, crl string
	required, identity       bool
}

func (f *tlsFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.cert, "cert", "", "PEM file with the certificate of TLS listeners and its chain; read again on HUP")
	set.StringVar(&f.key, "key", "", "PEM file with its key")
	set.StringVar(&f.clientCA, "client-ca", "", "PEM file with who signs certificates of clients")
	set.StringVar(&f.crl, "crl", "", "PEM file with revoked certificates of clients")
	set.BoolVar(&f.required, "require-certificate", false, "refuse clients without a certificate on TLS listeners")
	set.BoolVar(&f.identity, "identity-from-certificate", false,
		"the user name is the common name of the client's certificate, and no password is asked for")
}

// options are what f says; nil when it says nothing.
func (f *tlsFlags) options() (*engine.TLS, error) {
	if f.cert == "" && f.key == "" {
		if f.clientCA != "" || f.crl != "" || f.required || f.identity {
			return nil, configurationError("--client-ca, --crl, --require-certificate and --identity-from-certificate need --cert and --key")
		}
		return nil, nil
	}
	if f.cert == "" || f.key == "" {
		return nil, configurationError("--cert and --key go together")
	}
	t := &engine.TLS{Certificates: []engine.KeyPair{{CertificateFile: f.cert, KeyFile: f.key}}, CAFile: f.clientCA, CRLFile: f.crl}
	switch {
	case f.clientCA == "" && (f.required || f.identity || f.crl != ""):
		return nil, configurationError("certificates of clients need --client-ca, who signs them")
	case f.required || f.identity:
		t.ClientCertificates = engine.RequiredClientCertificate
	case f.clientCA != "":
		t.ClientCertificates = engine.OptionalClientCertificate
	}
	return t, nil
}

// An endpointsFlag collects the values of --listen.
type endpointsFlag []endpoint

func (f *endpointsFlag) Set(text string) error {
	e, err := parseEndpoint(text)
	if err != nil {
		return err
	}
	*f = append(*f, e)
	return nil
}

func (f *endpointsFlag) Type() string { return "address" }

func (f *endpointsFlag) String() string {
	texts := make([]string, len(*f))
	for i, e := range *f {
		texts[i] = e.String()
	}
	return strings.Join(texts, ", ")
}

// A levelFlag is the value of --log-level; zero is info.
type levelFlag slog.Level

func (f *levelFlag) Set(text string) error {
	switch text {
	case "debug":
		*f = levelFlag(slog.LevelDebug)
	case "info":
		*f = levelFlag(slog.LevelInfo)
	case "warn":
		*f = levelFlag(slog.LevelWarn)
	case "error":
		*f = levelFlag(slog.LevelError)
	default:
		return fmt.Errorf("%q is none of debug, info, warn, error", text)
	}
	return nil
}

func (f *levelFlag) Type() string { return "level" }

// String returns "" for the default, which the usage text names itself.
func (f *levelFlag) String() string {
	if *f == 0 {
		return ""
	}
	return f.text()
}

// text is the level's name.
func (f *levelFlag) text() string { return strings.ToLower(slog.Level(*f).String()) }

// A logFormat is the value of --log-format.
type logFormat string

const (
	formatText logFormat = "text"
	formatJSON logFormat = "json"
)

func (f *logFormat) Set(text string) error {
	switch v := logFormat(text); v {
	case formatText, formatJSON:
		*f = v
		return nil
	default:
		return fmt.Errorf("%q is neither text nor json", text)
	}
}

func (f *logFormat) Type() string   { return "format" }
func (f *logFormat) String() string { return string(*f) }
