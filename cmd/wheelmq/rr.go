package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
)

// A clientPointer is a client that handlers get to know after it has connected.
type clientPointer struct{ p atomic.Pointer[client.Client] }

// Store makes c known.
func (c *clientPointer) Store(to *client.Client) { c.p.Store(to) }

// get waits for it: a message of a kept session can come before.
func (c *clientPointer) get() *client.Client {
	for {
		if p := c.p.Load(); p != nil {
			return p
		}
		time.Sleep(time.Millisecond)
	}
}

type rr struct {
	mqttCommand
	output   outputFlags
	payload  payloadFlags
	response string
	wait     float64
	retain   bool
	latency  bool
	flags    *pflag.FlagSet
}

const rrHelp = `Publishes a request and prints the answer, with the flags of mosquitto_rr.

With MQTT 5 the request says where the answer is to go (Response Topic); before
that both sides have to know. The exit status is that of sub.`

const rrExamples = `  wheelmq rr -t greenhouse/ask -e greenhouse/answer -m temperature
  wheelmq rr -V 5 -t greenhouse/ask -e greenhouse/answer -m temperature -W 5 --latency`

func newRR(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	r := &rr{mqttCommand: mqttCommand{clientFlags: clientFlags{name: "rr"}, stdin: stdin, stdout: stdout, stderr: stderr}}
	return r.command("rr -t TOPIC -e RESPONSE-TOPIC -m MESSAGE [flags]", "Request and print the answer", rrHelp, rrExamples, func(set *pflag.FlagSet) {
		r.flags = set
		r.payload.register(set)
		set.StringVarP(&r.response, "response-topic", "e", "", "topic of the answer")
		r.output.register(set)
		set.Float64VarP(&r.wait, "timeout", "W", 0, "end after so many seconds, with status 27")
		set.BoolVarP(&r.retain, "retain", "r", false, "the broker retains the request")
		set.BoolVar(&r.latency, "latency", false, "print how long the answer took, on standard error")
	}, r.run)
}

func (r *rr) run(ctx context.Context) error {
	switch {
	case len(r.topics) != 1 || r.response == "":
		return errors.New("a topic and a response topic are needed: -t and -e")
	case r.payload.count(r.flags) != 1:
		return errors.New("one of -m, -f, -s and -n says what the request is")
	}
	payload, err := r.payload.read(r.stdin)
	if err != nil {
		return err
	}
	if err := r.output.prepare(r.stdout, r.complaints()); err != nil {
		return err
	}
	if r.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.wait*float64(time.Second)))
		defer cancel()
	}
	c, err := r.connect(ctx, nil)
	if err != nil {
		return r.timedOut(ctx, err)
	}
	defer c.Close()
	answers := make(chan *client.Message, 1)
	_, err = c.Subscribe(ctx, client.Subscription{Filter: r.response, QoS: codec.QoS(r.qos), Handler: func(m *client.Message) {
		if m.Retain {
			return // an old one
		}
		select {
		case answers <- m:
		default:
		}
	}})
	if err != nil {
		return r.timedOut(ctx, err)
	}
	m := client.Message{Topic: r.topics[0], Payload: payload, QoS: codec.QoS(r.qos), Retain: r.retain, ResponseTopic: r.response}
	r.publishProperties(&m)
	began := time.Now()
	if _, err := c.Publish(ctx, m); err != nil {
		return r.timedOut(ctx, err)
	}
	select {
	case answer := <-answers:
		if r.latency {
			fmt.Fprintf(r.stderr, "%v\n", time.Since(began).Round(time.Microsecond))
		}
		w := bufio.NewWriter(r.stdout)
		r.output.write(w, answer)
		return errors.Join(w.Flush(), leave(c))
	case err := <-r.lost:
		return err
	case <-ctx.Done():
		if err := leave(c); err != nil {
			return err
		}
		return r.timedOut(ctx, nil)
	}
}
