package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/team/tiny-shop/internal/nopool"
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

// What the defaults are is for TestDocumented to see; this wants each in its field, and the URL and the application's name
// to be handed on.
func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := load(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.AppName, c.Env, c.LogLevel, c.LogFormat, c.HTTPAddr, c.MaxBody, c.RequestTimeout, c.ShutdownDelay,
		c.ShutdownTimeout, c.StartupTimeout, c.DB.SessionWait, c.DB.ConnectTimeout, c.DB.StatementTimeout, c.DB.LockTimeout,
		c.DB.IdleInTransactionTimeout, c.allowPlainAuth, c.Replicas, c.Reserve, c.PoolSize, c.MigrationAllowPooler)
	want := fmt.Sprint("tiny-shop", "production", slog.LevelInfo, "json", ":8080", 1<<20, time.Minute, 0*time.Second,
		20*time.Second, 30*time.Second, 5*time.Second, 10*time.Second, 30*time.Second, 5*time.Second,
		30*time.Second, false, 1, 2, 0, false)
	if got != want {
		t.Errorf("defaults:\n got %s\nwant %s", got, want)
	}
	for _, connector := range []nopool.Connector{c.DB.Connector, c.Database, c.Migrations} {
		if to, err := connector.Config(); err != nil || to.Host != "db.example.com" || to.RuntimeParams["application_name"] != "tiny-shop" {
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
		{"", "", "4", "", "", 10, 40, true},
		{"7", "", "", "", "", 7, 28, false},
		{"6", "15", "2", "3", "", 6, 24, false},
		{"", "15", "", "", "", 13, 52, false},
		{"", "15", "4", "3", "", 3, 12, false},
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

// TestProblems wants each problem on a line of its own, by the name of its setting, all at once and without a password.
func TestProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		settings string // NAME=value, joined by |
		want     []string
	}{
		{"DATABASE_URL= ", []string{"DATABASE_URL: .*go run ./cmd/tiny-shop dev"}},
		{"DATABASE_URL=postgres://app:" + secret + "@h/db", []string{"DATABASE_URL: .*sslmode"}},
		{"DATABASE_URL=postgres://app@127.0.0.1/app?sslmode=disable", []string{"DATABASE_URL: .*sslmode"}},
		{"DATABASE_URL=postgres://app:" + secret + "/x@h:port/db", []string{"DATABASE_URL: .*malformed"}},
		{"MIGRATION_DATABASE_URL=mysql://app:" + secret + "@h/db", []string{"MIGRATION_DATABASE_URL: .*scheme"}},
		{"APP_NAME=two words|APP_ENV=local\nx", []string{"APP_NAME: .*without spaces", "APP_ENV: .*without spaces"}},
		{"HTTP_ADDR=8080", []string{"HTTP_ADDR: .*127.0.0.1:8080"}},
		{"HTTP_ADDR=" + goodDB, []string{"HTTP_ADDR: .*not shown"}},
		{"DB_MAX_SESSIONS=99999999999999999999|DB_CONNECT_TIMEOUT=soon", []string{"DB_MAX_SESSIONS: .*whole number", "DB_CONNECT_TIMEOUT: .*duration"}},
		{"DB_STATEMENT_TIMEOUT=999us", []string{"DB_STATEMENT_TIMEOUT: .*from 1ms"}}, // 0 to Postgres: no limit
		{"REQUEST_TIMEOUT=29s", []string{"REQUEST_TIMEOUT: .*DB_STATEMENT_TIMEOUT, which is 30s"}},
		{"DB_CONNECT_TIMEOUT=55s", []string{"REQUEST_TIMEOUT: .*DB_SESSION_WAIT \\+ DB_CONNECT_TIMEOUT, which is 1m0s"}},
		{"DB_POOL_SIZE=15|DB_REPLICAS=3|DB_MAX_SESSIONS=6", []string{"DB_POOL_SIZE: 15 must"}},
		{"DB_POOL_SIZE=15|DB_REPLICAS=16", []string{"DB_POOL_SIZE: 15 must"}},
		{"DB_POOL_SIZE=15|DB_REPLICAS=65536|DB_MAX_SESSIONS=65536", []string{"DB_POOL_SIZE: 15 must"}}, // 0 in 32 bits
		{"DB_POOL_SIZE=15|DB_MAX_SESSIONS=14", []string{"DB_POOL_SIZE: 15 must .*DB_RESERVE"}},
	} {
		values := map[string]string{}
		for pair := range strings.SplitSeq(test.settings, "|") {
			name, value, _ := strings.Cut(pair, "=")
			values[name] = value
		}
		_, err := load(values)
		wanted := regexp.MustCompile("^" + strings.Join(test.want, ".*\n") + ".*$")
		if text := fmt.Sprint(err); !wanted.MatchString(text) || strings.Contains(text, secret) {
			t.Errorf("%s: got\n%s\nwant\n%s", test.settings, text, wanted)
		}
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	t.Parallel()
	c, err := load(map[string]string{"MIGRATION_DATABASE_URL": goodDB})
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(c)
	if all := fmt.Sprintf("%v %+v %#v %s %q %v %s %v", c, c, c, c, c, &c, asJSON, err); strings.Contains(all, secret) {
		t.Errorf("the password is in %s", all)
	}
}

// TestDocumented wants every setting, and nothing else, in .env.example and in the
// README's table, in one order, with the same default and the same words.
func TestDocumented(t *testing.T) {
	t.Parallel()
	// A comment of one line or more, the last of which is what the README says, too.
	examples, exampleNames := documented(t, "../../.env.example", `(?m)^# (?P<help>.*)\n(?P<optional>#?)(?P<name>[A-Z_]+)=(?P<fallback>.*)$`)
	rows, rowNames := documented(t, "../../README.md", "(?m)^\\| `(?P<name>[A-Z_]+)` \\| (?P<fallback>.+?) \\| (?P<bound>.+?) \\| (?P<help>.+?) \\|$")
	var names []string
	for _, s := range new(Config).settings() {
		names = append(names, s.name)
		example, row := examples[s.name], rows[s.name]
		if example == nil {
			t.Errorf("%s: .env.example lacks it: add \"# what it is for\" and, below, \"#%s=%s\"", s.name, s.name, s.fallback)
			continue
		}
		if row == nil {
			t.Errorf("%s: the README's table lacks it: add \"| `%s` | `%s` | %s | %s |\"", s.name, s.name, s.fallback, accepted(s.name), example["help"])
			continue
		}
		if required := example["optional"] == ""; required != (s.name == "DATABASE_URL") {
			t.Errorf("%s: required: %v, in .env.example", s.name, required) // it is the one to be filled in
		}
		if row["help"] != example["help"] {
			t.Errorf("%s: the README says %q, .env.example %q", s.name, row["help"], example["help"])
		}
		if s.fallback != "" && (example["fallback"] != s.fallback || row["fallback"] != "`"+s.fallback+"`") {
			t.Errorf("%s: the default is %q, .env.example says %q, the README %s", s.name, s.fallback, example["fallback"], row["fallback"])
		}
		if want := accepted(s.name); want != "" && row["bound"] != want {
			t.Errorf("%s: it takes %s, the README says %s", s.name, want, row["bound"])
		}
	}
	for file, found := range map[string][]string{".env.example": exampleNames, "README.md": rowNames} {
		if !slices.Equal(found, names) && !t.Failed() {
			t.Errorf("%s has %q, want %q", file, found, names)
		}
	}
	read := map[string]bool{}
	_, _ = Load(func(name string) string { read[name] = true; return "" })
	if found := slices.Sorted(maps.Keys(read)); !slices.Equal(found, slices.Sorted(slices.Values(names))) {
		t.Errorf("Load reads %q, the table has %q", found, names)
	}
}

// documented returns what a file says of settings, the groups of the pattern by the
// group called name, and these names in order.
func documented(t *testing.T, path, pattern string) (settings map[string]map[string]string, names []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	settings = map[string]map[string]string{}
	find := regexp.MustCompile(pattern)
	for _, match := range find.FindAllStringSubmatch(string(data), -1) {
		said := map[string]string{}
		for i, group := range find.SubexpNames() {
			said[group] = match[i]
		}
		settings[said["name"]] = said
		names = append(names, said["name"])
	}
	return settings, names
}

// accepted returns what a setting takes, in the words of the error about
// something it does not take; "" where these are no list and no range.
func accepted(name string) string {
	_, err := load(map[string]string{name: "\x00"})
	if err == nil {
		return ""
	}
	match := regexp.MustCompile(`not one of (.+)$| from (\w+ to \w+)|neither (true nor false)`).
		FindStringSubmatch(err.Error())
	if match == nil {
		return ""
	}
	words := strings.NewReplacer("24h0m0s", "24h", " nor ", ", ")
	return words.Replace(match[1] + match[2] + match[3])
}
