package compare

import (
	"fmt"
	"slices"
)

// A relation says what a check compares with.
type relation uint8

const (
	atMostRatio  relation = iota // ratio to the reference broker, in the same repeat
	atLeastRatio                 //
	atMost                       // the figure itself
)

// A check is one target: the median must stand in relation to limit.
type check struct {
	metric   metric
	relation relation
	limit    float64
}

func (c check) String() string {
	switch c.relation {
	case atMostRatio:
		return fmt.Sprintf("%s at most %g of the reference's", c.metric, c.limit)
	case atLeastRatio:
		return fmt.Sprintf("%s at least %g times the reference's", c.metric, c.limit)
	default:
		return fmt.Sprintf("%s at most %g", c.metric, c.limit)
	}
}

// spread is a figure over the repeats.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf is false for no values.
func spreadOf(values []float64) (spread, bool) {
	if len(values) == 0 {
		return spread{}, false
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return spread{Median: mid, Min: v[0], Max: v[len(v)-1]}, true
}

// values are the figures of one broker, by repeat; a failed run has none.
func values(runs []run, broker string, m metric) map[int]float64 {
	byRepeat := make(map[int]float64)
	for _, r := range runs {
		if v, ok := r.Values[m]; ok && r.Broker == broker && r.Error == "" {
			byRepeat[r.Repeat] = v
		}
	}
	return byRepeat
}

func figure(runs []run, broker string, m metric) (spread, bool) {
	var list []float64
	for _, v := range values(runs, broker, m) {
		list = append(list, v)
	}
	return spreadOf(list)
}

// ratio is the broker's figure over the reference's, repeat by repeat.
func ratio(runs []run, broker, reference string, m metric) (spread, bool) {
	own, base := values(runs, broker, m), values(runs, reference, m)
	var list []float64
	for repeat, v := range own {
		if b := base[repeat]; b > 0 {
			list = append(list, v/b)
		}
	}
	return spreadOf(list)
}

// A verdict is a check with what was measured.
type verdict struct {
	Broker   string `json:"broker"`
	Target   string `json:"target"`
	Measured spread `json:"measured"`
	Known    bool   `json:"known"` // false: a run failed, or there is no reference
	Met      bool   `json:"met"`
}

// judge holds the check against the runs of one scenario. A broker that lost, doubled or
// reordered messages or failed a run meets no target.
func (c check) judge(runs []run, broker, reference string) verdict {
	v := verdict{Broker: broker, Target: c.String()}
	if c.relation == atMost {
		v.Measured, v.Known = figure(runs, broker, c.metric)
	} else {
		v.Measured, v.Known = ratio(runs, broker, reference, c.metric)
	}
	v.Met = v.Known && v.Measured.Median <= c.limit
	if c.relation == atLeastRatio {
		v.Met = v.Known && v.Measured.Median >= c.limit
	}
	for _, r := range runs {
		v.Met = v.Met && (r.Broker != broker || !r.flawed())
	}
	return v
}
