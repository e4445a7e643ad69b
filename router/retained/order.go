package retained

import "math/bits"

// order compares two topic names level by level: it is negative, zero or positive as a stands before,
// at or behind b. A name stands right before the names below it, because '/' counts as less than
// every other byte.
func order(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if differ := load64(a, i) ^ load64(b, i); differ != 0 {
			i += bits.TrailingZeros64(differ) / 8
			return rank(a[i]) - rank(b[i])
		}
	}
	for ; i < n; i++ {
		if a[i] != b[i] {
			return rank(a[i]) - rank(b[i])
		}
	}
	return len(a) - len(b)
}

// rank is the place of a byte in the order of topic names.
func rank(c byte) int {
	if c == '/' {
		return 0
	}
	return int(c) + 1
}

// load64 reads 8 bytes little endian; the compiler makes it one load.
func load64(s string, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}

// below, as the rest of a bound, makes it stand behind its prefix and all names below the prefix, but
// before everything else that is behind them. No topic name contains it [MQTT-4.7.3-2].
const below = "\x00"

// A bound is the place prefix+rest in the order of topic names. Both parts are borrowed from a stored
// name and from the filter, so that a bound is never put together in memory.
type bound struct {
	prefix, rest string
}

// order compares name with the bound as order does with a name.
func (b bound) order(name string) int {
	if n := len(b.prefix); len(name) > n {
		if c := order(name[:n], b.prefix); c != 0 {
			return c
		}
		return order(name[n:], b.rest)
	}
	if c := order(name, b.prefix); c != 0 {
		return c
	}
	return -len(b.rest)
}

// separator returns the shortest text that stands behind left and not behind right; left stands
// before right. It is a prefix of right.
func separator(left, right string) string {
	i := 0
	for i < len(left) && left[i] == right[i] {
		i++
	}
	return right[:i+1]
}
