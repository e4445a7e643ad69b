package codec

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/wheelmq/wheelmq/codec/topic"
)

func TestVarint(t *testing.T) {
	f := func(value int, want string) {
		t.Helper()
		if got := appendVarint(nil, value); string(got) != want {
			t.Errorf("appendVarint(%d) = % X, want % X", value, got, want)
		}
		if got := varintSize(value); got != len(want) {
			t.Errorf("varintSize(%d) = %d, want %d", value, got, len(want))
		}
		if got, n, err := readVarint([]byte(want + "\xFF")); got != value || n != len(want) || err != nil {
			t.Errorf("readVarint(% X) = %d, %d, %v, want %d", want, got, n, err, value)
		}
	}
	f(0, "\x00")
	f(127, "\x7F")
	f(128, "\x80\x01")
	f(16383, "\xFF\x7F")
	f(16384, "\x80\x80\x01")
	f(2097151, "\xFF\xFF\x7F")
	f(2097152, "\x80\x80\x80\x01")
	f(MaxRemainingLength, "\xFF\xFF\xFF\x7F")
}

// TestPanics holds the mistakes of a caller: what no packet of a peer can lead to.
func TestPanics(t *testing.T) {
	f := func(name string, call func()) {
		t.Helper()
		defer func() {
			t.Helper()
			if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "codec: ") {
				t.Errorf("%s: no panic of ours", name)
			}
		}()
		call()
	}
	long := make([]byte, MaxFieldLength+1)
	f("topic", func() { AppendPublish(nil, V311, &Delivery{}, long, nil, nil) })
	f("packet", func() { AppendPublish(nil, V311, &Delivery{}, long[:9], make([]byte, MaxRemainingLength), nil) })
	f("header", func() { appendHeader(nil, SUBSCRIBE, 0, MaxRemainingLength+1) })
	f("filter", func() { (&Unsubscribe{Filters: [][]byte{long}}).Append(nil, V311) })
	f("property", func() { AppendBytes(nil, ReasonString, long) })
	f("user property", func() { AppendUserProperty(nil, "", string(long)) })
	f("integer as string", func() { AppendBytes(nil, TopicAlias, "a") })
	f("string as integer", func() { AppendUint(nil, ReasonString, 1) })
	f("no such property", func() { AppendUint(nil, 0xFF, 1) })
	f("byte", func() { AppendUint(nil, MaximumQoS, 256) })
	f("two bytes", func() { AppendUint(nil, TopicAlias, 65536) })
	f("variable byte integer", func() { AppendUint(nil, SubscriptionIdentifier, MaxRemainingLength+1) })
	f("acknowledgement", func() { ParseAck(PUBLISH, nil, V5) })
}

// FuzzStrings compares the fast checks of text with plain ones.
func FuzzStrings(f *testing.F) {
	for _, bad := range badStrings {
		f.Add([]byte(bad))
	}
	for _, s := range []string{"", "a/b", "0123456789abcdef/+", "#", "$share/a", "\x7F\x01\x7F\x01\x7F\x01\x7F\x01\x7F", "\xC3\xA4/\xC3\xB6"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		valid := utf8.Valid(s) && bytes.IndexByte(s, 0) < 0
		if err := checkString(s); (err == nil) != valid {
			t.Errorf("checkString(%q): %v, want valid %v", s, err, valid)
		}
		if len(s) == 0 || len(s) > MaxFieldLength {
			return
		}
		want := valid && topic.ValidName(s) && !bytes.HasPrefix(s, []byte("$share/"))
		if err := checkTopicName(s); (err == nil) != want {
			t.Errorf("checkTopicName(%q): %v, want valid %v", s, err, want)
		}
	})
}
