package main

import "testing"

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
