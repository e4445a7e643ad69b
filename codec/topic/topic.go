package topic

// MaxLength is the longest Topic Name or Topic Filter in bytes [MQTT-4.7.3-3].
const MaxLength = 65535

// sharePrefix begins the Topic Filter of every Shared Subscription [MQTT-4.8.2-1].
const sharePrefix = "$share/"

// ValidName reports whether name has the form of a Topic Name: at least one byte, at most
// [MaxLength], no wildcard [MQTT-4.7.0-1] [MQTT-4.7.3-1].
func ValidName[S ~string | ~[]byte](name S) bool {
	if len(name) == 0 || len(name) > MaxLength {
		return false
	}
	for i := range len(name) {
		if name[i] == '+' || name[i] == '#' {
			return false
		}
	}
	return true
}

// ValidFilter reports whether filter has the form of a Topic Filter: at least one byte, at most
// [MaxLength], '#' alone in the last level [MQTT-4.7.1-1], '+' alone in its level [MQTT-4.7.1-2].
// It takes "$share/..." for an ordinary filter; see [ParseShared].
func ValidFilter[S ~string | ~[]byte](filter S) bool {
	if len(filter) == 0 || len(filter) > MaxLength {
		return false
	}
	for i := range len(filter) {
		switch filter[i] {
		case '#':
			if i != len(filter)-1 || i > 0 && filter[i-1] != '/' {
				return false
			}
		case '+':
			if i > 0 && filter[i-1] != '/' || i < len(filter)-1 && filter[i+1] != '/' {
				return false
			}
		}
	}
	return true
}

// HasSharePrefix reports whether s begins with "$share/". A Topic Filter that does is a Shared
// Subscription, well formed or not; a Topic Name that does is refused in a PUBLISH.
func HasSharePrefix[S ~string | ~[]byte](s S) bool {
	return len(s) >= len(sharePrefix) && s[0] == '$' && string(s[:len(sharePrefix)]) == sharePrefix
}

// ParseShared takes a Topic Filter apart. For "$share/name/rest" it returns name, rest and shared;
// for any other filter rest is the whole filter. ok is false when the Share Name is empty or has a
// wildcard, when nothing follows it [MQTT-4.8.2-1] [MQTT-4.8.2-2], or when rest is not a valid
// filter. "$share" without a slash is an ordinary filter.
func ParseShared[S ~string | ~[]byte](filter S) (shareName, rest S, shared, ok bool) {
	if !HasSharePrefix(filter) {
		return shareName, filter, false, ValidFilter(filter)
	}
	shareName, rest, _ = cutLevel(filter[len(sharePrefix):])
	ok = len(filter) <= MaxLength && ValidName(shareName) && ValidFilter(rest)
	return shareName, rest, true, ok
}

// Levels returns the number of levels of a Topic Name or Topic Filter: one more than it has slashes.
func Levels[S ~string | ~[]byte](s S) int {
	n := 1
	for i := range len(s) {
		if s[i] == '/' {
			n++
		}
	}
	return n
}

// Match reports whether the Topic Filter matches the Topic Name. Both must be valid, and the filter
// of a Shared Subscription is given without its "$share/name/".
func Match[F, N ~string | ~[]byte](filter F, name N) bool {
	if len(filter) == 0 || len(name) == 0 {
		return false
	}
	if name[0] == '$' && (filter[0] == '+' || filter[0] == '#') { // [MQTT-4.7.2-1]
		return false
	}
	for {
		level, filterRest, filterMore := cutLevel(filter)
		nameLevel, nameRest, nameMore := cutLevel(name)
		switch {
		case string(level) == "#":
			return true
		case string(level) != "+" && string(level) != string(nameLevel):
			return false
		case !nameMore: // "a/#" matches its parent level "a" too
			return !filterMore || string(filterRest) == "#"
		case !filterMore:
			return false
		}
		filter, name = filterRest, nameRest
	}
}

// cutLevel splits s after its first level; more tells whether a slash followed it.
func cutLevel[S ~string | ~[]byte](s S) (level, rest S, more bool) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, rest, false
}
