// Package config turns the environment into a Config: one table has every setting
// with its default and its bound, every problem is reported at once, and nothing
// secret can be printed by accident.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
)

// Config is the service's configuration, checked. Printing it in any way shows
// its name and environment only, since two of its fields hold passwords.
type Config struct {
	AppName   string
	Env       string // "local" relaxes the rules about TLS for this machine, and nothing else
	LogLevel  slog.Level
	LogFormat string // "json" or "text"

	HTTPAddr        string
	MaxBody         int // bytes of a request's body
	RequestTimeout  time.Duration
	ShutdownDelay   time.Duration // from "not ready" to the end of listening
	ShutdownTimeout time.Duration // from there to the end of the last request and session
	StartupTimeout  time.Duration // how long a database out of reach is retried at start

	DB                   nopool.Config      // its Logger is left to the caller
	Database, Migrations *connect.Connector // the former is DB's; one and the same, unless MIGRATION_DATABASE_URL is another
	MigrationAllowPooler bool

	PoolSize, Replicas, Reserve int  // what DB.MaxSessions was derived from; PoolSize is 0 when unset
	BudgetGuessed               bool // neither DB_MAX_SESSIONS nor DB_POOL_SIZE is set

	allowPlainAuth bool
}

// Load reads the settings through getenv. Its error holds one line for each
// problem, which names the setting and says what to do; it quotes neither a
// password nor a URL.
func Load(getenv func(string) string) (Config, error) {
	value := func(name string) string { return strings.TrimSpace(getenv(name)) }
	c := Config{LogFormat: "json"}
	c.DB.MaxWaiting = -1             // not set; 0 has a meaning
	if value("APP_ENV") == "local" { // which decides how others are read
		c.LogFormat = "text"
	}
	var problems []error
	for _, s := range c.settings() {
		text := cmp.Or(value(s.name), s.fallback)
		if text == "" || s.read == nil {
			continue
		}
		if err := s.read(text); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	problems = append(problems, c.connectors(value)...)
	c.deriveBudget()
	if len(problems) == 0 { // a comparison with a value that is wrong itself only confuses
		problems = c.contradictions()
	}
	return c, errors.Join(problems...)
}

// connectors reads the URLs, which the other settings say how to take.
func (c *Config) connectors(value func(name string) string) (problems []error) {
	parse := func(name string) *connect.Connector {
		connector, err := connect.Parse(value(name), connect.Options{
			AppName: c.AppName, AllowPlaintext: c.Env == "local", AllowPlainAuth: c.allowPlainAuth,
		})
		if err != nil {
			_, reason, _ := strings.Cut(err.Error(), "invalid: ") // the setting's name says the rest
			if value(name) == "" {
				reason = `not set: give it a postgres:// URL, or run "go run ./cmd/demo dev" for a private local database`
			}
			problems = append(problems, fmt.Errorf("%s: %s", name, reason))
		}
		return connector
	}
	c.Database = parse("DATABASE_URL")
	c.DB.Connector, c.Migrations = c.Database, c.Database
	if url := value("MIGRATION_DATABASE_URL"); url != "" && url != value("DATABASE_URL") {
		c.Migrations = parse("MIGRATION_DATABASE_URL")
	}
	return problems
}

// deriveBudget decides how many connections this process may hold. The pooler
// counts all replicas together, so a share of its size is the safe answer.
func (c *Config) deriveBudget() {
	switch {
	case c.DB.MaxSessions != 0:
	case c.PoolSize != 0:
		c.DB.MaxSessions = max(1, (c.PoolSize-c.Reserve)/max(1, c.Replicas))
	default:
		c.DB.MaxSessions, c.BudgetGuessed = guessedSessions, true
	}
	if c.DB.MaxWaiting < 0 {
		c.DB.MaxWaiting = 4 * c.DB.MaxSessions
	}
}

// contradictions looks at settings that only make sense together. A request that
// ends before its session could open would blame the wrong party.
func (c *Config) contradictions() (problems []error) {
	refuse := func(when bool, format string, args ...any) {
		if when {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	opening, sessions := c.DB.SessionWait+c.DB.ConnectTimeout, c.Replicas*c.DB.MaxSessions
	refuse(c.RequestTimeout <= opening,
		"REQUEST_TIMEOUT: %v must be more than DB_SESSION_WAIT + DB_CONNECT_TIMEOUT, which is %v", c.RequestTimeout, opening)
	refuse(c.RequestTimeout < c.DB.StatementTimeout,
		"REQUEST_TIMEOUT: %v must not be less than DB_STATEMENT_TIMEOUT, which is %v", c.RequestTimeout, c.DB.StatementTimeout)
	refuse(c.PoolSize > 0 && sessions > c.PoolSize,
		"DB_POOL_SIZE: %d must not be less than DB_REPLICAS x DB_MAX_SESSIONS, which is %d", c.PoolSize, sessions)
	return problems
}

// Format shows nothing secret, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "config of %s (%s)", c.AppName, c.Env) }

// MarshalText is Format for JSON and for logs.
func (c Config) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(c)), nil }
