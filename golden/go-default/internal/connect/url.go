// Package connect says how a connection to Postgres is made: which URLs are
// accepted and what they may ask for, which address is dialled, how client and server
// prove to each other who they are, what a refusal means, and when it is better not
// to try. It makes each connection profit from those before it, since a service that
// keeps none makes many.
//
// Callers use url.go and connector.go. Below are dial.go (addresses and TLS), login.go
// with guard.go (authentication), breaker.go (may another attempt be made?) and
// refusal.go (what was the last one told?).
package connect

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
)

// Options are what a URL cannot say.
type Options struct {
	AppName        string // application_name, shown in pg_stat_activity; "" leaves it to the URL, else "nopool"
	AllowPlaintext bool   // accept an sslmode below require when the host is this machine
	AllowPlainAuth bool   // without a verified certificate, accept methods other than SCRAM

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

// foreignKeys are parameters that other clients invented and providers print in
// their example URLs. They mean nothing here and are dropped.
var foreignKeys = []string{"pgbouncer", "supa", "schema", "connection_limit", "pool_timeout", "pool_max_conns", "pool_min_conns"}

const onlySCRAM = "scram-sha-256"

var malformed = invalid("malformed, or a parameter is not one of " + strings.Join(allowedKeys, ", ") +
	"; percent-encode special characters in the password")

// Parse returns what connects to a postgres:// URL or keyword/value string, for one
// connection per session: parameters in the exec mode of pgx (one round trip, no
// prepared statements), no fallback to another host or to plaintext, nothing sent at
// start-up but the name of the application. Without a verified certificate only
// SCRAM is spoken, unless allowed otherwise, since any other method would hand the
// password to whoever answers. Its error is a nopool.ErrConfiguration with a static
// text that quotes nothing of the URL: a mistyped one has its password in odd places.
func Parse(connString string, o Options) (*Connector, error) {
	connString, err := prepare(connString)
	if err != nil {
		return nil, err
	}
	// Errors of pgx quote the string with a best effort at hiding the password:
	// they are never passed on.
	config, err := pgx.ParseConfigWithOptions(connString, pgx.ParseConfigOptions{
		ParseConfigOptions: pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowedKeys},
	})
	if errors.As(err, new(*fs.PathError)) {
		return nil, invalid("a file that it names, as by sslrootcert, cannot be read from where the program starts")
	}
	if err != nil {
		return nil, malformed
	}
	plaintext := config.TLSConfig == nil
	for _, fallback := range config.Fallbacks {
		if fallback.Host != config.Host || fallback.Port != config.Port {
			return nil, invalid("names several hosts; name one")
		}
		plaintext = plaintext || fallback.TLSConfig == nil
	}
	if plaintext && !(o.AllowPlaintext && local(config.Host)) {
		return nil, invalid("sslmode must be require, verify-ca or verify-full (weaker is for APP_ENV=local and a host on this machine)")
	}
	if config.RequireAuth != "" && config.RequireAuth != onlySCRAM {
		return nil, invalid("require_auth can only be " + onlySCRAM)
	}
	if !verified(config) && !o.AllowPlainAuth {
		config.RequireAuth = onlySCRAM
	}
	config.Fallbacks, config.ValidateConnect = nil, nil                           // the latter by PGTARGETSESSIONATTRS
	config.ConnectTimeout = 0                                                     // the session's own deadline covers more
	name := cmp.Or(o.AppName, config.RuntimeParams["application_name"], "nopool") // an empty one is malformed to Supavisor
	config.RuntimeParams = map[string]string{"application_name": name}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	return newConnector(config, o.DialFunc, o.LookupFunc), nil
}

// prepare drops foreignKeys, and refuses early what pgx would take for an unknown
// keyword, such as a mistyped scheme, to say what is wrong.
func prepare(connString string) (string, error) {
	connString = strings.TrimSpace(connString)
	before, _, isURL := strings.Cut(connString, "://")
	switch keywords := strings.Contains(before, "="); {
	case connString == "":
		return "", invalid("empty")
	case keywords:
		return connString, nil
	case !isURL:
		return "", invalid("must begin with postgres:// or be a list of keyword=value")
	case before != "postgres" && before != "postgresql":
		return "", invalid("the scheme must be postgres:// or postgresql://")
	}
	parsed, err := url.Parse(connString)
	if err != nil {
		return "", malformed
	}
	query, err := url.ParseQuery(parsed.RawQuery) // which does not leave out what it cannot read
	if err != nil {
		return "", malformed
	}
	if parsed.Hostname() == "" && !query.Has("host") {
		return "", invalid("names no host")
	}
	for _, key := range foreignKeys {
		query.Del(key)
	}
	parsed.RawQuery = query.Encode()
	return parsed.String(), nil
}

func invalid(reason string) error {
	return fmt.Errorf("%w: the database URL is invalid: %s", nopool.ErrConfiguration, reason)
}

// local reports whether host is this machine: a Unix socket's folder, the name
// localhost, or a loopback address written as such.
func local(host string) bool {
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || host == "localhost" || (ip != nil && ip.IsLoopback())
}
