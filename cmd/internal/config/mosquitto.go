package config

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
)

// Bounds of a configuration.
const (
	maxLineBytes = 64 << 10
	maxFiles     = 1000
)

// Effect is what becomes of a directive.
type Effect uint8

// The effects.
const (
	Applied      Effect = iota
	Approximated        // Note says how
	NoEffect            // Note says why it is not needed
	Later               // not built yet
	Refused             // Note says what to do
)

func (e Effect) String() string {
	return [...]string{"applied", "approximated", "without effect", "not yet applied", "refused"}[e]
}

// A Finding is one directive of a file.
type Finding struct {
	File   string
	Line   int
	Name   string
	Value  string
	Effect Effect
	Note   string
}

// Users are where a listener's users and rights come from.
type Users struct {
	Listener string // name; "": all listeners
	Methods  []Method
	Files    auth.Options // asked last; zero: none
}

// A Mosquitto is what a mosquitto.conf asks for.
type Mosquitto struct {
	Options  engine.Options
	Users    []Users
	LogLevel string // as --log-level; "": not said

	LogConnections bool
	Persistence    bool
	DataDir        string // of the store, with Persistence; "": the default
	Findings       []Finding
}

// block is one listener, or what stands before the first one.
type block struct {
	engine.Listener
	port      string
	bind      string
	family    string
	ws        bool
	origins   []string
	tls       engine.TLS
	useTLS    bool
	users     auth.Options
	anonymous *bool
	required  bool
	useCN     bool
	useDN     bool
	line      string // where it begins
}

// reader collects what the files say.
type reader struct {
	out     Mosquitto
	errs    []error
	files   int
	base    block    // settings before any listener, and the listener of port
	blocks  []*block // listeners
	now     *block
	perDoor bool

	location string // persistence_location
}

// ReadMosquitto reads a mosquitto.conf and the files that it includes.
func ReadMosquitto(path string) (*Mosquitto, error) {
	r := &reader{}
	r.now = &r.base
	// What Mosquitto does when nothing is said and we do otherwise.
	r.out.Options.SessionExpiryLimit, r.out.Options.MaximumPacketSize, r.out.Options.MaxInflight = engine.Unlimited, 2_000_000, 20
	r.out.LogConnections = true
	r.file(path)
	r.finish()
	if r.out.Persistence && r.location != "" {
		r.out.DataDir = filepath.Join(r.location, "wheelmq")
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return &r.out, nil
}

func (r *reader) fail(file string, line int, format string, a ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: "+format, append([]any{file, line}, a...)...))
}

func (r *reader) file(path string) {
	if r.files++; r.files > maxFiles {
		r.errs = append(r.errs, fmt.Errorf("%s: more than %d files", path, maxFiles))
		return
	}
	f, err := os.Open(path)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("configuration: %w", err))
		return
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 4096), maxLineBytes)
	n := 0
	for s.Scan() {
		n++
		text := strings.TrimSpace(strings.TrimPrefix(s.Text(), "\ufeff"))
		if text == "" || text[0] == '#' {
			continue
		}
		name, value, _ := strings.Cut(text, " ")
		r.directive(path, n, name, strings.TrimSpace(value))
	}
	if err := s.Err(); err != nil {
		r.fail(path, n+1, "%v", err)
	}
}

// directive handles one line.
func (r *reader) directive(file string, line int, name, value string) {
	d, ok := directives[name]
	if strings.HasPrefix(name, "plugin_opt_") || strings.HasPrefix(name, "auth_opt_") {
		d, ok = without("it belongs to a plugin"), true
	}
	if !ok {
		r.fail(file, line, "unknown directive %q%s", name, hint(name))
		return
	}
	finding := Finding{file, line, name, value, d.effect, d.note}
	if name == "include_dir" {
		r.include(file, line, value)
	} else if d.apply != nil {
		if name == "listener" {
			r.now = &block{line: fmt.Sprintf("%s:%d", file, line)}
			r.blocks = append(r.blocks, r.now)
		}
		if err := d.apply(r, value); err != nil {
			r.fail(file, line, "%s: %v", name, err)
		}
	}
	if d.effect == Refused {
		r.fail(file, line, "%s: %s", name, d.note)
	}
	r.out.Findings = append(r.out.Findings, finding)
}

