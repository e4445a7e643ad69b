package auth

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// fileWith makes a file of the test's own.
func fileWith(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHashes(t *testing.T) {
	for _, a := range []Algorithm{SHA512, SHA512PBKDF2, Argon2id} {
		h, err := NewHash(a, "secret")
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseHash(h.String())
		if err != nil {
			t.Fatalf("%s: %v", h, err)
		}
		if !again.Matches([]byte("secret")) || again.Matches([]byte("Secret")) || again.Matches(nil) {
			t.Errorf("%s: wrong about what matches", h)
		}
	}
	// Made by mosquitto_passwd 2.0.11 for the password pw1.
	h, err := ParseHash("$7$101$th5Cgs3XhQ6FHFqX$d0dqDcF4bjlVxh28kuC8ZH3/5UPugpkHDDcpMGqJK8MckWrkQK4Z/qvfIHtKSBYKbZMprdAG3+2M4FTZrTaa6A==")
	if err != nil || !h.Matches([]byte("pw1")) || h.Matches([]byte("pw2")) {
		t.Errorf("a hash of mosquitto_passwd: %v", err)
	}
	if _, err := NewHash("md5", "x"); err == nil {
		t.Error("md5 was taken")
	}
}

func TestParseHashRefuses(t *testing.T) {
	f := func(s string) {
		t.Helper()
		if h, err := ParseHash(s); err == nil {
			t.Errorf("%q was taken as %s", s, h)
		}
	}
	const sum = "d0dqDcF4bjlVxh28kuC8ZH3/5UPugpkHDDcpMGqJK8MckWrkQK4Z/qvfIHtKSBYKbZMprdAG3+2M4FTZrTaa6A=="
	f("")
	f("secret")
	f("$1$aaaa$bbbb")
	f("$6$$" + sum)
	f("$6$c2FsdA==$c2hvcnQ=")
	f("$7$0$c2FsdA==$" + sum)
	f("$7$99999999999$c2FsdA==$" + sum)
	f("$7$x$c2FsdA==$" + sum)
	f("$7$101$!$" + sum)
	f("$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA")
	f("$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA")
	f("$argon2id$v=18$m=64,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA")
}

func TestReadPasswordsRefuses(t *testing.T) {
	f := func(content, want string) {
		t.Helper()
		if _, err := ReadPasswords(fileWith(t, content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
	const h = "$7$1$c2FsdA==$d0dqDcF4bjlVxh28kuC8ZH3/5UPugpkHDDcpMGqJK8MckWrkQK4Z/qvfIHtKSBYKbZMprdAG3+2M4FTZrTaa6A=="
	f("# comment\n\nada", ":3: want user:hash")
	f("ada:"+h+"\nada:"+h, ":2: user \"ada\" stands there twice")
	f("ada:plain", ":1: user \"ada\": not a hash")
	f(":"+h, ":1: want user:hash")
	f(strings.Repeat("x", maxLine+1), ":1: ")
	if _, err := ReadPasswords(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestWritePasswords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	p := new(Passwords)
	for _, user := range []string{"b", "a"} {
		h, err := NewHash(SHA512, user+"!")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Set(user, h); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"", "a:b", "#x", " x", "a\nb"} {
		if p.Set(bad, nil) == nil {
			t.Errorf("user name %q was taken", bad)
		}
	}
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := ReadPasswords(path)
	if err != nil || strings.Join(again.Users(), ",") != "a,b" || !again.byUser["a"].Matches([]byte("a!")) {
		t.Errorf("read back %v, %v", again, err)
	}
	if !again.Delete("a") || again.Delete("a") {
		t.Error("Delete is wrong about who was there")
	}
}

func TestACL(t *testing.T) {
	a, err := ReadACL(fileWith(t, `
topic read public/#
user ada
topic house/#
topic deny house/safe/#
topic write in
topic read out put
pattern readwrite clients/%c/#
pattern read users/%u
user eve
`))
	if err != nil {
		t.Fatal(err)
	}
	f := func(user, id, topic string, mayRead, mayWrite bool) {
		t.Helper()
		r := a.Rights(user, id)
		for range 2 { // the second time from what is known
			if got := r.MayReceive([]byte(topic)); got != mayRead {
				t.Errorf("%q/%q reads %q: %v", user, id, topic, got)
			}
			if got := r.May(hook.Publish, []byte(topic)); got != mayWrite {
				t.Errorf("%q/%q writes %q: %v", user, id, topic, got)
			}
		}
	}
	f("", "x", "public/news", true, false)
	f("", "x", "house/door", false, false)
	f("ada", "x", "public/news", false, false)
	f("ada", "x", "house/door", true, true)
	f("ada", "x", "house/safe/code", false, false)
	f("ada", "x", "house/safe", false, false)
	f("ada", "x", "in", false, true)
	f("ada", "x", "out put", true, false)
	f("ada", "x", "clients/x/a", true, true)
	f("ada", "x", "clients/y/a", false, false)
	f("ada", "x", "users/ada", true, false)
	f("", "x", "users/", false, false)
	f("eve", "x", "users/eve", true, false)
	f("nobody", "x", "clients/x/a", true, true)
	f("nobody", "+", "clients/+/a", false, false)
	f("ada", "x", "$SYS/broker/uptime", false, false)

	sub := func(user, filter string, want bool) {
		t.Helper()
		if got := a.Rights(user, "x").May(hook.Subscribe, []byte(filter)); got != want {
			t.Errorf("%q subscribes %q: %v", user, filter, got)
		}
	}
	sub("ada", "#", true)
	sub("ada", "house/+", true)
	sub("ada", "house/safe/#", false)
	sub("ada", "house/safe/code", false)
	sub("ada", "in", false)
	sub("ada", "+/+/a", true) // clients/x/a
	sub("ada", "other/#", false)
	sub("", "public", true) // the parent level of public/#
	sub("eve", "clients/y/#", false)
}

func TestReadACLRefuses(t *testing.T) {
	f := func(content, want string) {
		t.Helper()
		if _, err := ReadACL(fileWith(t, content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
	f("topic read a/#/b", `:1: topic: "a/#/b" is not a topic filter`)
	f("\nuser", ":2: user: the name is missing")
	f("topic", `topic: "" is not a topic filter`)
	f("grant a", `:1: "grant": want user, topic or pattern`)
	f("pattern write +a", "is not a topic filter")
}

func TestOverlap(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		if overlap(a, b) != want || overlap(b, a) != want {
			t.Errorf("overlap(%q, %q): want %v", a, b, want)
		}
	}
	f("a", "a", true)
	f("a", "b", false)
	f("a/#", "a", true)
	f("a/#", "b/#", false)
	f("a/+", "a", false)
	f("a/+", "+/b", true)
	f("a/+/c", "+/b", false)
	f("a/+/c", "+/b/#", true)
	f("#", "$SYS/a", false)
	f("+/a", "$SYS/a", false)
	f("$SYS/#", "$SYS/+/x", true)
	f("/", "+/+", true)
}

func TestCovers(t *testing.T) {
	f := func(outer, inner string, want bool) {
		t.Helper()
		if covers(outer, inner) != want {
			t.Errorf("covers(%q, %q): want %v", outer, inner, want)
		}
	}
	f("a/#", "a/b/+", true)
	f("a/#", "a", true)
	f("a/+", "a/b", true)
	f("a/b", "a/+", false)
	f("a/+", "a/#", false)
	f("#", "a/#", true)
	f("#", "$SYS/a", false)
	f("a/b/#", "a/b", true)
	f("a/b", "a", false)
}

// brokerStub replaces the rights of one session.
type brokerStub struct{ rights hook.Rights }

func (b *brokerStub) Reauthorize(_ context.Context, replace func(hook.Client, hook.Rights) hook.Rights) error {
	b.rights = replace(hook.Client{ClientID: "x", UserName: "ada"}, b.rights)
	return nil
}

func TestFiles(t *testing.T) {
	h, err := NewHash(SHA512, "secret")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{PasswordFile: fileWith(t, "ada:"+h.String()+"\n"), ACLFile: fileWith(t, "user ada\ntopic a\n")}
	files, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	f := func(c hook.Connect, verdict hook.Verdict, code codec.ReasonCode) hook.Decision {
		t.Helper()
		d, err := files.Decide(context.Background(), &c)
		if err != nil || d.Verdict != verdict || d.Code != code {
			t.Errorf("%+v: %+v, %v; want %v %v", c, d, err, verdict, code)
		}
		return d
	}
	ada := hook.Connect{ClientID: "x", UserName: "ada", HasUserName: true, Password: []byte("secret"), HasPassword: true}
	wrong := ada
	wrong.Password = []byte("Secret")
	unknown := ada
	unknown.UserName = "eve"
	f(ada, hook.Accept, 0)
	d := f(ada, hook.Accept, 0) // remembered
	f(wrong, hook.Refuse, codec.BadUserNameOrPassword)
	f(unknown, hook.Refuse, codec.BadUserNameOrPassword)
	f(hook.Connect{}, hook.Refuse, codec.NotAuthorized)
	f(hook.Connect{Anonymous: true}, hook.Accept, 0)
	f(hook.Connect{UserName: "meter", HasUserName: true, Identified: true}, hook.Accept, 0)

	b := &brokerStub{rights: d.Rights}
	if !b.rights.May(hook.Publish, []byte("a")) {
		t.Error("the rights of the ACL file did not come")
	}
	if err := os.WriteFile(o.ACLFile, []byte("user ada\ntopic b\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := files.Reload(context.Background(), b); err == nil || !b.rights.May(hook.Publish, []byte("a")) {
		t.Errorf("a bad ACL file: %v; the old rights stand: %v", err, b.rights.May(hook.Publish, []byte("a")))
	}
	if err := os.WriteFile(o.ACLFile, []byte("user ada\ntopic b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := files.Reload(context.Background(), b); err != nil || b.rights.May(hook.Publish, []byte("a")) || !b.rights.May(hook.Publish, []byte("b")) {
		t.Errorf("after a reload: %v", err)
	}
	if _, err := Open(Options{}); err == nil {
		t.Error("no files were taken as files")
	}
	if _, err := Open(Options{PasswordFile: "/nonexistent/p", ACLFile: "/nonexistent/a"}); err == nil || strings.Count(err.Error(), "auth:") != 2 {
		t.Errorf("two missing files: %v", err)
	}
}

func BenchmarkRights(b *testing.B) {
	a, err := ReadACL(fileWith(b, "user ada\n"+strings.Repeat("topic house/+/x\n", 100)+"topic house/#\n"))
	if err != nil {
		b.Fatal(err)
	}
	r, name := a.Rights("ada", "x"), []byte("house/kitchen/temperature")
	b.ReportAllocs()
	for b.Loop() {
		if !r.May(hook.Publish, name) {
			b.Fatal("denied")
		}
	}
}

func FuzzReadACL(f *testing.F) {
	f.Add("user ada\ntopic read a/#\npattern %u/%c\n")
	f.Fuzz(func(t *testing.T, content string) {
		a, err := ReadACL(fileWith(t, content))
		if err != nil {
			return
		}
		r := a.Rights("u", "c")
		r.May(hook.Publish, []byte("a/b"))
		r.May(hook.Subscribe, []byte("a/#"))
	})
}

func FuzzParseHash(f *testing.F) {
	f.Add("$7$101$th5Cgs3XhQ6FHFqX$d0dqDcF4bjlVxh28kuC8ZH3/5UPugpkHDDcpMGqJK8MckWrkQK4Z/qvfIHtKSBYKbZMprdAG3+2M4FTZrTaa6A==")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHash(s); err == nil {
			if again, err := ParseHash(h.String()); err != nil || again.String() != h.String() {
				t.Fatalf("%q reads back as %v, %v", s, again, err)
			}
		}
	})
}
