package load

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Phase is a part of a run.
type Phase uint8

// The phases, in the order in which a run may have them.
const (
	Connecting Phase = iota // connections are brought up
	Preparing               // what the measurement needs is stored in the broker
	WarmingUp
	Measuring // the measured window
	Holding   // connections stay, with keep-alive; measured apart
	Rounding  // a message goes to each of a sample of the connections; measured apart
	Draining  // what is in flight arrives
	Cleaning  // what was stored is removed
)

var phaseNames = [...]string{"connecting", "preparing", "warming up", "measuring", "holding", "message round", "draining", "cleaning"}

func (p Phase) String() string { return phaseNames[p] }

// MarshalText is the name.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the name.
func (p *Phase) UnmarshalText(text []byte) error {
	for i, name := range phaseNames {
		if name == string(text) {
			*p = Phase(i)
			return nil
		}
	}
	return fmt.Errorf("load: no phase %q", text)
}

// A Sample is what happened in a short span of a run. Counts and latencies are of the span alone.
type Sample struct {
	At        time.Duration `json:"at_ns"` // end of the span, from the start of the run
	Span      time.Duration `json:"span_ns"`
	Phase     Phase         `json:"phase"`
	Sent      uint64        `json:"sent"`  // messages published
	Done      uint64        `json:"done"`  // units of the workload: deliveries, connections, cycles
	Flaws     uint64        `json:"flaws"` // duplicates, late ones, failures; losses show at the end
	Open      int           `json:"open"`  // connections
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	Max       time.Duration `json:"max_ns"`
	BrokerRSS int64         `json:"broker_rss_bytes"`
	Broker    float64       `json:"broker_cores"` // CPU time per time
	Generator float64       `json:"generator_cores"`

	Left time.Duration `json:"-"` // until the phase ends; 0: not known
}

// Bounds of sampling.
const (
	sampleEvery = 250 * time.Millisecond
	maxSamples  = 1200 // then neighbours are joined
	maxLatency  = int64(time.Minute)
)

// A reading is what the driver hands to the sampler: a span of its own counts.
// Ownership: it moves with the histogram, which comes back through recorder.back.
type reading struct {
	at, end            int64 // driver's clock; end: when the phase will end, 0 not known
	phase              Phase
	sent, done, flawed uint64
	open               int
	latency            *hdrhistogram.Histogram
}

// A recorder counts on the driver's goroutine and has a goroutine of its own, the sampler, that
// works out percentiles, reads the kernel's figures and calls watch: none of that may hold up the
// driver, whose clock the latencies are taken from.
type recorder struct {
	// driver's goroutine
	phase              Phase
	sent, done, flawed uint64 // since the last reading
	latency            *hdrhistogram.Histogram
	nextSample         int64
	end                int64 // of the phase on the driver's clock; 0: not known

	readings chan reading
	back     chan *hdrhistogram.Histogram
	sampler  sampler
	ended    chan struct{} // closed by the sampler; its fields may be read then
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1000, maxLatency, 3) }

// startRecorder begins in phase Connecting. pid 0: the broker's process is not known. watch may be nil.
func startRecorder(pid int, watch func(Sample)) *recorder {
	const spare = 3
	r := &recorder{
		latency:  newHistogram(),
		readings: make(chan reading, spare),
		back:     make(chan *hdrhistogram.Histogram, spare+1),
		ended:    make(chan struct{}),
		sampler:  sampler{pid: pid, watch: watch, totals: map[Phase]*hdrhistogram.Histogram{}},
	}
	for range spare {
		r.back <- newHistogram()
	}
	r.nextSample = int64(sampleEvery)
	go func() {
		defer close(r.ended)
		for x := range r.readings {
			r.sampler.take(x)
			x.latency.Reset()
			r.back <- x.latency
		}
	}()
	return r
}

// record notes the latency of one finished unit.
func (r *recorder) record(latency int64) {
	r.done++
	_ = r.latency.RecordValue(min(max(latency, 0), maxLatency)) // in range by construction
}

// sample hands the span over once it is due, unless the sampler is behind: then the span grows.
func (r *recorder) sample(now int64, open int) {
	if now < r.nextSample {
		return
	}
	select {
	case free := <-r.back:
		r.hand(now, open, free)
	default:
	}
	r.nextSample = now + int64(sampleEvery)
}

