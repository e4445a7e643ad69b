package report

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Count is a number with separators, or with a letter from ten million on: 950, 12,345, 23.4 M.
func Count(v float64) string {
	switch {
	case v >= 1e10:
		return digits(v/1e9) + " G"
	case v >= 1e7:
		return digits(v/1e6) + " M"
	case v < 100 && v != math.Trunc(v):
		return digits(v)
	}
	s := strconv.FormatInt(int64(math.Round(v)), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short is a number for an axis: 0, 250, 1.5 k, 20 M.
func short(v float64) string {
	switch {
	case v >= 1e9:
		return digits(v/1e9) + " G"
	case v >= 1e6:
		return digits(v/1e6) + " M"
	case v >= 1e3:
		return digits(v/1e3) + " k"
	}
	return digits(v)
}

// digits is a number with three significant digits, without zeros at the end of a fraction.
func digits(v float64) string {
	if v == 0 {
		return "0"
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	s := strconv.FormatFloat(v, 'f', min(decimals, 4), 64)
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// Duration is a time with three significant digits: 12.3 µs, 4.56 ms, 1.2 s.
func Duration(d time.Duration) string {
	switch v := float64(d); {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return digits(v/1e9) + " s"
	case d >= time.Millisecond:
		return digits(v/1e6) + " ms"
	default:
		return digits(v/1e3) + " µs"
	}
}

// Bytes is a size: 987 B, 12.3 KiB, 4.5 MiB.
func Bytes(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if math.Abs(v) >= u.size {
			return digits(v/u.size) + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", v)
}
