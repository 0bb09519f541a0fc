package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"example.org/team/tiny-shop/internal/nopool"
)

const (
	secret = "s3cret-word"
	goodDB = "postgres://app:" + secret + "@db.example.com:5432/app?sslmode=verify-full"
)

func load(environ ...string) (Config, error) {
	return Load(append([]string{"DATABASE_URL=" + goodDB}, environ...))
}

// Settings that decide about each other.
func TestTogether(t *testing.T) {
	t.Parallel()
	sessions := func(c Config) string { return fmt.Sprint(c.DB.MaxSessions, c.DB.MaxWaiting, c.BudgetGuessed) }
	format := func(c Config) string { return fmt.Sprintln(c.LogFormat, c.allowPlainAuth) }
	addr := func(c Config) string { return c.HTTPAddr }
	url := func(c nopool.Connector) string {
		to, err := c.Config()
		return fmt.Sprint(to.Host, "/", to.Database, " as ", to.RuntimeParams["application_name"], err)
	}
	urls := func(c Config) string {
		return strings.Join([]string{url(c.DB.Connector), url(c.Database), url(c.Migrations)}, ", ")
	}
	for _, test := range []struct {
		settings string
		of       func(Config) string
		want     string
	}{
		{"DB_REPLICAS=4", sessions, "10 40 true"},
		{"DB_MAX_SESSIONS=7", sessions, "7 28 false"},
		{"DB_MAX_SESSIONS=6 DB_POOL_SIZE=15 DB_REPLICAS=2 DB_RESERVE=3", sessions, "6 24 false"},
		{"DB_POOL_SIZE=15", sessions, "13 52 false"},
		{"DB_POOL_SIZE=15 DB_REPLICAS=4 DB_RESERVE=3", sessions, "3 12 false"},
		{"DB_MAX_SESSIONS=7 DB_MAX_WAITING=0", sessions, "7 0 false"},
		{"APP_ENV=local DATABASE_URL=postgres://app@127.0.0.1/app?sslmode=disable", format, "text false\n"},
		{"APP_ENV=local LOG_FORMAT=JSON", format, "json false\n"},
		{"APP_NAME=two", urls, "db.example.com/app as two<nil>, db.example.com/app as two<nil>, db.example.com/app as two<nil>"},
		{"MIGRATION_DATABASE_URL=" + strings.Replace(goodDB, "/app?", "/other?", 1), urls,
			"db.example.com/app as tiny-shop<nil>, db.example.com/app as tiny-shop<nil>, db.example.com/other as tiny-shop<nil>"},
		{"PORT=3000", addr, ":3000"}, // as platforms do
		{"PORT=3000 HTTP_ADDR=127.0.0.1:4000", addr, "127.0.0.1:4000"},
		{"HTTP_ADDR=4000", addr, ":4000"},
	} {
		if c, err := load(strings.Fields(test.settings)...); err != nil || test.of(c) != test.want {
			t.Errorf("%s: %v, %v, want %s", test.settings, test.of(c), err, test.want)
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
		{"APP_NAME='two'|APP_ENV=\"local\"", []string{"APP_NAME: .*quotes", "APP_ENV: .*quotes"}}, // which not all that read a file take off
		{"HTTP_ADDR=localhost|PORT=65536", []string{"PORT: .*such as 8080", "HTTP_ADDR: .*127.0.0.1:8080"}},
		{"HTTP_ADDR=" + goodDB, []string{"HTTP_ADDR: .*not shown"}},
		{"DB_MAX_SESSIONS=99999999999999999999|DB_CONNECT_TIMEOUT=soon", []string{"DB_MAX_SESSIONS: .*whole number", "DB_CONNECT_TIMEOUT: .*duration"}},
		{"DB_STATEMENT_TIMEOUT=999us", []string{"DB_STATEMENT_TIMEOUT: .*from 1ms"}}, // 0 to Postgres: no limit
		{"REQUEST_TIMEOUT=29s", []string{"REQUEST_TIMEOUT: .*DB_STATEMENT_TIMEOUT, which is 30s"}},
		{"DB_CONNECT_TIMEOUT=55s", []string{"REQUEST_TIMEOUT: .*DB_SESSION_WAIT \\+ DB_CONNECT_TIMEOUT, which is 1m0s"}},
		{"DB_POOL_SIZE=15|DB_REPLICAS=3|DB_MAX_SESSIONS=6", []string{"DB_POOL_SIZE: 15 must"}},
		{"DB_POOL_SIZE=15|DB_REPLICAS=16", []string{"DB_POOL_SIZE: 15 must"}},
		{"DB_POOL_SIZE=15|DB_REPLICAS=65536|DB_MAX_SESSIONS=65536", []string{"DB_POOL_SIZE: 15 must"}}, // 0 in 32 bits
		{"DB_POOL_SIZE=15|DB_MAX_SESSIONS=14", []string{"DB_POOL_SIZE: 15 must .*DB_RESERVE"}},
		{"DATABASE_URL=|DATABSE_URL=" + goodDB, []string{"DATABSE_URL: .* DATABASE_URL is", "DATABASE_URL: not set"}},
	} {
		_, err := load(strings.Split(test.settings, "|")...)
		wanted := regexp.MustCompile("^" + strings.Join(test.want, ".*\n") + ".*$")
		if text := fmt.Sprint(err); !wanted.MatchString(text) || strings.Contains(text, secret) {
			t.Errorf("%s: got\n%s\nwant\n%s", test.settings, text, wanted)
		}
	}
}

// A name one slip away from a setting that is not set stands for it, most likely; others are for other programs.
func TestMisspelt(t *testing.T) {
	t.Parallel()
	for name, meant := range map[string]string{
		"DB_MAXSESSIONS": "DB_MAX_SESSIONS", "DB_MAX_SESSION": "DB_MAX_SESSIONS", "DB_MAX_SESSOINS": "DB_MAX_SESSIONS",
		"db_max_sessions": "DB_MAX_SESSIONS", "DB-MAX-SESSIONS": "DB_MAX_SESSIONS", "MIGRATIONS_DATABASE_URL": "MIGRATION_DATABASE_URL",
		"DATABASE_URI": "", "DB_SIZE": "", "TEST_DATABASE_URL": "", "PORTS": "", "PATH": "", "DB_HOST": "", "": "",
	} {
		_, err := load(name + "=3")
		if text := fmt.Sprint(err); (meant != "") != strings.HasPrefix(text, name+": ") || !strings.Contains(text, meant) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestDocumented wants every setting, and nothing else, in .env.example and in the
// README's table, in one order, with the same default and the same words.
func TestDocumented(t *testing.T) {
	t.Parallel()
	// A comment of one line or more, the last of which is what the README says, too.
	examples := documented(t, "../../.env.example", `(?m)^# (?P<help>.*)\n(?P<off>#?)(?P<name>[A-Z_]+)=(?P<fallback>.*)$`)
	rows := documented(t, "../../README.md", "(?m)^\\| (?P<off>)`(?P<name>[A-Z_]+)` \\| (?P<fallback>.+?) \\| .+? \\| (?P<help>.+?) \\|$")
	for i, s := range append(new(Config).settings(), setting{}) { // which is the end
		example, row := examples[i], rows[i]
		switch {
		case example.name != s.name:
			t.Fatalf(".env.example has %q where %q belongs: \"# what it is for\" and, below, \"#%s=%s\"", example.name, s.name, s.name, s.fallback)
		case row.name != s.name:
			t.Fatalf("the README's table has %q where %q belongs: \"| `%s` | `%s` | what it takes | %s |\"", row.name, s.name, s.name, s.fallback, example.help)
		case (example.off == "") != (s.name == "DATABASE_URL" || s.name == ""): // which is the one to be filled in
			t.Errorf("%s: .env.example has %q before it", s.name, example.off)
		case row.help != example.help:
			t.Errorf("%s: the README says %q, .env.example %q", s.name, row.help, example.help)
		case s.fallback != "" && (example.fallback != s.fallback || row.fallback != "`"+s.fallback+"`"):
			t.Errorf("%s: the default is %q, .env.example says %q, the README %s", s.name, s.fallback, example.fallback, row.fallback)
		}
	}
}

// said is what a file says of a setting.
type said struct{ name, fallback, help, off string }

// documented returns the settings in a file, as a pattern finds them, and one without a name at their end.
func documented(t *testing.T, path, pattern string) (settings []said) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	find := regexp.MustCompile(pattern)
	for _, match := range find.FindAllStringSubmatch(string(text), -1) {
		of := func(group string) string { return match[find.SubexpIndex(group)] }
		settings = append(settings, said{of("name"), of("fallback"), of("help"), of("off")})
	}
	return append(settings, said{})
}
