package nopool

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

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

// CheckURL reports what is wrong with a connection string, as a static text
// that quotes nothing of it: a mistyped URL has its password in odd places.
func CheckURL(connString string, allowPlaintext bool) error {
	_, err := ParseConfig(connString, allowPlaintext, false)
	return err
}

// ParseConfig returns how to connect to connString for one connection per
// session: parameters in the exec mode of pgx (one round trip, no prepared
// statements), no fallback to another host or to plaintext, nothing sent at
// start-up but the name of the application. allowPlaintext accepts a weaker
// sslmode than require when the host is this machine. Without a verified
// certificate only SCRAM is spoken, unless allowPlainAuth, since any other
// method would hand the password to whoever answers.
func ParseConfig(connString string, allowPlaintext, allowPlainAuth bool) (*pgx.ConnConfig, error) {
	connString, err := ownChecks(connString)
	if err != nil {
		return nil, err
	}
	// Errors of pgx quote the string with a best effort at hiding the password:
	// they are never passed on.
	connect, err := pgx.ParseConfigWithOptions(connString, pgx.ParseConfigOptions{
		ParseConfigOptions: pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowedKeys},
	})
	if errors.As(err, new(*fs.PathError)) {
		return nil, invalid("a file that it names, as by sslrootcert, cannot be read from where the program starts")
	}
	if err != nil {
		return nil, malformed
	}
	plaintext := connect.TLSConfig == nil
	for _, fallback := range connect.Fallbacks {
		if fallback.Host != connect.Host || fallback.Port != connect.Port {
			return nil, invalid("names several hosts; name one")
		}
		plaintext = plaintext || fallback.TLSConfig == nil
	}
	if plaintext && !(allowPlaintext && local(connect.Host)) {
		return nil, invalid("sslmode must be require, verify-ca or verify-full (weaker is for APP_ENV=local and a host on this machine)")
	}
	connect.Fallbacks, connect.ValidateConnect = nil, nil // the latter by PGTARGETSESSIONATTRS
	if connect.TLSConfig != nil {
		// PgBouncer resumes TLS sessions, which saves the certificate's cost.
		connect.TLSConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	if connect.RequireAuth != "" && connect.RequireAuth != onlySCRAM {
		return nil, invalid("require_auth can only be " + onlySCRAM)
	}
	if !verified(connect) && !allowPlainAuth {
		connect.RequireAuth = onlySCRAM
	}
	connect.ConnectTimeout = 0 // the session's own deadline covers more
	connect.RuntimeParams = map[string]string{"application_name": connect.RuntimeParams["application_name"]}
	connect.DefaultQueryExecMode = pgx.QueryExecModeExec
	connect.StatementCacheCapacity, connect.DescriptionCacheCapacity = 0, 0
	return connect, nil
}

// ownChecks refuses what pgx would misread, before it sees it: a mistyped
// scheme parses as a keyword, which would be sent to the server and echoed.
func ownChecks(connString string) (string, error) {
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
	query := parsed.Query()
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
	return fmt.Errorf("%w: the database URL is invalid: %s", ErrConfiguration, reason)
}

// verified reports whether the server must prove who it is with a certificate.
func verified(connect *pgx.ConnConfig) bool {
	return connect.TLSConfig != nil &&
		(!connect.TLSConfig.InsecureSkipVerify || connect.TLSConfig.VerifyPeerCertificate != nil)
}

// local reports whether host is this machine: a Unix socket's folder, the name
// localhost, or a loopback address written as such.
func local(host string) bool {
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || host == "localhost" || (ip != nil && ip.IsLoopback())
}
