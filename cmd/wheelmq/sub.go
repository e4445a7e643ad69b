package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/client"
)

// outputFlags say how messages are printed; sub and rr have them.
type outputFlags struct {
	verbose, noNewline, pretty bool
	format                     string
	parsed                     messageFormat
	colour                     bool
	complaints                 io.Writer
}

func (o *outputFlags) register(set *pflag.FlagSet) {
	set.BoolVarP(&o.verbose, "verbose", "v", false, "the topic in front of each message")
	set.BoolVarP(&o.noNewline, "no-newline", "N", false, "no line end behind a message")
	set.StringVarP(&o.format, "format", "F", "", "how a message is printed: %t topic, %p payload, %j JSON, %I time, ...")
	set.BoolVar(&o.pretty, "pretty", false, "JSON over several lines")
}

func (o *outputFlags) prepare(stdout, stderr io.Writer) (err error) {
	o.complaints = stderr
	f, ok := stdout.(*os.File)
	o.colour = ok && isTerminal(f) && os.Getenv("NO_COLOR") == ""
	if o.format != "" {
		o.parsed, err = parseFormat(o.format)
	}
	return err
}

// write prints one message. Of an empty one, unless -F says what is to be printed, there is the topic at most.
func (o *outputFlags) write(w *bufio.Writer, m *client.Message) {
	empty := o.parsed == nil && len(m.Payload) == 0
	switch {
	case empty && (!o.verbose || o.noNewline):
		return
	case empty && o.colour:
		fmt.Fprintf(w, "\x1b[36m%s\x1b[0m (null)", m.Topic)
	case empty:
		_, _ = w.WriteString(m.Topic + " (null)")
	case o.parsed != nil:
		if !isJSON(m) && o.parsed.needsJSON() {
			fmt.Fprintf(o.complaints, "wheelmq: the payload of %s is not JSON\n", m.Topic)
		}
		_, _ = w.Write(o.parsed.append(nil, m, time.Now(), o.pretty)) // Flush tells
	case o.verbose && o.colour:
		fmt.Fprintf(w, "\x1b[36m%s\x1b[0m ", m.Topic)
		_, _ = w.Write(m.Payload)
	case o.verbose:
		_, _ = w.WriteString(m.Topic + " ")
		_, _ = w.Write(m.Payload)
	default:
		_, _ = w.Write(m.Payload)
	}
	if !o.noNewline {
		_ = w.WriteByte('\n')
	}
}

type sub struct {
	mqttCommand
	output                                outputFlags
	count                                 int
	wait                                  float64
	leaveAtOnce, noRetained, onlyRetained bool
	removeRetained, asPublished           bool
	retainHandling                        string
	without, unsubscribe                  []string
	chance                                float64
	stats, rate, watch                    bool
}

const subHelp = `Subscribes to topics and prints what arrives, with the flags of mosquitto_sub.

The exit status is 0, the code of CONNACK where the broker refused the
connection, 27 where -W ended the wait, 7 where the connection was lost, and 1
for everything else.`

const subExamples = `  wheelmq sub -t 'greenhouse/#' -v
  wheelmq sub -t 'greenhouse/#' -F '%I %t %p'
  wheelmq sub -t 'state/#' --retained-only -C 10 -W 5
  wheelmq sub -t '#' --stats                                rates by topic level, once a second`

