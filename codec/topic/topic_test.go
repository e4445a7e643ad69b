package topic

import (
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	f := func(name string, want bool) {
		t.Helper()
		if got := ValidName(name); got != want {
			t.Errorf("ValidName(%.40q) = %v, want %v", name, got, want)
		}
		if got := ValidName([]byte(name)); got != want {
			t.Errorf("ValidName([]byte(%.40q)) = %v, want %v", name, got, want)
		}
	}
	f("a", true)
	f("/", true)
	f("a//b/", true)
	f("$SYS/broker/retained messages/count", true)
	f("\xef\xbb\xbfa", true) // [MQTT-1.5.4-3]
	f(strings.Repeat("a", MaxLength), true)
	f(strings.Repeat("a", MaxLength+1), false) // [MQTT-4.7.3-3]
	f("", false)                               // [MQTT-4.7.3-1]
	f("a/+/b", false)                          // [MQTT-4.7.0-1]
	f("a/b#", false)
}

func TestValidFilter(t *testing.T) {
	f := func(filter string, want bool) {
		t.Helper()
		if got := ValidFilter(filter); got != want {
			t.Errorf("ValidFilter(%.40q) = %v, want %v", filter, got, want)
		}
		if got := ValidFilter([]byte(filter)); got != want {
			t.Errorf("ValidFilter([]byte(%.40q)) = %v, want %v", filter, got, want)
		}
	}
	f("#", true)
	f("+", true)
	f("/", true)
	f("+/+", true)
	f("/+", true)
	f("+/", true)
	f("a/+/b/#", true)
	f("+/#", true)
	f("$share", true)
	f(strings.Repeat("/", MaxLength), true)
	f(strings.Repeat("/", MaxLength+1), false)
	f("", false)
	f("a#", false) // [MQTT-4.7.1-1]
	f("a/#/b", false)
	f("#/", false)
	f("##", false)
	f("a+", false) // [MQTT-4.7.1-2]
	f("+a", false)
	f("a/+b/c", false)
	f("++", false)
	f("+#", false)
}

func TestParseShared(t *testing.T) {
	f := func(filter, wantName, wantRest string, wantShared, wantOK bool) {
		t.Helper()
		name, rest, shared, ok := ParseShared(filter)
		if shared != wantShared || ok != wantOK {
			t.Errorf("ParseShared(%q): shared %v ok %v, want %v %v", filter, shared, ok, wantShared, wantOK)
		}
		if ok && (name != wantName || rest != wantRest) {
			t.Errorf("ParseShared(%q) = %q, %q, want %q, %q", filter, name, rest, wantName, wantRest)
		}
		bName, bRest, bShared, bOK := ParseShared([]byte(filter))
		if string(bName) != name || string(bRest) != rest || bShared != shared || bOK != ok {
			t.Errorf("ParseShared([]byte(%q)) differs from that of the string", filter)
		}
	}
	f("a/b", "", "a/b", false, true)
	f("$share", "", "$share", false, true)
	f("$shared/x", "", "$shared/x", false, true)
	f("a/$share/g/b", "", "a/$share/g/b", false, true)
	f("$share/g/a/+/#", "g", "a/+/#", true, true)
	f("$share/g//", "g", "/", true, true)
	f("$share/g/#", "g", "#", true, true)
	f("", "", "", false, false)
	f("a/#b", "", "", false, false)
	f("$share/", "", "", true, false) // [MQTT-4.8.2-1]
	f("$share//a", "", "", true, false)
	f("$share/g", "", "", true, false) // [MQTT-4.8.2-2]
	f("$share/g/", "", "", true, false)
	f("$share/g+/a", "", "", true, false)
	f("$share/#/a", "", "", true, false)
	f("$share/g/a#", "", "", true, false)
}

func TestLevels(t *testing.T) {
	f := func(s string, want int) {
		t.Helper()
		if got := Levels(s); got != want {
			t.Errorf("Levels(%q) = %d, want %d", s, got, want)
		}
		if got := Levels([]byte(s)); got != want {
			t.Errorf("Levels([]byte(%q)) = %d, want %d", s, got, want)
		}
	}
	f("", 1)
	f("a", 1)
	f("/", 2)
	f("a/b/c", 3)
	f("a//", 3)
}

func TestMatch(t *testing.T) {
	f := func(filter, name string, want bool) {
		t.Helper()
		if got := Match(filter, name); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", filter, name, got, want)
		}
		if got := Match([]byte(filter), name); got != want {
			t.Errorf("Match([]byte(%q), %q) = %v, want %v", filter, name, got, want)
		}
	}
	f("sport/tennis/player1/#", "sport/tennis/player1", true) // 5.0 section 4.7.1.2
	f("sport/tennis/player1/#", "sport/tennis/player1/ranking", true)
	f("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true)
	f("sport/#", "sport", true)
	f("sport/#", "sport/", true)
	f("sport/#", "sports", false)
	f("#", "a/b", true)
	f("#", "/", true)
	f("sport/tennis/+", "sport/tennis/player1", true) // 5.0 section 4.7.1.3
	f("sport/tennis/+", "sport/tennis/player1/ranking", false)
	f("sport/+", "sport", false)
	f("sport/+", "sport/", true)
	f("+/+", "/finance", true)
	f("/+", "/finance", true)
	f("+", "/finance", false)
	f("+/b/#", "a/b", true)
	f("+/#", "a", true)
	f("a/+/c", "a//c", true)
	f("a", "A", false) // [MQTT-4.7.3-4]
	f("/a", "a", false)
	f("a/", "a", false)
	f("a", "a/", false)
	f("a/b", "a", false)
	f("a", "\xef\xbb\xbfa", false) // [MQTT-1.5.4-3]
	f("#", "$SYS/x", false)        // [MQTT-4.7.2-1]
	f("+/monitor/Clients", "$SYS/monitor/Clients", false)
	f("$SYS/#", "$SYS/monitor/Clients", true)
	f("$SYS/#", "$SYS", true)
	f("$SYS/monitor/+", "$SYS/monitor/Clients", true)
	f("+/$x", "a/$x", true)
	f("", "a", false)
	f("a", "", false)
}

func TestNoAllocs(t *testing.T) {
	filter, name := []byte("$share/group/sport/+/player1/#"), []byte("sport/tennis/player1/ranking")
	got := testing.AllocsPerRun(100, func() {
		_, rest, shared, ok := ParseShared(filter)
		if !shared || !ok || !ValidName(name) || !Match(rest, name) || Levels(name) != 4 {
			t.Fatal("a valid filter or name was refused")
		}
	})
	if got != 0 {
		t.Errorf("%v allocations per run, want 0", got)
	}
}

// FuzzMatch compares Match with a second, recursive definition of it.
func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b")
	f.Add("$SYS/#", "$SYS")
	f.Add("+", "$x")
	f.Fuzz(func(t *testing.T, filter, name string) {
		ParseShared(filter)
		if !ValidFilter(filter) || !ValidName(name) {
			return
		}
		want := matchLevels(strings.Split(filter, "/"), strings.Split(name, "/"))
		if name[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
			want = false
		}
		if got := Match(filter, name); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", filter, name, got, want)
		}
	})
}

func matchLevels(filter, name []string) bool {
	switch {
	case len(filter) == 0:
		return len(name) == 0
	case filter[0] == "#":
		return true
	case len(name) == 0:
		return false
	}
	return (filter[0] == "+" || filter[0] == name[0]) && matchLevels(filter[1:], name[1:])
}
