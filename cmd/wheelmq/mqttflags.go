package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/net/proxy"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
)

// clientFlags are the flags that pub, sub and rr have in common, by Mosquitto's names.
type clientFlags struct {
	name                             string // of the command
	host, unix, bind, url, proxy     string
	port                             int
	user, password                   string
	hasPassword                      bool
	id, prefix, version              string
	keepAlive, inflight              int
	persistent, debug, quiet, ws     bool
	expiry                           string
	willTopic, willPayload           string
	willQoS                          int
	willRetain                       bool
	ca, caPath, cert, key            string
	tlsVersion, alpn, keyLog, psk    string
	insecure, osCerts, noTLS, useTLS bool
	ignored                          string
	nothing, srv                     bool
	qos                              int
	topics                           []string
	properties                       []packetProperty
}

// A packetProperty is one -D.
type packetProperty struct{ packet, name, value string }

func (f *clientFlags) register(set *pflag.FlagSet) {
	set.SortFlags = false
	set.StringVarP(&f.host, "host", "h", "", "host of the broker (default localhost)")
	set.IntVarP(&f.port, "port", "p", 0, "its port (default 1883; with TLS 8883)")
	set.BoolVarP(&f.srv, "srv", "S", false, "the brokers are those of the host's SRV records, _mqtt._tcp or, with TLS, _secure-mqtt._tcp")
	set.StringVarP(&f.url, "url", "L", "", "all of it as mqtt(s)://[user[:password]@]host[:port]/topic")
	set.StringVar(&f.unix, "unix", "", "path of the broker's Unix socket")
	set.BoolVar(&f.ws, "ws", false, "MQTT inside WebSocket, path /mqtt")
	set.StringArrayVarP(&f.topics, "topic", "t", nil, "topic")
	set.IntVarP(&f.qos, "qos", "q", 0, "quality of service: 0, 1 or 2")
	set.StringVarP(&f.user, "username", "u", "", "user name")
	set.StringVarP(&f.password, "pw", "P", "", "password")
	set.StringVarP(&f.id, "id", "i", "", "client identifier (default: a random one)")
	set.StringVarP(&f.prefix, "id-prefix", "I", "", "client identifier: this and the number of the process")
	set.BoolVarP(&f.persistent, "disable-clean-session", "c", false, "keep the session; needs -i")
	set.StringVarP(&f.expiry, "session-expiry-interval", "x", "", "seconds that the session is kept, or -1 for ever; MQTT 5")
	set.StringVarP(&f.version, "protocol-version", "V", "mqttv311", "mqttv5, mqttv311 or mqttv31")
	set.IntVarP(&f.keepAlive, "keepalive", "k", 60, "seconds of silence before a ping")
	set.IntVarP(&f.inflight, "max-inflight", "M", 20, "messages of QoS 1 and 2 under way at once")
	set.BoolVarP(&f.debug, "debug", "d", false, "say what happens, on standard error")
	set.BoolVar(&f.quiet, "quiet", false, "print no errors")
	set.StringVarP(&f.bind, "bind", "A", "", "local address to connect from")
	set.StringVar(&f.willTopic, "will-topic", "", "topic of the will")
	set.StringVar(&f.willPayload, "will-payload", "", "payload of the will")
	set.IntVar(&f.willQoS, "will-qos", 0, "QoS of the will")
	set.BoolVar(&f.willRetain, "will-retain", false, "retain the will")
	set.StringVar(&f.ca, "cafile", "", "PEM file: who signs the broker's certificate; makes it TLS")
	set.StringVar(&f.caPath, "capath", "", "folder with such files")
	set.BoolVar(&f.osCerts, "tls-use-os-certs", false, "TLS, by the system's authorities")
	set.StringVar(&f.cert, "cert", "", "PEM file with the client's certificate")
	set.StringVar(&f.key, "key", "", "PEM file with its key")
	set.BoolVar(&f.insecure, "insecure", false, "take the broker's certificate whatever name it has")
	set.StringVar(&f.tlsVersion, "tls-version", "", "lowest version: tlsv1.2 or tlsv1.3")
	set.StringVar(&f.alpn, "tls-alpn", "", "application protocol (default mqtt)")
	set.StringVar(&f.keyLog, "tls-keylog", "", "file to write the keys of TLS to, for analysis")
	set.BoolVar(&f.noTLS, "no-tls", false, "no TLS, also on port 8883")
	set.StringVar(&f.proxy, "proxy", "", "SOCKS5 proxy, as socks5h://[user[:password]@]host[:port]")
	set.StringVar(&f.psk, "psk", "", "refused: crypto/tls has no pre-shared keys")
	set.StringVar(&f.psk, "psk-identity", "", "refused")
	set.StringVar(&f.ignored, "ciphers", "", "taken and ignored: crypto/tls chooses")
	set.StringVar(&f.ignored, "keyform", "", "taken and ignored: keys are PEM")
	set.BoolVar(&f.nothing, "nodelay", false, "taken and ignored: small packets are never held back")
	set.StringVarP(&f.ignored, "option-file", "o", "", "file with one option a line")
	set.Bool("help", false, "say this")
}

