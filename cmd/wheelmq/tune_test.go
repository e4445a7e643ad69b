package main

import (
	"runtime"
	"testing"
	"time"
)

func TestTunerRaisesAndLowersProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	tn := &tuner{loops: 1}
	look := func(used time.Duration, want int) {
		t.Helper()
		tn.cpu = processCPU() - used
		tn.tuneProcessors()
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("after %v of CPU in a second: %d Ps, want %d", used, got, want)
		}
	}
	look(100*time.Millisecond, 1)
	look(900*time.Millisecond, 2) // busy
	look(700*time.Millisecond, 2) // neither busy nor calm
	look(200*time.Millisecond, 1)
}

func TestTunerGivesMemoryBackOnceAfterAStorm(t *testing.T) {
	tn := &tuner{}
	look := func(connections, wantSettled int) {
		t.Helper()
		tn.tuneMemory(connections)
		if tn.settled != wantSettled {
			t.Errorf("at %d connections: settled at %d, want %d", connections, tn.settled, wantSettled)
		}
	}
	look(4000, 0)
	look(8000, 0)
	look(8000, 0)
	look(8000, 0)
	look(8001, 8001) // calm for three looks
	look(8001, 8001)
	look(500, 500)
	look(2500, 500)
	look(2500, 500)
	look(2500, 500)
	look(2500, 2500)
}
