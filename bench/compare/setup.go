package compare

// A mode is a way in which a broker can be set up. Brokers are compared within one.
type mode string

const (
	plain   mode = "tcp"     // MQTT on TCP, in memory
	secure  mode = "tls"     // MQTT on TLS 1.3, in memory
	web     mode = "ws"      // MQTT on WebSocket, in memory
	both    mode = "wss"     // MQTT on WebSocket on TLS 1.3, in memory
	local   mode = "unix"    // MQTT on a Unix socket, in memory
	durable mode = "durable" // MQTT on TCP; sessions, queues and retained messages outlive the process
)

// A setup is how a broker is started in one mode. In all of it these are replaced: {address} and {port}, on which it is to
// listen; {socket}, the same for a Unix socket; {spare}, another free port; {dir}, a folder for this run alone; {cert} and {key}, files with a certificate for
// 127.0.0.1 and its key.
type setup struct {
	Command  []string `json:"command" toml:"command"`
	Settings string   `json:"settings,omitempty" toml:"settings"` // configuration file, written to {dir}/broker.conf
	Address  string   `json:"address,omitempty" toml:"address"`   // host:port, for a broker that cannot be told; "": a free port of 127.0.0.1
	Path     string   `json:"path,omitempty" toml:"path"`         // of WebSocket; "": /mqtt
}

// A candidate is a broker that can be started.
type candidate struct {
	Name    string         `json:"name"`
	Version string         `json:"version"`
	setup                  // in mode plain
	Modes   map[mode]setup `json:"modes,omitempty"` // the other ones that it has
	targets bool           // the scenarios' targets are meant for it
}

// in is how the candidate is started in a mode; ok is false where it is not.
func (c candidate) in(m mode) (s setup, ok bool) {
	if m == plain {
		return c.setup, true
	}
	s, ok = c.Modes[m]
	return s, ok
}
