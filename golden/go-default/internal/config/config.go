// Package config turns the environment into a Config: one table has every setting with its default
// and its bound, every problem is reported at once, and nothing secret can be printed by accident.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
)

// Config is the service's configuration, checked. Printing it shows its name and
// environment only, since two of its fields hold passwords; JSON does not see them.
type Config struct {
	MigrationAllowPooler bool          // migrate even through what looks like a transaction-mode pooler
	AppName              string        // application_name, as pg_stat_activity shows it
	Env                  string        // "local": weaker TLS to a database on this machine, and logs as text
	LogLevel             slog.Level    // the least level that is logged
	LogFormat            string        // "json" or "text"
	HTTPAddr             string        // where to listen
	MaxBody              int           // bytes of a request's body
	RequestTimeout       time.Duration // of a whole request; more than DB_SESSION_WAIT + DB_CONNECT_TIMEOUT, not less than DB_STATEMENT_TIMEOUT
	ShutdownDelay        time.Duration // from "not ready" to the end of listening
	ShutdownTimeout      time.Duration // from the end of listening to that of the last request and session
	PoolSize             int           // what DB.MaxSessions is derived from; 0 when unset
	Replicas             int           // processes that share the pooler, those of a rolling deploy included
	Reserve              int           // connections left to migrations and administrators
	StartupTimeout       time.Duration // how long a database out of reach is retried at start
	allowPlainAuth       bool          // without a verified certificate, hand the password to servers that do not speak SCRAM

	DB                   nopool.Config      // its Logger is left to the caller
	Database, Migrations *connect.Connector // the former is DB's; one and the same, unless MIGRATION_DATABASE_URL is another
	BudgetGuessed        bool               // neither DB_MAX_SESSIONS nor DB_POOL_SIZE is set
}

// Load reads the settings from an environment such as that of os.Environ. Its
// error holds one line for each problem, which names the setting and says what to
// do; it quotes neither a password nor a URL.
func Load(environ []string) (c Config, err error) {
	env := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = strings.TrimSpace(value)
	}
	c.DB.MaxWaiting = -1 // not set; 0 has a meaning
	problems := misspelt(env, c.settings())
	for _, s := range c.settings() {
		text := cmp.Or(env[s.name], s.fallback)
		if text == "" || s.read == nil {
			continue
		}
		if err := s.read(text); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	if c.LogFormat = cmp.Or(c.LogFormat, "json"); env["LOG_FORMAT"] == "" && c.Env == "local" {
		c.LogFormat = "text"
	}
	problems = append(problems, c.connectors(env)...)
	c.deriveBudget()
	if len(problems) == 0 { // a comparison with a value that is wrong itself only confuses
		problems = c.contradictions()
	}
	return c, errors.Join(problems...)
}

// connectors reads the URLs, which the other settings say how to take.
func (c *Config) connectors(env map[string]string) (problems []error) {
	parse := func(name string) *connect.Connector {
		connector, err := connect.Parse(env[name], connect.Options{
			AppName: c.AppName, AllowPlaintext: c.Env == "local", AllowPlainAuth: c.allowPlainAuth, Processes: c.Replicas,
		})
		if err != nil {
			_, reason, _ := strings.Cut(err.Error(), "invalid: ") // the setting's name says the rest
			if env[name] == "" {
				reason = `not set: give it a postgres:// URL, or run "go run ./cmd/demo dev" for a private local database`
			}
			problems = append(problems, fmt.Errorf("%s: %s", name, reason))
		}
		return connector
	}
	c.Database = parse("DATABASE_URL")
	c.DB.Connector, c.Migrations = c.Database, c.Database
	if url := env["MIGRATION_DATABASE_URL"]; url != "" && url != env["DATABASE_URL"] {
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
	opening := c.DB.SessionWait + c.DB.ConnectTimeout
	connections := int64(c.Replicas)*int64(c.DB.MaxSessions) + int64(c.Reserve)
	refuse(c.RequestTimeout <= opening,
		"REQUEST_TIMEOUT: %v must be more than DB_SESSION_WAIT + DB_CONNECT_TIMEOUT, which is %v", c.RequestTimeout, opening)
	refuse(c.RequestTimeout < c.DB.StatementTimeout,
		"REQUEST_TIMEOUT: %v must not be less than DB_STATEMENT_TIMEOUT, which is %v", c.RequestTimeout, c.DB.StatementTimeout)
	refuse(c.PoolSize > 0 && connections > int64(c.PoolSize),
		"DB_POOL_SIZE: %d must not be less than DB_REPLICAS x DB_MAX_SESSIONS + DB_RESERVE, which is %d", c.PoolSize, connections)
	return problems
}

// Format shows nothing secret, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "config of %s (%s)", c.AppName, c.Env) }

const (
	guessedSessions = 10 // connections, when nothing says how many there are
	most            = 100_000

	shortest = time.Millisecond // Postgres counts in these, and reads 0 as "no limit"
	longest  = 24 * time.Hour
)

// setting is one environment variable that Load reads. What it is for stands in
// .env.example and in the README.
type setting struct {
	name     string
	fallback string                  // read when it is not set; "" leaves what it stands for to Load
	read     func(text string) error // nil for the URLs, which are read last
}

// settings are all there are, in the order of the documentation. Each reads into a field of c.
func (c *Config) settings() []setting {
	return []setting{
		{"DATABASE_URL", "", nil},
		{"MIGRATION_DATABASE_URL", "", nil},
		{"MIGRATION_ALLOW_POOLER", "false", boolean(&c.MigrationAllowPooler)},
		{"APP_NAME", "demo", name(&c.AppName)},
		{"APP_ENV", "production", name(&c.Env)},
		{"LOG_LEVEL", "info", level(&c.LogLevel)},
		{"LOG_FORMAT", "", oneOf(&c.LogFormat, "json", "text")},
		{"PORT", "8080", address(&c.HTTPAddr)},
		{"HTTP_ADDR", "", address(&c.HTTPAddr)},
		{"HTTP_MAX_BODY", "1048576", integer(&c.MaxBody, 1, 1<<30)},
		{"REQUEST_TIMEOUT", "60s", duration(&c.RequestTimeout, shortest)},
		{"SHUTDOWN_DELAY", "0s", duration(&c.ShutdownDelay, 0)},
		{"SHUTDOWN_TIMEOUT", "20s", duration(&c.ShutdownTimeout, shortest)},
		{"DB_MAX_SESSIONS", "", integer(&c.DB.MaxSessions, 1, most)},
		{"DB_POOL_SIZE", "", integer(&c.PoolSize, 1, most)},
		{"DB_REPLICAS", "1", integer(&c.Replicas, 1, most)},
		{"DB_RESERVE", "2", integer(&c.Reserve, 0, most)},
		{"DB_MAX_WAITING", "", integer(&c.DB.MaxWaiting, 0, most)},
		{"DB_SESSION_WAIT", "5s", duration(&c.DB.SessionWait, shortest)},
		{"DB_CONNECT_TIMEOUT", "10s", duration(&c.DB.ConnectTimeout, shortest)},
		{"DB_STARTUP_TIMEOUT", "30s", duration(&c.StartupTimeout, shortest)},
		{"DB_STATEMENT_TIMEOUT", "30s", duration(&c.DB.StatementTimeout, shortest)},
		{"DB_LOCK_TIMEOUT", "5s", duration(&c.DB.LockTimeout, shortest)},
		{"DB_IDLE_IN_TRANSACTION_TIMEOUT", "30s", duration(&c.DB.IdleInTransactionTimeout, shortest)},
		{"DB_ALLOW_PLAIN_AUTH", "false", boolean(&c.allowPlainAuth)},
	}
}

// misspelt finds the variables that are no settings, but one slip away from one
// that is not set and would silently have its default.
func misspelt(env map[string]string, settings []setting) (problems []error) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		for _, s := range settings {
			if env[name] != "" && env[s.name] == "" && near(name, s.name) {
				problems = append(problems, fmt.Errorf("%s: not a setting, but %s is: if this is meant for another program, set that to its default", name, s.name))
			}
		}
	}
	return problems
}

