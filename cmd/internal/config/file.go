package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/router"
)

// A File is what a configuration says, with defaults where it says nothing.
// Reader, environment, schema, show and init are all made from these fields:
// the tag key is the name, doc what people read, enum the words that it may be,
// min and max its bounds, required that its section is nothing without it.
type File struct {
	Listeners []Listener `key:"listeners" doc:"the doors by which clients come in; replaces the default, port 1883 of the loopback addresses"`
	Login     []Method   `key:"authentication" doc:"who else decides who comes in, in this order, before users; for listeners that say nothing of their own"`
	Users     UserFiles  `key:"users" doc:"who may come in and what they may do, for listeners that say nothing of their own"`
	Limits    Limits     `key:"limits" doc:"bounds; a number, or unlimited where a bound may be off"`
	Features  Features   `key:"features" doc:"parts of the standard that can be switched off"`
	Store     Store      `key:"store" doc:"what outlives the process"`
	Log       Log        `key:"log" doc:"the log, on standard error"`
	Profiles  Profiles   `key:"profiles" doc:"profiles and execution traces by HTTP"`
	Loops     int        `key:"loops" doc:"event loops; 0: 1 with one or two processors, else one each" min:"0" max:"256"`
	Sys       Duration   `key:"sys_interval" doc:"how often $SYS is published; 0: never" min:"0" max:"86400"`
}

// A Listener is one door.
type Listener struct {
	Name             string       `key:"name" doc:"in logs and figures; default: the address"`
	Address          string       `key:"address" doc:"host:port, :port for every address, or unix:PATH" required:"true"`
	Anonymous        bool         `key:"anonymous" doc:"clients without a user name may come in"`
	Sys              bool         `key:"sys" doc:"clients may read $SYS where no rights decide"`
	MaxConnections   engine.Limit `key:"max_connections" doc:"by this listener"`
	ConnectRate      int          `key:"connect_rate" doc:"connections a second; more are refused; 0: any" min:"0" max:"1000000000"`
	Rates            Rates        `key:"rates" doc:"of all clients together that come by it"`
	Durability       string       `key:"durability" doc:"what an acknowledgement outlives: a loss of power, the end of the process, nothing" enum:"synced,written,received"`
	SocketMode       string       `key:"socket_mode" doc:"permissions of a Unix socket, in octal; default: what the umask leaves"`
	Detect           bool         `key:"detect" doc:"the first bytes tell TLS from none, and WebSocket from none, as far as these are set"`
	TLS              *TLS         `key:"tls" doc:"certificates; without this section there is no TLS"`
	WebSocket        *WebSocket   `key:"websocket" doc:"MQTT inside WebSocket; without this section there is none"`
	Proxy            *Proxy       `key:"proxy" doc:"a PROXY header comes first; without this section there is none"`
	Identity         string       `key:"identity" doc:"where the user name comes from" enum:"connect,common-name,subject,template"`
	UserName         string       `key:"user_name" doc:"with identity template: user name with ${cn}, ${subject}, ${o}, ${ou}, ${serial}, ${dns}, ${email}, ${uri} of the certificate"`
	PasswordToo      bool         `key:"password_too" doc:"where the user name comes from a certificate the password is asked for too"`
	ClientIDFromUser bool         `key:"client_id_from_user_name" doc:"the Client Identifier is the user name"`
	Login            []Method     `key:"authentication" doc:"in place of the authentication and the users of the whole broker"`
	Users            *UserFiles   `key:"users" doc:"the same"`
}

// TLS is a listener's certificates.
type TLS struct {
	Certificates []Certificate `key:"certificates" doc:"the first is for clients that name no server"`
	ClientCA     Path          `key:"client_ca" doc:"PEM file: who signs certificates of clients"`
	ClientCADir  Path          `key:"client_ca_dir" doc:"the same as a folder"`
	CRL          Path          `key:"crl" doc:"PEM file: revoked certificates of clients"`
	Clients      string        `key:"client_certificates" doc:"whether clients show one" enum:"none,optional,required"`
	IgnoreDates  bool          `key:"ignore_client_dates" doc:"certificates of clients may have run out"`
	MinVersion   string        `key:"min_version" doc:"lowest version" enum:"1.2,1.3"`
	MaxVersion   string        `key:"max_version" doc:"highest version" enum:"1.2,1.3,newest"`
	TicketKey    Path          `key:"ticket_key" doc:"file with at least 32 secret bytes: sessions can be resumed after a restart"`
}