const propertyHelp = "  -D, --property packet name value     a property of MQTT 5, as in -D publish content-type text/plain\n"

// parse reads the command line: options of the user's file, then those of -o, then args.
func (f *clientFlags) parse(set *pflag.FlagSet, args []string) error {
	before, err := personalOptions(f.name)
	if err != nil {
		return err
	}
	all := append(before, args...)
	for i := 0; i+1 < len(args); i++ {
		if args[i] == "-o" || args[i] == "--option-file" {
			more, err := readOptions(args[i+1])
			if err != nil {
				return err
			}
			all = append(append(before, more...), args...)
		}
	}
	var rest []string
	for i := 0; i < len(all); i++ {
		if all[i] != "-D" && all[i] != "--property" {
			rest = append(rest, all[i])
			continue
		}
		if i+3 >= len(all) {
			return errors.New("-D: want a packet, the name of a property, and its value")
		}
		p := packetProperty{all[i+1], all[i+2], all[i+3]}
		i += 3
		if p.name == "user-property" {
			if i++; i >= len(all) {
				return errors.New("-D: a user-property has a name and a value")
			}
			p.value += "\x00" + all[i]
		}
		f.properties = append(f.properties, p)
		f.version = "mqttv5"
	}
	if err := set.Parse(rest); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	if len(f.properties) > 0 || f.expiry != "" {
		f.version = "mqttv5"
	}
	f.hasPassword = set.Changed("pw")
	f.useTLS = f.ca != "" || f.caPath != "" || f.osCerts || f.cert != ""
	if f.url != "" {
		return f.takeURL()
	}
	return nil
}

// personalOptions are those that the user always wants, below the folder for configuration.
func personalOptions(name string) ([]string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, nil // no home: no options
	}
	options, err := readOptions(filepath.Join(dir, "wheelmq_"+name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return options, err
}

// readOptions reads a file with an option, and its value behind a blank, on each line.
func readOptions(path string) (options []string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		option, value, has := strings.Cut(line, " ")
		options = append(options, option)
		if !has {
			continue
		}
		if option == "-D" || option == "--property" {
			options = append(options, strings.Fields(value)...)
			continue
		}
		options = append(options, strings.TrimSpace(value))
	}
	return options, s.Err()
}

// takeURL takes -L apart.
func (f *clientFlags) takeURL() error {
	u, err := url.Parse(f.url)
	if err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" && u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" {
		return fmt.Errorf("-L %q: want mqtt(s)://[user[:password]@]host[:port]/topic", f.url)
	}
	f.host, f.useTLS, f.ws = u.Hostname(), f.useTLS || u.Scheme == "mqtts" || u.Scheme == "wss", f.ws || strings.HasPrefix(u.Scheme, "ws")
	if f.osCerts = f.osCerts || f.useTLS && f.ca == "" && f.caPath == ""; u.Port() != "" {
		f.port, _ = strconv.Atoi(u.Port())
	}
	if u.User != nil {
		f.user = u.User.Username()
		f.password, f.hasPassword = u.User.Password()
	}
	if topic := strings.TrimPrefix(u.Path, "/"); topic != "" {
		f.topics = append(f.topics, topic)
	}
	return nil
}

var protocolVersions = map[string]codec.Version{"mqttv5": client.V5, "5": client.V5, "mqttv311": client.V311, "311": client.V311, "mqttv31": client.V31, "31": client.V31}

