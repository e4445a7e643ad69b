package auth

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Bounds of what a password file may ask for: a line must not take the broker's
// memory, or minutes.
const (
	maxIterations = 10_000_000
	maxArgonKiB   = 1 << 20
	maxArgonTime  = 64
	maxSalt       = 1024
)

// A Hash is a password as a file keeps it. Immutable.
type Hash struct {
	kind       byte // '6', '7', 'a' or 's'
	iterations int  // '7' and 's'; argon2: passes
	memory     uint32
	threads    uint8
	salt, sum  []byte
}

// Algorithm names a way to hash, as mosquitto_passwd -H does.
type Algorithm string

// The algorithms for new hashes.
const (
	SHA512       Algorithm = "sha512" // one round: for files that an old Mosquitto has to read
	SHA512PBKDF2 Algorithm = "sha512-pbkdf2"
	Argon2id     Algorithm = "argon2id"
	SCRAM        Algorithm = "scram-sha-256" // as PostgreSQL writes it: for clients that prove their password without sending it
)

// Parameters of new hashes: PBKDF2 as RFC 8018 is used by OWASP for SHA-512,
// argon2id as in RFC 9106, second recommended option.
const (
	newIterations  = 210_000
	newSCRAMRounds = 4096 // the client pays for them at each connect; RFC 7677 section 4
	newArgonKiB    = 64 << 10
	newArgonPasses = 3
	newArgonLanes  = 4
	newSaltBytes   = 16
)

// NewHash hashes password with a new salt.
func NewHash(a Algorithm, password string) (*Hash, error) {
	h := &Hash{salt: make([]byte, newSaltBytes)}
	_, _ = rand.Read(h.salt) // never fails
	switch a {
	case SHA512:
		h.kind = '6'
	case SHA512PBKDF2:
		h.kind, h.iterations = '7', newIterations
	case Argon2id:
		h.kind, h.iterations, h.memory, h.threads = 'a', newArgonPasses, newArgonKiB, newArgonLanes
	case SCRAM:
		h.kind, h.iterations = 's', newSCRAMRounds
	default:
		return nil, fmt.Errorf("auth: no algorithm %q: want %s, %s, %s or %s", a, Argon2id, SHA512PBKDF2, SHA512, SCRAM)
	}
	h.sum = h.of([]byte(password), 64)
	return h, nil
}

// of hashes password to n bytes.
func (h *Hash) of(password []byte, n int) []byte {
	switch h.kind {
	case '6':
		d := sha512.New()
		d.Write(password)
		d.Write(h.salt)
		return d.Sum(nil)
	case '7':
		sum, err := pbkdf2.Key(sha512.New, string(password), h.salt, h.iterations, n)
		if err != nil {
			return nil // not in FIPS mode: no match
		}
		return sum
	case 's':
		return scramKeys(password, h.salt, h.iterations)
	default:
		return argon2.IDKey(password, h.salt, uint32(h.iterations), h.memory, h.threads, uint32(n))
	}
}

// Matches reports whether password is the one. It takes as long as the hash asks for.
func (h *Hash) Matches(password []byte) bool {
	return subtle.ConstantTimeCompare(h.of(password, len(h.sum)), h.sum) == 1
}

// String is the hash as the file has it.
func (h *Hash) String() string {
	b64 := base64.StdEncoding
	switch h.kind {
	case '6':
		return "$6$" + b64.EncodeToString(h.salt) + "$" + b64.EncodeToString(h.sum)
	case '7':
		return "$7$" + strconv.Itoa(h.iterations) + "$" + b64.EncodeToString(h.salt) + "$" + b64.EncodeToString(h.sum)
	case 's':
		return scramPrefix + "$" + strconv.Itoa(h.iterations) + ":" + b64.EncodeToString(h.salt) + "$" +
			b64.EncodeToString(h.sum[:scramBytes]) + ":" + b64.EncodeToString(h.sum[scramBytes:])
	default:
		raw := base64.RawStdEncoding
		return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.iterations, h.threads,
			raw.EncodeToString(h.salt), raw.EncodeToString(h.sum))
	}
}

var errHash = errors.New("not a hash of mosquitto_passwd: want $6$…, $7$…, $argon2id$… or SCRAM-SHA-256$…")

// ParseHash reads a hash as the file has it.
func ParseHash(s string) (*Hash, error) {
	f := strings.Split(s, "$")
	if f[0] == scramPrefix && len(f) == 3 {
		return parseSCRAM(f[1], f[2])
	}
	h := new(Hash)
	var salt, sum string
	encoding := base64.StdEncoding
	switch {
	case len(f) == 4 && f[1] == "6":
		h.kind, salt, sum = '6', f[2], f[3]
	case len(f) == 5 && f[1] == "7":
		n, err := strconv.Atoi(f[2])
		if err != nil || n < 1 || n > maxIterations {
			return nil, fmt.Errorf("%q iterations: want 1 to %d", f[2], maxIterations)
		}
		h.kind, h.iterations, salt, sum = '7', n, f[3], f[4]
	case len(f) == 6 && f[1] == "argon2id":
		var v int
		if n, err := fmt.Sscanf(f[2], "v=%d", &v); n != 1 || err != nil || v != argon2.Version {
			return nil, fmt.Errorf("argon2id %q: want v=%d", f[2], argon2.Version)
		}
		if n, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &h.memory, &h.iterations, &h.threads); n != 3 || err != nil ||
			h.memory < 8 || h.memory > maxArgonKiB || h.iterations < 1 || h.iterations > maxArgonTime || h.threads < 1 {
			return nil, fmt.Errorf("argon2id parameters %q: want m=8 to %d, t=1 to %d, p from 1", f[3], maxArgonKiB, maxArgonTime)
		}
		h.kind, salt, sum, encoding = 'a', f[4], f[5], base64.RawStdEncoding
	default:
		return nil, errHash
	}
	var err error
	if h.salt, err = encoding.DecodeString(salt); err != nil || len(h.salt) == 0 || len(h.salt) > maxSalt {
		return nil, errors.New("the salt is not base64")
	}
	if h.sum, err = encoding.DecodeString(sum); err != nil || len(h.sum) < 16 || len(h.sum) > 128 || h.kind == '6' && len(h.sum) != sha512.Size {
		return nil, errors.New("the hash is not base64, or not of its length")
	}
	return h, nil
}