// A Certificate is a certificate and its key.
type Certificate struct {
	Certificate Path `key:"certificate" doc:"PEM file with the certificate and its chain" required:"true"`
	Key         Path `key:"key" doc:"PEM file with its key" required:"true"`
}

// WebSocket is how MQTT inside WebSocket is served.
type WebSocket struct {
	Path         string   `key:"path" doc:"of the request; *: any"`
	Origins      []string `key:"origins" doc:"pages that may connect, as https://example.org; empty: any"`
	PingInterval Duration `key:"ping_interval" doc:"an idle connection is pinged; 0: never" min:"0" max:"86400"`
}

// Proxy says whose PROXY headers are believed.
type Proxy struct {
	Trusted    []string `key:"trusted" doc:"senders, as addresses or networks; empty: loopback addresses"`
	Version    int      `key:"version" doc:"1 or 2; 0: both" min:"0" max:"2"`
	RequireTLS bool     `key:"require_tls" doc:"the client must have come to the proxy by TLS"`
}

// UserFiles are a password file and an ACL file.
type UserFiles struct {
	PasswordFile Path `key:"password_file" doc:"users and passwords, as wheelmq passwd writes them"`
	ACLFile      Path `key:"acl_file" doc:"what users may read and write, in the grammar of Mosquitto"`
}

// Limits are the bounds of the broker.
type Limits struct {
	Connections    engine.Limit `key:"connections" doc:"at once; never more than the limit on open files allows"`
	Sessions       engine.Limit `key:"sessions" doc:"connected or not"`
	ConnectTimeout Duration     `key:"connect_timeout" doc:"from accept to CONNECT" min:"0.001" max:"3600"`
	ConnectPacket  Size         `key:"connect_packet" doc:"the first packet" min:"1" max:"268435460"`
	Packet         Size         `key:"packet" doc:"any packet, fixed header included" min:"1" max:"268435460"`
	QoS            int          `key:"qos" doc:"the highest" min:"0" max:"2"`
	ReceiveMaximum int          `key:"receive_maximum" doc:"QoS 1 and 2 that a client may have open toward the broker" min:"1" max:"65535"`
	Inflight       int          `key:"inflight" doc:"QoS 1 and 2 that the broker has open toward a client" min:"1" max:"65535"`
	AliasesIn      int          `key:"topic_aliases_in" doc:"topic aliases accepted" min:"0" max:"65535"`
	AliasesOut     int          `key:"topic_aliases_out" doc:"topic aliases used toward clients that allow them" min:"0" max:"65535"`
	KeepAlive      Duration     `key:"keep_alive" doc:"longest that is accepted; longer or none: the client is told this one; 0: any" min:"0" max:"65535"`
	SessionExpiry  Span         `key:"session_expiry" doc:"how long a session outlives its connection at most"`
	Queue          QueueLimits  `key:"queue" doc:"messages that wait for one session"`
	Subscriptions  engine.Limit `key:"subscriptions" doc:"of one session"`
	PacketFilters  engine.Limit `key:"packet_filters" doc:"topic filters of one SUBSCRIBE; those beyond are refused"`
	TopicLevels    int          `key:"topic_levels" doc:"of topic names and filters" min:"1" max:"65535"`
	TopicLength    int          `key:"topic_length" doc:"of topic names and filters, in bytes" min:"1" max:"65535"`
	MessageRate    int          `key:"message_rate" doc:"PUBLISH packets a second of one client; above it is not read from until that is made up for; 0: any" min:"0" max:"1000000000"`
	ByteRate       int          `key:"byte_rate" doc:"the same in bytes of all packets; 0: any" min:"0" max:"1000000000"`
	SendRate       int          `key:"send_rate" doc:"PUBLISH packets a second to one client; above it QoS 0 is dropped and the rest waits in its queue; 0: any" min:"0" max:"1000000000"`
	SendByteRate   int          `key:"send_byte_rate" doc:"the same in bytes; 0: any" min:"0" max:"1000000000"`
	RateDisconnect bool         `key:"rate_disconnect" doc:"a client above its rate is disconnected instead"`
	UserRates      Rates        `key:"user_rates" doc:"of all clients together that have one user name"`
	AddressRates   Rates        `key:"address_rates" doc:"of all clients together that have one address (of IPv6: one /64)"`
	UserRate       int          `key:"user_connect_rate" doc:"connects of one user name a second; more are refused; 0: any" min:"0" max:"1000000000"`
	UserConns      int          `key:"user_connections" doc:"clients connected with one user name, one more where it comes back to its session; 0: any" min:"0" max:"10000000"`
	AddressConns   int          `key:"address_connections" doc:"connections of one address (of IPv6: one /64) at once; 0: any" min:"0" max:"10000000"`
	AddressRate    int          `key:"address_connect_rate" doc:"connections of one address that begin within a second; 0: any" min:"0" max:"1000000000"`
	ClientRate     int          `key:"client_connect_rate" doc:"connects a minute of one client identifier, takeovers included; above it is refused for growing times; 0: any" min:"0" max:"1000000000"`
	LoopDelay      Duration     `key:"loop_delay" doc:"how late an event loop may be before clients without a session are refused, and four times as late all others; 0: never" min:"0" max:"60"`
	Retained       Retained     `key:"retained" doc:"retained messages of the whole broker"`
	Outbound       Size         `key:"outbound" doc:"unread by a client before it counts as slow" min:"1" max:"1073741824"`
	Mailbox        Size         `key:"mailbox" doc:"waiting for one loop before QoS 0 is dropped; QoS 1 and 2 at four times as much" min:"1" max:"17179869184"`
	HookTimeout    Duration     `key:"decision_timeout" doc:"for passwords and the like to be looked at" min:"0.001" max:"3600"`
	HookWorkers    int          `key:"decision_workers" doc:"decisions at once" min:"1" max:"65536"`
	HookBacklog    int          `key:"decision_backlog" doc:"more that wait; beyond it connections are refused" min:"1" max:"100000000"`
}

