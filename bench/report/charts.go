package report

import (
	"fmt"
	"math"
	"time"

	"github.com/wheelmq/wheelmq/bench/load"
)

// charts are the pictures of a run; those without anything to show are left out.
func charts(r *load.Result) []*chart {
	if r == nil {
		return nil
	}
	var list []*chart
	add := func(c *chart) {
		if c != nil {
			list = append(list, c)
		}
	}
	add(percentileChart(r.Latency, "Latency percentiles", "how many of a hundred "+r.Unit+"s took at most this long"))
	add(overTime(r, capital(r.Unit)+"s per second", "received, and where messages are sent, published", linear1(short), []source{
		{"done", "c1", func(s load.Sample) float64 { return per(s.Done, s.Span) }},
		{"published", "c2", func(s load.Sample) float64 { return per(s.Sent, s.Span) }},
	}))
	add(latencyOverTime(r))
	add(overTime(r, "Broker's memory", "resident set of its process", func(high float64) axis { return linear(high, Bytes, binaryStep) }, []source{
		{"resident", "c1", func(s load.Sample) float64 { return float64(s.BrokerRSS) }},
	}))
	add(overTime(r, "CPU", "cores in use", linear1(digits), []source{
		{"broker", "c1", func(s load.Sample) float64 { return s.Broker }},
		{"generator", "c2", func(s load.Sample) float64 { return s.Generator }},
	}))
	if steps := connectionsChanged(r.Series); steps {
		add(overTime(r, "Connections", "that are up", linear1(short), []source{
			{"open", "c1", func(s load.Sample) float64 { return float64(s.Open) }},
		}))
	}
	add(percentileChart(r.HoldLatency, "Ping percentiles", "PINGREQ to PINGRESP while nothing else happened"))
	return list
}

func linear1(write func(float64) string) func(float64) axis {
	return func(high float64) axis { return linear(high, write, roundStep) }
}

// connectionsChanged tells that connections came up slowly enough to be seen.
func connectionsChanged(series []load.Sample) bool {
	n := 0
	for _, s := range series {
		if s.Phase == load.Connecting || s.Phase == load.Holding {
			n++
		}
	}
	return n > 3
}

// A source takes one figure from a sample.
type source struct {
	name  string
	class string
	value func(load.Sample) float64
}

// overTime draws figures of the series; nil where all are 0. A span shorter than half of the usual
// one is left out: its rates say nothing.
func overTime(r *load.Result, title, about string, y func(high float64) axis, sources []source) *chart {
	c := &chart{Title: title, About: about}
	high := 0.0
	for _, s := range sources {
		l := line{name: s.name, class: s.class}
		most := 0.0
		for _, sample := range long(r.Series) {
			v := s.value(sample)
			most = max(most, v)
			l.points = append(l.points, point{sample.At.Seconds(), v})
		}
		if most > 0 {
			c.lines = append(c.lines, l)
		}
		high = max(high, most)
	}
	if len(c.lines) == 0 {
		return nil
	}
	c.y = y(high)
	c.overSeconds(r.Series)
	return c
}

func long(series []load.Sample) []load.Sample {
	var list []load.Sample
	for _, s := range series {
		if s.Span >= 100*time.Millisecond {
			list = append(list, s)
		}
	}
	return list
}

// overSeconds sets the x axis to the whole run and shades the measured window.
func (c *chart) overSeconds(series []load.Sample) {
	if len(series) == 0 {
		return
	}
	end := series[len(series)-1].At.Seconds()
	c.x = linear(end, func(v float64) string { return digits(v) + " s" }, roundStep)
	c.x.high = max(end, c.x.ticks[1])
	if last := len(c.x.ticks) - 1; c.x.ticks[last] > c.x.high {
		c.x.ticks = c.x.ticks[:last]
	}
	first := true
	for _, s := range series {
		if s.Phase != load.Measuring {
			continue
		}
		if first {
			c.shaded[0], first = (s.At - s.Span).Seconds(), false
		}
		c.shaded[1] = s.At.Seconds()
	}
}

func writeDuration(v float64) string { return Duration(time.Duration(v)) }

// latencyOverTime has gaps where nothing arrived.
func latencyOverTime(r *load.Result) *chart {
	c := &chart{Title: "Latency over time", About: "of what arrived in each quarter of a second; the scale is logarithmic"}
	c.lines = []line{{name: "longest", class: "c3"}, {name: "p99", class: "c2"}, {name: "p50", class: "c1"}}
	low, high := math.Inf(1), 0.0
	for _, s := range long(r.Series) {
		if s.P50 == 0 {
			continue
		}
		x := s.At.Seconds()
		for i, v := range []time.Duration{s.Max, s.P99, s.P50} {
			c.lines[i].points = append(c.lines[i].points, point{x, float64(v)})
		}
		low, high = min(low, float64(s.P50)), max(high, float64(s.Max))
	}
	if high == 0 {
		return nil
	}
	c.y = decades(low, high, writeDuration)
	c.overSeconds(r.Series)
	return c
}

// percentileChart stretches the tail: every step to the right is a tenth of those that are left.
func percentileChart(l load.Latency, title, about string) *chart {
	if l.Count == 0 {
		return nil
	}
	place := func(percent float64) float64 { return -math.Log10(1 - percent/100) }
	c := &chart{Title: title, About: about}
	own := line{name: "latency", class: "c1"}
	shown := map[float64]float64{}
	for _, p := range l.Points {
		// A percentile beyond the number of values is the longest one again.
		if p.Percent == 100 || p.Percent > 50 && float64(l.Count)*(1-p.Percent/100) < 1 {
			continue
		}
		own.points = append(own.points, point{place(p.Percent), float64(p.At)})
		shown[place(p.Percent)] = p.Percent
	}
	if len(own.points) == 0 {
		return nil
	}
	c.lines = []line{own}
	first, last := own.points[0], own.points[len(own.points)-1]
	c.y = decades(max(1, first.Y), last.Y, writeDuration)
	c.x = axis{high: last.X, write: func(v float64) string {
		if p, ok := shown[v]; ok {
			return fmt.Sprintf("%g %%", p)
		}
		return fmt.Sprintf("%g %%", math.Round((100-100*math.Pow(10, -v))*1000)/1000)
	}}
	for _, p := range []float64{50, 90, 99, 99.9, 99.99, 99.999} {
		if place(p) <= last.X+1e-9 {
			c.x.ticks = append(c.x.ticks, place(p))
		}
	}
	return c
}
