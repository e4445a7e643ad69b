package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/wheelmq/wheelmq/engine"
)

func readNative(t *testing.T, text string, environment ...string) (*Native, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wheelmq.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(path, environment)
}

const everything = `
listeners:
  - name: door
    address: ":8883"
    max_connections: 500
    durability: written
    tls:
      certificates: [{certificate: c.pem, key: k.pem}]
      client_ca: ca.pem
      client_certificates: required
      min_version: 1.3
    identity: common-name
    users: {password_file: p, acl_file: a}
  - address: 127.0.0.1:8083
    anonymous: true
    websocket:
    proxy: {trusted: [10.0.0.0/8, 127.0.0.1], version: 2}
users:
  password_file: others
limits:
  connections: 2000
  connect_timeout: 2.5
  packet: 2MiB
  session_expiry: 7d
  keep_alive: 5m
  queue: {messages: unlimited, bytes: 16MiB, memory: 1GiB, overflow: drop-oldest}
features:
  shared_strategy: sticky
  retained: false
store: {kind: memory}
log: {level: warn, format: json}
loops: 2
sys_interval: 0
`

func TestNative(t *testing.T) {
	n, err := readNative(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	o, users, err := n.Options()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if len(o.Listeners) != 2 || len(users) != 2 {
		t.Fatalf("%d listeners, %d users", len(o.Listeners), len(users))
	}
	a, b := o.Listeners[0], o.Listeners[1]
	if a.Name != "door" || a.MaxConnections != 500 || a.Durability != engine.Written || a.Identity != engine.IdentityCommonName ||
		a.TLS.ClientCertificates != engine.RequiredClientCertificate || a.TLS.MinVersion != 0x304 || a.TLS.Certificates[0].KeyFile != "k.pem" {
		t.Errorf("first listener %+v, %+v", a, a.TLS)
	}
	if !b.Anonymous || b.WebSocket.Path != "/mqtt" || b.WebSocket.PingInterval != 0 || len(b.Proxy.Trusted) != 2 || b.Proxy.Version != 2 {
		t.Errorf("second listener %+v, %+v, %+v", b, b.WebSocket, b.Proxy)
	}
	if users[0].Listener != "" || users[0].Files.PasswordFile != "others" || users[1].Listener != "door" || users[1].Files.ACLFile != "a" {
		t.Errorf("users %+v", users)
	}
	if o.MaxConnections != 2000 || o.ConnectTimeout != 2500*time.Millisecond || o.MaximumPacketSize != 2<<20 || o.SessionExpiryLimit != 7*86400 ||
		o.KeepAliveMaximum != 5*time.Minute || o.MaxQueuedMessages != engine.Unlimited || o.MaxQueuedBytes != 16<<20 ||
		o.Overflow != engine.DropOldest || o.SharedStrategy.String() != "sticky" || !o.NoRetained || o.Loops != 2 || o.SysInterval >= 0 {
		t.Errorf("options %+v", o)
	}
	if n.Sources["limits.queue.bytes"] == "" || !strings.HasSuffix(n.Sources["limits.packet"], "wheelmq.yaml:23") || n.Sources["limits.qos"] != "" {
		t.Errorf("sources %v", n.Sources)
	}
}

// What nobody says is as in the engine.
func TestNativeDefaults(t *testing.T) {
	o, _, err := Default().Options()
	if err != nil {
		t.Fatal(err)
	}
	want, got := engine.Options{}.WithDefaults(), o.WithDefaults()
	if got.MaxConnections < want.MaxConnections {
		t.Errorf("connections %d, want %d", got.MaxConnections, want.MaxConnections)
	}
	got.Logger, want.Logger = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Every option of the engine that is a setting can be said.
func TestNativeCoversOptions(t *testing.T) {
	notSettings := map[string]bool{"Logger": true, "Version": true, "Store": true, "Hooks": true, "HookEvents": true, "HandshakesBusy": true, "ProfileLabels": true}
	n, err := readNative(t, everything+`
`)
	if err != nil {
		t.Fatal(err)
	}
	f := n.File
	f.Limits.QoS, f.Limits.ReceiveMaximum, f.Limits.Inflight, f.Limits.AliasesIn, f.Limits.AliasesOut = 1, 2, 3, 4, 5
	f.Limits.Sessions, f.Limits.ConnectPacket, f.Limits.Subscriptions, f.Limits.TopicLevels = 6, 7, 8, 9
	f.Limits.Retained, f.Limits.Outbound, f.Limits.Mailbox = Retained{10, 11, 22, 23}, 12, 13
	f.Limits.HookTimeout, f.Limits.HookWorkers, f.Limits.HookBacklog = 14, 15, 16
	f.Limits.MessageRate, f.Limits.ByteRate, f.Limits.RateDisconnect = 17, 18, true
	f.Limits.AddressConns, f.Limits.AddressRate, f.Limits.ClientRate = 19, 20, 21
	f.Limits.UserConns, f.Limits.UserRate = 37, 38
	f.Limits.PacketFilters, f.Limits.TopicLength, f.Limits.SendRate, f.Limits.SendByteRate = 24, 25, 26, 27
	f.Limits.LoopDelay, f.Limits.UserRates, f.Limits.AddressRates = 36, Rates{28, 29, 30, 31}, Rates{32, 33, 34, 35}
	f.Features = Features{PayloadFormat: true, SharedStrategy: "random", ResponseInfo: "x"}
	f.Limits.AliasesIn, f.Limits.AliasesOut = 4, 5
	o, _, err := f.Options()
	if err != nil {
		t.Fatal(err)
	}
	v, base := reflect.ValueOf(o), reflect.ValueOf(engine.Options{}.WithDefaults())
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name != "NoTopicAliases" && !notSettings[name] && reflect.DeepEqual(v.Field(i).Interface(), base.Field(i).Interface()) {
			t.Errorf("%s is as ever", name)
		}
	}
}

func TestNativeMistakes(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		n, err := readNative(t, text)
		if err == nil {
			_, _, err = n.Options()
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, want %q", text, err, w)
			}
		}
	}
	f("limits:\n  conections: 5\nlop: 1", `wheelmq.yaml:2: limits: unknown key "conections" (did you mean connections?)`, `:3: unknown key "lop" (did you mean log?)`)
	f("limits: {packet: 3 MB}\nloops: many", `:2: loops: "many": want a whole number`)
	f("limits: {packet: 3XB, qos: 3, sessions: 0}", `"3XB": want bytes`, "3 is out of bounds: want 0 to 2", `"0": want a number above 0, or unlimited`)
	f("limits: {connect_timeout: soon, session_expiry: 1.5s}", `"soon": want a duration`, "whole seconds")
	f("log: {level: loud}", "want one of debug, info, warn, error")
	f("log: 5", "want keys with values, one of level, format, connections")
	f("listeners: {address: x}", "want a list")
	f("listeners: [{adress: x}]", `listeners[0]: unknown key "adress" (did you mean address?)`)
	f("listeners: [{sys: 7}]", `listeners[0].sys: "7": want true or false`)
	f("listeners: [{sys: true}]", "listeners[0]: address is missing")
	f("listeners: [{address: ':1', socket_mode: 999}]", "octal")
	f("listeners: [{address: ':1', proxy: {trusted: [here]}}]", `trusted "here"`)
	f("users: {password_file: 'credential:x'}", "LoadCredential=x:FILE")
	f("loops: 1\nloops: 2", "loops is said twice")
	f("loops: [1]", "want one value")
	f("a: b: c", "wheelmq.yaml: mapping values are not allowed")
	f("loops: 1\nlog:\n  level: a: b", "wheelmq.yaml:3: mapping values are not allowed")
	f("loops: 1\n---\nloops: 2", "wheelmq.yaml:2: a second document")
	f("loops: 1\n---\na: b: c", "mapping values are not allowed")
	f("# "+strings.Repeat("x", 1<<20), "larger than")
	f("listeners: [&l {address: a, proxy: {trusted: ["+strings.Repeat("x,", 999)+"]}}"+strings.Repeat(",*l", 500)+"]", "more than 100000 values")
	if _, err := Read(filepath.Join(t.TempDir(), "none.yaml"), nil); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	n, err := readNative(t, "limits: {packet: 2MiB}\nloops: 2", "WHEELMQ_LIMITS__PACKET=3MiB", "WHEELMQ_LIMITS__QUEUE__OVERFLOW=reject",
		"WHEELMQ_LISTENERS__1__ADDRESS=127.0.0.1:2", "WHEELMQ_LISTENERS__0__ADDRESS=127.0.0.1:1", "WHEELMQ_LISTENERS__0__WEBSOCKET__ORIGINS=[a, b]",
		"WHEELMQ_E2E_BUILD=-race", "WHEELMQ_PORT=tcp://10.0.0.1:1883", "HOME=/x")
	if err != nil {
		t.Fatal(err)
	}
	o, _, err := n.Options()
	if err != nil {
		t.Fatal(err)
	}
	if o.MaximumPacketSize != 3<<20 || o.Overflow != engine.RejectPublisher || o.Loops != 2 || len(o.Listeners) != 2 ||
		o.Listeners[1].Address != "127.0.0.1:2" || len(o.Listeners[0].WebSocket.Origins) != 2 {
		t.Errorf("%+v", o)
	}
	if s := n.Sources["limits.packet"]; s != "WHEELMQ_LIMITS__PACKET" {
		t.Errorf("from %s", s)
	}
	for entry, want := range map[string]string{
		"WHEELMQ_LIMITS__PAKET=1":             `WHEELMQ_LIMITS__PAKET: limits: unknown key "paket" (did you mean packet?)`,
		"WHEELMQ_LIMIT__PACKET=1":             `WHEELMQ_LIMIT__PACKET: unknown key "limit" (did you mean limits?)`,
		"WHEELMQ_LOOPS=x":                     `WHEELMQ_LOOPS: loops: "x"`,
		"WHEELMQ_LOOPS__X=1":                  "has no",
		"WHEELMQ_LISTENERS__5__ADDRESS=1":     "number of an element",
		"WHEELMQ_LISTENERS__FIRST__ADDRESS=1": "number of an element",
		"WHEELMQ_LIMITS=5":                    "want keys with values",
	} {
		if _, err := Read("", []string{entry}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", entry, err, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/c")
	if p, err := Path("credential:key").resolve(); p != "/run/c/key" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	for _, bad := range []Path{"credential:", "credential:../key"} {
		if p, err := bad.resolve(); err == nil {
			t.Errorf("%s is %q", bad, p)
		}
	}
}

