package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/bench/load"
)

// aRun is a run of messages with two samples.
func aRun() *Run {
	return &Run{
		Scenario: "pairs", About: "some pairs <b>", Scale: 1, MQTT: "3.1.1", Address: "127.0.0.1:1883", Broker: `evil"><script>alert(1)</script>`,
		Command: []string{"wheelmq", "bench", "pairs", "--x", "it's"}, Began: time.Unix(0, 0),
		Result: &load.Result{
			Usage: load.Usage{Elapsed: time.Second, BrokerCPU: time.Second / 2, GeneratorCPU: time.Second / 4, BrokerRSS: 10 << 20},
			Unit:  "message", Done: 4_000_000, Sent: 4_000_000,
			Latency: load.Latency{Count: 4_000_000, Mean: time.Millisecond, Points: []load.Point{{Percent: 50, At: time.Millisecond},
				{Percent: 90, At: 2 * time.Millisecond}, {Percent: 99, At: 3 * time.Millisecond}, {Percent: 100, At: 9 * time.Millisecond}}},
			Series: []load.Sample{{At: time.Second / 2, Span: time.Second / 2, Done: 2_000_000, Sent: 2_000_000, P50: time.Millisecond, P99: 2 * time.Millisecond, Max: 3 * time.Millisecond},
				{At: time.Second, Span: time.Second / 2, Done: 2_000_000, Sent: 2_000_000, P50: time.Millisecond, P99: 2 * time.Millisecond, Max: 3 * time.Millisecond}},
		},
	}
}

func TestVerdictComesFirst(t *testing.T) {
	f := func(change func(*Run), want string) {
		t.Helper()
		r := aRun()
		change(r)
		if got := r.Verdict(); got != want {
			t.Errorf("verdict %q, want %q", got, want)
		}
		var page bytes.Buffer
		if err := r.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(page.String(), "<body")
		at, first := strings.Index(body, want), strings.Index(body, "<svg")
		if at < 0 || first >= 0 && at > first {
			t.Errorf("%q does not stand before the charts", want)
		}
	}
	f(func(*Run) {}, "every message arrived once and in order")
	f(func(r *Run) { r.Result.Lost = 3; r.Result.Late = 1 }, "NOT CLEAN: 3 lost, 1 out of order")
	f(func(r *Run) { r.Result, r.Error = nil, "connection refused" }, "FAILED: connection refused")
}

func TestPageFetchesNothingAndIsSafe(t *testing.T) {
	var page bytes.Buffer
	if err := aRun().WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"http://", "https://", "src=", "@import", "url(", "<script>alert"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, want := range []string{"<svg", "4,000,000", "prefers-color-scheme"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestJSONReadsBack(t *testing.T) {
	b, err := json.Marshal(aRun())
	if err != nil {
		t.Fatal(err)
	}
	var back Run
	if err := json.Unmarshal(b, &back); err != nil || back.Result.Done != 4_000_000 {
		t.Errorf("%v, %+v", err, back)
	}
}

func TestNumbers(t *testing.T) {
	f := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(Count(950), "950")
	f(Count(12345), "12,345")
	f(Count(23.4e6), "23.4 M")
	f(Count(0.25), "0.25")
	f(short(0), "0")
	f(short(4e6), "4 M")
	f(Duration(1500*time.Nanosecond), "1.5 µs")
	f(Duration(90*time.Second), "1m30s")
	f(Bytes(987), "987 B")
	f(Bytes(1.5*(1<<20)), "1.5 MiB")
}

func TestProgressOnNoTerminal(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, "messages", 10)
	for _, s := range aRun().Result.Series {
		p.Show(s)
	}
	if strings.Contains(out.String(), "\r") || !strings.HasSuffix(out.String(), "\n") {
		t.Errorf("progress %q", out.String())
	}
}