// include reads the files of a folder whose names end in .conf, in order.
func (r *reader) include(file string, line int, dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err == nil && len(names) == 0 {
		_, err = os.ReadDir(dir)
	}
	if err != nil {
		r.fail(file, line, "include_dir: %v", err)
		return
	}
	slices.Sort(names)
	for _, n := range names {
		r.file(n)
	}
}

// hint names the directive that may have been meant.
func hint(name string) string { return hintOf(name, slices.Collect(maps.Keys(directives))) }

// hintOf names the one of words that may have been meant.
func hintOf(name string, words []string) string {
	best, at := "", 3
	for _, known := range words {
		if d := distance(name, known, at+1); d < at || d == at && best != "" && known < best {
			best, at = known, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance is the number of letters to change between a and b, if below most.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := last
			if a[i] != b[j] {
				change++
			}
			last = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return min(row[len(b)], most)
}

// finish makes the listeners and says who their users are.
func (r *reader) finish() {
	list := r.blocks
	if r.base.port != "" || len(list) == 0 {
		if r.base.port == "" { // local only, as Mosquitto does without a listener
			open := true
			r.base.anonymous = cmpOr(r.base.anonymous, &open)
			for _, host := range []string{"127.0.0.1", "::1"} {
				b := r.base
				b.port, b.bind, b.Sys = "1883", host, true
				list = append(list, &b)
			}
		} else {
			list = append([]*block{&r.base}, list...)
		}
	}
	for i, b := range list {
		r.door(i, b)
	}
	if !r.perDoor && (r.base.users.PasswordFile != "" || r.base.users.ACLFile != "") {
		r.out.Users = append(r.out.Users, Users{Files: r.base.users})
	}
}

// door makes a listener of the options from b.
func (r *reader) door(i int, b *block) {
	l := b.Listener
	global := b
	if !r.perDoor {
		global = &r.base
	}
	if global.anonymous != nil {
		l.Anonymous = *global.anonymous
	}
	if !strings.HasPrefix(l.Address, "unix:") {
		l.Address = b.bind
		switch b.family {
		case "ipv4":
			l.Address = cmpOr(l.Address, "0.0.0.0")
		case "ipv6":
			l.Address = cmpOr(l.Address, "::")
		}
		l.Address = joinHostPort(l.Address, b.port)
	}
	l.Name = fmt.Sprintf("%d %s", i+1, l.Address)
	if b.ws {
		l.WebSocket = &engine.WebSocket{Path: "*", Origins: b.origins}
	}
	if b.useTLS || len(b.tls.Certificates) > 0 {
		t := b.tls
		if len(t.Certificates) != 1 || t.Certificates[0].CertificateFile == "" || t.Certificates[0].KeyFile == "" {
			r.errs = append(r.errs, fmt.Errorf("%s: TLS needs certfile and keyfile", b.line))
		}
		switch {
		case b.required:
			t.ClientCertificates = engine.RequiredClientCertificate
		case t.CAFile != "" || t.CADir != "":
			t.ClientCertificates = engine.OptionalClientCertificate
		}
		l.TLS = &t
		switch {
		case b.useCN && b.required:
			l.Identity = engine.IdentityCommonName
		case b.useDN && b.required:
			l.Identity = engine.IdentitySubject
		}
	}
	if r.perDoor && (b.users.PasswordFile != "" || b.users.ACLFile != "") {
		r.out.Users = append(r.out.Users, Users{Listener: l.Name, Files: b.users})
	}
	r.out.Options.Listeners = append(r.out.Options.Listeners, l)
}

func joinHostPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

func cmpOr[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

func boolean(s string) (bool, error) {
	switch s {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	default:
		return false, fmt.Errorf("%q: want true or false", s)
	}
}

func number(s string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q: want a number from %d to %d", s, low, high)
	}
	return n, nil
}

// Native is what m says as a native configuration.
func (m *Mosquitto) Native() *File {
	f := Default()
	o := m.Options.WithDefaults()
	f.take(o)
	f.Loops = m.Options.Loops
	if m.LogLevel != "" {
		f.Log.Level = m.LogLevel
	}
	f.Log.Connections = m.LogConnections
	f.Store.Dir = Path(m.DataDir)
	if !m.Persistence {
		f.Store.Kind = "memory"
	}
	f.TakeListeners(o.Listeners, m.Users)
	for _, u := range m.Users {
		if u.Listener == "" {
			f.Users = UserFiles{Path(u.Files.PasswordFile), Path(u.Files.ACLFile)}
		}
	}
	return f
}