// become ends the span and begins another phase, which ends at end (0: not known).
func (r *recorder) become(p Phase, now, end int64, open int) {
	r.hand(now, open, <-r.back)
	r.phase, r.end, r.nextSample = p, end, now+int64(sampleEvery)
}

func (r *recorder) hand(now int64, open int, free *hdrhistogram.Histogram) {
	r.readings <- reading{
		at: now, end: r.end, phase: r.phase, sent: r.sent, done: r.done, flawed: r.flawed, open: open, latency: r.latency,
	}
	r.sent, r.done, r.flawed, r.latency = 0, 0, 0, free
}

// stop ends the sampler; what it gathered is the caller's from then on. A second call does nothing.
func (r *recorder) stop() {
	select {
	case <-r.ended:
	default:
		close(r.readings)
		<-r.ended
	}
}

// A sampler gathers the series and the latencies of a run.
//
// Ownership: the recorder's goroutine until recorder.ended is closed.
type sampler struct {
	pid    int
	watch  func(Sample)
	series []Sample
	totals map[Phase]*hdrhistogram.Histogram // of Measuring, Holding and Rounding
	last   meter
	lastAt int64
}

func (s *sampler) take(x reading) {
	if x.phase == Measuring || x.phase == Holding || x.phase == Rounding {
		if s.totals[x.phase] == nil {
			s.totals[x.phase] = newHistogram()
		}
		s.totals[x.phase].Merge(x.latency)
	}
	if x.at <= s.lastAt {
		return
	}
	sample := Sample{
		At: time.Duration(x.at), Span: time.Duration(x.at - s.lastAt), Phase: x.phase,
		Sent: x.sent, Done: x.done, Flaws: x.flawed, Open: x.open, Left: time.Duration(max(0, x.end-x.at)),
	}
	s.lastAt = x.at
	if x.latency.TotalCount() > 0 {
		sample.P50 = time.Duration(x.latency.ValueAtPercentile(50))
		sample.P99 = time.Duration(x.latency.ValueAtPercentile(99))
		sample.Max = time.Duration(x.latency.Max())
	}
	s.readKernel(&sample)
	s.add(sample)
	if s.watch != nil {
		s.watch(sample)
	}
}

// readKernel adds CPU and memory; a broker that has gone shows elsewhere, here its figures stay 0.
func (s *sampler) readKernel(sample *Sample) {
	m, err := readMeter(s.pid)
	if err != nil {
		return
	}
	if span := m.at.Sub(s.last.at); !s.last.at.IsZero() && span > 0 {
		sample.Broker = float64(m.broker-s.last.broker) / float64(span)
		sample.Generator = float64(m.generator-s.last.generator) / float64(span)
	}
	s.last = m
	if s.pid > 0 {
		sample.BrokerRSS, _ = residentCounter(s.pid)
	}
}

// add appends and keeps the series bounded.
func (s *sampler) add(sample Sample) {
	s.series = append(s.series, sample)
	if len(s.series) < maxSamples {
		return
	}
	joined := s.series[:0]
	for i := 0; i < len(s.series); {
		one := s.series[i]
		i++
		if i < len(s.series) && s.series[i].Phase == one.Phase {
			one = one.join(s.series[i])
			i++
		}
		joined = append(joined, one)
	}
	s.series = joined
}

// join is the span of both, s first. Latencies are the worse ones: percentiles cannot be added.
func (s Sample) join(next Sample) Sample {
	share := float64(s.Span) / float64(s.Span+next.Span)
	next.Broker = s.Broker*share + next.Broker*(1-share)
	next.Generator = s.Generator*share + next.Generator*(1-share)
	next.Span += s.Span
	next.Sent, next.Done, next.Flaws = next.Sent+s.Sent, next.Done+s.Done, next.Flaws+s.Flaws
	next.P50, next.P99, next.Max = max(s.P50, next.P50), max(s.P99, next.P99), max(s.Max, next.Max)
	next.BrokerRSS = max(s.BrokerRSS, next.BrokerRSS)
	return next
}
