package load

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

// A Workload is what clients do to a broker. A pointer to one of the structs of this package.
type Workload interface {
	// Validate checks the workload against its bounds.
	Validate() error
	// Unit is what the workload counts: "message", "connection", "cycle".
	Unit() string
	// Clients is how many connections there are at most at once.
	Clients() int
	// Scale multiplies the numbers of clients by factor, and the rates that belong to them.
	Scale(factor float64)
	// Parameters are the fields by name; what is written to them holds.
	Parameters() []Parameter
	// Run carries the workload out and blocks until its figures are there, or until ctx ends. watch,
	// if not nil, is called about four times a second on a goroutine of the run.
	Run(ctx context.Context, b Broker, watch func(Sample)) (*Result, error)
}

// A Parameter is one field of a workload; exactly one of the pointers is set.
type Parameter struct {
	Name     string
	About    string
	Number   *int
	Duration *time.Duration
}

// Set reads a value as users write it.
func (p Parameter) Set(text string) error {
	if p.Duration != nil {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not a duration such as 10s", p.Name, text)
		}
		*p.Duration = d
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s: %q is not a whole number", p.Name, text)
	}
	*p.Number = n
	return nil
}

func (p Parameter) String() string {
	if p.Duration != nil {
		return p.Duration.String()
	}
	return strconv.Itoa(*p.Number)
}

// Bounds of all workloads.
const (
	maxClients  = 1 << publisherBits // of one kind, where messages name them
	maxPayload  = 16 << 20
	maxWindow   = sequenceWindow
	maxMessages = 100_000_000
	maxRate     = 10_000_000
	maxDuration = 24 * time.Hour
)

// A bound is a field's range.
type bound struct {
	name             string
	value, low, high int
}

func check(bounds ...bound) error {
	for _, b := range bounds {
		if b.value < b.low || b.value > b.high {
			return fmt.Errorf("load: %s is %d, must be %d to %d", b.name, b.value, b.low, b.high)
		}
	}
	return nil
}

func checkDurations(durations ...time.Duration) error {
	for _, d := range durations {
		if d < 0 || d > maxDuration {
			return fmt.Errorf("load: a duration is %v, must be 0 to %v", d, maxDuration)
		}
	}
	return nil
}

// scaled is n times factor, at least 1.
func scaled(n int, factor float64) int { return max(1, int(math.Round(float64(n)*factor))) }

// newRunID is in the stamps, topic names and client identifiers of a run: two runs at one broker do
// not meet.
func newRunID() uint32 {
	return (uint32(os.Getpid())<<7 ^ uint32(time.Now().UnixNano())) & (1<<runBits - 1)
}

// finish takes the series and the latencies from the sampler, which it ends.
func (d *driver) finish(res *Result) {
	res.Open = d.up
	d.enter(Cleaning, 0)
	d.stop()
	res.Series = d.sampler.series
	res.Latency = latencyOf(d.sampler.totals[Measuring])
	res.HoldLatency = latencyOf(d.sampler.totals[Holding])
	res.RoundLatency = latencyOf(d.sampler.totals[Rounding])
	res.rankFlaws()
	if d.broker.PID == 0 {
		res.Notes = append(res.Notes, "the broker's process is not to be seen from here: no CPU time and no memory of it")
	}
}

// startRSS is the broker's memory before the run; 0 where it is not known.
func (d *driver) startRSS() (int64, error) {
	if d.broker.PID == 0 {
		return 0, nil
	}
	return residentBytes(d.broker.PID)
}

// growth is the broker's memory since base, for each of n.
func (d *driver) growth(base int64, n int) (float64, error) {
	if d.broker.PID == 0 || n == 0 {
		return 0, nil
	}
	now, err := residentBytes(d.broker.PID)
	return float64(now-base) / float64(n), err
}
