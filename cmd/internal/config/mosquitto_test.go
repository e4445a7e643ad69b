package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine"
)

// write makes mosquitto.conf and further files in a folder of the test's own.
func write(t testing.TB, conf string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	conf = strings.ReplaceAll(conf, "{dir}", dir)
	files := append([]string{"mosquitto.conf", conf}, more...)
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "mosquitto.conf")
}

func read(t *testing.T, conf string, more ...string) *Mosquitto {
	t.Helper()
	m, err := ReadMosquitto(write(t, conf, more...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// doors writes the listeners in short.
func doors(m *Mosquitto) string {
	var lines []string
	for _, l := range m.Options.Listeners {
		s := l.Address
		if l.Anonymous {
			s += " anonymous"
		}
		if l.WebSocket != nil {
			s += " websocket"
		}
		if l.TLS != nil {
			s += fmt.Sprintf(" tls %d", l.TLS.ClientCertificates)
		}
		if l.Identity != engine.IdentityConnect {
			s += fmt.Sprintf(" identity %d", l.Identity)
		}
		lines = append(lines, s)
	}
	return strings.Join(lines, "; ")
}

func TestListeners(t *testing.T) {
	f := func(want, conf string) {
		t.Helper()
		if got := doors(read(t, conf)); got != want {
			t.Errorf("%q: %s, want %s", conf, got, want)
		}
	}
	f("127.0.0.1:1883 anonymous; [::1]:1883 anonymous", "")
	f("127.0.0.1:1883; [::1]:1883", "allow_anonymous false")
	f(":1883", "listener 1883")
	f(":1883 anonymous", "listener 1883\nallow_anonymous true")
	f("10.0.0.1:1884 anonymous", "port 1884\nbind_address 10.0.0.1\nallow_anonymous true")
	f(":1884; 127.0.0.1:1885", "port 1884\nlistener 1885 127.0.0.1")
	f("0.0.0.0:1883; [::]:1884", "listener 1883\nsocket_domain ipv4\nlistener 1884\nsocket_domain ipv6")
	f("unix:/run/m.sock", "listener 0 /run/m.sock")
	f(":9001 websocket", "listener 9001\nprotocol websockets")
	f(":8883 tls 0", "listener 8883\ncertfile c\nkeyfile k")
	f(":8883 tls 1", "listener 8883\ncertfile c\nkeyfile k\ncafile a")
	f(":8883 tls 2 identity 1", "listener 8883\ncertfile c\nkeyfile k\ncafile a\nrequire_certificate true\nuse_identity_as_username true")
	f(":8883 tls 2 identity 2", "listener 8883\ncertfile c\nkeyfile k\ncafile a\nrequire_certificate true\nuse_subject_as_username true")
	f(":1 anonymous; :2", "per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2")
}

func TestUsers(t *testing.T) {
	f := func(want, conf string) {
		t.Helper()
		var lines []string
		for _, u := range read(t, conf).Users {
			lines = append(lines, fmt.Sprintf("%q %s %s", u.Listener, u.Files.PasswordFile, u.Files.ACLFile))
		}
		if got := strings.Join(lines, "; "); got != want {
			t.Errorf("%q: %s, want %s", conf, got, want)
		}
	}
	f("", "listener 1")
	f(`"" p a`, "listener 1\npassword_file p\nacl_file a")
	f(`"1 :1" p ; "2 :2"  a`, "per_listener_settings true\nlistener 1\npassword_file p\nlistener 2\nacl_file a")
}

func TestOptions(t *testing.T) {
	m := read(t, `# limits
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 4096
max_packet_size 5000
max_keepalive 120
max_qos 1
retain_available false
persistent_client_expiration 2w
sys_interval 0
max_topic_alias 0
allow_zero_length_clientid false
log_type all
`)
	o := m.Options
	if o.MaxInflight != 65535 || o.MaxQueuedMessages != engine.Unlimited || o.MaxQueuedBytes != 4096 || o.MaximumPacketSize != 5000 ||
		o.KeepAliveMaximum != 2*time.Minute || *o.MaximumQoS != 1 || !o.NoRetained || o.SessionExpiryLimit != 14*86400 ||
		o.SysInterval >= 0 || !o.NoTopicAliases || !o.EmptyClientID || m.LogLevel != "debug" {
		t.Errorf("%+v, log level %q", o, m.LogLevel)
	}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if o := read(t, "max_packet_size 0").Options; o.MaximumPacketSize != largestPacket {
		t.Errorf("max_packet_size 0 is %d bytes, want no limit", o.MaximumPacketSize)
	}
	if o := read(t, "").Options; o.SessionExpiryLimit != engine.Unlimited || o.MaxInflight != 20 || o.MaximumPacketSize != 2_000_000 {
		t.Errorf("defaults %+v", o)
	}
}

func TestIncludeDir(t *testing.T) {
	m := read(t, "include_dir {dir}/conf.d\n", "conf.d/b.conf", "max_qos 1\n", "conf.d/a.conf", "listener 5\nmax_qos 2\n", "conf.d/skip.txt", "nonsense")
	if doors(m) != ":5" || *m.Options.MaximumQoS != 1 {
		t.Errorf("%s, QoS %d", doors(m), *m.Options.MaximumQoS)
	}
}

func TestFindings(t *testing.T) {
	m := read(t, "listener 1883\npersistence true\nconnection bridge-1\naddress other:1883\nset_tcp_nodelay true\nmessage_size_limit 100\n")
	var got []string
	for _, f := range m.Findings {
		got = append(got, fmt.Sprintf("%d %s %v", f.Line, f.Name, f.Effect))
	}
	want := "1 listener applied; 2 persistence applied; 3 connection not yet applied; 4 address not yet applied; " +
		"5 set_tcp_nodelay without effect; 6 message_size_limit approximated"
	if strings.Join(got, "; ") != want {
		t.Errorf("findings %s, want %s", strings.Join(got, "; "), want)
	}
}

func TestMistakes(t *testing.T) {
	f := func(conf string, want ...string) {
		t.Helper()
		_, err := ReadMosquitto(write(t, conf))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, want %q", conf, err, w)
			}
		}
	}
	f("\nalow_anonymous true", `mosquitto.conf:2: unknown directive "alow_anonymous" (did you mean allow_anonymous?)`)
	f("allow_anonymous yes\nmax_qos 3", ":1: allow_anonymous: \"yes\"", ":2: max_qos: \"3\"") // all at once
	f("max_packet_size 19", "20 bytes or more")
	f("plugin /usr/lib/dynsec.so", "plugins are not loaded")
	f("listener x", ":1: listener")
	f("listener 0", "Unix socket")
	f("listener 8883\ncertfile c", "TLS needs certfile and keyfile")
	f("listener 1\nper_listener_settings true", "before the first listener")
	f("include_dir /nonexistent/dir", "include_dir")
	f("tls_version tlsv1.1", "want tlsv1.2 or tlsv1.3")
	if _, err := ReadMosquitto("/nonexistent/mosquitto.conf"); err == nil {
		t.Error("a file that is not there was read")
	}
}

// TestEveryDirectiveIsKnown holds the table against the directives of Mosquitto's manual and sample file.
func TestEveryDirectiveIsKnown(t *testing.T) {
	all := strings.Fields(`acl_file address addresses allow_anonymous allow_duplicate_messages allow_zero_length_clientid auth_plugin
		auth_plugin_deny_special_chars auto_id_prefix autosave_interval autosave_on_changes bind_address bind_interface bridge_alpn
		bridge_attempt_unsubscribe bridge_bind_address bridge_cafile bridge_capath bridge_certfile bridge_identity bridge_insecure
		bridge_keyfile bridge_max_packet_size bridge_max_topic_alias bridge_outgoing_retain bridge_protocol_version bridge_psk
		bridge_receive_maximum bridge_reload_type bridge_require_ocsp bridge_session_expiry_interval bridge_tcp_keepalive
		bridge_tcp_user_timeout bridge_tls_version cafile capath certfile check_retain_source ciphers ciphers_tls1.3 cleansession
		clientid_prefixes connection connection_messages crlfile dhparamfile disable_client_cert_date_checks enable_proxy_protocol
		global_max_clients global_max_connections http_dir idle_timeout include_dir keepalive_interval keyfile listener
		listener_allow_anonymous local_cleansession local_clientid local_password local_username log_dest log_facility log_timestamp
		log_timestamp_format log_type max_connections max_inflight_bytes max_inflight_messages max_keepalive max_packet_size max_qos
		max_queued_bytes max_queued_messages max_topic_alias max_topic_alias_broker memory_limit message_size_limit mount_point
		notification_topic notifications notifications_local_only packet_buffer_size password_file per_listener_settings persistence
		persistence_file persistence_location persistent_client_expiration pid_file plugin port protocol
		proxy_protocol_v2_require_tls psk_file psk_hint queue_qos0_messages remote_clientid remote_password remote_username
		require_certificate restart_timeout retain_available retain_expiry_interval round_robin set_tcp_nodelay socket_domain
		start_type sys_interval threshold tls_engine tls_engine_kpass_sha1 tls_keyform tls_version topic try_private
		upgrade_outgoing_qos use_identity_as_username use_subject_as_username use_username_as_clientid user websockets_headers_size
		websockets_log_level websockets_origin`)
	for _, name := range all {
		d, ok := directives[name]
		if !ok {
			t.Errorf("%s is not known", name)
		}
		if d.effect != Applied && d.note == "" {
			t.Errorf("%s is %v without a reason", name, d.effect)
		}
	}
}

func FuzzReadMosquitto(f *testing.F) {
	f.Add("listener 1883 127.0.0.1\nallow_anonymous true\n")
	f.Fuzz(func(t *testing.T, conf string) {
		if strings.Contains(conf, "include_dir") {
			t.Skip("it would read folders of this machine")
		}
		if m, err := ReadMosquitto(write(t, conf)); err == nil && len(m.Options.Listeners) == 0 {
			t.Error("no listener and no error")
		}
	})
}
