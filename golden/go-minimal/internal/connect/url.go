// Package connect says how a connection to Postgres is made: which URLs are accepted and what they
// may ask for, which address is dialled, how client and server prove to each other who they are,
// what a refusal means, and when it is better not to try. It makes each connection profit from
// those before it, since a service that keeps none makes many.
//
// Callers use url.go, connector.go, and of refusal.go what is exported. Below are dial.go (addresses,
// and refusals before TLS), breaker.go (may another attempt be made, or a password be sent?) and
// refusal.go (what does a refusal mean?).
package connect

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.org/team/tiny-shop/internal/nopool"
)

// Options are what a URL cannot say.
type Options struct {
	AppName        string // application_name, shown in pg_stat_activity; "" leaves it to the URL, else "nopool"
	AllowPlaintext bool   // accept an sslmode below require when the host is this machine
	AllowPlainAuth bool   // without a verified certificate, accept methods other than SCRAM
	Processes      int    // behind one address, which share the logins that a pooler may refuse; 0 is one

	DialFunc   pgconn.DialFunc   // dials one address; nil asks net.Dialer
	LookupFunc pgconn.LookupFunc // resolves the host; nil asks net.Resolver
}

// allowedKeys are the connection parameters taken from a URL. Everything else
// pgx would send to the server at start-up, which poolers refuse or drop.
var allowedKeys = []string{
	"host", "port", "user", "password", "dbname", "application_name", "connect_timeout",
	"ssl", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslsni", "sslnegotiation",
	"channel_binding", "require_auth",
}

// foreignKeys are parameters of other clients, for their pools, caches and sockets, which
// providers print in their example URLs. They mean nothing here and are dropped.
var foreignKeys = regexp.MustCompile(`^(pgbouncer|supa|schema|connection_limit|pool_\w+|socket_timeout|tcp_user_timeout|keepalives\w*|` +
	`\w*statement_cache_\w+|description_cache_capacity|default_query_exec_mode|prepareThreshold|binary_parameters|` +
	`gssencmode|sslcompression|sslaccept|target_session_attrs|uselibpqcompat|client_encoding|fallback_application_name|load_balance_hosts)$`)

// endpoint is what Neon wants in options of clients that do not name the server in the TLS
// handshake. This one does.
var endpoint = regexp.MustCompile(`^(endpoint|project)=[\w-]+$`)

const onlySCRAM = "scram-sha-256"

var (
	malformed = invalid("malformed: percent-encode special characters in user and password (in a list of keyword=value, " +
		"put them in '…'), and take only the parameters " + strings.Join(allowedKeys, ", "))
	tooWeak = invalid("sslmode must be require, verify-ca or verify-full (weaker is for APP_ENV=local and a host on this machine)")
)

// Parse returns what connects to a postgres:// URL or keyword/value string, for one
// connection per session: no prepared statements, no fallback to another host or to
// plaintext, nothing sent at start-up but the name of the application. Without a verified
// certificate only SCRAM is spoken, unless allowed otherwise, since any other method would
// hand the password to whoever answers. Its error is a nopool.ErrConfiguration that names a
// parameter and quotes nothing else of the URL: a mistyped one has its password in odd places.
func Parse(connString string, o Options) (*Connector, error) {
	config, err := parse(strings.TrimSpace(connString))
	if err != nil {
		return nil, err
	}
	plaintext := config.TLSConfig == nil
	for _, fallback := range config.Fallbacks {
		if fallback.Host != config.Host || fallback.Port != config.Port {
			return nil, invalid("names several hosts; name one")
		}
		plaintext = plaintext || fallback.TLSConfig == nil
	}
	if plaintext && !(o.AllowPlaintext && local(config.Host)) {
		return nil, tooWeak
	}
	if config.RequireAuth != "" && config.RequireAuth != onlySCRAM {
		return nil, invalid("require_auth can only be " + onlySCRAM)
	}
	if !verified(config) && !o.AllowPlainAuth {
		config.RequireAuth = onlySCRAM
	}
	config.Fallbacks = nil
	config.ConnectTimeout = 0                                                     // the session's own deadline covers more
	name := cmp.Or(o.AppName, config.RuntimeParams["application_name"], "nopool") // an empty one is malformed to Supavisor
	config.RuntimeParams = map[string]string{"application_name": name}
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	return newConnector(config, o), nil
}