// What is written can be read, and says the same.
func TestWritten(t *testing.T) {
	n, err := readNative(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"effective": func(b *bytes.Buffer) error { return n.WriteEffective(b, nil) },
		"changes":   func(b *bytes.Buffer) error { return n.WriteChanges(b) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := readNative(t, b.String())
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, &b)
			continue
		}
		if !reflect.DeepEqual(simple(again.File), simple(n.File)) {
			t.Errorf("%s says something else:\n%s", name, &b)
		}
	}
	var b bytes.Buffer
	if err := WriteInitial(&b); err != nil {
		t.Fatal(err)
	}
	first, err := readNative(t, b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	if want := Default(); !reflect.DeepEqual(first.Limits, want.Limits) || len(first.Listeners) != 1 || first.Listeners[0].Address != "127.0.0.1:1883" {
		t.Errorf("the initial file says %+v", first.File)
	}
	if !strings.Contains(b.String(), "    # rates: # of all") || !strings.Contains(b.String(), "    #   # send_bytes: 0 #") {
		t.Errorf("a section of a listener is not written as one:\n%s", &b)
	}
	// Taking the marks of comments off the single keys leaves a file that says the same.
	var open []string
	for line := range strings.SplitSeq(b.String(), "\n") {
		trimmed := strings.TrimLeft(line, " ")
		if key, _, ok := strings.Cut(strings.TrimPrefix(trimmed, "# "), ":"); ok && strings.HasPrefix(trimmed, "# ") && !strings.Contains(key, " ") && !strings.HasPrefix(line, "    ") {
			line = strings.Replace(line, "# ", "", 1)
		}
		open = append(open, line)
	}
	uncommented, err := readNative(t, strings.Join(open, "\n"))
	if err != nil || !reflect.DeepEqual(simple(uncommented.File), simple(first.File)) {
		t.Errorf("%v\n%s", err, strings.Join(open, "\n"))
	}
}

