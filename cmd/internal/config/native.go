package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxFileBytes = 1 << 20
	maxElements  = 1000    // of a list
	maxValues    = 100_000 // in all: aliases make few bytes many values
)

// A Native is a configuration with where each value came from.
type Native struct {
	*File
	// Sources say by key, as limits.queue.messages or listeners[0].address, who
	// set it: a line of a file or a variable of the environment. A key that is
	// not in it has its default.
	Sources map[string]string
}

// Read reads a configuration file, "" for none, and then the environment: name=value.
// A file whose name does not end in .yaml or .yml is a mosquitto.conf.
func Read(path string, environment []string) (*Native, error) {
	d := &decoder{out: &Native{File: Default(), Sources: map[string]string{}}}
	switch {
	case path == "":
	case IsNative(path):
		if err := d.file(path); err != nil {
			return nil, err
		}
	default:
		m, err := ReadMosquitto(path)
		if err != nil {
			return nil, err
		}
		d.out.File = m.Native()
		d.differing(reflect.ValueOf(d.out.File).Elem(), reflect.ValueOf(Default()).Elem(), "", path)
	}
	d.environment(environment)
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	return d.out, nil
}

// IsNative tells a native file by its name; others are a mosquitto.conf.
func IsNative(path string) bool {
	return strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml")
}

// SaysListeners reports whether anybody said anything about listeners.
func (n *Native) SaysListeners() bool {
	for key := range n.Sources {
		if strings.HasPrefix(key, "listeners") {
			return true
		}
	}
	return false
}

// A decoder fills a File in. Mistakes are collected.
type decoder struct {
	out  *Native
	name string // of the file
	errs []error

	values int // looked at
}

func (d *decoder) file(path string) error {
	d.name = path
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return fmt.Errorf("configuration: %s: %w", path, err)
	}
	if len(text) > maxFileBytes {
		return fmt.Errorf("configuration: %s: larger than %d bytes", path, maxFileBytes)
	}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	var root, second yaml.Node
	switch err := documents.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil // empty
	case err != nil:
		return syntaxError(path, err)
	}
	switch err := documents.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return syntaxError(path, err)
	default:
		return fmt.Errorf("%s:%d: a second document begins behind ---: want one", path, second.Line)
	}
	d.value(root.Content[0], reflect.ValueOf(d.out.File).Elem(), "", "")
	return nil
}

// syntaxError says where the library found something that is not YAML.
func syntaxError(path string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		return fmt.Errorf("%s:%s", path, rest)
	}
	return fmt.Errorf("%s: %s", path, text)
}

func (d *decoder) fail(n *yaml.Node, path, text string, args ...any) {
	at := d.name
	if n.Line > 0 {
		at += ":" + strconv.Itoa(n.Line)
	}
	if path != "" {
		at += ": " + path
	}
	d.errs = append(d.errs, fmt.Errorf("%s: %s", at, fmt.Sprintf(text, args...)))
}

// value sets v to what n says.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if d.values++; d.values > maxValues {
		if d.values == maxValues+1 {
			d.fail(n, path, "more than %d values", maxValues)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := newValue(v.Type().Elem())
		if n.Tag != "!!null" { // a section without anything in it is there all the same
			d.value(n, p.Elem(), path, tag)
		}
		v.Set(p)
		d.source(n, path)
	case reflect.Struct:
		d.section(n, v, path)
	case reflect.Slice:
		d.list(n, v, path, tag)
	default:
		if n.Kind != yaml.ScalarNode {
			d.fail(n, path, "want one value")
			return
		}
		if err := parse(v, n.Value, tag); err != nil {
			d.fail(n, path, "%v", err)
		}
		d.source(n, path)
	}
}

// newValue is a pointer to a value of t that says nothing.
func newValue(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	switch x := p.Interface().(type) {
	case *Listener:
		*x = newListener()
	case *TLS:
		x.Clients, x.MinVersion, x.MaxVersion = "none", "1.2", "newest"
	case *WebSocket:
		x.Path, x.PingInterval = "/mqtt", defaultPing
	case interface{ defaults() }:
		x.defaults()
	}
	return p
}

func (d *decoder) source(n *yaml.Node, path string) {
	if n.Line > 0 {
		d.out.Sources[path] = fmt.Sprintf("%s:%d", d.name, n.Line)
	} else {
		d.out.Sources[path] = d.name
	}
}

