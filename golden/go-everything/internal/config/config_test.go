package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.com/demo/internal/nopool"
)

const (
	secret = "s3cret-word"
	goodDB = "postgres://app:" + secret + "@db.example.com:5432/app?sslmode=verify-full"
)

func load(values map[string]string) (Config, error) {
	return Load(func(name string) string {
		if value, ok := values[name]; ok {
			return value
		}
		return map[string]string{"DATABASE_URL": goodDB}[name]
	})
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := load(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.AppName, c.Env, c.LogLevel, c.LogFormat, c.HTTPAddr, c.MaxBody, c.RequestTimeout, c.ShutdownDelay,
		c.ShutdownTimeout, c.StartupTimeout, c.DB.MaxSessions, c.DB.MaxWaiting, c.DB.SessionWait, c.DB.ConnectTimeout,
		c.DB.StatementTimeout, c.DB.LockTimeout, c.DB.IdleInTransactionTimeout, c.allowPlainAuth,
		c.BudgetGuessed, c.Replicas, c.Reserve, c.PoolSize, c.MigrationAllowPooler)
	want := fmt.Sprint("demo", "production", slog.LevelInfo, "json", ":8080", 1<<20, time.Minute, 0*time.Second,
		20*time.Second, 30*time.Second, 10, 40, 5*time.Second, 10*time.Second,
		30*time.Second, 5*time.Second, 30*time.Second, false,
		true, 1, 2, 0, false)
	if got != want {
		t.Errorf("defaults:\n got %s\nwant %s", got, want)
	}
	for _, connector := range []nopool.Connector{c.DB.Connector, c.Database, c.Migrations} {
		if to, err := connector.Config(); err != nil || to.Host != "db.example.com" || to.RuntimeParams["application_name"] != "demo" {
			t.Errorf("%v: the URL or the application's name is not handed on", err)
		}
	}
}

func TestLocalRelaxesPlaintextAndLogFormatOnly(t *testing.T) {
	t.Parallel()
	plain := "postgres://app@127.0.0.1/app?sslmode=disable"
	c, err := load(map[string]string{"APP_ENV": "local", "DATABASE_URL": plain})
	if err != nil || c.LogFormat != "text" || c.allowPlainAuth {
		t.Errorf("local: error %v, format %q, plain authentication %v", err, c.LogFormat, c.allowPlainAuth)
	}
	if _, err := load(map[string]string{"DATABASE_URL": plain}); err == nil {
		t.Error("sslmode=disable was accepted in production")
	}
	if c, err := load(map[string]string{"APP_ENV": "local", "LOG_FORMAT": "json"}); err != nil || c.LogFormat != "json" {
		t.Errorf("LOG_FORMAT=json: %v, %q", err, c.LogFormat)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sessions, poolSize, replicas, reserve, waiting string
		wantSessions, wantWaiting                      int
		guessed                                        bool
	}{
		{"", "", "", "", "", 10, 40, true},
		{"", "", "4", "", "", 10, 40, true},
		{"7", "", "", "", "", 7, 28, false},
		{"7", "15", "2", "3", "", 7, 28, false},
		{"", "15", "", "", "", 13, 52, false},
		{"", "15", "4", "3", "", 3, 12, false},
		{"", "2", "", "", "", 1, 4, false},
		{"", "10", "10", "2", "", 1, 4, false},
		{"7", "", "", "", "0", 7, 0, false},
	} {
		c, err := load(map[string]string{
			"DB_MAX_SESSIONS": test.sessions, "DB_POOL_SIZE": test.poolSize,
			"DB_REPLICAS": test.replicas, "DB_RESERVE": test.reserve, "DB_MAX_WAITING": test.waiting,
		})
		if err != nil || c.DB.MaxSessions != test.wantSessions || c.DB.MaxWaiting != test.wantWaiting || c.BudgetGuessed != test.guessed {
			t.Errorf("%+v: %d sessions, %d waiting, guessed %v, error %v", test, c.DB.MaxSessions, c.DB.MaxWaiting, c.BudgetGuessed, err)
		}
	}
}