// simple is f as text, so that an empty list is as good as none.
func simple(f *File) string {
	var b bytes.Buffer
	p := printer{w: &b}
	p.section(reflect.ValueOf(f).Elem(), "", "")
	return b.String()
}

// TestConvert: a mosquitto.conf becomes a native file that says the same.
func TestConvert(t *testing.T) {
	m := read(t, "max_queued_messages 50\nmax_inflight_messages 5\nlistener 1883 127.0.0.1\nallow_anonymous true\nlistener 8083\nprotocol websockets\npassword_file {dir}/p\n", "p", "")
	f := m.Native()
	var b bytes.Buffer
	if err := f.WriteChanges(&b); err != nil {
		t.Fatal(err)
	}
	n, err := readNative(t, b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	got, users, err := n.Options()
	if err != nil {
		t.Fatal(err)
	}
	want := m.Options.WithDefaults()
	got = got.WithDefaults()
	got.Logger, want.Logger, got.Version, want.Version, got.Loops, want.Loops = nil, nil, "", "", 0, 0
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(users, m.Users) {
		t.Errorf("got  %+v %+v\nwant %+v %+v\n%s", got, users, want, m.Users, &b)
	}
}

// The schema that lies here is made from the fields.
func TestSchema(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("wheelmq.schema.json"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("wheelmq.schema.json is old (%v): go run ./cmd/wheelmq config schema > cmd/internal/config/wheelmq.schema.json", err)
	}
}

func FuzzNative(f *testing.F) {
	f.Add(everything)
	f.Add("listeners: &a [*a]")
	f.Add("loops: !!binary aGVsbG8=")
	f.Fuzz(func(t *testing.T, text string) {
		d := &decoder{name: "f", out: &Native{File: Default(), Sources: map[string]string{}}}
		var root yaml.Node
		if yaml.Unmarshal([]byte(text), &root) != nil || len(root.Content) == 0 {
			return
		}
		d.value(root.Content[0], reflect.ValueOf(d.out.File).Elem(), "", "")
		if len(d.errs) == 0 {
			_, _, _ = d.out.Options()
		}
	})
}
