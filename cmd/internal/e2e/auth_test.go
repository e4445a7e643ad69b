package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const aclOfTest = `
topic read public/#
topic write in/anonymous
topic read end

user ada
topic house/#
topic deny house/safe/#
topic read public/+
topic write in/#
topic read end

user eve
topic read house/+/door
topic readwrite eve/own
topic read end

user bob
topic read end
topic read +/+/x
topic write /#
topic deny in/#
topic in/bob

user zoe
topic read end
topic house/+/#
topic deny house/+/code
topic write a b/c
topic readwrite ä/ö

user root
topic #

pattern readwrite clients/%c/#
pattern read users/%u/+
`

// The last one everybody may read, and root alone may write.
var topicsOfTest = []string{"public/a", "public/a/b", "public", "public/", "public//b", "/public/a", "PUBLIC/a", "house/kitchen", "house/kitchen/door",
	"house/kitchen/door/", "house/safe/code", "house/safe", "house/safe/", "house", "house//door", "in/anonymous", "in/x", "in", "in/bob", "in/x/y",
	"eve/own", "eve/own/x", "clients/ada-1/x", "clients/ada-1", "clients/eve-1/x/y", "clients/-1/x", "users/ada/x", "users/eve/x", "users//x", "users/ada/x/y",
	"users/bob/", "a b/c", "ä/ö", "end"}

// startMosquitto starts a Mosquitto that lets everyone in, with further lines of its configuration file.
func startMosquitto(t *testing.T, lines ...string) *broker {
	t.Helper()
	b := &broker{port: freePort(t), stopped: true} // the process is ended by startProcess's clean-up
	b.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port))
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\n%s\n", b.port, strings.Join(lines, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.process = startProcess(t, nil, nil, mosquittoPath(), "-c", config)
	b.awaitOpen(t)
	return b
}

// mosquittoPath is where Debian puts the broker for those whose PATH lacks it.
func mosquittoPath() string {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path
	}
	return "/usr/sbin/mosquitto"
}

// login connects as user with the password it has in the test.
func login(t *testing.T, b *broker, user, id, password string, deliver mqtt.MessageHandler) (mqtt.Client, error) {
	t.Helper()
	o := pahoOptions(b, 4, id).SetUsername(user).SetPassword(password).SetConnectRetry(false).SetDefaultPublishHandler(deliver)
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(patience) {
		t.Fatal("CONNECT was not answered")
	}
	if token.Error() == nil {
		t.Cleanup(func() { c.Disconnect(100) })
	}
	return c, token.Error()
}

// rightsOf returns what each user gets through and gets.
func rightsOf(t *testing.T, b *broker) (lines []string) {
	t.Helper()
	var mu sync.Mutex
	got := make(map[string][]string)
	note := func(who string) mqtt.MessageHandler {
		return func(_ mqtt.Client, m mqtt.Message) {
			mu.Lock()
			got[who] = append(got[who], m.Topic()+"="+string(m.Payload()))
			mu.Unlock()
		}
	}
	root, err := login(t, b, "root", "root-1", "root", note("root"))
	if err != nil {
		t.Fatal(err)
	}
	awaitToken(t, "SUBSCRIBE", root.Subscribe("#", 1, nil))
	users := []string{"", "ada", "eve", "bob", "zoe"}
	clients := make(map[string]mqtt.Client)
	for _, u := range users {
		c, err := login(t, b, u, u+"-1", u, note("reads "+u))
		if err != nil {
			t.Fatalf("%q: %v", u, err)
		}
		clients[u] = c
		awaitToken(t, "SUBSCRIBE", c.Subscribe("#", 1, nil))
	}
	for _, u := range users {
		for _, topic := range topicsOfTest {
			awaitToken(t, "PUBLISH", clients[u].Publish(topic, 1, false, "of "+u))
		}
	}
	for _, topic := range topicsOfTest {
		awaitToken(t, "PUBLISH", root.Publish(topic, 1, false, "of root"))
	}
	await := func(who, last string) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			seen := slices.Contains(got[who], last)
			mu.Unlock()
			if seen {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s did not get %s: %q", who, last, got[who])
			}
		}
	}
	await("root", "end=of root")
	for _, u := range users {
		await("reads "+u, "end=of root")
	}
	mu.Lock()
	defer mu.Unlock()
	for who, messages := range got {
		for _, m := range messages {
			lines = append(lines, who+": "+m)
		}
	}
	slices.Sort(lines)
	return lines
}

// TestRightsAsMosquitto: the same files and the same 204 publications by six users give the same deliveries to six
// subscribers at both brokers.
func TestRightsAsMosquitto(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	dir := t.TempDir()
	passwords, acl := filepath.Join(dir, "passwords"), filepath.Join(dir, "acl")
	for i, user := range []string{"ada", "eve", "bob", "zoe", "root"} {
		args := []string{"-b", passwords, user, user}
		if i == 0 {
			args = append([]string{"-c"}, args...)
		}
		if out, err := exec.Command("mosquitto_passwd", args...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd: %v\n%s", err, out)
		}
	}
	if err := os.WriteFile(acl, []byte(aclOfTest), 0o600); err != nil {
		t.Fatal(err)
	}
	want := rightsOf(t, startMosquitto(t, "password_file "+passwords, "acl_file "+acl))
	b := startBroker(t, "--allow-anonymous", "--password-file", passwords, "--acl-file", acl)
	got := rightsOf(t, b)
	if len(want) < 30 {
		t.Errorf("only %d deliveries: the test tests nothing", len(want))
	}
	if !slices.Equal(got, want) {
		t.Errorf("deliveries\n%s\nMosquitto's\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, who := range [][2]string{{"ada", "eve"}, {"nobody", "x"}} {
		if _, err := login(t, b, who[0], "", who[1], nil); err == nil {
			t.Errorf("%s came in with the password %q", who[0], who[1])
		}
	}
}

// TestRightsAreReloaded: what the ACL file says after HUP holds for a client that is connected; a file that cannot be read
// changes nothing.
func TestRightsAreReloaded(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	acl := filepath.Join(t.TempDir(), "acl")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(acl, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("topic a\n")
	b := startBroker(t, "--acl-file", acl)
	arrived := make(chan string, 100)
	c, err := login(t, b, "", "reader", "", func(_ mqtt.Client, m mqtt.Message) { arrived <- m.Topic() })
	if err != nil {
		t.Fatal(err)
	}
	awaitToken(t, "SUBSCRIBE", c.SubscribeMultiple(map[string]byte{"a": 1, "#": 1}, nil))
	allowed := func() string {
		t.Helper()
		for len(arrived) > 0 {
			<-arrived
		}
		for _, topic := range []string{"a", "b"} {
			awaitToken(t, "PUBLISH", c.Publish(topic, 1, false, ""))
		}
		select {
		case topic := <-arrived:
			return topic
		case <-time.After(patience):
			return "nothing"
		}
	}
	if got := allowed(); got != "a" {
		t.Fatalf("%s may be read and written, want a", got)
	}
	hup := func(word string) {
		t.Helper()
		if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); !strings.Contains(b.log.String(), word); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the log does not say %q\n%s", word, &b.log)
			}
		}
	}
	set("topic b\nnonsense\n")
	hup("the configuration stays as it was")
	if got := allowed(); got != "a" {
		t.Errorf("after a bad file %s may be read and written, want a", got)
	}
	set("topic b\n")
	hup("INFO reloaded")
	if got := allowed(); got != "b" {
		t.Errorf("after a reload %s may be read and written, want b", got)
	}
}
