package sqlstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/engine/store"
)

const lostWritesChild = "WHEELMQ_LOST_WRITES_CHILD"

// TestLostWrites runs a store in SQLite under strace, and makes of what it wrote the files that a
// loss of power can leave at any moment: what was synced, and of what was not any
// part. Each holds all that was acknowledged until then, and no half of a batch.
func TestLostWrites(t *testing.T) {
	if dir := os.Getenv(lostWritesChild); dir != "" {
		writeAndTell(t, dir)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace here; .ci/clients installs it")
	}
	dir := t.TempDir()
	logPath := filepath.Join(dir, "strace")
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(strace, "-f", "-qq", "-xx", "-s", "4000000", "-e", "signal=none", "-o", logPath,
		"-e", "trace=open,openat,close,write,pwrite64,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,renameat",
		os.Args[0], "-test.run", "^TestLostWrites$")
	cmd.Env = append(os.Environ(), lostWritesChild+"="+work)
	if out, err := cmd.CombinedOutput(); err != nil {
		if bytes.Contains(out, []byte("ptrace")) {
			t.Skipf("strace may not trace here: %s", out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	ops := readTrace(t, logPath, work)
	synced := 0
	for _, o := range ops {
		if o.kind == "sync" {
			synced++
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	const points = 80
	for i := range points {
		crashAt(t, ops[:1+rng.IntN(len(ops))], rng, filepath.Join(dir, strconv.Itoa(i)))
	}
	crashAt(t, ops, rng, filepath.Join(dir, "end"))
	if len(ops) < 300 || synced < lostWritesBatches {
		t.Errorf("%d operations, %d of them syncs", len(ops), synced)
	}
}

const lostWritesBatches = 60

// writeAndTell commits batches, and writes down which were acknowledged.
func writeAndTell(t *testing.T, dir string) {
	s, err := OpenSQLite(filepath.Join(dir, "store"), Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	acks, err := os.Create(filepath.Join(dir, "acks"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range lostWritesBatches {
		mustCommit(t, s, func(b *store.Batch) {
			for _, half := range []string{"a", "b"} {
				b.PutRetained(&store.Message{Topic: fmt.Appendf(nil, "%d/%s", i, half), Payload: bytes.Repeat([]byte{byte(i)}, 20_000)})
			}
			if i >= 10 {
				b.DeleteRetained(fmt.Appendf(nil, "%d/a", i-10))
				b.DeleteRetained(fmt.Appendf(nil, "%d/b", i-10))
			}
		})
		if _, err := fmt.Fprintf(acks, "%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	os.Exit(0) // as a kill does: without closing
}

// A fileOp is one change of a file, by its name in the folder.
type fileOp struct {
	kind string // write, truncate, sync, unlink, ack
	name string
	data []byte
	at   int64
}

var (
	traceLine = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$`)
	traceText = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
)

// readTrace reads what the child did to the files in its folder.
func readTrace(t *testing.T, path, dir string) (ops []fileOp) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := map[string]string{}      // by descriptor
	unfinished := map[string]string{} // by thread
	lines := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return ops
		}
		m := traceLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		thread, call, rest := m[1], m[2], m[3]
		if begun, ok := strings.CutSuffix(rest, " <unfinished ...>"); ok {
			unfinished[thread] = begun
			continue
		}
		if strings.Contains(line, "<... ") {
			rest = unfinished[thread] + rest
		}
		i := strings.LastIndex(rest, " = ")
		if i < 0 || strings.HasPrefix(rest[i+3:], "-") {
			continue
		}
		result := strings.Fields(rest[i+3:])[0]
		var texts []string
		for _, x := range traceText.FindAllStringSubmatch(rest, -1) {
			data, err := hex.DecodeString(strings.ReplaceAll(x[1], `\x`, ""))
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(data))
		}
		descriptor, _, _ := strings.Cut(strings.Trim(rest, "()"), ",")
		descriptor, _, _ = strings.Cut(descriptor, ")")
		arguments := strings.Split(strings.TrimSuffix(strings.TrimSpace(rest[:i]), ")"), ", ")
		last, _ := strconv.ParseInt(arguments[len(arguments)-1], 10, 64)
		name := names[descriptor]
		switch call {
		case "open", "openat":
			delete(names, result)
			if filepath.Dir(texts[0]) == dir {
				names[result] = filepath.Base(texts[0])
				if strings.Contains(rest, "O_TRUNC") {
					ops = append(ops, fileOp{kind: "truncate", name: names[result]})
				}
			}
		case "close":
			delete(names, descriptor)
		case "pwrite64":
			if name != "" {
				ops = append(ops, fileOp{kind: "write", name: name, data: []byte(texts[0]), at: last})
			}
		case "write":
			if name == "acks" {
				ops = append(ops, fileOp{kind: "ack", data: []byte(texts[0])})
			} else if name != "" && name != "store.lock" {
				t.Fatalf("a write to %s without a position", name)
			}
		case "ftruncate":
			if name != "" {
				ops = append(ops, fileOp{kind: "truncate", name: name, at: last})
			}
		case "fsync", "fdatasync":
			if name != "" {
				ops = append(ops, fileOp{kind: "sync", name: name})
			}
		case "unlink", "unlinkat":
			if filepath.Dir(texts[0]) == dir {
				ops = append(ops, fileOp{kind: "unlink", name: filepath.Base(texts[0])})
			}
		case "rename", "renameat":
			t.Fatalf("a rename that this test does not know: %s", line)
		}
	}
}

func (o *fileOp) apply(b []byte) []byte {
	end := o.at + int64(len(o.data))
	if o.kind == "truncate" {
		end = o.at
		b = b[:min(len(b), int(end))]
	}
	if grow := int(end) - len(b); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[o.at:], o.data)
	return b
}

// crashAt makes the files that are left behind ops, and looks into them.
func crashAt(t *testing.T, ops []fileOp, rng *rand.Rand, dir string) {
	t.Helper()
	files, waiting, acked := map[string][]byte{}, map[string][]fileOp{}, -1
	for _, o := range ops {
		switch o.kind {
		case "ack":
			fmt.Sscan(string(o.data), &acked)
		case "unlink":
			delete(files, o.name)
			delete(waiting, o.name)
		case "sync":
			b := files[o.name]
			for _, w := range waiting[o.name] {
				b = w.apply(b)
			}
			files[o.name] = b
			delete(waiting, o.name)
		default:
			waiting[o.name] = append(waiting[o.name], o)
		}
	}
	for name, list := range waiting {
		for _, w := range list {
			if rng.IntN(2) == 0 {
				files[name] = w.apply(files[name])
			}
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if name == "acks" || strings.HasSuffix(name, "-shm") {
			continue // shared memory, made anew
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "store.lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSQLite(filepath.Join(dir, "store"), Options{Reserve: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("after %d operations: %v", len(ops), err)
	}
	l := &heard{sessions: map[string]*store.Loaded{}}
	err = errors.Join(s.Load(context.Background(), l), s.Close())
	if err != nil || len(l.damaged) > 0 {
		t.Fatalf("after %d operations: %v, damaged %v", len(ops), err, l.damaged)
	}
	there := map[string]bool{}
	newest := -1
	for _, text := range l.retained {
		var i int
		var half string
		if n, _ := fmt.Sscanf(text, "%d/%1s", &i, &half); n != 2 {
			t.Fatalf("retained: %.40q", text)
		}
		there[fmt.Sprintf("%d/%s", i, half)] = true
		newest = max(newest, i)
	}
	if newest < acked {
		t.Errorf("after %d operations: batch %d is the last, %d was acknowledged", len(ops), newest, acked)
	}
	for i := range newest + 1 {
		for _, half := range []string{"a", "b"} {
			if want := i > newest-10; there[fmt.Sprintf("%d/%s", i, half)] != want {
				t.Errorf("after %d operations, the last batch is %d: %d/%s is there: %v", len(ops), newest, i, half, !want)
			}
		}
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "*damaged*")); len(aside) > 0 {
		t.Errorf("after %d operations: put aside %v", len(ops), aside)
	}
}