// TestTooManySessions wants more sessions than the pooler admits refused before
// the pooler does it.
func TestTooManySessions(t *testing.T) {
	t.Parallel()
	for _, settings := range []map[string]string{
		{"DB_POOL_SIZE": "15", "DB_REPLICAS": "3", "DB_MAX_SESSIONS": "6"},
		{"DB_POOL_SIZE": "15", "DB_REPLICAS": "16"},
		{"DB_POOL_SIZE": "15", "DB_REPLICAS": "65536", "DB_MAX_SESSIONS": "65536"}, // 0 in 32 bits
	} {
		if _, err := load(settings); err == nil || !strings.HasPrefix(err.Error(), "DB_POOL_SIZE: 15 must not be less than") {
			t.Errorf("%v: %v", settings, err)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, value, want string
	}{
		{"DATABASE_URL", " ", "go run ./cmd/demo dev"},
		{"DATABASE_URL", "posgres://app:" + secret + "@h/db", "scheme"},
		{"DATABASE_URL", "postgres://app:" + secret + "@h/db?sslmode=disable", "sslmode"},
		{"DATABASE_URL", "postgres://app:" + secret + "@h/db", "sslmode"},
		{"DATABASE_URL", "postgres://app:" + secret + "/x@h:port/db", "malformed"},
		{"MIGRATION_DATABASE_URL", "mysql://app:" + secret + "@h/db", "scheme"},
		{"MIGRATION_ALLOW_POOLER", "perhaps", "true nor false"},
		{"APP_NAME", "two words", "without spaces"},
		{"APP_NAME", strings.Repeat("x", 64), "63"},
		{"APP_ENV", "local\nx", "without spaces"},
		{"LOG_LEVEL", "loud", "debug, info, warn, error"},
		{"LOG_FORMAT", "xml", "json, text"},
		{"HTTP_ADDR", "8080", "127.0.0.1:8080"},
		{"HTTP_ADDR", ":65536", "127.0.0.1:8080"},
		{"HTTP_ADDR", goodDB, "not shown"},
		{"HTTP_MAX_BODY", "1 MiB", "whole number"},
		{"HTTP_MAX_BODY", "0", "from 1"},
		{"REQUEST_TIMEOUT", "60", "30s"},
		{"REQUEST_TIMEOUT", "29s", "DB_STATEMENT_TIMEOUT, which is 30s"},
		{"DB_CONNECT_TIMEOUT", "55s", "DB_SESSION_WAIT + DB_CONNECT_TIMEOUT, which is 1m0s"},
		{"SHUTDOWN_DELAY", "-1s", "from 0s"},
		{"SHUTDOWN_TIMEOUT", "0", "from 1ms"},
		{"DB_MAX_SESSIONS", "0", "from 1"},
		{"DB_MAX_SESSIONS", "99999999999999999999", "whole number"},
		{"DB_POOL_SIZE", "0", "from 1"},
		{"DB_REPLICAS", "0", "from 1"},
		{"DB_RESERVE", "-1", "from 0"},
		{"DB_MAX_WAITING", "-1", "from 0"},
		{"DB_SESSION_WAIT", "0s", "from 1ms"},
		{"DB_CONNECT_TIMEOUT", "soon", "duration"},
		{"DB_STARTUP_TIMEOUT", "25h", "24h"},
		{"DB_STATEMENT_TIMEOUT", "999us", "from 1ms"}, // 0 to Postgres: no limit
		{"DB_LOCK_TIMEOUT", "0", "from 1ms"},
		{"DB_IDLE_IN_TRANSACTION_TIMEOUT", "0", "from 1ms"},
		{"DB_ALLOW_PLAIN_AUTH", "2", "true nor false"},
	} {
		t.Run(test.name+"="+test.value[:min(8, len(test.value))], func(t *testing.T) {
			t.Parallel()
			_, err := load(map[string]string{test.name: test.value})
			if err == nil {
				t.Fatal("accepted")
			}
			text := err.Error()
			about := test.name
			if strings.Contains(test.want, "which is") {
				about = "REQUEST_TIMEOUT" // the one that is too short
			}
			if !strings.HasPrefix(text, about+": ") || !strings.Contains(text, test.want) || strings.Contains(text, "\n") {
				t.Errorf("got %q, want one line of %s that has %q", text, about, test.want)
			}
			if strings.Contains(text, secret) {
				t.Errorf("the password is in %q", text)
			}
		})
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(map[string]string{"DATABASE_URL": "x", "LOG_LEVEL": "x", "REQUEST_TIMEOUT": "x", "DB_REPLICAS": "x"})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("want four lines, got:\n%v", err)
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	t.Parallel()
	c, err := load(map[string]string{"MIGRATION_DATABASE_URL": goodDB})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&b, verb+" "+verb+"\n", c, &c)
	}
	if err := json.NewEncoder(&b).Encode(c); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("", "config", c, "pointer", &c)
	slog.New(slog.NewTextHandler(&b, nil)).Info("", "config", c, "pointer", &c)
	if strings.Contains(b.String(), secret) || strings.Contains(b.String(), fmt.Sprintf("%x", secret)) {
		t.Errorf("the password is in:\n%s", b.String())
	}
}

// The table is what the documentation is held to, so it must name what Load
// reads and nothing else.
func TestSettingsAreWhatLoadReads(t *testing.T) {
	t.Parallel()
	read := make(map[string]bool)
	if _, err := Load(func(name string) string {
		read[name] = true
		return map[string]string{"DATABASE_URL": goodDB}[name]
	}); err != nil {
		t.Fatal(err)
	}
	for _, s := range new(Config).settings() {
		if !read[s.name] {
			t.Errorf("%s is in the table and never read", s.name)
		}
		delete(read, s.name)
	}
	for name := range read {
		t.Errorf("%s is read and not in the table", name)
	}
}
