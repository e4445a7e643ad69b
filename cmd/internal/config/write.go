package config

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// WriteEffective writes every key with its value and, as a comment, who set it.
// flags has the keys that the command line set.
func (n *Native) WriteEffective(w io.Writer, flags map[string]string) error {
	p := printer{w: w, comment: func(path string) string {
		if s := flags[path]; s != "" {
			return s
		}
		if s := flags["listeners"]; s != "" && strings.HasPrefix(path, "listeners[") {
			return s
		}
		if s := n.Sources[path]; s != "" {
			return s
		}
		return "default"
	}}
	p.section(reflect.ValueOf(n.File).Elem(), "", "")
	return p.err
}

// WriteChanges writes what differs from Default, as a file that says the same.
func (f *File) WriteChanges(w io.Writer) error {
	p := printer{w: w}
	p.changes(reflect.ValueOf(f).Elem(), reflect.ValueOf(Default()).Elem(), "")
	return p.err
}

// WriteInitial writes a file to begin with: safe, with every key in comments.
func WriteInitial(w io.Writer) error {
	p := printer{w: w}
	p.print("# Configuration of wheelmq. What is commented out is the default.\n")
	p.print("# wheelmq config check FILE says what is wrong with a file; wheelmq config show\n")
	p.print("# --effective -c FILE what counts. Variables of the environment go before it,\n")
	p.print("# as in WHEELMQ_LIMITS__QUEUE__MESSAGES=500, and flags go before both.\n")
	f := Default()
	l := newListener()
	l.Address, l.Anonymous, l.Sys = "127.0.0.1:1883", true, true
	f.Listeners = []Listener{l}
	p.initial(reflect.ValueOf(f).Elem(), "")
	return p.err
}

// A printer writes YAML.
type printer struct {
	w       io.Writer
	comment func(path string) string // nil: none
	err     error
}

func (p *printer) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// scalar is v as YAML.
func scalar(v reflect.Value) string {
	if v.Kind() != reflect.String {
		return format(v)
	}
	text, err := yaml.Marshal(v.String())
	if err != nil {
		panic(err) // a string always can be
	}
	return strings.TrimSuffix(string(text), "\n")
}

func (p *printer) line(indent, key string, v reflect.Value, path string) {
	p.print("%s%s: %s%s\n", indent, key, scalar(v), p.note(path))
}

// note is the comment behind a value.
func (p *printer) note(path string) string {
	if p.comment == nil {
		return ""
	}
	return "  # " + p.comment(path)
}

// section writes all keys of v.
func (p *printer) section(v reflect.Value, path, indent string) {
	for i := range v.NumField() {
		p.field(v.Type().Field(i).Tag.Get("key"), v.Field(i), path, indent)
	}
}

// field writes one key. A section that is not there is left out.
func (p *printer) field(key string, v reflect.Value, path, indent string) {
	path = join(path, key)
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
	case v.Kind() == reflect.Pointer:
		p.print("%s%s:\n", indent, key)
		p.section(v.Elem(), path, indent+"  ")
	case v.Kind() == reflect.Struct:
		p.print("%s%s:\n", indent, key)
		p.section(v, path, indent+"  ")
	case v.Kind() == reflect.Slice && v.Len() == 0:
		p.print("%s%s: []%s\n", indent, key, p.note(path))
	case v.Kind() == reflect.Slice:
		p.print("%s%s:%s\n", indent, key, p.note(path))
		for i := range v.Len() {
			p.element(v.Index(i), fmt.Sprintf("%s[%d]", path, i), indent, func(sub *printer, e reflect.Value, at string) {
				sub.section(e, at, "")
			})
		}
	default:
		p.line(indent, key, v, path)
	}
}

// element writes one element of a list, a section by write.
func (p *printer) element(e reflect.Value, path, indent string, write func(sub *printer, e reflect.Value, path string)) {
	if e.Kind() != reflect.Struct {
		p.print("%s  - %s\n", indent, scalar(e))
		return
	}
	var text strings.Builder
	sub := &printer{w: &text, comment: p.comment}
	write(sub, e, path)
	for i, line := range strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n") {
		lead := "    "
		if i == 0 {
			lead = "  - "
		}
		p.print("%s%s%s\n", indent, lead, line)
	}
}

// changes writes the keys of v that differ from those of base.
func (p *printer) changes(v, base reflect.Value, indent string) {
	for i := range v.NumField() {
		key, x, y := v.Type().Field(i).Tag.Get("key"), v.Field(i), base.Field(i)
		if reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		if x.Kind() == reflect.Pointer {
			if x.IsNil() {
				continue
			}
			y = newValue(x.Type().Elem()).Elem()
			x = x.Elem()
		}
		switch x.Kind() {
		case reflect.Struct:
			p.print("%s%s:\n", indent, key)
			p.changes(x, y, indent+"  ")
		case reflect.Slice:
			p.print("%s%s:\n", indent, key)
			for j := range x.Len() {
				p.element(x.Index(j), "", indent, func(sub *printer, e reflect.Value, _ string) {
					sub.changes(e, newValue(e.Type()).Elem(), "")
				})
			}
		default:
			p.line(indent, key, x, "")
		}
	}
}

