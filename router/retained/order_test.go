package retained

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func sign(n int) int { return min(1, max(-1, n)) }

func TestOrder(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := sign(order(a, b)); got != want {
			t.Errorf("order(%q, %q) = %d, want %d", a, b, got, want)
		}
		if got := sign(order(b, a)); got != -want {
			t.Errorf("order(%q, %q) = %d, want %d", b, a, got, -want)
		}
	}
	f("a", "a", 0)
	f("a", "b", -1)
	f("a", "a/b", -1)
	f("a/b", "a!", -1) // '!' is less than '/' in bytes, but another level
	f("a/b/c", "a/b!", -1)
	f("a//c", "a/b", -1)
	f("/a", "a", -1)
	f("a/", "a/b", -1)
	f("sensors/kitchen/temperature", "sensors/kitchen/temperaturf", -1) // beyond the words compared at once
	f("sensors/kitchen/x", "sensors/kitchen!/x", -1)
	f("\x01", "\xff", -1)
}

func TestOrderIsByLevels(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		a, b := randomName(rng), randomName(rng)
		want := slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
		if got := sign(order(a, b)); got != want {
			t.Fatalf("order(%q, %q) = %d, want %d", a, b, got, want)
		}
	}
}

func TestBoundOrder(t *testing.T) {
	f := func(name, prefix, rest string, want int) {
		t.Helper()
		b := bound{prefix, rest}
		if got := sign(b.order(name)); got != want {
			t.Errorf("bound{%q, %q}.order(%q) = %d, want %d", prefix, rest, name, got, want)
		}
	}
	f("a/b", "a/", "b", 0)
	f("a/b", "a/b", "", 0)
	f("a", "a/", "b", -1)
	f("a/b", "a/", "c", -1)
	f("a/b/x", "a/", "b", 1)
	f("b", "a/", "b", 1)
	f("a/b", "a/b", below, -1)     // the name itself stands before the end of what is below it
	f("a/b/c/d", "a/b", below, -1) // and so does all that is below
	f("a/b!", "a/b", below, 1)
	f("a/c", "a/b", below, 1)
	f("$SYS/x", "", "%", -1)
	f("$", "", "%", -1)
	f("%", "", "%", 0)
	f("#", "", "%", -1)
}

func TestSeparator(t *testing.T) {
	f := func(left, right, want string) {
		t.Helper()
		got := separator(left, right)
		if got != want {
			t.Errorf("separator(%q, %q) = %q, want %q", left, right, got, want)
		}
		if order(left, got) >= 0 || order(got, right) > 0 {
			t.Errorf("separator(%q, %q) = %q does not part them", left, right, got)
		}
	}
	f("a", "b", "b")
	f("a", "a/b", "a/")
	f("a/b/c", "a/bbc/c", "a/bb")
	f("a/b", "a/c/d/e", "a/c")
}
