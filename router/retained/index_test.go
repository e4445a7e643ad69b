package retained

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// randomName returns a name of few levels with few texts, so that names often meet.
func randomName(rng *rand.Rand) string {
	texts := []string{"a", "b", "c", "ab", "", "!", "$a", "sensor", "sensors"}
	levels := make([]string, 1+rng.IntN(4))
	for i := range levels {
		levels[i] = texts[rng.IntN(len(texts))]
	}
	if name := strings.Join(levels, "/"); name != "" {
		return name
	}
	return "/"
}

// check fails the test unless the tree has the shape that the invariants promise.
func (x *Index[V]) check(t *testing.T) {
	t.Helper()
	var leaves []*leaf[V]
	depths := map[int]bool{}
	var walk func(c child[V], depth int, low, high string)
	walk = func(c child[V], depth int, low, high string) {
		if c.leaf != nil {
			leaves = append(leaves, c.leaf)
			depths[depth] = true
			for _, name := range c.leaf.names[:c.leaf.n] {
				if low != "" && order(name, low) < 0 || high != "" && order(name, high) >= 0 {
					t.Fatalf("%q stands between the separators %q and %q", name, low, high)
				}
			}
			if slices.ContainsFunc(c.leaf.names[c.leaf.n:], func(name string) bool { return name != "" }) {
				t.Fatal("a leaf keeps a name behind its end")
			}
			return
		}
		in := c.inner
		if in.n < 1 || in.n > innerCap {
			t.Fatalf("inner node with %d children", in.n)
		}
		for i, sub := range in.children {
			if used := sub != (child[V]{}); used != (i < in.n) {
				t.Fatalf("child %d of %d: used %v", i, in.n, used)
			}
		}
		bounds := append(append([]string{low}, in.seps[:in.n-1]...), high)
		for i, sub := range in.children[:in.n] {
			walk(sub, depth+1, bounds[i], bounds[i+1])
		}
	}
	walk(x.root, 0, "", "")
	if len(depths) != 1 {
		t.Fatalf("leaves at %d depths", len(depths))
	}
	var names []string
	for i, l := range leaves {
		if want := append(leaves, nil)[i+1]; l.next != want {
			t.Fatalf("leaf %d of %d is linked to a wrong one", i, len(leaves))
		}
		names = append(names, l.names[:l.n]...)
	}
	if !slices.IsSortedFunc(names, order) || len(slices.Compact(names)) != x.count {
		t.Fatalf("%d names, not ascending or not the %d counted", len(names), x.count)
	}
}

func TestIndex(t *testing.T) {
	x := New[int]()
	f := func(name string, do func() (int, bool), want int, wantHad bool) {
		t.Helper()
		if old, had := do(); old != want || had != wantHad {
			t.Errorf("%s = %d, %v, want %d, %v", name, old, had, want, wantHad)
		}
	}
	set := func(topic string, v int) func() (int, bool) {
		return func() (int, bool) { return x.Set(topic, v) }
	}
	remove := func(topic string) func() (int, bool) {
		return func() (int, bool) { return x.Delete(topic) }
	}
	get := func(topic string) func() (int, bool) {
		return func() (v int, ok bool) {
			ok = x.Get(topic, func(got int) { v = got })
			return v, ok
		}
	}
	f("delete from empty", remove("a"), 0, false)
	f("get from empty", get("a"), 0, false)
	f("set", set("a", 1), 0, false)
	f("set again", set("a", 2), 1, true)
	f("get", get("a"), 2, true)
	f("get below", get("a/b"), 0, false)
	f("set below", set("a/b", 3), 0, false)
	f("delete", remove("a"), 2, true)
	f("delete again", remove("a"), 0, false)
	f("get below", get("a/b"), 3, true)
	if x.Len() != 1 {
		t.Errorf("Len = %d, want 1", x.Len())
	}
}

func TestSetKeepsTheNewName(t *testing.T) {
	x := New[int]()
	first, second := strings.Clone("a/b"), strings.Clone("a/b")
	x.Set(first, 1)
	x.Set(second, 2)
	x.Match("#", new(Cursor), 1, func(topic string, _ int) {
		if !sameMemory(topic, second) {
			t.Error("the name of the replaced value is still kept")
		}
	})
}

func TestTreeAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x, model := New[int](), map[string]int{}
	for round := range 12 {
		setShare := []int{9, 5, 1}[round%3] // grow, churn, shrink
		for range 8000 {
			name := fmt.Sprintf("%s/%d", randomName(rng), rng.IntN(40))
			want, wantHad := model[name]
			if rng.IntN(10) < setShare {
				v := rng.Int()
				if old, had := x.Set(name, v); old != want || had != wantHad {
					t.Fatalf("Set(%q) = %d, %v, want %d, %v", name, old, had, want, wantHad)
				}
				model[name] = v
			} else {
				if old, had := x.Delete(name); old != want || had != wantHad {
					t.Fatalf("Delete(%q) = %d, %v, want %d, %v", name, old, had, want, wantHad)
				}
				delete(model, name)
			}
		}
		x.check(t)
		for name, want := range model {
			if !x.Get(name, func(v int) {
				if v != want {
					t.Fatalf("Get(%q) = %d, want %d", name, v, want)
				}
			}) {
				t.Fatalf("Get(%q) finds nothing", name)
			}
		}
	}
}

func TestTreeInOrderAndBack(t *testing.T) {
	f := func(name string, next func(i int) int) {
		t.Helper()
		const count = 20000
		x := New[int]()
		for i := range count {
			x.Set(fmt.Sprintf("device/%06d", i), i)
		}
		x.check(t)
		leaves := 0
		for l, _ := x.root.find(bound{}); l != nil; l = l.next {
			leaves++
		}
		if leaves > count/leafCap+1 {
			t.Errorf("%d names in order fill %d leaves", count, leaves)
		}
		for i := range count {
			if old, had := x.Delete(fmt.Sprintf("device/%06d", next(i))); !had || old != next(i) {
				t.Fatalf("%s: Delete(%d) = %d, %v", name, next(i), old, had)
			}
			if i%997 == 0 {
				x.check(t)
			}
		}
		x.check(t)
		if x.Len() != 0 || x.root.leaf == nil {
			t.Errorf("%s: %d names left, single leaf: %v", name, x.Len(), x.root.leaf != nil)
		}
	}
	f("ascending", func(i int) int { return i })
	f("descending", func(i int) int { return 19999 - i })
	f("scattered", func(i int) int { return i * 7919 % 20000 })
}

func TestDeleteIf(t *testing.T) {
	x := New[int]()
	for i := range 1000 {
		x.Set(fmt.Sprint("a/", i), i)
	}
	f := func(name string, want int, deleted bool) {
		t.Helper()
		if got := x.DeleteIf(name, func(v int) bool { return v == want }); got != deleted {
			t.Errorf("DeleteIf(%q, %d) = %v, want %v", name, want, got, deleted)
		}
	}
	f("a/7", 8, false)
	f("a/7", 7, true)
	f("a/7", 7, false)
	f("b", 0, false)
	for i := range 1000 {
		f(fmt.Sprint("a/", i), i, i != 7)
	}
	x.check(t)
	if x.Len() != 0 {
		t.Errorf("Len = %d, want 0", x.Len())
	}
}
