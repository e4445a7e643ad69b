package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// runClient runs a client to its end and returns what it printed on standard output, and its status.
func runClient(t *testing.T, stdin, name string, args ...string) (string, int) {
	t.Helper()
	return runClientOf(t, t.TempDir(), stdin, name, args...)
}

// runClientOf runs a client for somebody with this home.
func runClientOf(t *testing.T, home, stdin, name string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Stdin = strings.NewReader(stdin)
	c.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"))
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, &errOut)
		return "", -1
	}
	return out.String(), c.ProcessState.ExitCode()
}

// received is when a message was, in JSON.
var received = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z[+-]\d{4}`)

// TestClientsAsMosquitto: wheelmq pub, sub and rr print what Mosquitto's clients print, and end with the same status, given
// the same arguments; a broker of Mosquitto's between them. Some 180 cases.
func TestClientsAsMosquitto(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	dir := t.TempDir()
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-c", "-b", passwords, "ada", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v\n%s", err, out)
	}
	b := startMosquitto(t, "allow_anonymous true")
	closed := startMosquitto(t, "allow_anonymous false", "password_file "+passwords)
	file := filepath.Join(dir, "message")
	if err := os.WriteFile(file, []byte("from a file\nof two lines"), 0o600); err != nil {
		t.Fatal(err)
	}
	port, closedPort := fmt.Sprint(b.port), fmt.Sprint(closed.port)
	seed := func(args ...string) {
		t.Helper()
		if _, code := runClient(t, "", "mosquitto_pub", append([]string{"-p", port, "-r"}, args...)...); code != 0 {
			t.Fatalf("mosquitto_pub %q: status %d", args, code)
		}
	}
	seed("-t", "fmt/plain", "-m", `he"llo`, "-q", "1")
	seed("-t", "fmt/json", "-m", `{"a": [1, 2]}`)
	seed("-t", "fmt/text", "-m", "he\"llo\\ / é <&>\ttab")
	seed("-t", "fmt/nested", "-m", `{"b": [1, true, [ ], {"x": null}], "a": "é/\u0041", "b2": {}, "b": "twice"}`)
	seed("-t", "fmt/number", "-m", "12")
	seed("-t", "fmt/empty-ish", "-m", " ")
	seed("-V", "5", "-t", "fmt/full", "-m", "xyz", "-q", "2", "-D", "publish", "user-property", "k", "v", "-D", "publish", "user-property", "k2", "v 2",
		"-D", "publish", "content-type", "text/plain", "-D", "publish", "response-topic", "re/ply", "-D", "publish", "correlation-data", "c1", "-D", "publish",
		"payload-format-indicator", "1")
	for i := range 5 {
		seed("-t", fmt.Sprint("many/", i), "-m", fmt.Sprint("message ", i))
	}

	cases := 0
	var wait sync.WaitGroup
	atOnce := make(chan struct{}, 6)
	same := func(stdin, name string, args ...string) {
		t.Helper()
		cases++
		atOnce <- struct{}{}
		wait.Go(func() {
			defer func() { <-atOnce }()
			want, wantCode := runClient(t, stdin, "mosquitto_"+name, args...)
			if strings.HasPrefix(want, "mosquitto_") && wantCode == 1 {
				want = "" // its usage, where ours says what is wrong on standard error
			}
			got, code := runClient(t, stdin, wheelmqPath, append([]string{name}, args...)...)
			got, want = received.ReplaceAllString(got, "now"), received.ReplaceAllString(want, "now")
			if got != want || code != wantCode {
				t.Errorf("%s %q: printed %q, status %d; mosquitto_%s printed %q, status %d", name, args, got, code, name, want, wantCode)
			}
		})
	}
	sub := func(args ...string) { t.Helper(); same("", "sub", append([]string{"-p", port}, args...)...) }
	for _, format := range []string{"%t", "%p", "%q", "%r", "%l", "%m", "%x", "%X", "%C", "%D", "%E", "%F", "%R", "%S", "%P", "%%", "%A", "[%10t]", "[%-10t]", "[%010l]",
		"[%5q]", "[%-5q]", `a\tb\n%p`, "%t %p %q", "@@%t", "%t%", "%"} {
		for _, topic := range []string{"fmt/plain", "fmt/json", "fmt/full"} {
			version := "mqttv311"
			if topic == "fmt/full" {
				version = "mqttv5"
			}
			sub("-V", version, "-t", topic, "-C", "1", "-q", "2", "-F", format)
		}
	}
	for _, topic := range []string{"fmt/plain", "fmt/json", "fmt/full", "fmt/text", "fmt/nested", "fmt/number"} {
		for _, format := range []string{"%j", "%J", "[%J]"} {
			sub("-V", "mqttv5", "-t", topic, "-C", "1", "-q", "2", "-F", format)
			sub("-V", "mqttv5", "-t", topic, "-C", "1", "-q", "2", "-F", format, "--pretty")
		}
	}
	sub("-t", "fmt/plain", "-C", "1")
	sub("-t", "fmt/plain", "-C", "1", "-N")
	sub("-t", "fmt/plain", "-C", "1", "-v")
	sub("-t", "fmt/plain", "-C", "1", "-v", "-N")
	sub("-t", "fmt/plain", "-t", "fmt/json", "-C", "2", "-v")
	sub("-t", "fmt/+", "-T", "fmt/full", "-T", "fmt/json", "-C", "2", "-v")
	sub("-t", "many/#", "-C", "5", "-v")
	sub("-t", "many/#", "-C", "3")
	sub("-t", "many/#", "-R", "-C", "1", "-W", "1")
	sub("-t", "many/#", "-W", "1", "-v")
	sub("-t", "nothing", "-W", "1")
	sub("-t", "many/1", "--retained-only", "-C", "1")
	sub("-t", "none/1", "-E") // a retained message may come with SUBACK, or behind it
	sub("-L", "mqtt://localhost:"+port+"/many/1", "-C", "1", "-v")
	sub("-h", "127.0.0.1", "-i", "me", "-k", "10", "-t", "many/1", "-C", "1")
	sub("-V", "mqttv31", "-t", "many/1", "-C", "1")
	sub("-V", "311", "-t", "many/1", "-C", "1")
	sub("-V", "5", "-t", "many/1", "-C", "1", "--retain-as-published")
	sub("-c", "-t", "many/1", "-C", "1")
	sub("-t", "many/#/x", "-C", "1")
	sub("-q", "3", "-t", "many/1", "-C", "1")
	sub("-V", "9", "-t", "many/1", "-C", "1")
	sub("-C", "1")
	sub("-t", "x", "--nonsense")
	same("", "sub", "-p", "1", "-t", "x")
	same("", "sub", "-p", closedPort, "-t", "x", "-C", "1")
	same("", "sub", "-p", closedPort, "-V", "5", "-t", "x", "-C", "1")
	same("", "sub", "-p", closedPort, "-u", "ada", "-P", "wrong", "-t", "x", "-C", "1")
	same("", "sub", "-p", closedPort, "-u", "ada", "-P", "secret", "-t", "x", "-W", "1")

	for i, more := range [][]string{{}, {"-v"}, {"-N"}, {"-v", "-N"}, {"-F", "%t [%p] %l"}, {"-F", "%j"}, {"-F", "%J"}} { // a message without payload, and one
		args := append([]string{"-p", port, "-c", "-q", "1", "-t", "empty"}, more...)
		for _, who := range []string{"mosquitto_sub", wheelmqPath} {
			first := []string{"-i", fmt.Sprint("empty", i, who == wheelmqPath), "-C", "2"}
			if who == wheelmqPath {
				first = append([]string{"sub"}, first...)
			}
			if _, code := runClient(t, "", who, append(first, append(args, "-E")...)...); code != 0 {
				t.Fatal(code)
			}
			for _, payload := range [][]string{{"-n"}, {"-m", "x"}} {
				if _, code := runClient(t, "", "mosquitto_pub", append([]string{"-p", port, "-q", "1", "-t", "empty"}, payload...)...); code != 0 {
					t.Fatal(code)
				}
			}
		}
		cases++
		want, _ := runClient(t, "", "mosquitto_sub", append([]string{"-i", fmt.Sprint("empty", i, false), "-C", "2"}, args...)...)
		got, _ := runClient(t, "", wheelmqPath, append([]string{"sub", "-i", fmt.Sprint("empty", i, true), "-C", "2"}, args...)...)
		if got, want = received.ReplaceAllString(got, "now"), received.ReplaceAllString(want, "now"); got != want {
			t.Errorf("without a payload, %q: printed %q; mosquitto_sub printed %q", more, got, want)
		}
	}

	pub := func(stdin string, args ...string) {
		t.Helper()
		same(stdin, "pub", append([]string{"-p", port}, args...)...)
	}
	sent := func(stdin, topic, want string, args ...string) { // what is published, by what is retained of it
		t.Helper()
		pub(stdin, append([]string{"-t", topic, "-r"}, args...)...)
		wait.Wait()
		if got, _ := runClient(t, "", "mosquitto_sub", "-p", port, "-t", topic, "-C", "1", "-W", "5", "-N"); got != want {
			t.Errorf("pub %q: the broker has %q, want %q", args, got, want)
		}
	}
	for _, qos := range []string{"0", "1", "2"} {
		for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
			sent("", "out/"+version+qos, "m"+qos, "-m", "m"+qos, "-q", qos, "-V", version)
		}
	}
	sent("", "out/file", "from a file\nof two lines", "-f", file)
	sent("all of\nit", "out/s", "all of\nit", "-s")
	sent("one\ntwo\n", "out/l", "two", "-l", "-q", "1")
	sent("", "out/repeat", "x", "-m", "x", "--repeat", "3", "--repeat-delay", "0.01")
	pub("", "-t", "out/none", "-n")
	pub("", "-t", "out/x")
	pub("", "-m", "x")
	pub("", "-t", "out/#", "-m", "x")
	pub("", "-t", "out/x", "-m", "x", "-f", file)
	pub("", "-t", "out/x", "-f", filepath.Join(dir, "missing"))
	pub("", "-t", "out/x", "-m", "x", "--will-payload", "w")
	pub("", "-t", "out/x", "-m", "x", "--will-topic", "w", "--will-payload", "w", "--will-qos", "1", "--will-retain")
	pub("", "-t", "out/x", "-m", "x", "-c")
	pub("", "-t", "out/x", "-m", "x", "-D", "publish", "nonsense", "1")
	same("", "pub", "-p", "1", "-t", "x", "-m", "x")
	same("", "pub", "-p", closedPort, "-t", "x", "-m", "x")
	same("", "pub", "-p", closedPort, "-V", "5", "-t", "x", "-m", "x")
	same("", "rr", "-p", port, "-t", "ask", "-e", "answer", "-m", "x", "-W", "1")
	same("", "rr", "-p", port, "-t", "ask", "-m", "x")
	wait.Wait()
	t.Logf("%d cases", cases)
}

