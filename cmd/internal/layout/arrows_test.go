package layout

// arrows is what each package of the module may import inside the module. Imports never go up.
var arrows = map[string][]string{
	// 0
	"codec/topic":                    {},
	"codec":                          {"codec/topic"},
	"engine/internal/clock":          {},
	"engine/internal/directory":      {},
	"engine/internal/metrics":        {"engine/hook"},
	"engine/internal/certs":          {},
	"engine/internal/certs/certtest": {}, // for tests
	"engine/internal/invariant":      {}, // anything under engine/ may import it

	// 1
	"engine/internal/limits":    {"engine/internal/clock"},
	"engine/internal/wheel":     {"engine/internal/clock"},
	"engine/internal/inflight":  {"codec"},
	"engine/internal/transport": {"engine/internal/metrics"},
	"engine/internal/session":   {"codec", "codec/topic", "engine/message", "engine/internal/inflight", "engine/internal/clock"},
	"engine/message":            {"codec", "engine/internal/clock"}, // clock: when a message expires
	"engine/hook":               {"codec", "engine/message"},
	"router":                    {"codec", "codec/topic"},
	"router/retained":           {"codec/topic"},
	"engine/store":              {"codec"},
	"engine/store/storetest":    {"engine/store"}, // for tests

	// 2
	"engine": {
		"codec", "codec/topic", "router", "router/retained", "engine/hook", "engine/message", "engine/store",
		"engine/internal/session", "engine/internal/inflight", "engine/internal/directory", "engine/internal/transport", "engine/internal/certs",
		"engine/internal/wheel", "engine/internal/clock", "engine/internal/metrics", "engine/internal/limits",
	},

	// 3
	"engine/store/pebblestore": {"engine/store"},
	"engine/store/sqlstore":    {"engine/store", "codec"},

	"engine/store/sqlstore/mariadbtest": {}, // for tests
	"engine/store/transfer":             {"engine/store", "codec", "codec/topic"},
	"engine/auth":                       {"engine/hook", "codec", "codec/topic"},
	"engine/auth/jwt":                   {"engine/auth", "engine/hook", "codec"},
	"engine/auth/webhook":               {"engine/auth", "engine/auth/internal/remote", "engine/hook", "codec"},
	"engine/auth/kubernetes":            {"engine/auth", "engine/auth/internal/remote", "engine/hook", "codec"},

	"engine/auth/internal/remote": {},
	"engine/enginetest":           {"engine", "codec"},
	"engine/client":               {"codec", "codec/topic", "engine/internal/inflight"},
	"engine/internal/foreign":     {"engine", "engine/hook", "engine/internal/certs/certtest", "codec"}, // tests with others' programs

	// 4
	"cmd/wheelmq":         {"engine/store", "engine/store/pebblestore", "engine/store/sqlstore", "engine/store/transfer", "cmd/internal/config", "engine", "engine/auth", "engine/auth/jwt", "engine/auth/kubernetes", "engine/auth/webhook", "engine/client", "engine/hook", "codec", "codec/topic", "bench/load", "bench/report", "bench/compare"},
	"cmd/internal/e2e":    {"engine/client", "engine/store/sqlstore/mariadbtest"},
	"cmd/internal/layout": {},
	"cmd/internal/config": {"engine", "engine/auth", "engine/auth/jwt", "engine/auth/kubernetes", "engine/auth/webhook", "codec", "router"}, // router: names of strategies
	"bench/load":          {},
	"bench/report":        {"bench/load"},
	"bench/compare":       {"bench/load", "bench/report"},
}

// fences is which packages may use which dependency, tests included. A dependency is named by the start of its import
// paths. One that is not here is not allowed at all.
var fences = map[string][]string{
	"github.com/panjf2000/gnet/v2":            {"engine/internal/transport"},
	"github.com/gobwas/ws":                    {"engine/internal/transport", "bench/load", "engine/client"},
	"go.etcd.io/bbolt":                        {"engine/client"},
	"golang.org/x/net/http/httpproxy":         {"engine/client"},
	"golang.org/x/net/dns/dnsmessage":         {"cmd/wheelmq"}, // its tests
	"golang.org/x/net/proxy":                  {"engine/client", "cmd/wheelmq"},
	"github.com/pires/go-proxyproto":          {"engine/internal/transport"},
	"github.com/valyala/bytebufferpool":       {"engine", "engine/message", "engine/internal/transport"},
	"github.com/cespare/xxhash/v2":            {"engine", "engine/internal/directory", "router", "router/retained"},
	"github.com/cockroachdb/pebble/v2":        {"engine/store/pebblestore"},
	"go.yaml.in/yaml/v3":                      {"cmd/internal/config", "engine/auth"},
	"github.com/golang-jwt/jwt/v5":            {"engine/auth/jwt"},
	"github.com/MicahParks/keyfunc/v3":        {"engine/auth/jwt"},
	"github.com/MicahParks/jwkset":            {"engine/auth/jwt"},
	"golang.org/x/time/rate":                  {"engine/auth/jwt"}, // part of jwkset's API
	"github.com/sony/gobreaker/v2":            {"engine/auth/internal/remote"},
	"github.com/xdg-go/scram":                 {"engine/auth", "engine/client"}, // client: an example
	"github.com/xdg-go/stringprep":            {"engine/auth"},                  // part of SCRAM
	"github.com/coreos/go-systemd/v22":        {"cmd/wheelmq"},
	"github.com/BurntSushi/toml":              {"bench/compare"},
	"github.com/spf13/cobra":                  {"cmd/wheelmq"},
	"github.com/spf13/pflag":                  {"cmd/wheelmq"},
	"github.com/eclipse/paho.mqtt.golang":     {"cmd/internal/e2e", "engine", "engine/client"}, // engine: its examples
	"modernc.org/sqlite":                      {"engine", "engine/store/sqlstore"},             // engine: an example
	"github.com/go-sql-driver/mysql":          {"engine/store/sqlstore"},
	"github.com/eclipse/paho.golang":          {"cmd/internal/e2e", "engine", "engine/client"}, // engine: its hooks over the wire
	"github.com/HdrHistogram/hdrhistogram-go": {"bench/load"},
	"golang.org/x/crypto/argon2":              {"engine/auth"},
	"github.com/mochi-mqtt/server/v2":         {"engine/client"}, // its tests
	"github.com/nats-io/nats-server/v2":       {"engine/client"}, // its tests
	"golang.org/x/sys":                        {"cmd/wheelmq", "cmd/internal/e2e", "engine/internal/transport", "bench/load", "bench/report", "bench/compare"},

	"github.com/santhosh-tekuri/jsonschema/v6": {"cmd/internal/config"}, // its tests
}

// topLevel is everything that may lie at the top of the module beside names that begin with a dot. bin is what make
// builds; git ignores it.
var topLevel = []string{"cmd", "engine", "codec", "router", "bench", "profiles", "go.mod", "go.sum", "Makefile", "README.md", "bin"}

// longestFile is how many lines a Go file may have, tests excepted: a longer one holds more than one idea.
const longestFile = 600