func newSub(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	s := &sub{mqttCommand: mqttCommand{clientFlags: clientFlags{name: "sub"}, stdin: stdin, stdout: stdout, stderr: stderr}}
	return s.command("sub -t FILTER [flags]", "Subscribe and print messages", subHelp, subExamples, func(set *pflag.FlagSet) {
		s.output.register(set)
		set.IntVarP(&s.count, "count", "C", 0, "end after so many messages")
		set.Float64VarP(&s.wait, "timeout", "W", 0, "end after so many seconds, with status 27")
		set.BoolVarP(&s.leaveAtOnce, "exit-after-subscribe", "E", false, "end once the broker has granted the subscriptions")
		set.BoolVarP(&s.noRetained, "no-retained", "R", false, "print no retained messages")
		set.BoolVar(&s.onlyRetained, "retained-only", false, "print retained messages, and end with the first that is none")
		set.BoolVar(&s.removeRetained, "remove-retained", false, "have the broker remove the retained messages that come")
		set.BoolVar(&s.asPublished, "retain-as-published", false, "MQTT 5: keep the RETAIN flag of live messages")
		set.StringVar(&s.retainHandling, "retain-handling", "", "MQTT 5: always, new or never: when retained messages are sent")
		set.StringArrayVarP(&s.without, "filter-out", "T", nil, "leave out topics that this filter matches")
		set.StringArrayVarP(&s.unsubscribe, "unsubscribe", "U", nil, "unsubscribe first, from a session that was kept")
		set.Float64Var(&s.chance, "random-filter", 100, "print so many percent of the messages")
		set.BoolVarP(&s.watch, "watch", "w", false, "on a terminal: a line for each topic, with its newest message")
		set.BoolVar(&s.rate, "message-rate", false, "print how many messages came in each second instead of them")
		set.BoolVar(&s.stats, "stats", false, "print rates by topic level instead of messages")
	}, s.run)
}

func (s *sub) subscriptions() (list []client.Subscription, err error) {
	handling, ok := map[string]uint8{"": 0, "always": 0, "new": 1, "never": 2}[s.retainHandling]
	if !ok {
		return nil, fmt.Errorf("--retain-handling %q: want always, new or never", s.retainHandling)
	}
	for _, t := range s.topics {
		list = append(list, client.Subscription{Filter: t, QoS: codec.QoS(s.qos), RetainAsPublished: s.asPublished, RetainHandling: handling})
	}
	return list, nil
}

func (s *sub) run(ctx context.Context) error {
	if len(s.topics) == 0 {
		return errors.New("a topic is needed: -t")
	}
	if s.noRetained && s.onlyRetained {
		return errors.New("-R and --retained-only exclude each other")
	}
	if s.stats && s.rate || s.watch && (s.stats || s.rate || s.output.format != "") {
		return errors.New("-w, -F, --stats and --message-rate exclude each other")
	}
	list, err := s.subscriptions()
	if err != nil {
		return err
	}
	for _, f := range s.without {
		if !topic.ValidFilter(f) {
			return fmt.Errorf("-T %q is not a topic filter", f)
		}
	}
	if err := s.output.prepare(s.stdout, s.complaints()); err != nil {
		return err
	}
	if s.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(s.wait*float64(time.Second)))
		defer cancel()
	}
	p := newPrinter(s)
	c, err := s.connect(ctx, func(o *client.Options) { o.Handler = p.take })
	if err != nil {
		return s.timedOut(ctx, err)
	}
	defer c.Close()
	p.client.Store(c)
	if len(s.unsubscribe) > 0 {
		if _, err := c.Unsubscribe(ctx, s.unsubscribe...); err != nil {
			return s.timedOut(ctx, err)
		}
	}
	if _, err := c.Subscribe(ctx, list...); err != nil {
		var refused *client.Refused
		if len(list) == 1 || !errors.As(err, &refused) {
			return s.timedOut(ctx, err)
		}
		fmt.Fprintln(s.stderr, "Warning:", err)
	}
	if s.leaveAtOnce {
		return leave(c)
	}
	if s.stats || s.rate {
		go p.report(ctx)
	}
	select {
	case <-p.done:
		return errors.Join(p.failed(), leave(c))
	case err := <-s.lost:
		return err
	case <-ctx.Done():
		if err := leave(c); err != nil {
			return err
		}
		return s.timedOut(ctx, nil)
	}
}

// complaints is where to say what is no reason to end.
func (m *mqttCommand) complaints() io.Writer {
	if m.quiet {
		return io.Discard
	}
	return m.stderr
}

// timedOut is errTimedOut where -W ended ctx, else err.
func (s *mqttCommand) timedOut(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errTimedOut
	}
	return err
}

