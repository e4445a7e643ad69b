package config

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// compileSchema compiles the schema that lies here, which the library checks
// against the one of JSON Schema itself.
func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("wheelmq.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("wheelmq.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("wheelmq.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// against is what an editor says of text.
func against(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(asJSON)); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

const logins = `
authentication:
  - jwt: {discover: true, issuer: https://id.example.org, audience: [mqtt], leeway: 30s, grants: [{allow: [publish], topics: ["a/${sub}/#"]}]}
  - kubernetes: {audience: [broker], accounts: [{namespace: "*", name: sensor}]}
listeners:
  - address: ":1"
    authentication: [{http: {url: "https://auth.example.org/", fresh: 1m, stale: 1d, at_once: 8}}]
`

// TestSchemaTakesWhatTheReaderTakes: files that are good, and those that the
// commands write, are good to an editor.
func TestSchemaTakesWhatTheReaderTakes(t *testing.T) {
	s := compileSchema(t)
	files := map[string]string{"everything": everything, "logins": logins}
	n, err := readNative(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	written := func(name string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b.String()
		b.Reset()
	}
	written("show --effective", n.WriteEffective(&b, nil))
	written("show", n.WriteChanges(&b))
	written("init", WriteInitial(&b))
	written("convert", read(t, "listener 1883\nallow_anonymous true\nlistener 8883\ncertfile c\nkeyfile k\nprotocol websockets\n").Native().WriteChanges(&b))
	for name, text := range files {
		if _, err := readNative(t, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := against(t, s, text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// TestSchemaRefusesWhatTheReaderRefuses, as far as a schema can say it.
func TestSchemaRefusesWhatTheReaderRefuses(t *testing.T) {
	s := compileSchema(t)
	for _, text := range []string{
		"limits: {conections: 5}", "lop: 1", "loops: many", "loops: 300", "limits: {packet: 3XB}", "limits: {qos: 3}", "limits: {sessions: 0}",
		"limits: {connect_timeout: soon}", "limits: {connect_timeout: ''}", "limits: {session_expiry: -1s}", "log: {level: loud}", "log: 5",
		"listeners: {address: x}", "listeners:", "listeners: [{adress: x}]", "listeners: [{address: x, sys: 7}]", "listeners: [{sys: true}]",
		"listeners: [{address: x, tls: {min_version: 1.1}}]", "authentication: [{jwt: {leeway: x}}]", "authentication: [{oauth: {}}]",
		"limits: {queue: {bytes: 0}}", "features: {retained: yes please}",
	} {
		n, err := readNative(t, text)
		if err == nil {
			_, _, err = n.Options()
		}
		if err == nil {
			t.Errorf("the reader takes %q", text)
		}
		if against(t, s, text) == nil {
			t.Errorf("the schema takes %q", text)
		}
	}
}
