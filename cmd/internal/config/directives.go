package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
)

// A directive is one word of mosquitto.conf: what it does, or why it does not.
type directive struct {
	effect Effect
	note   string
	apply  func(r *reader, value string) error
}

func applied(f func(*reader, string) error) directive { return directive{Applied, "", f} }
func about(note string, f func(*reader, string) error) directive {
	return directive{Approximated, note, f}
}
func without(note string) directive { return directive{NoEffect, note, nil} }
func later(note string) directive   { return directive{Later, note, nil} }
func refused(note string) directive { return directive{Refused, note, nil} }

// text sets a string of the listener.
func text(field func(*block) *string) directive {
	return applied(func(r *reader, v string) error {
		if v == "" {
			return errors.New("the value is missing")
		}
		*field(r.now) = v
		return nil
	})
}

// flag sets a truth value of the listener.
func flag(field func(*block) *bool) directive {
	return applied(func(r *reader, v string) (err error) {
		*field(r.now), err = boolean(v)
		return err
	})
}

// count sets a number of the options, from low to high.
func count(low, high int64, set func(o *engine.Options, n int64)) directive {
	return applied(func(r *reader, v string) error {
		n, err := number(v, low, high)
		if err == nil {
			set(&r.out.Options, n)
		}
		return err
	})
}

// limit sets a bound; what Mosquitto calls 0, and -1 where it does, is none.
func limit(field func(*engine.Options) *engine.Limit) directive {
	return applied(func(r *reader, v string) error {
		n, err := number(v, -1, math.MaxInt32)
		if err != nil {
			return err
		}
		*field(&r.out.Options) = engine.Limit(n)
		if n <= 0 {
			*field(&r.out.Options) = engine.Unlimited
		}
		return nil
	})
}

// largestPacket is the largest Remaining Length and its header.
const largestPacket = 268_435_460

const (
	bridges    = "bridges are not built yet"
	psk        = "crypto/tls has no pre-shared keys: use certificates"
	persisting = "every change is written before it is acknowledged"
)

