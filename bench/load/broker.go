package load

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Broker says where the broker under test listens and how to come in.
type Broker struct {
	Address   string       // host:port, or the path of a Unix socket
	TLS       *tls.Config  // nil: none. Without a ServerName the host of Address is it
	WebSocket string       // path that is asked for; "": no WebSocket
	PID       int          // process on this machine whose CPU time and memory are read; 0: neither is known
	Version   Version      // zero: MQTT 3.1.1
	Username  string       // "": none
	Password  string       // sent with a Username only
	Sources   []netip.Addr // addresses to connect from, in turns; none: 127.0.0.1 to 127.0.0.250 toward loopback, else the system's choice
}

// transports are the schemes of the addresses of brokers, with the port where none is given.
var transports = map[string]struct {
	port           string
	tls, webSocket bool
}{
	"mqtt": {port: "1883"}, "tcp": {port: "1883"},
	"mqtts": {port: "8883", tls: true}, "tls": {port: "8883", tls: true}, "ssl": {port: "8883", tls: true},
	"ws": {port: "80", webSocket: true}, "wss": {port: "443", tls: true, webSocket: true},
}

// ParseBroker reads host:port, or a URL with scheme mqtt, mqtts, ws or wss, as in wss://host:8084/mqtt, or unix, as in
// unix:///run/broker.sock. The path of WebSocket is /mqtt where none is given.
func ParseBroker(text string) (Broker, error) {
	if !strings.Contains(text, "://") {
		return Broker{Address: text}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return Broker{}, fmt.Errorf("load: address %q: %w", text, err)
	}
	t, ok := transports[u.Scheme]
	switch {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return Broker{Address: u.Path}, nil
	case !ok:
		return Broker{}, fmt.Errorf("load: address %q: scheme %s is not mqtt, mqtts, ws, wss or unix", text, u.Scheme)
	case u.User != nil, u.RawQuery != "", u.Fragment != "", u.Hostname() == "", !t.webSocket && strings.Trim(u.Path, "/") != "":
		return Broker{}, fmt.Errorf("load: address %q: want SCHEME://HOST:PORT, and a path for ws and wss", text)
	}
	port := u.Port()
	if port == "" {
		port = t.port
	}
	b := Broker{Address: net.JoinHostPort(u.Hostname(), port)}
	if t.tls {
		b.TLS = &tls.Config{}
	}
	if t.webSocket {
		b.WebSocket = cmp.Or(u.Path, "/mqtt")
	}
	return b, nil
}

// isPath reports whether Address is of a Unix socket.
func (b *Broker) isPath() bool { return strings.HasPrefix(b.Address, "/") }

// prepareTLS makes the configuration one that fits the generator's connections.
func (b *Broker) prepareTLS() error {
	if b.TLS == nil {
		return nil
	}
	host, _, err := net.SplitHostPort(b.Address)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	b.TLS = b.TLS.Clone()
	b.TLS.ServerName = cmp.Or(b.TLS.ServerName, host)
	b.TLS.DynamicRecordSizingDisabled = true // full records from the first one: fewer of them
	return nil
}

// A meter is one reading of the clocks that a measured window is taken between.
type meter struct {
	at        time.Time
	broker    time.Duration // CPU time of the broker's process, ended threads included
	generator time.Duration // CPU time of this process
	machine   time.Duration // CPU time of all processes, interrupts and steal
}

// Usage is what a measured window cost. What belongs to the broker is 0 where its process is not known.
type Usage struct {
	Elapsed       time.Duration `json:"elapsed_ns"`
	BrokerCPU     time.Duration `json:"broker_cpu_ns"`
	GeneratorCPU  time.Duration `json:"generator_cpu_ns"`
	OtherCPU      time.Duration `json:"other_cpu_ns"` // everything else on the machine; 10 ms resolution
	BrokerRSS     int64         `json:"broker_rss_bytes"`
	GeneratorFull bool          `json:"generator_full"` // the generator used over 90 % of a core: it may be the bottleneck
}

// generatorFullShare is what the generator may use of one core before a run is marked.
const generatorFullShare = 0.9

// Cores is a CPU time of the window as a number of cores.
func (u Usage) Cores(cpu time.Duration) float64 {
	if u.Elapsed <= 0 {
		return 0
	}
	return float64(cpu) / float64(u.Elapsed)
}

func readMeter(pid int) (meter, error) {
	var m meter
	var err error
	if pid > 0 {
		if m.broker, err = processCPU(pid); err != nil {
			return m, err
		}
	}
	if m.generator, err = cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID); err != nil {
		return m, err
	}
	if m.machine, err = machineCPU(); err != nil {
		return m, err
	}
	m.at = time.Now()
	return m, nil
}

// usageSince reads the clocks again and the broker's memory.
func usageSince(m meter, pid int) (Usage, error) {
	end, err := readMeter(pid)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		Elapsed:      end.at.Sub(m.at),
		BrokerCPU:    end.broker - m.broker,
		GeneratorCPU: end.generator - m.generator,
	}
	u.OtherCPU = max(0, end.machine-m.machine-u.BrokerCPU-u.GeneratorCPU)
	u.GeneratorFull = u.Cores(u.GeneratorCPU) > generatorFullShare
	if pid > 0 {
		u.BrokerRSS, err = residentBytes(pid)
	}
	return u, err
}