// near reports whether a letter of a name is missing, superfluous, wrong or swapped with the next
// one, whatever there is between the words. Short names are too close to others.
func near(name, setting string) bool {
	letters := strings.NewReplacer("_", "", "-", "", ".", "")
	a, b := letters.Replace(strings.ToUpper(name)), letters.Replace(setting)
	if len(b) < 6 {
		return false
	}
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) < 2 && len(b) < 2 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

// reader returns what reads a setting into a field of c. A text that parse does not
// take is what refusal says.
func reader[T any](to *T, refusal string, parse func(text string) (T, bool)) func(text string) error {
	return func(text string) error {
		value, ok := parse(text)
		if !ok {
			return fmt.Errorf("%s is %s", quote(text), refusal)
		}
		*to = value
		return nil
	}
}

// name accepts what Postgres keeps as it is in application_name.
func name(to *string) func(string) error {
	return reader(to, "not at most 63 letters, digits and signs of ASCII, without spaces and quotes", func(text string) (string, bool) {
		return text, len(text) <= 63 && !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\'' })
	})
}

func oneOf(to *string, choices ...string) func(string) error {
	return reader(to, "not one of "+strings.Join(choices, ", "), func(text string) (string, bool) {
		text = strings.ToLower(text)
		return text, slices.Contains(choices, text)
	})
}

func level(to *slog.Level) func(string) error {
	return reader(to, "not one of debug, info, warn, error", func(text string) (level slog.Level, ok bool) {
		err := level.UnmarshalText([]byte(text))
		return level, err == nil
	})
}

func address(to *string) func(string) error {
	return reader(to, "not a port or an address, such as 8080 or 127.0.0.1:8080", func(text string) (string, bool) {
		if !strings.Contains(text, ":") {
			text = ":" + text
		}
		_, port, err := net.SplitHostPort(text)
		_, portErr := strconv.ParseUint(port, 10, 16)
		return text, err == nil && portErr == nil
	})
}

func boolean(to *bool) func(string) error {
	return reader(to, "neither true nor false", func(text string) (bool, bool) {
		value, err := strconv.ParseBool(text)
		return value, err == nil
	})
}

func integer(to *int, least, most int) func(string) error {
	return between(to, "a whole number", strconv.Atoi, least, most)
}

func duration(to *time.Duration, least time.Duration) func(string) error {
	return between(to, "a duration, such as 500ms, 30s or 2m,", time.ParseDuration, least, longest)
}

func between[T cmp.Ordered](to *T, what string, parse func(string) (T, error), least, most T) func(string) error {
	return reader(to, fmt.Sprintf("not %s from %v to %v", what, least, most), func(text string) (T, bool) {
		value, err := parse(text)
		return value, err == nil && value >= least && value <= most
	})
}

// quote shows a refused value, unless it may be a connection string that landed
// in the wrong setting.
func quote(text string) string {
	if len(text) > 40 || strings.ContainsAny(text, "@=/") {
		return "the value (not shown)"
	}
	return strconv.Quote(text)
}