// options are f as the library takes it.
func (f *clientFlags) options() (client.Options, error) {
	o := client.Options{NoReconnect: true, UserName: f.user, MaxInflight: uint16(min(max(f.inflight, 1), 65535)), MaxQueued: 10_000}
	var ok bool
	if o.Version, ok = protocolVersions[f.version]; !ok {
		return o, fmt.Errorf("-V %q: want mqttv5, mqttv311 or mqttv31", f.version)
	}
	if f.qos < 0 || f.qos > 2 || f.willQoS < 0 || f.willQoS > 2 {
		return o, errors.New("a QoS is 0, 1 or 2")
	}
	if f.hasPassword {
		if f.user == "" && o.Version != client.V5 {
			return o, errors.New("a password needs a user name, before MQTT 5")
		}
		o.Password = []byte(f.password)
	}
	switch {
	case f.id != "" && f.prefix != "":
		return o, errors.New("-i and -I exclude each other")
	case f.prefix != "":
		o.ClientID = f.prefix + strconv.Itoa(os.Getpid())
	default:
		o.ClientID = f.id
	}
	if f.persistent && o.ClientID == "" {
		return o, errors.New("-c, to keep the session, needs a client identifier: -i")
	}
	o.CleanStart = !f.persistent
	if err := f.session(&o); err != nil {
		return o, err
	}
	if f.keepAlive < 0 || f.keepAlive > 65535 {
		return o, fmt.Errorf("-k %d: want 0 to 65535", f.keepAlive)
	}
	if o.KeepAlive = time.Duration(f.keepAlive) * time.Second; f.keepAlive == 0 {
		o.KeepAlive = -1
	}
	if f.willTopic != "" {
		o.Will = &client.Will{Message: client.Message{Topic: f.willTopic, Payload: []byte(f.willPayload), QoS: codec.QoS(f.willQoS), Retain: f.willRetain}}
	} else if f.willPayload != "" || f.willRetain || f.willQoS > 0 {
		return o, errors.New("a will needs a topic: --will-topic")
	}
	if err := f.applyProperties(&o); err != nil {
		return o, err
	}
	if err := f.security(&o); err != nil {
		return o, err
	}
	return o, f.reach(&o)
}

func (f *clientFlags) session(o *client.Options) error {
	if f.persistent && o.Version == client.V5 {
		o.SessionExpiry = math.MaxUint32
	}
	switch f.expiry {
	case "":
	case "-1", "∞":
		o.SessionExpiry = math.MaxUint32
	default:
		n, err := strconv.ParseUint(f.expiry, 10, 32)
		if err != nil {
			return fmt.Errorf("-x %q: want seconds, or -1", f.expiry)
		}
		o.SessionExpiry = uint32(n)
	}
	return nil
}

// reach says where the broker is.
func (f *clientFlags) reach(o *client.Options) error {
	if f.unix != "" {
		o.Servers = []string{"unix://" + f.unix}
		return nil
	}
	scheme, port := "mqtt", 1883
	if f.ws {
		scheme, port = "ws", 8083
	}
	tls := f.useTLS && !f.noTLS
	if tls {
		scheme, port = scheme+"s", 8883
		if f.ws {
			port = 8084
		}
	}
	if f.port != 0 {
		port = f.port
	}
	if port < 1 || port > 65535 {
		return fmt.Errorf("-p %d: want a port", port)
	}
	host := f.host
	if host == "" {
		host = "localhost"
	}
	o.Servers = []string{scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))}
	if f.srv {
		var err error
		if o.Servers, err = lookUp(scheme, host); err != nil {
			return err
		}
	}
	var dialer net.Dialer
	if f.bind != "" {
		address, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(f.bind, "0"))
		if err != nil {
			return fmt.Errorf("-A: %w", err)
		}
		dialer.LocalAddr = address
		o.Dial = dialer.DialContext
	}
	if f.proxy == "" {
		return nil
	}
	u, err := url.Parse(strings.Replace(f.proxy, "socks5h://", "socks5://", 1))
	if err != nil || u.Scheme != "socks5" || u.Host == "" {
		return fmt.Errorf("--proxy %q: want socks5h://[user[:password]@]host[:port]", f.proxy)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "1080")
	}
	through, err := proxy.FromURL(u, &dialer)
	if err != nil {
		return fmt.Errorf("--proxy: %w", err)
	}
	o.Dial = through.(proxy.ContextDialer).DialContext
	return nil
}

