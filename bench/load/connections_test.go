package load

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConnections(t *testing.T) {
	b := startFakeBroker(t, nil)
	w := &Connections{Count: 50, Filters: 2, KeepAlive: 1, Settle: 20 * time.Millisecond, Hold: 1200 * time.Millisecond}
	r, err := run(t, w, b, V311)
	if err != nil || r.Done != 50 || r.Open != 50 || r.Flawed() || r.BaseRSS <= 0 || r.Opening <= 0 || r.ConnectionBytes == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Hold == nil || r.Hold.Elapsed < time.Second || r.HoldLatency.Count < 50 || r.HoldLatency.At(50) <= 0 {
		t.Errorf("hold %+v, pings %+v", r.Hold, r.HoldLatency)
	}
}

// A message goes to each of the sample, and what does not arrive, or twice, is counted.
func TestConnectionsSample(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		w := &Connections{Count: 50, Filters: 1, KeepAlive: 60, Sample: 20}
		r, err := run(t, w, startFakeBroker(t, nil), v)
		if err != nil || r.Done != 50 || r.Open != 50 || r.Sent != 20 || r.RoundLatency.Count != 20 || r.Flawed() || w.Clients() != 51 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	b := startFakeBroker(t, func(n int, packet []byte) [][]byte {
		if n == 3 {
			return [][]byte{packet, packet}
		}
		return [][]byte{packet}
	})
	if r, err := run(t, &Connections{Count: 9, Filters: 1, KeepAlive: 60, Sample: 9}, b, V311); err != nil || r.Duplicate != 1 || r.Lost != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := (&Connections{Count: 9, KeepAlive: 60, Sample: 9}).Validate(); err == nil {
		t.Error("a sample without filters is taken")
	}
}

// A rate of connects is kept.
func TestConnectionsRate(t *testing.T) {
	w := &Connections{Count: 30, Rate: 100, KeepAlive: 60}
	r, err := run(t, w, startFakeBroker(t, nil), V5)
	if err != nil || r.Done != 30 || r.Elapsed < 290*time.Millisecond {
		t.Errorf("%+v, %v", r, err)
	}
}

// Connections that a broker refuses, and pings that it does not answer, are counted.
func TestConnectionsFail(t *testing.T) {
	b := startFakeBroker(t, nil)
	b.set(func() { b.refuse = func(n int) bool { return n%10 == 0 } })
	r, err := run(t, &Connections{Count: 50, KeepAlive: 60}, b, V311)
	if err != nil || r.Done != 45 || r.Failed != 5 || r.Open != 45 || !r.Flawed() {
		t.Errorf("%+v, %v", r, err)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "5 connections failed, the first one: load: CONNACK refuses: code 5, not authorized") {
		t.Errorf("%q", r.Notes)
	}
	b = startFakeBroker(t, nil)
	b.set(func() { b.mute = true })
	r, err = run(t, &Connections{Count: 5, KeepAlive: 1, Hold: 1100 * time.Millisecond}, b, V311)
	if err != nil || r.Failed != 5 {
		t.Errorf("%+v, %v", r, err)
	}
}

// someCycles runs for as long as a busy machine needs to end one cycle.
func someCycles(t *testing.T, b Broker) (r *Result, err error) {
	w := &Cycles{Count: 4, Duration: 50 * time.Millisecond}
	for ; w.Duration < time.Minute; w.Duration *= 4 {
		if r, err = w.Run(t.Context(), b, nil); err != nil || r.Done > 0 {
			return r, err
		}
	}
	t.Errorf("no cycle in %v", w.Duration/4)
	return r, err
}

