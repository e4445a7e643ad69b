package clock

import (
	"sync"
	"testing"
	"time"
)

func TestTimeArithmetic(t *testing.T) {
	f := func(start Time, d time.Duration, want Time) {
		t.Helper()
		got := start.Add(d)
		if got != want {
			t.Errorf("%d.Add(%v) = %d, want %d", start, d, got, want)
		}
		if back := got.Sub(start); back != d {
			t.Errorf("%d.Sub(%d) = %v, want %v", got, start, back, d)
		}
	}
	f(0, time.Second, 1e9)
	f(5, -5*time.Nanosecond, 0)
	f(-1, 0, -1)
}

func TestRealIsPositiveAndNeverGoesBack(t *testing.T) {
	var before Time
	for range 1000 {
		now := Real{}.Now()
		if now <= 0 || now < before {
			t.Fatalf("reading %d after %d", now, before)
		}
		before = now
	}
}

func TestRealRunsWithTheSystem(t *testing.T) {
	start, wall := Real{}.Now(), time.Now()
	for time.Since(wall) < 2*time.Millisecond {
	}
	if d := (Real{}).Now().Sub(start); d < 2*time.Millisecond {
		t.Errorf("2ms of system time are %v of Real", d)
	}
}

func TestManual(t *testing.T) {
	var m Manual
	var c Clock = &m
	if c.Now() != 0 {
		t.Errorf("zero value stands at %d", c.Now())
	}
	if got := m.Advance(time.Second); got != 1e9 || c.Now() != 1e9 {
		t.Errorf("Advance = %d, Now = %d, want 1e9", got, c.Now())
	}
	m.Set(5e9)
	if c.Now() != 5e9 {
		t.Errorf("Now after Set = %d", c.Now())
	}
}

func TestManualRefusesToGoBack(t *testing.T) {
	f := func(name string, move func(m *Manual)) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s did not panic", name)
			}
		}()
		var m Manual
		m.Set(10)
		move(&m)
	}
	f("Set", func(m *Manual) { m.Set(9) })
	f("Advance", func(m *Manual) { m.Advance(-1) })
}

func TestManualIsSafeForConcurrentUse(t *testing.T) {
	var m Manual
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				m.Advance(1)
				m.Now()
			}
		})
	}
	wg.Wait()
	if m.Now() != 8000 {
		t.Errorf("Now = %d, want 8000", m.Now())
	}
}
