package compare

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// A run is one scenario against one fresh process of one broker.
type run struct {
	Scenario string `json:"scenario"`
	Broker   string `json:"broker"`
	Repeat   int    `json:"repeat"`
	outcome
	Error string `json:"error,omitempty"`
}

// flawed tells that the run failed, or that a message did not arrive once and in order.
func (r run) flawed() bool { return r.Error != "" || r.Lost+r.Duplicate+r.Late+r.Failed > 0 }

// A plan is what to compare.
type plan struct {
	scenarios  []scenario
	candidates []candidate
	stand      stand
	repeats    int
	timing     timing
	progress   io.Writer
}

// runTimeout is what a run may take beyond warm-up and measured window.
const runTimeout = 2 * time.Minute

// execute does all runs, brokers interleaved. It ends early, with what it has, only when ctx ends.
func (p plan) execute(ctx context.Context) ([]run, error) {
	var runs []run
	for _, s := range p.scenarios {
		for repeat := range p.repeats {
			for _, c := range p.candidates {
				if _, ok := c.in(s.mode); !ok {
					continue
				}
				r := p.once(ctx, s, c)
				if err := ctx.Err(); err != nil {
					return runs, err
				}
				r.Repeat = repeat + 1
				runs = append(runs, r)
				fmt.Fprintf(p.progress, "%s %d/%d %s: %s\n", s.name, r.Repeat, p.repeats, c.Name, r.line(s.columns[0]))
			}
		}
	}
	return runs, nil
}

// once starts the broker, runs the scenario, and stops the broker.
func (p plan) once(ctx context.Context, s scenario, c candidate) run {
	r := run{Scenario: s.name, Broker: c.Name}
	ctx, cancel := context.WithTimeout(ctx, p.timing.Warmup+p.timing.Duration+p.timing.Settle+runTimeout+startTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer os.RemoveAll(dir)
	broker, err := p.stand.start(ctx, c, s.mode, dir)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer broker.stop()
	if r.outcome, err = s.work(ctx, broker.Broker, p.timing); err != nil {
		r.Error = err.Error()
		if out := broker.printed(); out != "" {
			r.Error += "; the broker printed: " + out
		}
	}
	return r
}

// line is the run in a few words.
func (r run) line(first metric) string {
	if r.Error != "" {
		return "FAILED: " + r.Error
	}
	text := fmt.Sprintf("%s %s", format(first, r.Values[first]), first)
	if r.flawed() {
		text += fmt.Sprintf(", LOST %d, DUPLICATE %d, LATE %d", r.Lost, r.Duplicate, r.Late)
		if r.Failed > 0 {
			text += fmt.Sprintf(", FAILED %d", r.Failed)
		}
	}
	if r.GeneratorFull {
		text += ", generator may be the bottleneck"
	}
	return text
}
