package config

import (
	"slices"
	"time"
)

const (
	guessedSessions = 10 // connections, when nothing says how many there are
	most            = 100_000

	shortest = time.Millisecond // Postgres counts in these, and reads 0 as "no limit"
	longest  = 24 * time.Hour
)

// Setting is one environment variable that Load reads.
type Setting struct {
	Name    string
	Default string // taken when it is not set; "" where Help says what happens then
	Help    string // one line
}

var settings = []Setting{
	{"DATABASE_URL", "", "required: postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full&sslrootcert=FILE"},
	{"MIGRATION_DATABASE_URL", "", "for migrations: a direct or session-mode address; DATABASE_URL when not set"},
	{"MIGRATION_ALLOW_POOLER", "false", "migrate even through what looks like a transaction-mode pooler"},
	{"APP_NAME", "tiny-shop", "application_name, as pg_stat_activity shows it"},
	{"APP_ENV", "production", "local allows an sslmode weaker than require to a database on this machine"},
	{"LOG_LEVEL", "info", "debug, info, warn or error"},
	{"LOG_FORMAT", "", "json or text; json when not set, but text where APP_ENV is local"},
	{"HTTP_ADDR", ":8080", "where to listen"},
	{"HTTP_MAX_BODY", "1048576", "largest request body, in bytes"},
	{"REQUEST_TIMEOUT", "60s", "of a whole request; more than DB_SESSION_WAIT + DB_CONNECT_TIMEOUT, not less than DB_STATEMENT_TIMEOUT"},
	{"SHUTDOWN_DELAY", "0s", "from the signal, while /ready says no, to the end of listening"},
	{"SHUTDOWN_TIMEOUT", "20s", "for requests and sessions to end after that"},
	{"DB_MAX_SESSIONS", "", "connections at any instant; derived from DB_POOL_SIZE when not set, else 10"},
	{"DB_POOL_SIZE", "", "what the pooler admits: DB_MAX_SESSIONS becomes (DB_POOL_SIZE - DB_RESERVE) / DB_REPLICAS"},
	{"DB_REPLICAS", "1", "processes that share the pooler, those of a rolling deploy included"},
	{"DB_RESERVE", "2", "connections left to migrations and administrators"},
	{"DB_MAX_WAITING", "", "sessions that may queue for a connection, 0 refuses at once; 4 x DB_MAX_SESSIONS when not set"},
	{"DB_SESSION_WAIT", "5s", "the longest wait in that queue"},
	{"DB_CONNECT_TIMEOUT", "10s", "from dial to the answer to BEGIN, retries included"},
	{"DB_STARTUP_TIMEOUT", "30s", "how long a database out of reach is retried at start"},
	{"DB_STATEMENT_TIMEOUT", "30s", "per statement, enforced by the server"},
	{"DB_LOCK_TIMEOUT", "5s", "per wait for a lock, enforced by the server"},
	{"DB_IDLE_IN_TRANSACTION_TIMEOUT", "30s", "between two statements of a session, enforced by the server"},
	{"DB_ALLOW_PLAIN_AUTH", "false", "without a verified certificate, hand the password to servers that do not speak SCRAM"},
}

var defaults = func() map[string]string {
	byName := make(map[string]string, len(settings))
	for _, s := range settings {
		byName[s.Name] = s.Default
	}
	return byName
}()

// Settings returns every setting there is, in the order of the documentation,
// so that a test can hold the documentation to it.
func Settings() []Setting { return slices.Clone(settings) }
