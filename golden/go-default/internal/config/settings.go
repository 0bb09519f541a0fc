package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

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

// settings are all there are, in the order of the documentation. Each reads into
// a field of c.
func (c *Config) settings() []setting {
	return []setting{
		{"DATABASE_URL", "", nil},
		{"MIGRATION_DATABASE_URL", "", nil},
		{"MIGRATION_ALLOW_POOLER", "false", boolean(&c.MigrationAllowPooler)},
		{"APP_NAME", "demo", name(&c.AppName)},
		{"APP_ENV", "production", name(&c.Env)},
		{"LOG_LEVEL", "info", level(&c.LogLevel)},
		{"LOG_FORMAT", "", oneOf(&c.LogFormat, "json", "text")},
		{"HTTP_ADDR", ":8080", address(&c.HTTPAddr)},
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
	return reader(to, "not at most 63 letters, digits and signs of ASCII, without spaces", func(text string) (string, bool) {
		return text, len(text) <= 63 && !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
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
	return reader(to, "not an address such as :8080 or 127.0.0.1:8080", func(text string) (string, bool) {
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
