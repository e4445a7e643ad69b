package compare

import "testing"

func TestSpreadOf(t *testing.T) {
	f := func(median, low, high float64, values ...float64) {
		t.Helper()
		got, ok := spreadOf(values)
		if want := (spread{median, low, high}); got != want || ok != (len(values) > 0) {
			t.Errorf("spreadOf(%v) = %v, %v; want %v", values, got, ok, want)
		}
	}
	f(0, 0, 0)
	f(5, 5, 5, 5)
	f(2, 1, 3, 3, 1, 2)
	f(2.5, 1, 9, 9, 1, 2, 3)
}

// runsOf makes runs of "ref" and "own" from pairs of CPU figures; a negative one is a failed run.
func runsOf(figures ...[2]float64) []run {
	var runs []run
	for i, pair := range figures {
		for j, name := range []string{"ref", "own"} {
			r := run{Broker: name, Repeat: i + 1, outcome: outcome{Values: map[metric]float64{cpu: pair[j]}}}
			if pair[j] < 0 {
				r.Error = "failed"
			}
			runs = append(runs, r)
		}
	}
	return runs
}

func TestJudge(t *testing.T) {
	f := func(c check, runs []run, median float64, known, met bool) {
		t.Helper()
		v := c.judge(runs, "own", "ref")
		if v.Measured.Median != median || v.Known != known || v.Met != met {
			t.Errorf("%v: %+v, want %v, known %v, met %v", c, v, median, known, met)
		}
	}
	three := runsOf([2]float64{10, 5}, [2]float64{20, 8}, [2]float64{40, 40})
	f(check{cpu, atMostRatio, 0.5}, three, 0.5, true, true)
	f(check{cpu, atMostRatio, 0.4}, three, 0.5, true, false)
	f(check{cpu, atLeastRatio, 0.5}, three, 0.5, true, true)
	f(check{cpu, atLeastRatio, 6}, three, 0.5, true, false)
	f(check{cpu, atMost, 8}, three, 8, true, true)
	f(check{cpu, atMost, 7}, three, 8, true, false)
	f(check{p50, atMostRatio, 1}, three, 0, false, false)
	f(check{cpu, atMostRatio, 0.5}, nil, 0, false, false)
	f(check{cpu, atMostRatio, 0.5}, runsOf([2]float64{-1, 1}), 0, false, false)
	f(check{cpu, atMostRatio, 0.5}, runsOf([2]float64{10, 1}, [2]float64{-1, 9}), 0.1, true, true)
	f(check{cpu, atMostRatio, 0.5}, runsOf([2]float64{10, 1}, [2]float64{10, -1}), 0.1, true, false)

	lossy := runsOf([2]float64{10, 1})
	lossy[1].Lost = 1
	f(check{cpu, atMostRatio, 0.5}, lossy, 0.1, true, false)
}