// parse has pgx read a string, without what other clients need in it. It refuses early
// what pgx would take for something else, such as a mistyped scheme for a keyword.
func parse(connString string) (*pgx.ConnConfig, error) {
	before, _, isURL := strings.Cut(connString, "://")
	switch keywords := strings.Contains(before, "="); {
	case connString == "":
		return nil, invalid("empty")
	case strings.ContainsAny(connString[:1], "'\"`"):
		return nil, invalid("it begins with a quote, and not all that read a file of settings take quotes off: leave them out")
	case keywords:
		return ask(connString)
	case !isURL:
		return nil, invalid("must begin with postgres:// or be a list of keyword=value")
	case before != "postgres" && before != "postgresql":
		return nil, invalid("the scheme must be postgres:// or postgresql://")
	}
	parsed, err := url.Parse(connString)
	if err != nil || parsed.Fragment != "" || strings.Contains(parsed.EscapedPath()+parsed.RawQuery, "@") { // a #, / or ? of the password ended the host
		return nil, malformed
	}
	query, err := url.ParseQuery(parsed.RawQuery) // which does not leave out what it cannot read
	if err != nil {
		return nil, malformed
	}
	if parsed.Hostname() == "" && !query.Has("host") {
		return nil, invalid("names no host")
	}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		switch {
		case foreignKeys.MatchString(key) || key == "options" && endpoint.MatchString(query.Get(key)):
			query.Del(key)
		case slices.Contains(allowedKeys, key):
		default:
			return nil, invalid(fmt.Sprintf("the parameter %s is not taken: leave it out, or if it is a setting of the server, set it by ALTER ROLE", key))
		}
	}
	parsed.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // to pgx, as to libpq, a plus is no space
	return ask(parsed.String())
}

var environment sync.Mutex

// ask has pgx read a string, and of the environment nothing but the password: PGSERVICE,
// PGSSLCERT and their like, made for psql, would change or break what the URL says.
func ask(connString string) (*pgx.ConnConfig, error) {
	environment.Lock()
	defer environment.Unlock()
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "PGPASS") {
			_ = os.Unsetenv(name)
			defer os.Setenv(name, value)
		}
	}
	config, err := pgx.ParseConfigWithOptions(connString, pgx.ParseConfigOptions{
		ParseConfigOptions: pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowedKeys},
	})
	if err == nil {
		return config, nil
	}
	_, why, _ := strings.Cut(err.Error(), "`: ") // what it quotes is the string, with a best effort at hiding the password
	why = strings.NewReplacer("CA ", "sslrootcert ", " cert", " sslcert").Replace(why)
	switch key := anyKey.FindString(why); key {
	case "":
		return nil, malformed
	case "sslmode":
		return nil, tooWeak
	case "sslrootcert", "sslcert", "sslkey":
		return nil, invalid("the file of " + key + ", as seen from where the program starts, cannot be read or used")
	default:
		return nil, invalid("the value of " + key + " is not one that it can have")
	}
}

// anyKey finds the parameter that pgx complains of.
var anyKey = regexp.MustCompile(`\b(` + strings.Join(allowedKeys, "|") + `)\b`)

func invalid(reason string) error {
	return fmt.Errorf("%w: the database URL is invalid: %s", nopool.ErrConfiguration, reason)
}

// local reports whether host is this machine: a Unix socket's folder, the name
// localhost, or a loopback address written as such.
func local(host string) bool {
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || host == "localhost" || (ip != nil && ip.IsLoopback())
}
