// Package config turns the environment into a Config: every setting has a
// default, a bound and a line of help in one table, every problem is reported at
// once, and nothing secret can be printed by accident.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"example.org/team/tiny-shop/internal/nopool"
)

// Config is the service's configuration, checked. Printing it in any way shows
// its name and environment only, since two of its fields hold passwords.
type Config struct {
	AppName   string
	Env       string // "local" relaxes the rules about TLS for this machine, and nothing else
	LogLevel  slog.Level
	LogFormat string // "json" or "text"

	HTTPAddr        string
	MaxBody         int64 // bytes of a request's body
	RequestTimeout  time.Duration
	ShutdownDelay   time.Duration // from "not ready" to the end of listening
	ShutdownTimeout time.Duration // from there to the end of the last request and session
	StartupTimeout  time.Duration // how long a database out of reach is retried at start

	DB                   nopool.Config // its Logger is left to the caller
	MigrationURL         string
	MigrationAllowPooler bool

	PoolSize, Replicas, Reserve int  // what DB.MaxSessions was derived from; PoolSize is 0 when unset
	BudgetGuessed               bool // neither DB_MAX_SESSIONS nor DB_POOL_SIZE is set
}

// Load reads the settings through getenv. Its error holds one line for each
// problem, which names the setting and says what to do; it quotes neither a
// password nor a URL.
func Load(getenv func(string) string) (Config, error) {
	r := &reader{getenv: getenv}
	c := Config{
		AppName:         r.name("APP_NAME"),
		Env:             r.name("APP_ENV"),
		LogLevel:        r.level("LOG_LEVEL"),
		HTTPAddr:        r.address("HTTP_ADDR"),
		MaxBody:         int64(r.integer("HTTP_MAX_BODY", 1, 1<<30)),
		RequestTimeout:  r.duration("REQUEST_TIMEOUT", shortest),
		ShutdownDelay:   r.duration("SHUTDOWN_DELAY", 0),
		ShutdownTimeout: r.duration("SHUTDOWN_TIMEOUT", shortest),
		StartupTimeout:  r.duration("DB_STARTUP_TIMEOUT", shortest),
		DB: nopool.Config{
			SessionWait:              r.duration("DB_SESSION_WAIT", shortest),
			ConnectTimeout:           r.duration("DB_CONNECT_TIMEOUT", shortest),
			StatementTimeout:         r.duration("DB_STATEMENT_TIMEOUT", shortest),
			LockTimeout:              r.duration("DB_LOCK_TIMEOUT", shortest),
			IdleInTransactionTimeout: r.duration("DB_IDLE_IN_TRANSACTION_TIMEOUT", shortest),
			AllowPlainAuth:           r.boolean("DB_ALLOW_PLAIN_AUTH"),
		},
		MigrationAllowPooler: r.boolean("MIGRATION_ALLOW_POOLER"),
	}
	local := c.Env == "local"
	c.LogFormat = r.oneOf("LOG_FORMAT", map[bool]string{true: "text", false: "json"}[local], "json", "text")
	c.DB.AppName = c.AppName
	c.DB.AllowPlaintext = local
	c.loadURLs(r)
	c.loadBudget(r)
	c.crossCheck(r)
	return c, errors.Join(r.problems...)
}

func (c *Config) loadURLs(r *reader) {
	c.DB.URL = r.url("DATABASE_URL", c.DB.AllowPlaintext)
	c.MigrationURL = r.url("MIGRATION_DATABASE_URL", c.DB.AllowPlaintext)
	if c.DB.URL == "" {
		r.problem("DATABASE_URL", `not set: give it a postgres:// URL, or run "go run ./cmd/tiny-shop dev" for a private local database`)
	}
	if c.MigrationURL == "" {
		c.MigrationURL = c.DB.URL
	}
}

// loadBudget decides how many connections this process may hold. The pooler
// counts all replicas together, so a share of its size is the safe answer.
func (c *Config) loadBudget(r *reader) {
	c.Replicas = r.integer("DB_REPLICAS", 1, most)
	c.Reserve = r.integer("DB_RESERVE", 0, most)
	if r.value("DB_POOL_SIZE") != "" {
		c.PoolSize = r.integer("DB_POOL_SIZE", 1, most)
	}
	switch {
	case r.value("DB_MAX_SESSIONS") != "":
		c.DB.MaxSessions = r.integer("DB_MAX_SESSIONS", 1, most)
	case c.PoolSize > 0:
		c.DB.MaxSessions = max(1, (c.PoolSize-c.Reserve)/max(1, c.Replicas))
	default:
		c.DB.MaxSessions, c.BudgetGuessed = guessedSessions, true
	}
	c.DB.MaxWaiting = 4 * c.DB.MaxSessions
	if r.value("DB_MAX_WAITING") != "" {
		c.DB.MaxWaiting = r.integer("DB_MAX_WAITING", 0, most)
	}
}

// crossCheck looks at settings that only make sense together. A request that
// ends before its session could open would blame the wrong party.
func (c *Config) crossCheck(r *reader) {
	if len(r.problems) > 0 {
		return // a comparison with a value that is wrong itself only confuses
	}
	if open := c.DB.SessionWait + c.DB.ConnectTimeout; c.RequestTimeout <= open {
		r.problem("REQUEST_TIMEOUT", "%v must be more than DB_SESSION_WAIT + DB_CONNECT_TIMEOUT, which is %v", c.RequestTimeout, open)
	}
	if c.RequestTimeout < c.DB.StatementTimeout {
		r.problem("REQUEST_TIMEOUT", "%v must not be less than DB_STATEMENT_TIMEOUT, which is %v", c.RequestTimeout, c.DB.StatementTimeout)
	}
	if all := c.Replicas * c.DB.MaxSessions; c.PoolSize > 0 && all > c.PoolSize {
		r.problem("DB_POOL_SIZE", "%d must not be less than DB_REPLICAS x DB_MAX_SESSIONS, which is %d", c.PoolSize, all)
	}
}

// String shows nothing secret, for all verbs of package fmt but %#v.
func (c Config) String() string { return fmt.Sprintf("config of %s (%s)", c.AppName, c.Env) }

// GoString is String, for %#v.
func (c Config) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is String, for JSON and the like.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
