package e2e

import (
	"encoding/hex"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func mosquittoArgs(b *broker, v version, clientID string) []string {
	return []string{"-h", "127.0.0.1", "-p", strconv.Itoa(b.port), "-V", "mqtt" + v.String(), "-i", clientID}
}

// mosquittoSubscribe runs mosquitto_sub. Debug output tells when SUBACK has come; stdbuf makes it come line by line.
func mosquittoSubscribe(t *testing.T, b *broker, v version, s subscription) *subscriber {
	t.Helper()
	args := append([]string{"-oL", "mosquitto_sub", "-d"}, mosquittoArgs(b, v, s.clientID)...)
	args = append(args, "-q", strconv.Itoa(int(s.qos)), "-t", s.filter, "-F", "MESSAGE\t%t\t%q\t%r\t%x")
	if s.keep {
		args = append(args, "-c")
		if v == v5 {
			args = append(args, "-x", strconv.Itoa(sessionExpiry))
		}
	}
	if s.will != nil {
		args = append(args, "--will-topic", s.will.topic, "--will-payload", string(s.will.payload),
			"--will-qos", strconv.Itoa(int(s.will.qos)))
		if s.will.retained {
			args = append(args, "--will-retain")
		}
	}
	return startProcess(t, nil, nil, "stdbuf", args...).subscriber(t, parseMosquitto)
}

// parseMosquitto reads one line of mosquitto_sub.
func parseMosquitto(line string) (d delivery, subscribed, ok bool) {
	if rest, found := strings.CutPrefix(line, "Subscribed (mid: "); found {
		_, granted, _ := strings.Cut(rest, "): ")
		return delivery{}, granted == "0" || granted == "1" || granted == "2", false
	}
	fields := strings.Split(line, "\t")
	if len(fields) != 5 || fields[0] != "MESSAGE" {
		return delivery{}, false, false
	}
	qos, err := strconv.ParseUint(fields[2], 10, 8)
	if err != nil {
		return delivery{}, false, false
	}
	payload, err := hex.DecodeString(fields[4])
	if err != nil {
		return delivery{}, false, false
	}
	return delivery{topic: fields[1], qos: byte(qos), retained: fields[3] == "1", payload: payload}, false, true
}

// subscriber turns a child that prints deliveries into a subscriber, once it says that it has subscribed.
func (p *process) subscriber(t *testing.T, parse func(string) (d delivery, subscribed, ok bool)) *subscriber {
	t.Helper()
	s := &subscriber{
		received: make(chan delivery, deliveryQueue),
		disconnect: func() {
			if code := p.terminate(t); code != 0 {
				t.Errorf("%s ended with status %d\n%s", p.name, code, &p.log)
			}
		},
		abort: func() {
			p.signal(t, syscall.SIGKILL)
			p.wait(t)
		},
	}
	ready := make(chan struct{})
	go func() {
		said := false
		for line := range p.lines {
			d, subscribed, ok := parse(line)
			if subscribed && !said {
				said = true
				close(ready)
			}
			if ok {
				s.received <- d
			}
		}
	}()
	select {
	case <-ready:
	case <-p.ended:
		t.Fatalf("%s ended before it had subscribed\n%s", p.name, &p.log)
	case <-time.After(patience):
		t.Fatalf("%s had not subscribed within %v\n%s", p.name, patience, &p.log)
	}
	return s
}

func mosquittoPublish(t *testing.T, b *broker, v version, p publication) {
	t.Helper()
	mosquittoPublishWith(t, b, v, p)
}

// mosquittoPublishWith runs mosquitto_pub with further arguments. The payload goes through standard input.
func mosquittoPublishWith(t *testing.T, b *broker, v version, p publication, extra ...string) {
	t.Helper()
	args := append(mosquittoArgs(b, v, newClientID()), "-q", strconv.Itoa(int(p.qos)), "-t", p.topic)
	if len(p.payload) == 0 {
		args = append(args, "-n")
	} else {
		args = append(args, "-s")
	}
	if p.retained {
		args = append(args, "-r")
	}
	child := startProcess(t, p.payload, nil, "mosquitto_pub", append(args, extra...)...)
	if code := child.wait(t); code != 0 {
		t.Fatalf("mosquitto_pub ended with status %d\n%s", code, &child.log)
	}
}