func TestCycles(t *testing.T) {
	b := startFakeBroker(t, nil)
	r, err := someCycles(t, Broker{Address: b.address, PID: os.Getpid()})
	if err != nil || r.Done == 0 || r.CPUPerUnit() <= 0 || r.Latency.Count != r.Done {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRetained(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		b := startFakeBroker(t, nil)
		r, err := run(t, &Retained{Messages: 2100, Subscribers: 2, Payload: 30}, b, v)
		left := 0
		b.set(func() { left = len(b.retained) })
		if err != nil || r.Done != 4200 || r.Flawed() || r.Latency.Count != 4200 || left != 0 {
			t.Errorf("%+v, %v; %d are left", r, err, left)
		}
	}
}

// Over a Unix socket.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	b := serveFakeBroker(t, "unix", path, func(c net.Conn) (net.Conn, error) { return c, nil }, nil)
	r, err := run(t, &Connections{Count: 300, Filters: 1, KeepAlive: 60}, b, V311)
	if err != nil || r.Done != 300 || r.Flawed() {
		t.Errorf("%+v, %v", r, err)
	}
	if p, err := ParseBroker("unix://" + path); err != nil || p.Address != path {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestReplay(t *testing.T) {
	for _, w := range []struct {
		version         Version
		returning, want int
	}{{V311, 0, 600}, {V5, 0, 600}, {V311, 7, 210}} {
		b := startFakeBroker(t, nil)
		r, err := run(t, &Replay{Sessions: 20, Queued: 30, Payload: 30, Returning: w.returning}, b, w.version)
		if err != nil || r.Done != uint64(w.want) || r.Flawed() || r.Latency.Count != uint64(w.want) || r.Sent != 600 {
			t.Errorf("%+v, %v", r, err)
		}
		b.mu.Lock()
		for id, s := range b.sessions {
			if s.persistent {
				t.Errorf("session %s is left", id)
			}
		}
		b.mu.Unlock()
	}
}

// What a replay doubles or reorders is counted per session.
func TestReplayMangled(t *testing.T) {
	var held []byte
	n := 0
	b := startFakeBroker(t, nil)
	mangle := func(_ int, packet []byte) [][]byte {
		if b.connects < 3 { // the feed, the session: it may be thought connected while messages are queued for it
			return [][]byte{packet}
		}
		n++
		if held != nil {
			out := [][]byte{packet, held}
			held = nil
			return out
		}
		switch n {
		case 3:
			held = packet
			return nil
		case 7:
			return [][]byte{packet, packet}
		}
		return [][]byte{packet}
	}
	b.set(func() { b.mangle = mangle })
	r, err := run(t, &Replay{Sessions: 1, Queued: 30, Payload: 30}, b, V311)
	if err != nil || r.Done != 30 || r.Lost != 0 || r.Duplicate != 1 || r.Late != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestScenarios(t *testing.T) {
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if names[s.Name] || s.About == "" {
			t.Errorf("name %q, about %q", s.Name, s.About)
		}
		names[s.Name] = true
		w := s.New()
		if err := w.Validate(); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		w.Scale(0.01)
		if err := w.Validate(); err != nil {
			t.Errorf("%s at a hundredth: %v", s.Name, err)
		}
		for _, p := range w.Parameters() {
			if err := Set(w, p.Name, p.String()); err != nil || p.About == "" {
				t.Errorf("%s: %s: %v, about %q", s.Name, p.Name, err, p.About)
			}
		}
	}
	if _, err := FindScenario("nothing"); err == nil || !strings.Contains(err.Error(), "pairs") {
		t.Errorf("%v", err)
	}
	w := &Cycles{}
	if err := Set(w, "clients", "x"); err == nil {
		t.Error("x is a number")
	}
	if err := Set(w, "duration", "5"); err == nil {
		t.Error("5 is a duration")
	}
	if err := Set(w, "qos", "1"); err == nil || !strings.Contains(err.Error(), "clients") {
		t.Errorf("%v", err)
	}
}

// Scaling keeps the rate per publisher, and one publisher one.
func TestScale(t *testing.T) {
	f := func(name string, factor float64, want Messages) {
		t.Helper()
		s, err := FindScenario(name)
		if err != nil {
			t.Fatal(err)
		}
		w := s.New().(*Messages)
		w.Scale(factor)
		if w.Publishers != want.Publishers || w.Subscribers != want.Subscribers || w.Rate != want.Rate {
			t.Errorf("%s by %v: %+v", name, factor, w)
		}
	}
	f("p2p-50K-50K-50K-50K", 0.1, Messages{Publishers: 5000, Subscribers: 5000, Rate: 5000})
	f("sharedsub-50K-500-50K-50K", 0.1, Messages{Publishers: 5000, Subscribers: 50, Rate: 5000})
	f("fanout-1-1K-1-1K", 0.1, Messages{Publishers: 1, Subscribers: 100, Rate: 1})
}

// The series covers the run, its counts add up to the totals, and watch sees the same.
func TestSeries(t *testing.T) {
	var seen []Sample
	w := short(Messages{Publishers: 2, Subscribers: 2, Window: 4})
	w.Duration = 700 * time.Millisecond
	b := startFakeBroker(t, nil)
	r, err := w.Run(t.Context(), Broker{Address: b.address, PID: os.Getpid()}, func(s Sample) { seen = append(seen, s) })
	if err != nil {
		t.Fatal(err)
	}
	var sent, measured uint64
	for _, s := range r.Series {
		sent += s.Sent
		if s.Phase == Measuring {
			measured += s.Done
		}
	}
	if sent != r.Sent || measured != r.Done || len(seen) < 3 || len(seen) != len(r.Series) {
		t.Errorf("sent %d of %d, measured %d of %d, %d samples, %d seen", sent, r.Sent, measured, r.Done, len(r.Series), len(seen))
	}
	last := r.Series[len(r.Series)-1]
	if last.BrokerRSS == 0 || last.At < 700*time.Millisecond {
		t.Errorf("%+v", last)
	}
}

func TestSeriesBounded(t *testing.T) {
	s := sampler{totals: nil}
	for i := range 3 * maxSamples {
		s.add(Sample{At: time.Duration(i + 1), Span: 1, Phase: Measuring, Done: 1, Max: time.Duration(i)})
	}
	var done uint64
	var span time.Duration
	for _, one := range s.series {
		done += one.Done
		span += one.Span
	}
	if len(s.series) >= maxSamples || done != 3*maxSamples || span != 3*maxSamples || s.series[0].Max == 0 {
		t.Errorf("%d samples, %d done, span %d", len(s.series), done, span)
	}
}