// A printer prints messages. On the goroutine of handlers, but for report.
type printer struct {
	s      *sub
	w      *bufio.Writer
	client clientPointer
	board  *board // of -w on a terminal
	left   int
	done   chan struct{}
	ended  bool
	err    error

	mu     sync.Mutex
	counts map[string]*levelCount // of --stats
}

type levelCount struct{ messages, bytes int }

func newPrinter(s *sub) *printer {
	var b *board
	if s.watch {
		if b = newBoard(s.stdout); b == nil {
			s.output.verbose = true
		}
	}
	return &printer{s: s, board: b, w: bufio.NewWriterSize(s.stdout, 64<<10), left: s.count, done: make(chan struct{}), counts: map[string]*levelCount{}}
}

func (p *printer) failed() error { return p.err }

func (p *printer) end() {
	if !p.ended {
		p.ended = true
		close(p.done)
	}
}

// take prints m, unless it is not wanted.
func (p *printer) take(m *client.Message) {
	s := p.s
	switch {
	case p.ended:
		return
	case s.onlyRetained && !m.Retain:
		p.end()
		return
	case s.noRetained && m.Retain && len(m.Payload) > 0:
		return
	case slices.ContainsFunc(s.without, func(f string) bool { return topic.Match(f, m.Topic) }):
		return
	case s.chance < 100 && rand.Float64()*100 >= s.chance:
		return
	}
	if s.removeRetained && m.Retain {
		if _, err := p.client.get().PublishAsync(client.Message{Topic: m.Topic, Retain: true, QoS: codec.QoS(s.qos)}); err != nil {
			p.err = err
			p.end()
			return
		}
	}
	if s.stats || s.rate {
		p.countIn(m)
	} else {
		if p.board != nil {
			p.board.write(p.w, m)
		} else {
			s.output.write(p.w, m)
		}
		if err := p.w.Flush(); err != nil {
			p.err = err
			p.end()
		}
	}
	if p.left--; p.left == 0 {
		p.end()
	}
}

// countIn counts m for its first two topic levels.
func (p *printer) countIn(m *client.Message) {
	parts := strings.SplitN(m.Topic, "/", 3)
	name := strings.Join(parts[:min(len(parts), 2)], "/")
	if len(parts) == 3 {
		name += "/…"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.counts[name]
	if n == nil {
		if len(p.counts) >= maxLevels {
			name = "(others)"
			if n = p.counts[name]; n == nil {
				n = &levelCount{}
			}
		} else {
			n = &levelCount{}
		}
		p.counts[name] = n
	}
	n.messages++
	n.bytes += len(m.Payload)
}

// maxLevels bounds the lines of --stats.
const maxLevels = 1000

// report prints the counts of each second, the busiest first.
func (p *printer) report(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		var names []string
		all := levelCount{}
		for name, n := range p.counts {
			if n.messages > 0 {
				names = append(names, name)
			}
			all.messages, all.bytes = all.messages+n.messages, all.bytes+n.bytes
		}
		slices.SortFunc(names, func(a, b string) int {
			if d := p.counts[b].messages - p.counts[a].messages; d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		var out bytes.Buffer
		if p.s.rate {
			fmt.Fprintln(&out, all.messages)
			names = nil
		} else {
			fmt.Fprintf(&out, "%s  %d messages/s, %d bytes/s\n", time.Now().Format("15:04:05"), all.messages, all.bytes)
		}
		for _, name := range names[:min(len(names), 20)] {
			fmt.Fprintf(&out, "%10d/s %12d B/s  %s\n", p.counts[name].messages, p.counts[name].bytes, name)
		}
		for _, n := range p.counts {
			*n = levelCount{}
		}
		p.mu.Unlock()
		if p.s.output.colour && p.s.stats {
			_, _ = io.WriteString(p.s.stdout, "\x1b[H\x1b[J") // from the top
		}
		_, _ = p.s.stdout.Write(out.Bytes())
	}
}