func (d *decoder) section(n *yaml.Node, v reflect.Value, path string) {
	if n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "want keys with values, one of %s", strings.Join(keys(v.Type()), ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field, ok := fieldOf(v.Type(), key.Value)
		switch {
		case !ok:
			d.fail(key, path, "unknown key %q%s", key.Value, hintOf(key.Value, keys(v.Type())))
		case seen[key.Value]:
			d.fail(key, path, "%s is said twice", key.Value)
		default:
			d.value(value, v.FieldByIndex(field.Index), join(path, key.Value), field.Tag)
		}
		seen[key.Value] = true
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "want a list")
		return
	}
	if len(n.Content) > maxElements {
		d.fail(n, path, "more than %d", maxElements)
		return
	}
	d.source(n, path)
	v.Set(reflect.MakeSlice(v.Type(), 0, len(n.Content)))
	for i, e := range n.Content {
		p := newValue(v.Type().Elem())
		d.value(e, p.Elem(), fmt.Sprintf("%s[%d]", path, i), tag)
		v.Set(reflect.Append(v, p.Elem()))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keys are those of a section, in their order.
func keys(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("key"))
	}
	return names
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("key") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

const environmentPrefix = "WHEELMQ_"

// environment takes WHEELMQ_SECTION__KEY=value; an element of a list is named
// by its number. The value is YAML, so that a list can be given as [a, b].
// Variables without __ whose word is no key are others' business: Kubernetes
// sets WHEELMQ_PORT and the like where a service has the name.
func (d *decoder) environment(list []string) {
	list = slices.SortedFunc(slices.Values(list), func(a, b string) int { return strings.Compare(padded(a), padded(b)) })
	for _, entry := range list {
		name, value, _ := strings.Cut(entry, "=")
		rest, ok := strings.CutPrefix(name, environmentPrefix)
		if !ok {
			continue
		}
		parts := strings.Split(strings.ToLower(rest), "__")
		if _, ok := fieldOf(reflect.TypeFor[File](), parts[0]); !ok && len(parts) == 1 {
			continue
		}
		d.name = name
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(value), &n); err != nil || len(n.Content) != 1 {
			n = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: value}}}
		}
		unnumber(n.Content[0])
		d.set(n.Content[0], reflect.ValueOf(d.out.File).Elem(), "", parts, "")
	}
}

// differing notes down that what differs from base comes from source.
func (d *decoder) differing(v, base reflect.Value, path, source string) {
	for i := range v.NumField() {
		at, x, y := join(path, v.Type().Field(i).Tag.Get("key")), v.Field(i), base.Field(i)
		switch {
		case reflect.DeepEqual(x.Interface(), y.Interface()):
		case x.Kind() == reflect.Struct:
			d.differing(x, y, at, source)
		case x.Kind() == reflect.Slice && x.Type().Elem().Kind() == reflect.Struct:
			for j := range x.Len() {
				e := x.Index(j)
				d.differing(e, newValue(e.Type()).Elem(), fmt.Sprintf("%s[%d]", at, j), source)
			}
			d.out.Sources[at] = source
		default:
			d.out.Sources[at] = source
		}
	}
}

// padded is a variable's name in which numbers sort by their value.
func padded(entry string) string {
	name, _, _ := strings.Cut(entry, "=")
	parts := strings.Split(name, "__")
	for i, p := range parts {
		if _, err := strconv.Atoi(p); err == nil {
			parts[i] = fmt.Sprintf("%8s", p)
		}
	}
	return strings.Join(parts, "__")
}

// unnumber takes the lines off, which mean nothing outside a file.
func unnumber(n *yaml.Node) {
	n.Line = 0
	for _, c := range n.Content {
		unnumber(c)
	}
}

// set sets what parts name, from v down.
func (d *decoder) set(n *yaml.Node, v reflect.Value, path string, parts []string, tag reflect.StructTag) {
	if len(parts) == 0 {
		d.value(n, v, path, tag)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(newValue(v.Type().Elem()))
			d.source(n, path)
		}
		d.set(n, v.Elem(), path, parts, tag)
	case reflect.Struct:
		field, ok := fieldOf(v.Type(), parts[0])
		if !ok {
			d.fail(n, path, "unknown key %q%s", parts[0], hintOf(parts[0], keys(v.Type())))
			return
		}
		d.set(n, v.FieldByIndex(field.Index), join(path, parts[0]), parts[1:], field.Tag)
	case reflect.Slice:
		i, err := strconv.Atoi(parts[0])
		if path == "listeners" && !d.out.SaysListeners() {
			v.SetLen(0) // the default gives way
		}
		if err != nil || i < 0 || i > v.Len() || i >= maxElements {
			d.fail(n, path, "%q: want the number of an element, up to %d", parts[0], v.Len())
			return
		}
		if i == v.Len() {
			v.Set(reflect.Append(v, newValue(v.Type().Elem()).Elem()))
		}
		d.set(n, v.Index(i), fmt.Sprintf("%s[%d]", path, i), parts[1:], tag)
	default:
		d.fail(n, path, "has no %q", strings.Join(parts, "__"))
	}
}
