package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Exit status; doc.go says what each means.
const (
	exitClean         = 0
	exitUsage         = 1
	exitWrong         = 2
	exitConfiguration = 3
	exitSystem        = 14
)

// An exitError is an error that says with which status the process ends. Every other error that reaches [run] comes
// from reading the command line and ends as exitUsage.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func configurationError(format string, args ...any) error {
	return &exitError{exitConfiguration, fmt.Errorf(format, args...)}
}

func systemError(format string, args ...any) error {
	return &exitError{exitSystem, fmt.Errorf(format, args...)}
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return exitClean
	}
	var exit *exitError
	if errors.As(err, &exit) && errors.Is(exit.err, errSilent) {
		return exit.code
	}
	if errors.As(err, &exit) {
		fmt.Fprintf(stderr, "wheelmq: %v\n", err)
		return exit.code
	}
	fmt.Fprintf(stderr, "wheelmq: %v\nwheelmq --help lists the flags\n", err)
	return exitUsage
}
