package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const nativeFile = `
groups:
  operators: [ada, grace]
rules:
  - groups: [operators]
    allow: [publish, retain, subscribe]
    topics: [plant/#, "%u/own"]
  - users: [bob, ada]
    allow: [publish]
    topics: [bobs/#]
  - anonymous: true
    allow: [subscribe]
    topics: [news]
  - allow: [publish]
    topics: [devices/%c/#]
  - deny: true
    topics: [plant/secret/#]
  - users: [zoe]
    allow: [publish, subscribe, will]
    topics: [zoo/#]
  - users: [zoe]
    forbid: [will, receive]
    topics: [zoo/cage]
  - users: [zoe]
    allow: [receive, will]
    topics: [sent]
`

func writeACL(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acl.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNativeACL(t *testing.T) {
	a, err := ReadACL(writeACL(t, nativeFile))
	if err != nil {
		t.Fatal(err)
	}
	f := func(user, client, action, name string, want bool, why string) {
		t.Helper()
		v, err := a.Explain(user, client, action, name)
		if err != nil || v.Allowed != want || !strings.Contains(v.Why, why) {
			t.Errorf("%s as %s: %s %s: %+v, %v; want %v, %s", user, client, action, name, v, err, want, why)
		}
	}
	f("ada", "c", "publish", "plant/x", true, "line 5: allow publish, retain, subscribe plant/#")
	f("grace", "c", "retain", "plant/x", true, "line 5")
	f("grace", "c", "receive", "grace/own", true, "%u/own")
	f("grace", "c", "receive", "ada/own", false, "no rule")
	f("ada", "c", "publish", "plant/secret/x", false, "line 16: deny plant/secret/#")
	f("ada", "c", "subscribe", "plant/secret/#", false, "deny")
	f("bob", "c", "publish", "bobs/x", true, "line 8")
	f("ada", "c", "publish", "bobs/x", true, "line 8")
	f("bob", "c", "retain", "bobs/x", false, "no rule")
	f("bob", "c", "receive", "bobs/x", false, "no rule")
	f("bob", "c", "publish", "plant/x", false, "no rule")
	f("", "c", "subscribe", "news", true, "line 11")
	f("bob", "c", "subscribe", "news", false, "no topic")
	f("", "d1", "publish", "devices/d1/x", true, "line 14")
	f("bob", "d1", "publish", "devices/d2/x", false, "no rule")
	f("zoe", "c", "will", "zoo/x", true, "line 18: allow")
	f("zoe", "c", "will", "zoo/cage", false, "line 21: forbid will, receive zoo/cage")
	f("zoe", "c", "receive", "zoo/cage", false, "line 21")
	f("zoe", "c", "publish", "zoo/cage", true, "line 18")
	f("zoe", "c", "subscribe", "zoo/cage", true, "line 18") // granted, and nothing comes
	f("zoe", "c", "receive", "sent", true, "line 24")
	f("zoe", "c", "will", "sent", true, "line 24")
	f("zoe", "c", "publish", "sent", false, "no rule")
	f("zoe", "c", "subscribe", "sent", false, "no topic")
	f("bob", "c", "will", "bobs/x", false, "no rule")
}

func TestNativeACLMistakes(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if _, err := ReadACL(writeACL(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	f("rules: [{allow: [read], topics: [a]}]", `acl.yaml:1: allow "read": want publish, retain, will, subscribe or receive`)
	f("rules: [{topics: [a]}]", "neither allow, forbid nor deny")
	f("rules: [{allow: [publish], deny: true, topics: [a]}]", "want one of them")
	f("rules: [{allow: [publish]}]", "topics are missing")
	f("rules: [{allow: [publish], topics: ['a/#/b']}]", "is not a topic filter")
	f("rules:\n  - groups: [x]\n    deny: true\n    topics: [a]", `acl.yaml:2: there is no group "x"`)
	f("rules: [{user: [x]}]", `unknown key "user"`)
	f("rule: []", "field rule not found")
}

func TestNewRights(t *testing.T) {
	r, err := NewRights("ada", "c1", []Grant{{Allow: []string{"publish"}, Topics: []string{"%u/%c"}}, {Deny: true, Topics: []string{"x"}}})
	if err != nil || !r.May(0, []byte("ada/c1")) || r.May(0, []byte("x")) {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := NewRights("ada", "c", []Grant{{Allow: []string{"publish"}, Topics: make([]string, MaxGrants+1)}}); err == nil {
		t.Error("too many are taken")
	}
	// A name with a wildcard in it gives no rule.
	if r, err = NewRights("#", "c", []Grant{{Allow: []string{"publish"}, Topics: []string{"%u"}}}); err != nil || r.May(0, []byte("x")) {
		t.Errorf("%v, %v", r, err)
	}
}
