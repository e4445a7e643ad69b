package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// A childProcess is this test binary, run again as something else: it runs the
// one test named, which finds env set.
type childProcess struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	log   bytes.Buffer // of standard error; complete when it has ended
}

// startChild starts one; under, if given, is a program that runs it.
func startChild(t testing.TB, test, env string, under ...string) *childProcess {
	t.Helper()
	args := append(under, os.Args[0], "-test.run=^"+test+"$")
	c := &childProcess{t: t, cmd: exec.Command(args[0], args[1:]...)}
	c.cmd.Env = append(os.Environ(), env)
	c.cmd.Stderr = &c.log
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	return c
}

// line is its next line of output.
func (c *childProcess) line() string {
	c.t.Helper()
	if !c.lines.Scan() {
		c.t.Fatal("the process ended")
	}
	return c.lines.Text()
}

// order writes a line to it, and returns its answer.
func (c *childProcess) order(what string) string {
	c.t.Helper()
	fmt.Fprintln(c.in, what)
	return c.line()
}

// end closes its input, which ends it, and returns what it logged.
func (c *childProcess) end() string {
	c.t.Helper()
	c.in.Close()
	for c.lines.Scan() {
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("the process ended with %v\n%s", err, c.log.Bytes())
	}
	return c.log.String()
}
