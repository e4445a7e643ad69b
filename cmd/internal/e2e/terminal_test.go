package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A terminal is a pseudoterminal with a program on it.
type terminal struct {
	keyboard *os.File
	screen   lockedBuffer
}

// startTerminal starts a program on a terminal of its own, which is hung up when the test ends.
func startTerminal(t *testing.T, folder string, env []string, name string, args ...string) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(keyboard.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 60, Col: 200}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; \"make clients\" installs it", err)
	}
	tty.Close()
	term := &terminal{keyboard: keyboard}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := keyboard.Read(b)
			if err != nil {
				return
			}
			_, _ = term.screen.Write(b[:n])
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // interactive shells ask before they end
		_ = cmd.Wait()
		<-read // nobody has the terminal open any more
		keyboard.Close()
	})
	return term
}

func (term *terminal) write(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.keyboard.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// controls are what moves the cursor and changes colours.
var controls = regexp.MustCompile(`\x1b\[[0-9;?>=]*[a-zA-Z]|\x1b\][^\x07]*\x07|\x1b[()].|\x1b[=>]|\r`)

// text is what was shown behind the first from bytes, without colours.
func (term *terminal) text(from int) string {
	return controls.ReplaceAllString(term.screen.String()[from:], "")
}

// TestClientsOnTerminal: what only somebody at a terminal sees: colours, unless NO_COLOR asks for none, and how far a large
// file is.
func TestClientsOnTerminal(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startMosquitto(t) // which takes large packets unless it is told otherwise
	port := fmt.Sprint(b.port)
	folder := t.TempDir()
	await := func(term *terminal, what string) string {
		t.Helper()
		for end := time.Now().Add(patience); !strings.Contains(term.screen.String(), what); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %q on the screen:\n%q", what, term.screen.String())
			}
		}
		return term.screen.String()
	}
	large := strings.Repeat("0123456789", 300_000)
	if err := os.WriteFile(filepath.Join(folder, "large"), []byte(large), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"pub", "-p", port, "-q", "1", "-r", "-t", "large", "-f", "large"}
	shown := await(startTerminal(t, folder, nil, wheelmqPath, args...), "100 %\r\n")
	if !strings.Contains(shown, "[####################                    ]  5") || !strings.Contains(shown, "\r[########################################] 100 %\r\n") {
		t.Errorf("the bar: %q", shown)
	}
	if out, code := runClient(t, "", wheelmqPath, "sub", "-p", port, "-t", "large", "-C", "1", "-N"); code != 0 || out != large {
		t.Errorf("status %d, %d bytes came of %d", code, len(out), len(large))
	}
	if code, said := wheelmq(t, append(args[:len(args)-1], filepath.Join(folder, "large"))...); code != 0 || said != "" {
		t.Errorf("without a terminal: status %d, %q", code, said)
	}

	if code, said := wheelmq(t, "pub", "-p", port, "-r", "-t", "a/b", "-m", "c"); code != 0 {
		t.Fatal(code, said)
	}
	show := []string{"sub", "-p", port, "-t", "a/b", "-C", "1", "-v"}
	await(startTerminal(t, folder, []string{"NO_COLOR="}, wheelmqPath, show...), "\x1b[36ma/b\x1b[0m c\r\n")
	if shown := await(startTerminal(t, folder, []string{"NO_COLOR=1"}, wheelmqPath, show...), "a/b c\r\n"); strings.Contains(shown, "\x1b") {
		t.Errorf("NO_COLOR: %q", shown)
	}
	if code, said := wheelmq(t, show...); code != 0 || said != "a/b c\n" {
		t.Errorf("without a terminal: status %d, %q", code, said)
	}
}

// TestWatch: sub -w gives each topic a line of the terminal, and none to those that have no room.
func TestWatch(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startBroker(t)
	port := fmt.Sprint(b.port)
	publish := func(topic, payload string) {
		t.Helper()
		if code, said := wheelmq(t, "pub", "-p", port, "-r", "-t", topic, "-m", payload); code != 0 {
			t.Fatal(code, said)
		}
	}
	publish("w/0", "first")
	term := startTerminal(t, t.TempDir(), nil, wheelmqPath, "sub", "-p", port, "-t", "w/#", "-w") // 60 lines of 200
	await := func(what string) {
		t.Helper()
		for end := time.Now().Add(patience); !strings.Contains(term.screen.String(), what); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %q on the screen:\n%q", what, term.screen.String())
			}
		}
	}
	await("\x1b[H\x1b[J\x1b[1;1H\x1b[Kw/0 first\x1b[2;1H")
	publish("w/1", "a\x1b[2Jb")
	await("\x1b[2;1H\x1b[Kw/1 a.[2Jb\x1b[3;1H")
	publish("w/0", strings.Repeat("é", 300))
	await("\x1b[1;1H\x1b[Kw/0 " + strings.Repeat("é", 196) + "\x1b[3;1H")
	for i := 2; i < 60; i++ {
		publish(fmt.Sprint("w/", i), "x")
	}
	await("\x1b[58;1H\x1b[Kw/57 x\x1b[59;1H")
	await("\x1b[59;1H\x1b[Kand 2 more topics")
	publish("w/57", "y")
	await("\x1b[58;1H\x1b[Kw/57 y\x1b[59;1H")

	if out, code := runClient(t, "", wheelmqPath, "sub", "-p", port, "-t", "w/57", "-w", "-C", "1"); code != 0 || out != "w/57 y\n" {
		t.Errorf("without a terminal: status %d, %q", code, out)
	}
	if _, code := runClient(t, "", wheelmqPath, "sub", "-p", port, "-t", "w/57", "-w", "--stats"); code != 1 {
		t.Errorf("-w --stats: status %d", code)
	}
	rate := startProcess(t, nil, nil, wheelmqPath, "sub", "-p", port, "-t", "w/+", "--message-rate") // 60 retained ones
	for sum := 0; sum < 60; {
		select {
		case line := <-rate.lines:
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatalf("%q\n%s", line, &rate.log)
			}
			sum += n
		case <-time.After(patience):
			t.Fatalf("%d messages of 60", sum)
		}
	}
}