// QueueLimits bound one session's queue.
type QueueLimits struct {
	Messages engine.Limit `key:"messages" doc:"in number"`
	Bytes    SizeLimit    `key:"bytes" doc:"in bytes"`
	Memory   SizeLimit    `key:"memory" doc:"bytes in memory, of all sessions together; what is above waits in the store alone"`
	Overflow string       `key:"overflow" doc:"what becomes of one more" enum:"drop-newest,drop-oldest,reject"`
}

// Retained bounds retained messages.
type Retained struct {
	Messages       engine.Limit `key:"messages" doc:"in number"`
	Bytes          SizeLimit    `key:"bytes" doc:"in bytes"`
	ClientMessages engine.Limit `key:"client_messages" doc:"of one client identifier, in number"`
	ClientBytes    SizeLimit    `key:"client_bytes" doc:"of one client identifier, in bytes"`
}

// Rates bound several clients together.
type Rates struct {
	Messages     int `key:"messages" doc:"PUBLISH packets a second from them; above it they are not read from for a while; 0: any" min:"0" max:"1000000000"`
	Bytes        int `key:"bytes" doc:"bytes of all packets a second from them; 0: any" min:"0" max:"1000000000"`
	SendMessages int `key:"send_messages" doc:"PUBLISH packets a second to them; above it QoS 0 is dropped and the rest waits in their queues; 0: any" min:"0" max:"1000000000"`
	SendBytes    int `key:"send_bytes" doc:"bytes of PUBLISH packets a second to them; 0: any" min:"0" max:"1000000000"`
}

// Features can be switched off.
type Features struct {
	Retained        bool   `key:"retained" doc:"retained messages"`
	Wildcards       bool   `key:"wildcard_subscriptions" doc:"filters with + and #"`
	Shared          bool   `key:"shared_subscriptions" doc:"filters with $share"`
	SubscriptionIDs bool   `key:"subscription_identifiers" doc:"Subscription Identifiers"`
	EmptyClientID   bool   `key:"assigned_client_identifiers" doc:"clients without an identifier get one"`
	PayloadFormat   bool   `key:"check_payload_format" doc:"refuse payloads that claim to be UTF-8 and are not"`
	SharedStrategy  string `key:"shared_strategy" doc:"who of a shared subscription gets a message" enum:"round-robin,random,sticky,hash-client,hash-topic,least-inflight"`
	ResponseInfo    string `key:"response_information" doc:"for clients that ask"`
}

