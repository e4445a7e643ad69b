package e2e

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"testing"
)

// mqttjsRequest is what testdata/mqttjs/client.js takes as its argument.
type mqttjsRequest struct {
	Port     int         `json:"port"`
	Version  version     `json:"version"`
	ClientID string      `json:"clientId"`
	Filter   string      `json:"filter,omitempty"`
	Topic    string      `json:"topic,omitempty"`
	QoS      byte        `json:"qos"`
	Retain   bool        `json:"retain,omitempty"`
	Expiry   uint32      `json:"expiry,omitempty"` // not 0: keep the session, for so many seconds in v5
	Will     *mqttjsWill `json:"will,omitempty"`
}

type mqttjsWill struct {
	Topic   string `json:"topic"`
	Payload string `json:"payload"`
	QoS     byte   `json:"qos"`
	Retain  bool   `json:"retain"`
}

func startMQTTJS(t *testing.T, r mqttjsRequest, stdin []byte) *process {
	t.Helper()
	request, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"NODE_PATH=" + filepath.Join(mqttjsFolder, "node_modules")}
	return startProcess(t, stdin, env, "node", filepath.Join("testdata", "mqttjs", "client.js"), string(request))
}

func mqttjsSubscribe(t *testing.T, b *broker, v version, s subscription) *subscriber {
	t.Helper()
	r := mqttjsRequest{Port: b.port, Version: v, ClientID: s.clientID, Filter: s.filter, QoS: s.qos}
	if s.keep {
		r.Expiry = sessionExpiry
	}
	if w := s.will; w != nil {
		r.Will = &mqttjsWill{w.topic, string(w.payload), w.qos, w.retained}
	}
	return startMQTTJS(t, r, nil).subscriber(t, parseMQTTJS)
}

// parseMQTTJS reads one line of client.js.
func parseMQTTJS(line string) (d delivery, subscribed, ok bool) {
	var said struct {
		Subscribed bool   `json:"subscribed"`
		Topic      string `json:"topic"`
		Payload    string `json:"payload"` // base64
		QoS        byte   `json:"qos"`
		Retain     bool   `json:"retain"`
	}
	if json.Unmarshal([]byte(line), &said) != nil {
		return delivery{}, false, false
	}
	payload, err := base64.StdEncoding.DecodeString(said.Payload)
	if said.Topic == "" || err != nil {
		return delivery{}, said.Subscribed, false
	}
	return delivery{topic: said.Topic, payload: payload, qos: said.QoS, retained: said.Retain}, false, true
}

func mqttjsPublish(t *testing.T, b *broker, v version, p publication) {
	t.Helper()
	child := startMQTTJS(t, mqttjsRequest{
		Port: b.port, Version: v, ClientID: newClientID(), Topic: p.topic, QoS: p.qos, Retain: p.retained,
	}, p.payload)
	if code := child.wait(t); code != 0 {
		t.Fatalf("node ended with status %d\n%s", code, &child.log)
	}
}