// initial writes the keys of v with what they are, commented out but for sections and listeners.
func (p *printer) initial(v reflect.Value, indent string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, x := f.Tag.Get("key"), v.Field(i)
		if indent == "" {
			p.print("\n")
		}
		switch {
		case key == "listeners":
			p.print("# %s\n%s:\n", f.Tag.Get("doc"), key)
			p.print("  - address: 127.0.0.1:1883  # another door: the same keys once more, behind a new -\n    anonymous: true\n    sys: true\n")
			p.options(x.Index(0), "    ", "address", "anonymous", "sys")
		case x.Kind() == reflect.Struct:
			p.print("%s# %s\n%s%s:\n", indent, f.Tag.Get("doc"), indent, key)
			p.initial(x, indent+"  ")
		default:
			p.print("%s# %s\n%s# %s: %s\n", indent, describe(f), indent, key, scalar(x))
		}
	}
}

// options writes the keys of v in comments, with sections that are not there, but for some.
func (p *printer) options(v reflect.Value, indent string, but ...string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, x := f.Tag.Get("key"), v.Field(i)
		if strings.Contains(" "+strings.Join(but, " ")+" ", " "+key+" ") {
			continue
		}
		switch x.Kind() {
		case reflect.Pointer:
			p.print("%s# %s: # %s\n", indent, key, describe(f))
			p.options(newValue(x.Type().Elem()).Elem(), indent+"#   ")
		case reflect.Struct:
			p.print("%s# %s: # %s\n", indent, key, describe(f))
			p.options(x, indent+"#   ")
		case reflect.Slice:
			p.print("%s# %s: [] # %s\n", indent, key, describe(f))
			if e := x.Type().Elem(); e.Kind() == reflect.Struct {
				p.print("%s#   - # %s\n", indent, strings.Join(keys(e), ", "))
			}
		default:
			p.print("%s# %s: %s # %s\n", indent, key, scalar(x), describe(f))
		}
	}
}

// describe is a field's doc with the words it may be.
func describe(f reflect.StructField) string {
	doc := f.Tag.Get("doc")
	if w, ok := words(f.Tag); ok {
		doc += ": " + strings.Join(w, ", ")
	}
	return doc
}

// Schema is the JSON schema of a file, for editors.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[File](), "", "WheelMQ's configuration")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "wheelmq.yaml"
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

func schemaOf(t reflect.Type, tag reflect.StructTag, doc string) map[string]any {
	s := map[string]any{}
	if doc != "" {
		s["description"] = doc
	}
	one := func(list ...map[string]any) { s["anyOf"] = list }
	number := map[string]any{"type": "integer", "minimum": 1}
	unbounded := map[string]any{"const": unlimited}
	size := map[string]any{"type": "string", "pattern": `^[0-9]+ *([KMG]iB|[kMG]?B)?$`}
	duration := map[string]any{"type": "string", "pattern": `^([0-9]+d|([0-9]+d)?([0-9.]+(ns|us|µs|ms|s|m|h))+)$`}
	seconds := map[string]any{"type": "number", "minimum": 0}
	switch t.Name() {
	case "Limit":
		one(number, unbounded)
		return s
	case "SizeLimit":
		one(number, size, unbounded)
		return s
	case "Size":
		one(number, size)
		return s
	case "Span":
		one(number, duration, unbounded)
		return s
	case "Duration":
		one(seconds, duration)
		return s
	}
	switch t.Kind() {
	case reflect.Pointer:
		s = schemaOf(t.Elem(), tag, doc)
		s["type"] = []string{"object", "null"}
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			f := t.Field(i)
			properties[f.Tag.Get("key")] = schemaOf(f.Type, f.Tag, f.Tag.Get("doc"))
			if _, ok := f.Tag.Lookup("required"); ok {
				required = append(required, f.Tag.Get("key"))
			}
		}
		if len(required) > 0 {
			s["required"] = required
		}
		s["type"], s["properties"], s["additionalProperties"] = []string{"object", "null"}, properties, false
	case reflect.Slice:
		s["type"], s["items"], s["maxItems"] = "array", schemaOf(t.Elem(), "", ""), maxElements
	case reflect.Bool:
		s["type"] = "boolean"
	case reflect.Int:
		s["type"] = "integer"
		if low, high, ok := bounds(tag); ok {
			s["minimum"], s["maximum"] = low, high
		}
	default:
		s["type"] = []string{"string", "number"} // 1.2 is a number to YAML
		if w, ok := words(tag); ok {
			s["type"] = []string{"string", "number"}
			list := make([]any, 0, 2*len(w))
			for _, x := range w {
				list = append(list, x)
				var n float64
				if json.Unmarshal([]byte(x), &n) == nil {
					list = append(list, n)
				}
			}
			s["enum"] = list
		}
	}
	return s
}