// certificates makes an authority that signs for 127.0.0.1, and another that signs for nobody. The folder by is hashed as
// OpenSSL looks authorities up.
func certificates(t *testing.T) (authority, cert, key, other, by string) {
	t.Helper()
	dir := t.TempDir()
	by = filepath.Join(dir, "authorities")
	script := `set -e; cd "$0"; mkdir authorities
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "$@"; }
new -x509 -keyout ca.key -out ca.pem -subj /CN=authority
new -x509 -keyout other.key -out other.pem -subj /CN=other
new -keyout key.pem -out cert.csr -subj /CN=ada
echo subjectAltName=IP:127.0.0.1 >ext
openssl x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 2 -extfile ext -out cert.pem
cp ca.pem authorities; openssl rehash authorities`
	if out, err := exec.Command("sh", "-c", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "other.pem"), by
}

// TestClientsReachAsMosquitto: the ways to a broker, and what is asked of its certificate, as Mosquitto's clients have them;
// and the file of options that somebody always wants.
func TestClientsReachAsMosquitto(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	authority, cert, key, other, by := certificates(t)
	secure, both := freePort(t), freePort(t)
	socket := filepath.Join(t.TempDir(), "s")
	b := startMosquitto(t, fmt.Sprintf("listener %d 127.0.0.1\ncertfile %s\nkeyfile %s", secure, cert, key),
		fmt.Sprintf("listener %d 127.0.0.1\ncertfile %s\nkeyfile %s\ncafile %s\nrequire_certificate true", both, cert, key, authority), "listener 0 "+socket)
	b.awaitOpenAt(t, secure)
	b.awaitOpenAt(t, both)
	if _, code := runClient(t, "", "mosquitto_pub", "-p", fmt.Sprint(b.port), "-t", "a", "-m", "b", "-r"); code != 0 {
		t.Fatal(code)
	}
	home := t.TempDir()
	same := func(want int, args ...string) {
		t.Helper()
		args = append(args, "-t", "a", "-C", "1", "-v")
		theirs, theirCode := runClientOf(t, home, "", "mosquitto_sub", args...)
		if strings.HasPrefix(theirs, "mosquitto_sub is") {
			theirs = "" // its usage
		}
		ours, code := runClientOf(t, home, "", wheelmqPath, append([]string{"sub"}, args...)...)
		if theirCode == 8 {
			theirCode = 1 // TLS failed behind connect, or in it, as it happens
		}
		if ours != theirs || code != theirCode || code != want {
			t.Errorf("%q: printed %q, status %d; mosquitto_sub printed %q, status %d; want %d", args, ours, code, theirs, theirCode, want)
		}
	}
	tls := func(want int, args ...string) {
		t.Helper()
		same(want, append([]string{"-p", fmt.Sprint(secure)}, args...)...)
	}
	const here, elsewhere = "127.0.0.1", "0.0.0.0" // both are this machine; the certificate has the first
	same(0, "--unix", socket)
	same(0, "-L", fmt.Sprintf("mqtt://127.0.0.1:%d/a", b.port))
	same(0, "-A", here, "-h", here, "-p", fmt.Sprint(b.port))
	tls(0, "-h", here, "--cafile", authority)
	tls(0, "-h", here, "--capath", by)
	tls(0, "-L", fmt.Sprintf("mqtts://127.0.0.1:%d/a", secure), "--cafile", authority)
	tls(0, "-h", here, "--cafile", authority, "--tls-version", "tlsv1.2")
	tls(0, "-h", here, "--cafile", authority, "--tls-version", "tlsv1.3")
	tls(0, "-h", elsewhere, "--cafile", authority, "--insecure")
	for _, refused := range [][]string{{elsewhere, "--cafile", authority}, {here, "--cafile", other}, {here, "--cafile", other, "--insecure"},
		{here, "--cafile", authority, "--tls-version", "nonsense"}, {here, "--cafile", authority, "--cert", cert}, {here, "--cafile", authority, "--key", key},
		{here, "--cafile", "missing"}} {
		tls(1, append([]string{"-h"}, refused...)...)
	}
	withCertificate := []string{"-h", here, "-p", fmt.Sprint(both), "--cafile", authority, "--cert", cert, "--key", key}
	same(0, withCertificate...)

	folder := filepath.Join(home, ".config")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mosquitto_sub", "wheelmq_sub"} {
		text := fmt.Sprintf("# where we usually go\n-h 127.0.0.1\n-p %d\n\n--cafile %s\n", secure, authority)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	same(0)
	same(1, "--cafile", other) // goes before
	options := filepath.Join(home, "options")
	if err := os.WriteFile(options, []byte("-t c\n--id me too\n-V 5\n-D connect user-property k v\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := runClientOf(t, home, "", wheelmqPath, "sub", "-o", options, "-W", "0.3", "-d"); code != 27 || out != "" {
		t.Errorf("-o: status %d, %q", code, out)
	}
	if _, code := runClientOf(t, home, "", wheelmqPath, "sub", "-o", options+"x"); code != 1 {
		t.Errorf("-o without a file: status %d", code)
	}
	if _, code := runClientOf(t, home, "", wheelmqPath, "sub", "-t", "a", "--psk", "00", "--psk-identity", "me"); code != 1 {
		t.Errorf("--psk: status %d", code)
	}
}

// TestClientsThroughSOCKS: --proxy, and the proxy of the environment, with a SOCKS5 proxy that others wrote (microsocks).
func TestClientsThroughSOCKS(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startMosquitto(t)
	start := func(args ...string) (*process, string) {
		t.Helper()
		address := net.JoinHostPort("127.0.0.1", fmt.Sprint(freePort(t)))
		_, port, _ := net.SplitHostPort(address)
		p := startProcess(t, nil, nil, "microsocks", append([]string{"-i", "127.0.0.1", "-p", port}, args...)...)
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				return p, address
			} else if time.Now().After(end) {
				t.Fatalf("%v\n%s", err, &p.log)
			}
		}
	}
	open, openAt := start()
	closed, closedAt := start("-u", "ada", "-P", "secret")
	through := 0
	f := func(p *process, want int, args ...string) {
		t.Helper()
		args = append(args, "-p", fmt.Sprint(b.port), "-h", "127.0.0.1", "-q", "1", "-t", "a", "-m", "b")
		if _, code := runClient(t, "", wheelmqPath, append([]string{"pub"}, args...)...); code != want {
			t.Errorf("%q: status %d, want %d", args, code, want)
		}
		if p == nil {
			return
		}
		through++
		to := "connected to " + b.address
		for end := time.Now().Add(patience); strings.Count(open.log.String()+closed.log.String(), to) < through; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%q: the proxy does not say that it connected\n%s", args, &p.log)
			}
		}
	}
	f(open, 0, "--proxy", "socks5h://"+openAt)
	f(closed, 0, "--proxy", "socks5h://ada:secret@"+closedAt)
	f(nil, 1, "--proxy", "socks5h://ada:other@"+closedAt)
	f(nil, 1, "--proxy", "socks5h://"+closedAt)
	f(nil, 1, "--proxy", "http://"+openAt)
	t.Setenv("ALL_PROXY", "socks5h://"+openAt)
	f(open, 0)
	t.Setenv("ALL_PROXY", "socks5://ada:secret@"+closedAt)
	f(closed, 0)
	t.Setenv("NO_PROXY", "127.0.0.1")
	f(nil, 0)
	t.Setenv("NO_PROXY", "")
	t.Setenv("ALL_PROXY", "socks5://ada:other@"+closedAt)
	f(nil, 1)
}

// TestRequestResponse: wheelmq rr gets the answer of a wheelmq sub and pub in a shell, as people script it.
func TestRequestResponse(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startBroker(t)
	port := fmt.Sprint(b.port)
	script := `"$0" sub -p $1 -V 5 -t ask -C 1 -F %R | while read to; do "$0" pub -p $1 -t "$to" -m 21.5; done`
	answerer := startProcess(t, nil, nil, "sh", "-c", script, wheelmqPath, port)
	for { // until the other one has subscribed
		out, code := runClient(t, "", wheelmqPath, "rr", "-p", port, "-V", "5", "-t", "ask", "-e", "re", "-m", "temperature", "-W", "2", "--latency")
		if code == 0 {
			if out != "21.5\n" {
				t.Errorf("the answer is %q", out)
			}
			break
		}
		if code != 27 {
			t.Fatalf("status %d\n%s", code, &answerer.log)
		}
	}
	<-answerer.ended
}