// Store is what outlives the process.
type Store struct {
	Kind         string `key:"kind" doc:"files of the broker's own (pebble), a file of SQLite, a database of MySQL or MariaDB, or nothing outlives the process (memory)" enum:"pebble,sqlite,mysql,memory"`
	Dir          Path   `key:"dir" doc:"folder of pebble; default: the user's state directory"`
	File         Path   `key:"file" doc:"of sqlite; default: wheelmq.sqlite in the user's state directory"`
	Server       string `key:"server" doc:"of mysql: mysql://USER@HOST[:PORT]/DATABASE, with ?tls=true where it is encrypted, or mysql://USER@/DATABASE?socket=PATH"`
	PasswordFile Path   `key:"password_file" doc:"of mysql: its first line is the user's password"`
}

// Choose sets what the flag --store says: KIND, or KIND:PLACE.
func (s *Store) Choose(text string) error {
	kind, place, said := strings.Cut(text, ":")
	if said && place == "" {
		return fmt.Errorf("%q: something belongs behind the colon", text)
	}
	switch {
	case kind == "pebble":
		s.Dir = Path(place)
	case kind == "sqlite":
		s.File = Path(place)
	case kind == "mysql" && strings.HasPrefix(place, "//"):
		s.Server = text
	case kind == "memory" && !said:
	default:
		return fmt.Errorf("%q: want pebble, pebble:FOLDER, sqlite, sqlite:FILE, mysql://USER@HOST/DATABASE or memory", text)
	}
	s.Kind = kind
	return nil
}

