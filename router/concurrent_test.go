package router

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// TestConcurrent changes subscriptions while others match. Whatever else happens, on every name a session that
// stays is listed once, and one that keeps moving between loops is listed in exactly one place.
func TestConcurrent(t *testing.T) {
	f := func(filters []string, names []string, crowd int) {
		t.Helper()
		r := New(2)
		for _, filter := range filters {
			r.Subscribe(filter, Subscription{Loop: 1, Ref: stays})
			r.Subscribe(filter, Subscription{Loop: 0, Ref: moves})
			for i := range crowd {
				r.Subscribe(filter, Subscription{Loop: i % 2, Ref: Ref(i + 1)})
			}
		}
		var writers, readers sync.WaitGroup
		var done atomic.Bool
		writers.Go(func() {
			for i := range 400 {
				for _, filter := range filters {
					if !r.Move(filter, i%2, moves, (i+1)%2, moves) {
						t.Errorf("move %d of %q found nothing", i, filter)
					}
				}
			}
		})
		writers.Go(func() { churn(r, filters, crowd) })
		for range 2 {
			readers.Go(func() {
				c := r.NewCache(3)
				var route Route
				for i := 0; !done.Load(); i++ {
					name := []byte(names[i%len(names)])
					r.Match(name, &route)
					checkRoute(t, &route)
					checkRoute(t, c.Route(name))
				}
			})
		}
		writers.Wait()
		done.Store(true)
		readers.Wait()
	}
	// Under one filter, so that a route cannot see two filters at different moments.
	f([]string{"a/b"}, []string{"a/b"}, 0)
	f([]string{"a/+"}, []string{"a/b", "a/c", "a/"}, 10)
	f([]string{"+/#"}, []string{"a/b", "a", "x/y/z"}, 3*listChunk)
	f([]string{"a/b", "c/+", "+/d/#"}, []string{"a/b", "c/e", "x/d/e"}, listChunk)
}

const (
	stays = Ref(1 << 40)
	moves = Ref(1 << 41)
)

// churn has sessions subscribe and leave under the filters and beside them.
func churn(r *Router, filters []string, crowd int) {
	rng := rand.New(rand.NewPCG(1, uint64(crowd)))
	for i := range 2000 {
		filter := filters[i%len(filters)]
		loop, ref := i%2, Ref(1+rng.IntN(crowd+10))
		if rng.IntN(2) == 0 {
			r.Subscribe(filter, Subscription{Loop: loop, Ref: ref})
		} else {
			r.Unsubscribe(filter, loop, ref)
		}
		beside := fmt.Sprintf("a/%d/c", rng.IntN(300))
		r.Subscribe(beside, Subscription{Loop: loop, Ref: ref})
		if i%3 > 0 {
			r.Unsubscribe(beside, loop, ref)
		}
		r.SubscribeShared("s", beside, Random, Subscription{Loop: loop, Ref: ref})
		r.UnsubscribeShared("s", beside, loop, ref)
	}
}

func checkRoute(t *testing.T, route *Route) {
	t.Helper()
	var stay, move int
	for _, list := range route.Loops {
		for i := range list {
			switch list[i].Ref {
			case stays:
				stay++
			case moves:
				move++
			}
		}
	}
	if stay != 1 || move != 1 {
		t.Errorf("the session that stays is listed %d times, the one that moves %d times", stay, move)
	}
}
