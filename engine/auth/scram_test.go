package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/enginetest"
)

// exchange authenticates c by CONNECT, or once more, and returns how it ended.
func exchange(t *testing.T, c *enginetest.Client, user, password string, again bool) codec.ReasonCode {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	talk := client.NewConversation()
	first, err := talk.Step("")
	if err != nil {
		t.Fatal(err)
	}
	say := func(code codec.ReasonCode, data string) {
		a := codec.Auth{Code: code}
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationMethod, "SCRAM-SHA-256")
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationData, []byte(data))
		c.Send(a.Append(nil))
	}
	if again {
		say(codec.ReAuthenticate, first)
	} else {
		p := codec.Connect{Version: codec.V5, ClientID: []byte(user + "'s"), CleanStart: true}
		p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationMethod, "SCRAM-SHA-256")
		p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationData, []byte(first))
		c.Send(p.Append(nil))
	}
	for {
		h, body, err := c.Packet()
		if err != nil {
			t.Fatal(err)
		}
		var data []byte
		var code codec.ReasonCode
		switch h.Type {
		case codec.AUTH:
			a, err := codec.ParseAuth(body, codec.FromServer)
			if err != nil {
				t.Fatal(err)
			}
			data, _ = a.Properties.Bytes(codec.AuthenticationData)
			if code = a.Code; code == codec.ContinueAuthentication {
				final, err := talk.Step(string(data))
				if err != nil {
					t.Fatal(err)
				}
				if password == "a long proof" {
					at := strings.Index(final, ",p=")
					final = final[:at+3] + strings.Repeat("QUJD", 30)
				}
				say(codec.ContinueAuthentication, final)
				continue
			}
		case codec.CONNACK:
			a, err := codec.ParseConnack(body, codec.V5)
			if err != nil {
				t.Fatal(err)
			}
			code = a.Code
			data, _ = a.Properties.Bytes(codec.AuthenticationData)
		case codec.DISCONNECT:
			d, err := codec.ParseDisconnect(body, codec.V5, codec.FromServer)
			if err != nil {
				t.Fatal(err)
			}
			return d.Code
		default:
			t.Fatalf("%v", h.Type)
		}
		if code == codec.Success {
			if _, err := talk.Step(string(data)); err != nil || !talk.Valid() {
				t.Errorf("the broker does not prove that it knows the user: %v", err)
			}
		}
		return code
	}
}

// TestSCRAM: with a client of the library's own.
func TestSCRAM(t *testing.T) {
	dir := t.TempDir()
	passwords, acl := filepath.Join(dir, "passwords"), filepath.Join(dir, "acl")
	p := new(auth.Passwords)
	for user, a := range map[string]auth.Algorithm{"ada": auth.SCRAM, "bob": auth.SHA512} {
		h, err := auth.NewHash(a, "sécret")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Set(user, h); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Write(passwords); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(acl, []byte("user ada\ntopic write mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := auth.Open(auth.Options{PasswordFile: passwords, ACLFile: acl})
	if err != nil {
		t.Fatal(err)
	}
	b := enginetest.Start(t, engine.Options{Hooks: []any{files, files.SCRAM()}, Listeners: []engine.Listener{{Address: "127.0.0.1:0"}}})
	f := func(user, password string, want codec.ReasonCode) *enginetest.Client {
		t.Helper()
		c := b.Dial(t, codec.V5)
		if got := exchange(t, c, user, password, false); got != want {
			t.Errorf("%s with %q: %v, want %v", user, password, got, want)
		}
		return c
	}
	c := f("ada", "sécret", codec.Success)
	if code := c.Publish("mine", "x", 1); code.Failure() {
		t.Errorf("publish: %v", code)
	}
	if code := c.Publish("other", "x", 1); code != codec.NotAuthorized {
		t.Errorf("publish elsewhere: %v", code)
	}
	if code := exchange(t, c, "ada", "sécret", true); code != codec.Success {
		t.Errorf("once more: %v", code)
	}
	if code := exchange(t, c, "bob", "sécret", true); code != codec.NotAuthorized {
		t.Errorf("as somebody else: %v", code)
	}
	f("ada", "wrong", codec.NotAuthorized)
	f("ada", "a long proof", codec.NotAuthorized)
	f("bob", "sécret", codec.NotAuthorized) // his hash is of another kind
	f("eve", "sécret", codec.NotAuthorized)
	b.Connect(t, "plain", codec.V311, enginetest.Login("ada", "sécret")) // the same hash takes a password
	for _, data := range []string{"", "n,,", "x"} {
		d := b.Dial(t, codec.V5)
		p := codec.Connect{Version: codec.V5, ClientID: []byte("x"), CleanStart: true}
		p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationMethod, "SCRAM-SHA-256")
		p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationData, []byte(data))
		d.Send(p.Append(nil))
		if ack := d.ExpectConnack(); ack.Code != codec.NotAuthorized {
			t.Errorf("%q: %v", data, ack.Code)
		}
	}
}

func TestSCRAMHash(t *testing.T) {
	// RFC 7677 section 3: the user "user" with the password "pencil".
	const line = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	h, err := auth.ParseHash(line)
	if err != nil || h.String() != line || !h.Matches([]byte("pencil")) || h.Matches([]byte("pen")) {
		t.Errorf("%v, %v", h, err)
	}
	for _, bad := range []string{"SCRAM-SHA-256$x:YQ==$a:b", "SCRAM-SHA-256$4096:$a:b", "SCRAM-SHA-256$4096:YQ==$YQ==:YQ==", "SCRAM-SHA-256$4096"} {
		if _, err := auth.ParseHash(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
