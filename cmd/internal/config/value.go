package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/engine"
)

// Values with units.
type (
	Duration  time.Duration // 500ms, 10s, 5m, 24h, 7d; without a unit seconds
	Size      int64         // 1048576, 64KiB, 1MiB, 2GiB; kB, MB and GB are powers of ten
	SizeLimit engine.Limit  // a Size, or unlimited
	Span      Duration      // a Duration of whole seconds, or unlimited: negative
)

const unlimited = "unlimited"

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

func parseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q: want bytes, as 1048576, 64KiB or 1MiB", s)
}

func formatSize(n int64) string {
	for _, u := range []int{2, 1, 0} {
		if unit := sizeUnits[u]; n >= unit.bytes && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

func parseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q: want a duration, as 500ms, 10s, 5m, 24h or 7d", s)
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if f < 0 || f > 1e9 || math.IsNaN(f) {
			return 0, bad
		}
		return time.Duration(f * float64(time.Second)), nil
	}
	var days time.Duration
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, bad
		}
		if days, s = time.Duration(n)*24*time.Hour, after; s == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, bad
	}
	return days + d, nil
}

func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func spanOf(l engine.Limit) Span {
	if l < 0 {
		return -1
	}
	return Span(time.Duration(l) * time.Second)
}

func (s Span) limit() engine.Limit {
	if s < 0 {
		return engine.Unlimited
	}
	return engine.Limit(time.Duration(s) / time.Second)
}

// parse sets v, which is no structure and no list, to what s says, within the
// bounds of its field's tag.
func parse(v reflect.Value, s string, tag reflect.StructTag) error {
	switch p := v.Addr().Interface().(type) {
	case *engine.Limit:
		l, err := engine.ParseLimit(s)
		if err != nil {
			return fmt.Errorf("%q: want a number above 0, or %s", s, unlimited)
		}
		*p = l
		return nil
	case *SizeLimit:
		if s == unlimited {
			*p = SizeLimit(engine.Unlimited)
			return nil
		}
		n, err := parseSize(s)
		if err != nil || n == 0 {
			return fmt.Errorf("%q: want bytes, as 64KiB, above 0, or %s", s, unlimited)
		}
		*p = SizeLimit(n)
		return nil
	case *Span:
		if s == unlimited {
			*p = -1
			return nil
		}
		d, err := parseDuration(s)
		if err != nil {
			return fmt.Errorf("%w, or %s", err, unlimited)
		}
		if d < time.Second || d%time.Second != 0 {
			return fmt.Errorf("%q: want whole seconds, at least one, or %s", s, unlimited)
		}
		*p = Span(d)
		return nil
	case *Duration:
		d, err := parseDuration(s)
		if err == nil {
			err = within(d.Seconds(), tag, " seconds")
		}
		*p = Duration(d)
		return err
	case *Size:
		n, err := parseSize(s)
		if err == nil {
			err = within(float64(n), tag, " bytes")
		}
		*p = Size(n)
		return err
	}
	switch v.Kind() {
	case reflect.String:
		if words, ok := words(tag); ok && !slices.Contains(words, s) {
			return fmt.Errorf("%q: want one of %s", s, strings.Join(words, ", "))
		}
		v.SetString(s)
	case reflect.Bool:
		if s != "true" && s != "false" {
			return fmt.Errorf("%q: want true or false", s)
		}
		v.SetBool(s == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: want a whole number", s)
		}
		v.SetInt(n)
		return within(float64(n), tag, "")
	default:
		panic("config: no values of " + v.Type().String())
	}
	return nil
}

func words(tag reflect.StructTag) ([]string, bool) {
	w, ok := tag.Lookup("enum")
	return strings.Split(w, ","), ok
}

func within(n float64, tag reflect.StructTag, unit string) error {
	low, high, bounded := bounds(tag)
	if bounded && (n < low || n > high) {
		return fmt.Errorf("%v is out of bounds: want %v to %v%s", n, tag.Get("min"), tag.Get("max"), unit)
	}
	return nil
}

// bounds are those of a tag.
func bounds(tag reflect.StructTag) (low, high float64, ok bool) {
	low, err1 := strconv.ParseFloat(tag.Get("min"), 64)
	high, err2 := strconv.ParseFloat(tag.Get("max"), 64)
	return low, high, errors.Join(err1, err2) == nil
}

// format is the opposite of parse.
func format(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case engine.Limit:
		if x < 0 {
			return unlimited
		}
		return strconv.FormatInt(int64(x), 10)
	case SizeLimit:
		if x < 0 {
			return unlimited
		}
		return formatSize(int64(x))
	case Span:
		if x < 0 {
			return unlimited
		}
		return formatDuration(time.Duration(x))
	case Duration:
		return formatDuration(time.Duration(x))
	case Size:
		return formatSize(int64(x))
	default:
		return fmt.Sprint(x)
	}
}