// Password is the first line of PasswordFile.
func (s *Store) Password() (string, error) {
	path, err := s.PasswordFile.resolve()
	if err != nil || path == "" {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("store.password_file: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// Log is what is logged and how.
type Log struct {
	Level       string `key:"level" doc:"least important level" enum:"debug,info,warn,error"`
	Format      string `key:"format" doc:"how lines are written" enum:"text,json"`
	Connections bool   `key:"connections" doc:"a line for each connection that begins, is refused or ends"`
}

// Profiles are served by HTTP.
type Profiles struct {
	Address string `key:"address" doc:"as host:port or unix:PATH; default: nowhere"`
	Remote  bool   `key:"remote" doc:"the address may be one that other machines can reach"`
}

// Default is a configuration that says nothing.
func Default() *File {
	f := &File{
		Features: Features{EmptyClientID: true},
		Store:    Store{Kind: "pebble"},
		Log:      Log{Level: "info", Format: "text"},
	}
	f.take(engine.Options{}.WithDefaults())
	f.Loops = 0
	return f
}

// newListener is a listener that says nothing.
func newListener() Listener {
	return Listener{MaxConnections: engine.Unlimited, Durability: "synced", Identity: "connect"}
}

// The words of enums, in the order of the engine's constants.
var (
	durabilities = []string{"synced", "written", "received"}
	identities   = []string{"connect", "common-name", "subject", "template"}
	clientCerts  = []string{"none", "optional", "required"}
	tlsVersions  = map[string]uint16{"newest": 0, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
)

func word(words []string, w string) uint8 {
	for i, known := range words {
		if known == w {
			return uint8(i)
		}
	}
	return 0
}

// take sets f to what o says, which has its defaults.
func (f *File) take(o engine.Options) {
	f.Loops = o.Loops
	f.Sys = Duration(max(0, o.SysInterval))
	f.Limits = Limits{
		Connections: engine.Limit(o.MaxConnections), Sessions: o.MaxSessions,
		ConnectTimeout: Duration(o.ConnectTimeout), ConnectPacket: Size(o.MaximumConnectSize), Packet: Size(o.MaximumPacketSize),
		QoS: int(*o.MaximumQoS), ReceiveMaximum: int(o.ReceiveMaximum), Inflight: int(o.MaxInflight),
		AliasesIn: int(o.TopicAliasMaximum), AliasesOut: int(o.TopicAliases),
		KeepAlive: Duration(o.KeepAliveMaximum), SessionExpiry: spanOf(o.SessionExpiryLimit),
		Queue:         QueueLimits{Messages: o.MaxQueuedMessages, Bytes: SizeLimit(o.MaxQueuedBytes), Memory: SizeLimit(o.QueueMemory), Overflow: o.Overflow.String()},
		Subscriptions: o.MaxSubscriptions, PacketFilters: o.MaxFilters, TopicLevels: o.MaxTopicLevels, TopicLength: o.MaxTopicLength,
		MessageRate: o.MessageRate, ByteRate: o.ByteRate, RateDisconnect: o.RateDisconnect,
		SendRate: o.SendRate, SendByteRate: o.SendByteRate, UserRates: Rates(o.UserRates), AddressRates: Rates(o.AddressRates),
		UserConns: o.UserConnections, UserRate: o.UserConnectRate, AddressConns: o.AddressConnections, AddressRate: o.AddressConnectRate, ClientRate: o.ClientConnectRate, LoopDelay: Duration(max(0, o.LoopDelay)),
		Retained: Retained{Messages: o.MaxRetainedMessages, Bytes: SizeLimit(o.MaxRetainedBytes),
			ClientMessages: o.ClientRetainedMessages, ClientBytes: SizeLimit(o.ClientRetainedBytes)},
		Outbound: Size(o.OutboundBytes), Mailbox: Size(o.MailboxBytes),
		HookTimeout: Duration(o.HookTimeout), HookWorkers: o.HookWorkers, HookBacklog: o.HookBacklog,
	}
	if o.MaxConnections >= 10_000_000 {
		f.Limits.Connections = engine.Unlimited
	}
	f.Features = Features{
		Retained: !o.NoRetained, Wildcards: !o.NoWildcardSubscriptions, Shared: !o.NoSharedSubscriptions,
		SubscriptionIDs: !o.NoSubscriptionIdentifiers, EmptyClientID: !o.EmptyClientID, PayloadFormat: o.CheckPayloadFormat,
		SharedStrategy: o.SharedStrategy.String(), ResponseInfo: o.ResponseInfo,
	}
	f.TakeListeners(o.Listeners, nil)
}

// TakeListeners sets f's listeners to those of the engine, and whose users they
// have.
func (f *File) TakeListeners(list []engine.Listener, users []Users) {
	f.Listeners = nil
	for i := range list {
		l := takeListener(&list[i])
		for _, u := range users {
			if u.Listener != "" && u.Listener == cmpOr(l.Name, l.Address) {
				l.Login = u.Methods
				if u.Files.PasswordFile != "" || u.Files.ACLFile != "" {
					l.Users = &UserFiles{Path(u.Files.PasswordFile), Path(u.Files.ACLFile)}
				}
			}
		}
		f.Listeners = append(f.Listeners, l)
	}
}

func takeListener(in *engine.Listener) Listener {
	l := newListener()
	l.Name, l.Address, l.Anonymous, l.Sys, l.Detect = in.Name, in.Address, in.Anonymous, in.Sys, in.Detect
	l.Durability, l.Identity, l.ClientIDFromUser = durabilities[in.Durability], identities[in.Identity], in.ClientIDFromUserName
	l.UserName, l.PasswordToo, l.Rates, l.ConnectRate = in.UserName, in.PasswordToo, Rates(in.Rates), in.ConnectRate
	if in.MaxConnections > 0 {
		l.MaxConnections = engine.Limit(in.MaxConnections)
	}
	if in.SocketMode != 0 {
		l.SocketMode = fmt.Sprintf("%#o", in.SocketMode)
	}
	if t := in.TLS; t != nil {
		l.TLS = &TLS{ClientCA: Path(t.CAFile), ClientCADir: Path(t.CADir), CRL: Path(t.CRLFile), Clients: clientCerts[t.ClientCertificates],
			IgnoreDates: t.IgnoreClientDates, TicketKey: Path(t.TicketKeyFile), MinVersion: "1.2"}
		for v, n := range tlsVersions {
			if n == t.MinVersion && n != 0 {
				l.TLS.MinVersion = v
			}
			if n == t.MaxVersion {
				l.TLS.MaxVersion = v
			}
		}
		for _, p := range t.Certificates {
			l.TLS.Certificates = append(l.TLS.Certificates, Certificate{Path(p.CertificateFile), Path(p.KeyFile)})
		}
	}
	if w := in.WebSocket; w != nil {
		l.WebSocket = &WebSocket{Path: w.Path, Origins: w.Origins, PingInterval: Duration(max(0, w.PingInterval))}
		if w.PingInterval == 0 {
			l.WebSocket.PingInterval = defaultPing
		}
	}
	if p := in.Proxy; p != nil {
		l.Proxy = &Proxy{Version: int(p.Version), RequireTLS: p.RequireTLS}
		for _, t := range p.Trusted {
			l.Proxy.Trusted = append(l.Proxy.Trusted, t.String())
		}
	}
	return l
}

const defaultPing = Duration(25 * time.Second)

// Options are f as the engine takes it, and where users come from.
func (f *File) Options() (engine.Options, []Users, error) {
	m := &f.Limits
	qos := codec.QoS(m.QoS)
	o := engine.Options{
		Loops: f.Loops, SysInterval: time.Duration(f.Sys),
		MaxConnections: int(max(0, m.Connections)), MaxSessions: m.Sessions,
		ConnectTimeout: time.Duration(m.ConnectTimeout), MaximumConnectSize: int(m.ConnectPacket), MaximumPacketSize: int(m.Packet),
		MaximumQoS: &qos, ReceiveMaximum: uint16(m.ReceiveMaximum), MaxInflight: uint16(m.Inflight),
		TopicAliasMaximum: uint16(m.AliasesIn), TopicAliases: uint16(m.AliasesOut), NoTopicAliases: m.AliasesIn == 0 && m.AliasesOut == 0,
		KeepAliveMaximum: time.Duration(m.KeepAlive), SessionExpiryLimit: m.SessionExpiry.limit(),
		MaxQueuedMessages: m.Queue.Messages, MaxQueuedBytes: engine.Limit(m.Queue.Bytes), QueueMemory: engine.Limit(m.Queue.Memory),
		MaxSubscriptions: m.Subscriptions, MaxFilters: m.PacketFilters, MaxTopicLevels: m.TopicLevels, MaxTopicLength: m.TopicLength,
		MessageRate: m.MessageRate, ByteRate: m.ByteRate, RateDisconnect: m.RateDisconnect,
		SendRate: m.SendRate, SendByteRate: m.SendByteRate, UserRates: engine.Rates(m.UserRates), AddressRates: engine.Rates(m.AddressRates),
		UserConnections: m.UserConns, UserConnectRate: m.UserRate, AddressConnections: m.AddressConns, AddressConnectRate: m.AddressRate, ClientConnectRate: m.ClientRate, LoopDelay: time.Duration(m.LoopDelay),
		MaxRetainedMessages: m.Retained.Messages, MaxRetainedBytes: engine.Limit(m.Retained.Bytes),
		ClientRetainedMessages: m.Retained.ClientMessages, ClientRetainedBytes: engine.Limit(m.Retained.ClientBytes),
		OutboundBytes: int(m.Outbound), MailboxBytes: int(m.Mailbox),
		HookTimeout: time.Duration(m.HookTimeout), HookWorkers: m.HookWorkers, HookBacklog: m.HookBacklog,
		NoRetained: !f.Features.Retained, NoWildcardSubscriptions: !f.Features.Wildcards, NoSharedSubscriptions: !f.Features.Shared,
		NoSubscriptionIdentifiers: !f.Features.SubscriptionIDs, EmptyClientID: !f.Features.EmptyClientID,
		CheckPayloadFormat: f.Features.PayloadFormat, ResponseInfo: f.Features.ResponseInfo,
	}
	if f.Sys == 0 {
		o.SysInterval = -1
	}
	if m.LoopDelay == 0 {
		o.LoopDelay = -1
	}
	var errs []error
	var err error
	if o.Overflow, err = engine.ParseOverflowPolicy(m.Queue.Overflow); err != nil {
		errs = append(errs, err)
	}
	if o.SharedStrategy, err = router.ParseStrategy(f.Features.SharedStrategy); err != nil {
		errs = append(errs, err)
	}
	var users []Users
	add := func(listener string, methods []Method, files *UserFiles, where string) {
		x, any, err := makeUsers(listener, methods, files)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s%w", where, err))
		} else if any {
			users = append(users, x)
		}
	}
	add("", f.Login, &f.Users, "")
	for i := range f.Listeners {
		in := &f.Listeners[i]
		where := fmt.Sprintf("listeners[%d]: ", i)
		l, err := in.listener()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s%w", where, err))
		}
		o.Listeners = append(o.Listeners, l)
		if in.Users != nil || len(in.Login) > 0 {
			add(cmpOr(l.Name, l.Address), in.Login, in.Users, where)
		}
	}
	return o, users, errors.Join(errs...)
}

func (u *UserFiles) options() (o auth.Options, any bool, err error) {
	var errs [2]error
	o.PasswordFile, errs[0] = u.PasswordFile.resolve()
	o.ACLFile, errs[1] = u.ACLFile.resolve()
	return o, o.PasswordFile != "" || o.ACLFile != "", errors.Join(errs[:]...)
}

func (l *Listener) listener() (engine.Listener, error) {
	out := engine.Listener{Name: l.Name, Address: l.Address, Anonymous: l.Anonymous, Sys: l.Sys, Detect: l.Detect,
		MaxConnections: int(max(0, l.MaxConnections)), Durability: engine.Durability(word(durabilities, l.Durability)),
		Identity: engine.Identity(word(identities, l.Identity)), UserName: l.UserName, PasswordToo: l.PasswordToo, ClientIDFromUserName: l.ClientIDFromUser,
		Rates: engine.Rates(l.Rates), ConnectRate: l.ConnectRate}
	var errs []error
	if l.Address == "" {
		errs = append(errs, errors.New("address is missing: want host:port, or unix:PATH"))
	}
	if l.SocketMode != "" {
		mode, err := strconv.ParseUint(l.SocketMode, 8, 9)
		if err != nil {
			errs = append(errs, fmt.Errorf("socket_mode %q: want an octal number, as 0660", l.SocketMode))
		}
		out.SocketMode = os.FileMode(mode)
	}
	if l.TLS != nil {
		t, err := l.TLS.options()
		if err != nil {
			errs = append(errs, err)
		}
		out.TLS = t
	}
	if w := l.WebSocket; w != nil {
		out.WebSocket = &engine.WebSocket{Path: w.Path, Origins: w.Origins, PingInterval: time.Duration(w.PingInterval)}
		switch w.PingInterval {
		case 0:
			out.WebSocket.PingInterval = -1
		case defaultPing:
			out.WebSocket.PingInterval = 0
		}
	}
	if p := l.Proxy; p != nil {
		out.Proxy = &engine.Proxy{Version: uint8(p.Version), RequireTLS: p.RequireTLS}
		for _, text := range p.Trusted {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				var a netip.Addr
				if a, err = netip.ParseAddr(text); err == nil {
					prefix, err = a.Prefix(a.BitLen())
				}
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("proxy: trusted %q: want an address, or a network as 10.0.0.0/8", text))
			}
			out.Proxy.Trusted = append(out.Proxy.Trusted, prefix)
		}
	}
	return out, errors.Join(errs...)
}