// lookUp returns the brokers of a domain, in the order in which they want to be tried.
func lookUp(scheme, domain string) (servers []string, err error) {
	service, ok := map[string]string{"mqtt": "mqtt", "mqtts": "secure-mqtt"}[scheme]
	if !ok {
		return nil, errors.New("-S: there are no SRV records for WebSocket")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, records, err := net.DefaultResolver.LookupSRV(ctx, service, "tcp", domain)
	if err != nil {
		return nil, fmt.Errorf("-S: %w", err)
	}
	for _, r := range records {
		servers = append(servers, scheme+"://"+net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
	}
	return servers, nil
}

// security sets up TLS.
func (f *clientFlags) security(o *client.Options) error {
	if f.psk != "" {
		return errors.New("--psk: Go's TLS has no pre-shared keys; the broker and, where it asks for one, the client need a certificate")
	}
	if !f.useTLS || f.noTLS {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch f.tlsVersion {
	case "", "tlsv1.2":
	case "tlsv1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		return fmt.Errorf("--tls-version %q: want tlsv1.2 or tlsv1.3", f.tlsVersion)
	}
	if f.ca != "" || f.caPath != "" {
		var err error
		if c.RootCAs, err = f.authorities(); err != nil {
			return err
		}
	}
	if f.insecure {
		c.InsecureSkipVerify = true //nolint:gosec // the name alone is not looked at, as with Mosquitto
		c.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: c.RootCAs, Intermediates: x509.NewCertPool()}
			for _, chained := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(chained)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	}
	if (f.cert == "") != (f.key == "") {
		return errors.New("--cert and --key go together")
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return fmt.Errorf("--cert, --key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.alpn != "" {
		c.NextProtos = []string{f.alpn}
	}
	if f.keyLog != "" {
		w, err := os.OpenFile(f.keyLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("--tls-keylog: %w", err)
		}
		c.KeyLogWriter = w
	}
	o.TLS = c
	return nil
}

// authorities are those of --cafile and --capath.
func (f *clientFlags) authorities() (*x509.CertPool, error) {
	files := []string{}
	if f.ca != "" {
		files = append(files, f.ca)
	}
	if f.caPath != "" {
		found, err := filepath.Glob(filepath.Join(f.caPath, "*"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	pool, any := x509.NewCertPool(), false
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil && file == f.ca {
			return nil, fmt.Errorf("--cafile: %w", err)
		}
		any = pool.AppendCertsFromPEM(pem) || any
	}
	if !any {
		return nil, errors.New("--cafile, --capath: no certificate in there")
	}
	return pool, nil
}

// applyProperties takes the properties of CONNECT and of the will.
func (f *clientFlags) applyProperties(o *client.Options) error {
	for _, p := range f.properties {
		var err error
		switch p.packet {
		case "connect":
			err = connectProperty(o, p)
		case "will":
			if o.Will == nil {
				return errors.New("-D will: there is no will")
			}
			if p.name == "will-delay-interval" {
				o.Will.Delay, err = number32(p.value)
			} else {
				err = messageProperty(&o.Will.Message, p)
			}
		case "publish":
			err = messageProperty(new(client.Message), p)
		default:
			err = errors.New("want connect, publish or will")
		}
		if err != nil {
			return fmt.Errorf("-D %s %s: %w", p.packet, p.name, err)
		}
	}
	return nil
}

// publishProperties sets the properties of -D publish.
func (f *clientFlags) publishProperties(m *client.Message) {
	for _, p := range f.properties {
		if p.packet == "publish" {
			_ = messageProperty(m, p) // it was checked
		}
	}
}

func number32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q: want a number", s)
	}
	return uint32(n), nil
}

func userProperty(value string) client.Property {
	name, value, _ := strings.Cut(value, "\x00")
	return client.Property{Name: name, Value: value}
}

func connectProperty(o *client.Options, p packetProperty) error {
	if p.name == "user-property" {
		o.Properties = append(o.Properties, userProperty(p.value))
		return nil
	}
	n, err := number32(p.value)
	if err != nil {
		return err
	}
	if (p.name == "receive-maximum" || p.name == "topic-alias-maximum") && n > math.MaxUint16 {
		return fmt.Errorf("%d: want up to 65535", n)
	}
	switch p.name {
	case "session-expiry-interval":
		o.SessionExpiry = n
	case "receive-maximum":
		o.ReceiveMaximum = uint16(n)
	case "maximum-packet-size":
		o.MaximumPacketSize = n
	case "topic-alias-maximum":
		o.TopicAliasMaximum = uint16(n)
	case "request-response-information", "request-problem-information":
	default:
		return errors.New("no such property of CONNECT")
	}
	return nil
}

func messageProperty(m *client.Message, p packetProperty) error {
	switch p.name {
	case "user-property":
		m.Properties = append(m.Properties, userProperty(p.value))
	case "content-type":
		m.ContentType = p.value
	case "response-topic":
		m.ResponseTopic = p.value
	case "correlation-data":
		m.Correlation = []byte(p.value)
	case "payload-format-indicator":
		m.Text = p.value == "1"
	case "message-expiry-interval":
		n, err := number32(p.value)
		m.Expiry = time.Duration(n) * time.Second
		return err
	case "topic-alias": // the library chooses them
	default:
		return errors.New("no such property of a message")
	}
	return nil
}
