package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/wheel"
	"github.com/wheelmq/wheelmq/router"
)

// The simulation drives the whole engine by a seed: scripted clients on a
// transport that delays, cuts and reorders connections, loops whose turns and
// mailboxes interleave at random, and time that creeps and jumps. A model of
// the standard is told each packet in the moment the engine handles it and so
// knows exactly what must, may and must not come out.
//
//	sim_test.go          the run: what happens next
//	sim_wire_test.go     connections and loops
//	sim_client_test.go   what clients do
//	sim_session_test.go  model: sessions, takeover, expiry, wills
//	sim_model_test.go    model: subscriptions, routing, retained messages
//	sim_check_test.go    what the broker wrote against the model
//	sim_end_test.go      what must have happened by the end
//
// A failing run prints its seed: go test ./engine -run Simulation -sim.seed=N
// plays it again.

var (
	simSeed = flag.Uint64("sim.seed", 0, "seed of the first simulated run (0: 1)")
	simRuns = flag.Int("sim.runs", 0, "simulated runs (0: 300, or 1 with -sim.seed)")
)

func TestSimulation(t *testing.T) {
	first, runs := *simSeed, *simRuns
	if runs == 0 && first == 0 {
		runs = 300
	}
	for seed := max(1, first); seed < max(1, first)+uint64(max(1, runs)); seed++ {
		simulate(t, seed)
	}
}

func simulate(t *testing.T, seed uint64) {
	s := newSim(t, seed)
	defer func() {
		if r := recover(); r != nil {
			fmt.Printf("seed %d: panic: %v\n%s\n", seed, r, s.tail())
			panic(r)
		}
	}()
	for range s.steps {
		s.step()
	}
	s.drain()
	s.leave()
	s.empty()
}

// A sim is one run.
type sim struct {
	*harness
	seed  uint64
	rng   *rand.Rand
	steps int
	mood  mood
	opts  Options
	trace []string

	open    []bool       // by loop: its turn has begun and not ended
	ticked  []clock.Time // by loop: when it last ticked
	conns   []*simConn   // whose end at the broker is not down
	wrote   []simWrite   // by the broker, not checked yet
	chunk   *simConn     // whose bytes the broker is handling
	pending []*upPacket  // of chunk: not told to the model yet
	losing  *simConn     // the connection that is being ended from outside
	claims  int          // CONNECTs handled
	dialed  int

	clients  []*simClient
	groups   []*simGroup
	shared   map[string][]*simShared // by topic and payload
	retained map[string][]*simKept   // by topic: all values ever kept, in order
	messages int
	sent     []*simPublish
	rejected []uint64 // by loop: messages answered that a queue is full
	missing  []string
	calm     bool // nothing goes wrong any more
}

// mood is how likely things are in this run, in parts of the sum of all.
type mood struct{ hand, read, run, act, creep, jump, tick, notice, cut, stall int }

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), shared: make(map[string][]*simShared),
		retained: make(map[string][]*simKept)}
	s.steps = 300 + s.rng.IntN(900)
	s.mood = mood{hand: 30, read: 25, run: s.one(5, 20, 40), act: s.one(15, 30), creep: s.one(2, 6), jump: s.rng.IntN(2),
		tick: 4, notice: s.one(1, 4), cut: s.rng.IntN(3), stall: s.rng.IntN(2)}
	s.opts = Options{
		MaxQueuedMessages: Unlimited, MaxQueuedBytes: Unlimited,
		ReceiveMaximum: uint16(s.one(2, 5, 64)), MaxInflight: uint16(s.one(1, 3, 20)),
		TopicAliases: uint16(s.one(1, 2, 10)), OutboundBytes: s.one(1<<9, 1<<12, 1<<20),
		SharedStrategy: s.strategy(),
		Hooks:          []any{simHook{s}},
		LoopDelay:      -1, // these loops come to their work when they like
	}
	if s.rng.IntN(3) == 0 {
		s.opts.MaxQueuedMessages, s.opts.Overflow = Limit(1+s.rng.IntN(5)), OverflowPolicy(s.rng.IntN(3))
	}
	loops := 1 + s.rng.IntN(4)
	s.harness = newHarness(t, loops, s.opts)
	s.opts = *s.b.options()
	s.open, s.ticked, s.rejected = make([]bool, loops), make([]clock.Time, loops), make([]uint64, loops)
	for i := range s.ticked {
		s.ticked[i] = s.clock.Now()
	}
	for i := range 8 + s.rng.IntN(17) {
		s.clients = append(s.clients, s.newClient(i))
	}
	return s
}

// strategy returns any but Random, which draws from a source of its own and
// would not replay.
func (s *sim) strategy() router.Strategy {
	if v := router.Strategy(s.rng.IntN(6)); v != router.Random {
		return v
	}
	return router.RoundRobin
}

// one returns one of the values.
func (s *sim) one(v ...int) int { return v[s.rng.IntN(len(v))] }

// maybe is true n times out of m.
func (s *sim) maybe(n, m int) bool { return s.rng.IntN(m) < n }

func (s *sim) now() clock.Time { return s.clock.Now() }

func (s *sim) did(format string, a ...any) {
	if len(s.trace) >= 1<<12 {
		s.trace = append(s.trace[:0], s.trace[1<<11:]...)
	}
	s.trace = append(s.trace, fmt.Sprintf("%v ", time.Duration(s.now()))+fmt.Sprintf(format, a...))
}

func (s *sim) tail() string { return strings.Join(s.trace[max(0, len(s.trace)-traceTail):], "\n") }

// traceTail is how much of what happened a failure shows.
const traceTail = 150

func (s *sim) fail(format string, a ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\nseed %d (%d loops, %d clients, %v): %s", s.tail(), s.seed, len(s.envs), len(s.clients),
		s.opts.SharedStrategy, fmt.Sprintf(format, a...))
}

// step lets one thing happen.
func (s *sim) step() {
	m := &s.mood
	k := s.rng.IntN(m.hand + m.read + m.run + m.act + m.creep + m.jump + m.tick + m.notice + m.cut + m.stall)
	next := func(n int) bool { k -= n; return k < 0 }
	switch {
	case next(m.hand):
		s.handSome()
	case next(m.read):
		s.readSome()
	case next(m.run):
		s.runSome()
	case next(m.act):
		s.clients[s.rng.IntN(len(s.clients))].act()
	case next(m.creep):
		s.pass(time.Duration(1+s.rng.IntN(300)) * time.Millisecond)
	case next(m.jump):
		s.pass(time.Duration(1+s.rng.IntN(12_000)) * time.Millisecond)
	case next(m.tick):
		s.tick(s.rng.IntN(len(s.envs)))
	case next(m.notice):
		s.noticeSome()
	case next(m.cut):
		s.clients[s.rng.IntN(len(s.clients))].lose()
	default:
		s.stallSome()
	}
}

// pass lets time pass; the loops learn of it when they next run.
func (s *sim) pass(d time.Duration) {
	s.clock.Advance(d)
	for _, e := range s.envs {
		if e.later != 0 && e.later <= s.now() {
			e.later, e.woken = 0, true
		}
	}
}

// tick lets a loop's timers run.
func (s *sim) tick(i int) {
	if s.open[i] || s.now() < s.ticked[i].Add(tick) {
		return
	}
	s.did("loop %d ticks", i)
	s.ticked[i] = s.now()
	s.call(i, func() { s.envs[i].loop.Ticked(0) })
	s.overdue(i)
}

// simSlack is how late a timer may fire once its loop runs: it is rounded up
// to a tick, and counts from a turn's beginning.
const simSlack = 2 * wheel.Tick