func (t *TLS) options() (*engine.TLS, error) {
	out := &engine.TLS{ClientCertificates: engine.ClientCertificates(word(clientCerts, t.Clients)), IgnoreClientDates: t.IgnoreDates,
		MinVersion: tlsVersions[t.MinVersion], MaxVersion: tlsVersions[t.MaxVersion]}
	var errs []error
	path := func(dst *string, p Path) {
		var err error
		if *dst, err = p.resolve(); err != nil {
			errs = append(errs, err)
		}
	}
	path(&out.CAFile, t.ClientCA)
	path(&out.CADir, t.ClientCADir)
	path(&out.CRLFile, t.CRL)
	path(&out.TicketKeyFile, t.TicketKey)
	for _, c := range t.Certificates {
		var p engine.KeyPair
		path(&p.CertificateFile, c.Certificate)
		path(&p.KeyFile, c.Key)
		out.Certificates = append(out.Certificates, p)
	}
	return out, errors.Join(errs...)
}

// A Path names a file; credential:NAME is one that systemd hands over.
type Path string

const credentialPrefix = "credential:"

func (p Path) resolve() (string, error) {
	name, ok := strings.CutPrefix(string(p), credentialPrefix)
	if !ok {
		return string(p), nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	switch {
	case dir == "":
		return "", fmt.Errorf("%s: there are no credentials: the unit needs LoadCredential=%s:FILE", p, name)
	case name == "" || filepath.Base(name) != name:
		return "", fmt.Errorf("%s: %q is not the name of a credential", p, name)
	}
	return filepath.Join(dir, name), nil
}
