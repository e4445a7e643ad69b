package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
)

// payloadFlags say what is published; pub and rr have them.
type payloadFlags struct {
	message, file string
	whole, empty  bool
}

func (p *payloadFlags) register(set *pflag.FlagSet) {
	set.StringVarP(&p.message, "message", "m", "", "the message")
	set.StringVarP(&p.file, "file", "f", "", "a file is the message")
	set.BoolVarP(&p.whole, "stdin-file", "s", false, "the standard input is the message")
	set.BoolVarP(&p.empty, "null-message", "n", false, "an empty message")
}

// read returns the message.
func (p *payloadFlags) read(stdin io.Reader) ([]byte, error) {
	switch {
	case p.file != "":
		return os.ReadFile(p.file)
	case p.whole:
		return io.ReadAll(io.LimitReader(stdin, codec.MaxRemainingLength))
	default:
		return []byte(p.message), nil
	}
}

func (p *payloadFlags) count(set *pflag.FlagSet) (n int) {
	for _, name := range []string{"message", "file", "stdin-file", "null-message", "stdin-line"} {
		if f := set.Lookup(name); f != nil && f.Changed {
			n++
		}
	}
	return n
}

type pub struct {
	mqttCommand
	payload payloadFlags
	lines   bool
	retain  bool
	repeat  int
	delay   float64
	flags   *pflag.FlagSet
}

const pubHelp = `Publishes messages, with the flags of mosquitto_pub.

The exit status is 0, the code of CONNACK where the broker refused the
connection, 7 where it was lost, and 1 for everything else.`

const pubExamples = `  wheelmq pub -t greenhouse/door -m open
  wheelmq pub -t greenhouse/plan -q 1 -r -f plan.pdf        a file, retained; a bar shows how far it is
  tail -f log | wheelmq pub -t logs -l                      a message for each line`

func newPub(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	p := &pub{mqttCommand: mqttCommand{clientFlags: clientFlags{name: "pub"}, stdin: stdin, stdout: stdout, stderr: stderr}}
	return p.command("pub -t TOPIC -m MESSAGE [flags]", "Publish messages", pubHelp, pubExamples, func(set *pflag.FlagSet) {
		p.flags = set
		p.payload.register(set)
		set.BoolVarP(&p.lines, "stdin-line", "l", false, "each line of the standard input is a message")
		set.BoolVarP(&p.retain, "retain", "r", false, "the broker retains the message")
		set.IntVar(&p.repeat, "repeat", 1, "publish it so many times")
		set.Float64Var(&p.delay, "repeat-delay", 0, "seconds between them")
	}, p.run)
}

func (p *pub) run(ctx context.Context) error {
	if len(p.topics) != 1 || p.payload.count(p.flags) == 0 {
		return errors.New("both topic and message must be supplied: -t, and one of -m, -f, -s, -n and -l")
	}
	if p.payload.count(p.flags) > 1 {
		return errors.New("only one of -m, -f, -s, -n and -l says what the message is")
	}
	if p.repeat < 1 || p.delay < 0 {
		return errors.New("--repeat and --repeat-delay are above 0")
	}
	payload, err := p.payload.read(p.stdin)
	if err != nil && !p.lines {
		return err
	}
	bar := newProgress(p.stderr, len(payload))
	c, err := p.connect(ctx, bar.watch)
	if err != nil {
		return err
	}
	defer c.Close()
	m := client.Message{Topic: p.topics[0], Payload: payload, QoS: codec.QoS(p.qos), Retain: p.retain}
	p.publishProperties(&m)
	if p.lines {
		err = p.publishLines(ctx, c, m)
	} else {
		err = p.publishRepeated(ctx, c, m)
	}
	bar.done(err)
	if err != nil {
		return err
	}
	return leave(c)
}

func (p *pub) publishRepeated(ctx context.Context, c *client.Client, m client.Message) error {
	for i := range p.repeat {
		if i > 0 && p.delay > 0 {
			select {
			case <-time.After(time.Duration(p.delay * float64(time.Second))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if _, err := c.Publish(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// longestLine bounds a line of -l.
const longestLine = 16 << 20

// publishLines publishes each line, many at once; the last ones are waited for.
func (p *pub) publishLines(ctx context.Context, c *client.Client, m client.Message) error {
	s := bufio.NewScanner(p.stdin)
	s.Buffer(make([]byte, 64<<10), longestLine)
	var open []*client.Token
	for s.Scan() {
		m.Payload = bytes.TrimSuffix(s.Bytes(), []byte("\r"))
		if m.QoS == 0 {
			if _, err := c.Publish(ctx, m); err != nil {
				return err
			}
			continue
		}
		for {
			t, err := c.PublishAsync(m)
			if err == nil {
				open = append(open, t)
				break
			}
			if !errors.Is(err, client.ErrQueueFull) || len(open) == 0 {
				return err
			}
			if _, err := open[0].Wait(ctx); err != nil { // room for one
				return err
			}
			open = open[1:]
		}
	}
	for _, t := range open {
		if _, err := t.Wait(ctx); err != nil {
			return err
		}
	}
	return s.Err()
}

// A progress shows how much of a large message is on its way, on a terminal.
type progress struct {
	w     io.Writer
	total int

	mu    sync.Mutex // what was written is told by another goroutine
	shown bool
}

// largeMessage is from how many bytes on a bar is shown.
const largeMessage = 1 << 20

func newProgress(w io.Writer, total int) *progress { return &progress{w: w, total: total} }

// watch counts what is written to the network.
func (b *progress) watch(o *client.Options) {
	f, ok := b.w.(*os.File)
	if !ok || !isTerminal(f) || b.total < largeMessage {
		return
	}
	b.shown = true
	countWritten(o, func(n int64) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.shown {
			b.show(min(float64(n)/float64(b.total), 1))
		}
	})
}

func (b *progress) show(part float64) {
	fmt.Fprintf(b.w, "\r[%-40s] %3.0f %%", bytes.Repeat([]byte("#"), int(part*40)), part*100)
}

// done ends the bar: all of it is there, or an error.
func (b *progress) done(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.shown {
		return
	}
	b.shown = false
	if err == nil {
		b.show(1)
	}
	fmt.Fprintln(b.w)
}
