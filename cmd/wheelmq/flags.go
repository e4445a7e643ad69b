package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
)

// brokerFlags are the flags that run the broker, as given.
type brokerFlags struct {
	listen         endpointsFlag
	allowAnonymous bool
	loops          int // 0: the engine decides
	logLevel       levelFlag
	logFormat      logFormat
	pprof          pprofFlags
}

func (f *brokerFlags) register(set *pflag.FlagSet) {
	f.logFormat = formatText
	set.SortFlags = false
	set.Var(&f.listen, "listen", "listen on host:port or tcp://host:port; may be repeated\n"+
		"(default 127.0.0.1:1883 and [::1]:1883)")
	set.BoolVar(&f.allowAnonymous, "allow-anonymous", false,
		"let clients without a password in on addresses that others can reach")
	set.IntVar(&f.loops, "loops", 0, "number of event loops (default: 1 with one or two processors, else one each)")
	set.Var(&f.logLevel, "log-level", "least important level that is logged: debug, info, warn, error (default info)")
	set.Var(&f.logFormat, "log-format", "how log lines are written: text, json")
	f.pprof.register(set)
}

// An endpointsFlag collects the values of --listen.
type endpointsFlag []endpoint

func (f *endpointsFlag) Set(text string) error {
	e, err := parseEndpoint(text)
	if err != nil {
		return err
	}
	*f = append(*f, e)
	return nil
}

func (f *endpointsFlag) Type() string { return "address" }

func (f *endpointsFlag) String() string {
	texts := make([]string, len(*f))
	for i, e := range *f {
		texts[i] = e.String()
	}
	return strings.Join(texts, ", ")
}

// A levelFlag is the value of --log-level; zero is info.
type levelFlag slog.Level

func (f *levelFlag) Set(text string) error {
	switch text {
	case "debug":
		*f = levelFlag(slog.LevelDebug)
	case "info":
		*f = levelFlag(slog.LevelInfo)
	case "warn":
		*f = levelFlag(slog.LevelWarn)
	case "error":
		*f = levelFlag(slog.LevelError)
	default:
		return fmt.Errorf("%q is none of debug, info, warn, error", text)
	}
	return nil
}

func (f *levelFlag) Type() string { return "level" }

// String returns "" for the default, which the usage text names itself.
func (f *levelFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strings.ToLower(slog.Level(*f).String())
}

// A logFormat is the value of --log-format.
type logFormat string

const (
	formatText logFormat = "text"
	formatJSON logFormat = "json"
)

func (f *logFormat) Set(text string) error {
	switch v := logFormat(text); v {
	case formatText, formatJSON:
		*f = v
		return nil
	default:
		return fmt.Errorf("%q is neither text nor json", text)
	}
}

func (f *logFormat) Type() string   { return "format" }
func (f *logFormat) String() string { return string(*f) }