// TestStats: sub --stats counts messages and bytes by topic level, and the messages of all its seconds are all there are.
func TestStats(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	b := startBroker(t)
	port := fmt.Sprint(b.port)
	p := startProcess(t, nil, nil, wheelmqPath, "sub", "-p", port, "-t", "s/#", "--stats")
	got := map[string][2]int{}
	next := func() {
		t.Helper()
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("it ended\n%s", &p.log)
			}
			f := strings.Fields(line)
			if len(f) != 4 || f[2] != "B/s" {
				return // the time, and the sum
			}
			messages, err := strconv.Atoi(strings.TrimSuffix(f[0], "/s"))
			bytes, err2 := strconv.Atoi(f[1])
			if err != nil || err2 != nil {
				t.Fatalf("%q", line)
			}
			got[f[3]] = [2]int{got[f[3]][0] + messages, got[f[3]][1] + bytes}
		case <-time.After(patience):
			t.Fatalf("nothing more, and there are %v\n%s", got, &p.log)
		}
	}
	next() // it has subscribed
	for _, topic := range []string{"s/a/1", "s/a/2", "s/b", "s"} {
		if code, said := wheelmq(t, "pub", "-p", port, "-t", topic, "-m", "12345", "--repeat", "3"); code != 0 {
			t.Fatal(code, said)
		}
	}
	want := map[string][2]int{"s/a/…": {6, 30}, "s/b": {3, 15}, "s": {3, 15}}
	for !maps.Equal(got, want) {
		next()
	}
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 0 {
		t.Errorf("status %d\n%s", code, &p.log)
	}
}

// TestShells presses Tab in the shells that there is a completion for, set up as each is by those who use it, and looks at
// what they make of the line, and what they propose.
func TestShells(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	const prompt = "What now, dear? "
	for _, shell := range []struct {
		name, file, setUp string
		args              []string
		propose           string // keys that show proposals when there are several
	}{
		{"bash", ".bashrc", "PS1='" + prompt + "'\n. /usr/share/bash-completion/bash_completion\nsource <(wheelmq completion bash)\n",
			[]string{"-i"}, "\t\t"},
		{"zsh", ".zshrc", "PROMPT='" + prompt + "'\nautoload -U compinit\ncompinit -u\nsource <(wheelmq completion zsh)\n",
			[]string{"-i"}, "\t"},
		{"fish", ".config/fish/config.fish", "function fish_prompt\n\techo -n '" + prompt + "'\nend\nwheelmq completion fish | source\n",
			[]string{"-i"}, "\t"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			write := func(name, text string, mode os.FileMode) string {
				t.Helper()
				name = filepath.Join(home, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), mode); err != nil {
					t.Fatal(err)
				}
				return name
			}
			ran := write("ran", "", 0o644)
			write("bin/wheelmq", fmt.Sprintf("#!/bin/sh\ncase $1 in *comp*) exec '%s' \"$@\" ;; esac\necho \"$*\" >>'%s'\n", wheelmqPath, ran), 0o755)
			write("measured.json", "", 0o644)
			write(shell.file, shell.setUp, 0o644)
			env := []string{"HOME=" + home, "ZDOTDIR=" + home, "XDG_CONFIG_HOME=" + home + "/.config", "XDG_DATA_HOME=" + home + "/.local/share",
				"PATH=" + home + "/bin:" + os.Getenv("PATH"), "TERM=xterm", "LANG=C.UTF-8"}
			term := startTerminal(t, home, env, shell.name, shell.args...)
			await := func(what string, done func() bool) {
				t.Helper()
				for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s: %s; the screen:\n%q", shell.name, what, term.text(0))
					}
				}
			}
			awaitPrompt := func(from int) {
				t.Helper()
				await("no prompt", func() bool { return strings.Contains(term.text(from), prompt) })
			}
			awaitPrompt(0)
			var lines []string
			f := func(keys, line string) {
				t.Helper()
				from := len(term.screen.String())
				term.write(t, keys+"\r")
				var got []string
				await("nothing was run by "+keys, func() bool {
					b, err := os.ReadFile(ran)
					got = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
					return err == nil && strings.HasSuffix(string(b), "\n") && len(got) > len(lines)
				})
				if last := got[len(got)-1]; last != line {
					t.Errorf("%q makes %q, want %q", keys, last, line)
				}
				lines = got
				awaitPrompt(from)
			}
			f("wheelmq sto\tim\t", "store import")
			f("wheelmq pub --topi\t", "pub --topic")
			f("wheelmq sub --sta\t", "sub --stats")
			f("wheelmq sub --retain-handling al\t", "sub --retain-handling always")
			f("wheelmq pub -f meas\t", "pub -f measured.json")
			from := len(term.screen.String())
			term.write(t, "wheelmq s"+shell.propose)
			await("store and sub are not proposed", func() bool {
				shown := term.text(from)
				return strings.Contains(shown, "Subscribe and print messages") && strings.Contains(shown, "Look at what outlives the broker")
			})
		})
	}
}