// directives are all of Mosquitto 2.0 and 2.1.
var directives = map[string]directive{
	// listeners
	"listener": applied(func(r *reader, v string) error {
		port, bind, _ := strings.Cut(v, " ")
		bind = strings.TrimSpace(bind)
		n, err := number(port, 0, 65535)
		if err != nil {
			return err
		}
		if n == 0 {
			if bind == "" {
				return errors.New("port 0 needs the path of a Unix socket")
			}
			r.now.Address = "unix:" + bind
			return nil
		}
		r.now.port, r.now.bind = port, bind
		return nil
	}),
	"port": applied(func(r *reader, v string) error {
		_, err := number(v, 1, 65535)
		r.base.port = v
		return err
	}),
	"bind_address": text(func(b *block) *string { return &b.bind }),
	"socket_domain": applied(func(r *reader, v string) error {
		if v != "ipv4" && v != "ipv6" {
			return fmt.Errorf("%q: want ipv4 or ipv6", v)
		}
		r.now.family = v
		return nil
	}),
	"bind_interface": refused("listen on the interface's address instead: listener PORT ADDRESS"),
	"protocol": applied(func(r *reader, v string) error {
		if v != "mqtt" && v != "websockets" {
			return fmt.Errorf("%q: want mqtt or websockets", v)
		}
		r.now.ws = v == "websockets"
		return nil
	}),
	"max_connections": applied(func(r *reader, v string) error {
		n, err := number(v, -1, math.MaxInt32)
		r.now.MaxConnections = int(max(n, 0))
		return err
	}),
	"global_max_connections":  count(-1, math.MaxInt32, func(o *engine.Options, n int64) { o.MaxConnections = int(max(n, 0)) }),
	"global_max_clients":      limit(func(o *engine.Options) *engine.Limit { return &o.MaxSessions }),
	"http_dir":                refused("files are not served: let a web server do it"),
	"websockets_log_level":    without("WebSocket has no log of its own"),
	"websockets_headers_size": without("the head of a WebSocket request is bounded already"),
	"websockets_origin":       applied(func(r *reader, v string) error { r.now.origins = append(r.now.origins, v); return nil }),
	"mount_point":             refused("topics are not rewritten by listeners: a program that embeds the broker does it with hook.PublishInterceptor"),
	"enable_proxy_protocol": applied(func(r *reader, v string) error {
		n, err := number(v, 1, 2)
		if r.now.Proxy == nil {
			r.now.Proxy = &engine.Proxy{}
		}
		r.now.Proxy.Version = uint8(n)
		return err
	}),
	"proxy_protocol_v2_require_tls": applied(func(r *reader, v string) (err error) {
		if r.now.Proxy == nil {
			return errors.New("enable_proxy_protocol has to stand before it")
		}
		r.now.Proxy.RequireTLS, err = boolean(v)
		return err
	}),
	"set_tcp_nodelay":          without("small packets are never held back"),
	"accept_protocol_versions": refused("all versions are accepted"),

	// who comes in
	"per_listener_settings": applied(func(r *reader, v string) (err error) {
		if len(r.blocks) > 0 {
			return errors.New("has to stand before the first listener")
		}
		r.perDoor, err = boolean(v)
		return err
	}),
	"allow_anonymous": applied(func(r *reader, v string) error {
		b, err := boolean(v)
		r.who().anonymous = &b
		return err
	}),
	"listener_allow_anonymous": applied(func(r *reader, v string) error {
		b, err := boolean(v)
		r.now.anonymous = &b
		return err
	}),
	"password_file":            applied(func(r *reader, v string) error { r.who().users.PasswordFile = v; return nil }),
	"acl_file":                 applied(func(r *reader, v string) error { r.who().users.ACLFile = v; return nil }),
	"use_username_as_clientid": flag(func(b *block) *bool { return &b.ClientIDFromUserName }),
	"clientid_prefixes":        refused("Mosquitto is about to remove it; check identifiers by an ACL pattern with %c"),
	"auto_id_prefix":           without("assigned client identifiers begin with w-"),
	"allow_zero_length_clientid": applied(func(r *reader, v string) error {
		b, err := boolean(v)
		r.out.Options.EmptyClientID = !b
		return err
	}),
	"plugin":                         refused("plugins are not loaded; what dynamic security does is a password file and an ACL file here"),
	"global_plugin":                  refused("plugins are not loaded"),
	"plugin_load":                    refused("plugins are not loaded"),
	"plugin_use":                     refused("plugins are not loaded"),
	"auth_plugin":                    refused("plugins are not loaded"),
	"auth_plugin_deny_special_chars": without("it belongs to plugins"),
	"check_retain_source":            without("rights are checked when a message is retained and when it is delivered"),

	// TLS
	"cafile":   text(func(b *block) *string { return &b.tls.CAFile }),
	"capath":   text(func(b *block) *string { return &b.tls.CADir }),
	"certfile": applied(func(r *reader, v string) error { r.now.pair().CertificateFile = v; return nil }),
	"keyfile":  applied(func(r *reader, v string) error { r.now.pair().KeyFile = v; return nil }),
	"crlfile":  text(func(b *block) *string { return &b.tls.CRLFile }),
	"tls_version": applied(func(r *reader, v string) error {
		versions := map[string]uint16{"tlsv1.3": tls.VersionTLS13, "tlsv1.2": tls.VersionTLS12}
		n, ok := versions[v]
		if !ok {
			return fmt.Errorf("%q: want tlsv1.2 or tlsv1.3, the lowest that is spoken", v)
		}
		r.now.tls.MinVersion = n
		return nil
	}),
	"ciphers":                         about("crypto/tls chooses among its own list", nil),
	"ciphers_tls1.3":                  about("crypto/tls chooses among its own list", nil),
	"dhparamfile":                     without("keys are exchanged by elliptic curves only"),
	"require_certificate":             flag(func(b *block) *bool { return &b.required }),
	"use_identity_as_username":        flag(func(b *block) *bool { return &b.useCN }),
	"use_subject_as_username":         flag(func(b *block) *bool { return &b.useDN }),
	"disable_client_cert_date_checks": flag(func(b *block) *bool { return &b.tls.IgnoreClientDates }),
	"tls_engine":                      refused("OpenSSL's engines are not used"),
	"tls_engine_kpass_sha1":           refused("OpenSSL's engines are not used"),
	"tls_keyform":                     about("keys are PEM files", nil),
	"psk_file":                        refused(psk),
	"psk_hint":                        refused(psk),

	// limits
	"max_inflight_messages": count(0, 65535, func(o *engine.Options, n int64) { o.MaxInflight = uint16(cmpOr(n, 65535)) }),
	"max_inflight_bytes":    about("in flight is bounded in messages", nil),
	"max_queued_messages":   limit(func(o *engine.Options) *engine.Limit { return &o.MaxQueuedMessages }),
	"max_queued_bytes":      limit(func(o *engine.Options) *engine.Limit { return &o.MaxQueuedBytes }),
	"queue_qos0_messages":   refused("messages of QoS 0 are not kept for absent clients"),
	"upgrade_outgoing_qos":  refused("messages are delivered at the lower of both QoS, as the standard says"),
	"max_packet_size": applied(func(r *reader, v string) error {
		n, err := number(v, 0, largestPacket)
		if err == nil && n > 0 && n < 20 {
			err = fmt.Errorf("%q: want 20 bytes or more, or 0 for no limit", v)
		}
		r.out.Options.MaximumPacketSize = int(cmpOr(n, largestPacket))
		return err
	}),
	"message_size_limit": about("taken as max_packet_size, with 1 KiB for the header", func(r *reader, v string) error {
		n, err := number(v, 0, 268_435_456-1024)
		if n > 0 {
			r.out.Options.MaximumPacketSize = int(n) + 1024
		}
		return err
	}),
	"max_keepalive": count(0, 65535, func(o *engine.Options, n int64) {
		o.KeepAliveMaximum = 0
		if n > 0 && n < 65535 {
			o.KeepAliveMaximum = time.Duration(n) * time.Second
		}
	}),
	"max_qos": count(0, 2, func(o *engine.Options, n int64) {
		q := codec.QoS(n)
		o.MaximumQoS = &q
	}),
	"retain_available": applied(func(r *reader, v string) error {
		b, err := boolean(v)
		r.out.Options.NoRetained = !b
		return err
	}),
	"retain_expiry_interval":   later("retained messages without an expiry of their own stay"),
	"max_topic_alias":          count(0, 65535, func(o *engine.Options, n int64) { o.TopicAliasMaximum = uint16(n); o.NoTopicAliases = n == 0 }),
	"max_topic_alias_broker":   count(0, 65535, func(o *engine.Options, n int64) { o.TopicAliases = uint16(n) }),
	"memory_limit":             about("bounds are set for each queue; give the process a limit by its unit", nil),
	"packet_buffer_size":       without("an idle connection has no buffer"),
	"allow_duplicate_messages": about("one copy is delivered, at the highest QoS", nil),
	"persistent_client_expiration": applied(func(r *reader, v string) error {
		d, err := expiration(v)
		if err == nil {
			r.out.Options.SessionExpiryLimit = engine.Limit(d / time.Second)
		}
		return err
	}),
	"sys_interval": applied(func(r *reader, v string) error {
		n, err := number(v, 0, 65535)
		if r.out.Options.SysInterval = time.Duration(n) * time.Second; n == 0 {
			r.out.Options.SysInterval = -1
		}
		return err
	}),

	// log and process
	"log_dest": about("the log goes to standard error: let the service manager keep it", nil),
	"log_type": about("all: debug; none: error; otherwise info", func(r *reader, v string) error {
		levels := map[string]string{"all": "debug", "debug": "debug", "none": "error", "error": "", "warning": "", "notice": "", "information": "",
			"subscribe": "", "unsubscribe": "", "websockets": "", "internal": ""}
		level, ok := levels[v]
		if !ok {
			return fmt.Errorf("%q is no type of log lines", v)
		}
		if level != "" {
			r.out.LogLevel = level
		}
		return nil
	}),
	"log_timestamp":        without("every line has its time, in RFC 3339"),
	"log_timestamp_format": without("every line has its time, in RFC 3339"),
	"log_facility":         without("the log goes to standard error"),
	"connection_messages": applied(func(r *reader, v string) (err error) {
		r.out.LogConnections, err = boolean(v)
		return err
	}),
	"user":        without("the service manager sets the user"),
	"pid_file":    without("the service manager knows the process"),
	"include_dir": applied(nil),

	// durability
	"persistence": applied(func(r *reader, v string) (err error) {
		r.out.Persistence, err = boolean(v)
		return err
	}),
	"persistence_location": applied(func(r *reader, v string) error { r.location = v; return nil }),
	"persistence_file":     about("the store is the folder wheelmq beside it, into which wheelmq store import takes such a file", nil),
	"autosave_interval":    without(persisting),
	"autosave_on_changes":  without(persisting),

	// bridges
	"connection": later(bridges), "address": later(bridges), "addresses": later(bridges), "topic": later(bridges),
	"bridge_bind_address": later(bridges), "bridge_attempt_unsubscribe": later(bridges), "bridge_protocol_version": later(bridges),
	"bridge_outgoing_retain": later(bridges), "bridge_max_packet_size": later(bridges), "bridge_max_topic_alias": later(bridges),
	"bridge_receive_maximum": later(bridges), "bridge_session_expiry_interval": later(bridges), "bridge_reload_type": later(bridges),
	"bridge_tcp_keepalive": later(bridges), "bridge_tcp_user_timeout": later(bridges), "bridge_cafile": later(bridges),
	"bridge_capath": later(bridges), "bridge_certfile": later(bridges), "bridge_keyfile": later(bridges), "bridge_insecure": later(bridges),
	"bridge_alpn": later(bridges), "bridge_psk": later(bridges), "bridge_identity": later(bridges), "bridge_tls_version": later(bridges),
	"bridge_require_ocsp": later(bridges), "bridge_tls_use_os_certs": later(bridges), "bridge_ciphers": later(bridges),
	"bridge_ciphers_tls1.3": later(bridges), "bridge_max_connections": later(bridges),
	"cleansession": later(bridges), "local_cleansession": later(bridges), "clientid": later(bridges), "idle_timeout": later(bridges),
	"keepalive_interval": later(bridges), "local_clientid": later(bridges), "local_password": later(bridges), "local_username": later(bridges),
	"notifications": later(bridges), "notifications_local_only": later(bridges), "notification_topic": later(bridges),
	"password": later(bridges), "remote_clientid": later(bridges), "remote_password": later(bridges), "remote_username": later(bridges),
	"restart_timeout": later(bridges), "round_robin": later(bridges), "start_type": later(bridges), "threshold": later(bridges),
	"try_private": later(bridges), "username": later(bridges),
}

// who is where allow_anonymous, password_file and acl_file belong.
func (r *reader) who() *block {
	if r.perDoor {
		return r.now
	}
	return &r.base
}

// pair is the listener's certificate.
func (b *block) pair() *engine.KeyPair {
	if len(b.tls.Certificates) == 0 {
		b.tls.Certificates = []engine.KeyPair{{}}
	}
	return &b.tls.Certificates[0]
}

// expiration reads a number with h, d, w, m or y behind it.
func expiration(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	units := map[byte]time.Duration{'h': time.Hour, 'd': day, 'w': 7 * day, 'm': 30 * day, 'y': 365 * day}
	if s == "" || units[s[len(s)-1]] == 0 {
		return 0, fmt.Errorf("%q: want a number with h, d, w, m or y behind it", s)
	}
	n, err := number(s[:len(s)-1], 1, 1000)
	return time.Duration(n) * units[s[len(s)-1]], err
}
