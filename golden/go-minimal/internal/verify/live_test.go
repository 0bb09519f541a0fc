package verify

import (
	"context"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/localpg/pgtest"
	"example.org/team/tiny-shop/internal/localpg/standin"
	"example.org/team/tiny-shop/internal/migrate"
	schema "example.org/team/tiny-shop/migrations"
)

// liveOn runs the live checks with settings for a database.
func liveOn(databaseURL string, change ...func(*config.Config)) Report {
	cfg := config.Config{AppName: "live", Env: "local", DB: patient(databaseURL),
		RequestTimeout: time.Minute, ShutdownTimeout: time.Second}
	cfg.DB.AllowPlainAuth, cfg.DB.ConnectTimeout = false, 2*time.Second
	for _, f := range change {
		f(&cfg)
	}
	return Live(context.Background(), cfg, slog.New(slog.DiscardHandler))
}

func wantStatus(t *testing.T, r Report, want Status, rules ...string) {
	t.Helper()
	for _, x := range r.Results {
		for _, rule := range rules {
			if x.ID == rule && x.Status != want {
				t.Errorf("%s: %s, want %s: %s", rule, x.Status, want, x.Detail)
			}
		}
		if strings.Contains(x.Detail, standin.Password) {
			t.Errorf("%s: the password is in the report: %s", x.ID, x.Detail)
		}
	}
}

// seenLive are the rules that Live can look at.
var seenLive = []string{"NP01", "NP04", "NP09", "NP11", "NP12", "NP13", "NP16", "NP17", "NP18", "NP23"}

// pending is what an empty database is warned of, unless there is nothing to migrate.
var pending = func() []string {
	if files, _ := fs.Glob(schema.FS, "*.sql"); len(files) == 0 {
		return nil
	}
	return []string{"NP30"}
}()

func TestLive(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	for _, url := range []string{database, pgtest.PgBouncer(t, database, pgtest.PgBouncerOptions{})} {
		for _, sessions := range []int{1, 4} {
			r := liveOn(url, func(c *config.Config) { c.DB.MaxSessions, c.DB.AllowPlainAuth = sessions, true })
			wantStatus(t, r, StatusPassed, seenLive...)
			wantStatus(t, r, StatusWarned, pending...)
			if r.Failed() {
				t.Errorf("failed: %s", r.Summary())
			}
		}
	}
	if n := pgtest.Connections(t, database); n > 2 { // what PgBouncer keeps
		t.Errorf("%d connections left", n)
	}
	var tables int
	err := pgtest.Admin(t, database).QueryRow(t.Context(), "select count(*) from pg_stat_user_tables").Scan(&tables)
	if err != nil || tables != 0 {
		t.Errorf("it made %d tables, %v", tables, err)
	}
}

// TestLiveWarns sets servers up in ways that are allowed and should be known.
func TestLiveWarns(t *testing.T) {
	t.Parallel()
	version := scripted("no such statement")
	for name, c := range map[string]struct {
		rule   string
		pooler standin.Options
		change func(*config.Config)
	}{
		"plaintext": {"NP12", standin.Options{OnStatement: version}, func(c *config.Config) { c.DB.AllowPlainAuth = true }},
		"unverified": {"NP12", standin.Options{TLS: true, Auth: standin.SCRAM, OnStatement: version}, func(c *config.Config) {
			c.DB.URL = strings.Split(c.DB.URL, "?")[0] + "?sslmode=require"
		}},
		"password given away": {"NP12", standin.Options{TLS: true, Auth: standin.Cleartext, OnStatement: version}, nil},
		"no password at all":  {"NP12", standin.Options{TLS: true, OnStatement: version}, nil},
		"a guess": {"NP17", standin.Options{TLS: true, OnStatement: scripted("max_connections", "97", "-1", "-1")}, func(c *config.Config) {
			c.BudgetGuessed = true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := liveOn(standin.Start(t, c.pooler).URL(), func(cfg *config.Config) {
				if c.change != nil {
					c.change(cfg)
				}
			})
			wantStatus(t, r, StatusWarned, c.rule)
			if r.Strict(); !r.Failed() {
				t.Error("the strict report does not count as failed")
			}
		})
	}
}

// TestLiveMigrations looks at a database before and after its migrations, and at
// one whose role may not look.
func TestLiveMigrations(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	if err := migrate.Run(t.Context(), migrateOptions(database, schema.FS), "up"); err != nil {
		t.Fatal(err)
	}
	allowAny := func(c *config.Config) { c.DB.AllowPlainAuth, c.MigrationURL = true, c.DB.URL }
	for _, url := range []string{database, pgtest.PgBouncer(t, database, pgtest.PgBouncerOptions{})} {
		wantStatus(t, liveOn(url, allowAny), StatusPassed, "NP30")
	}
	if len(pending) == 0 {
		return
	}
	if _, err := pgtest.Admin(t, database).Exec(t.Context(), "delete from goose_db_version where version_id > 0"); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, liveOn(database, allowAny), StatusWarned, "NP30")
}

// TestLiveFails sets servers up wrongly and wants the rule concerned to say so.
func TestLiveFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule   string
		pooler standin.Options
		change func(*config.Config)
	}{
		"wrong password":    {"NP09", standin.Options{TLS: true, Auth: standin.SCRAM}, func(c *config.Config) { c.DB.URL = strings.Replace(c.DB.URL, ":stand-in", ":not-", 1) }},
		"no TLS":            {"NP09", standin.Options{}, func(c *config.Config) { c.DB.URL = withMode(c.DB.URL, "require") }},
		"plaintext URL":     {"NP12", standin.Options{}, func(c *config.Config) { c.DB.AllowPlaintext = false }},
		"timeouts dropped":  {"NP13", standin.Options{TLS: true, OnStatement: scripted("setting", "0 0 0")}, nil},
		"no request bound":  {"NP13", standin.Options{TLS: true, OnStatement: scripted("setting", "20000 10000 20000")}, func(c *config.Config) { c.RequestTimeout = 0 }},
		"not read only":     {"NP16", standin.Options{TLS: true, OnStatement: scripted("transaction_read_only", "2026-01-01 00:00:00+00", "off", "repeatable read")}, nil},
		"one shared server": {"NP01", standin.Options{TLS: true, OnStatement: scripted("pg_backend_pid", "42")}, nil},
		"no room":           {"NP17", standin.Options{TLS: true, OnStatement: scripted("max_connections", "97", "3", "-1")}, nil},
		"too many replicas": {"NP17", standin.Options{TLS: true, OnStatement: scripted("max_connections", "97", "-1", "-1")}, func(c *config.Config) { c.Replicas = 25 }},
		"transaction mode":  {"NP30", standin.Options{TLS: true, OnStatement: backends()}, func(c *config.Config) { c.MigrationURL = c.DB.URL }},
		"never closes":      {"NP04", standin.Options{TLS: true, ReleaseLag: time.Minute, OnStatement: scripted("", "1")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := liveOn(standin.Start(t, c.pooler).URL(), func(cfg *config.Config) {
				if c.change != nil {
					c.change(cfg)
				}
			})
			wantStatus(t, r, StatusFailed, c.rule)
			if !r.Failed() {
				t.Error("the report does not count as failed")
			}
		})
	}
}

// backends gives each transaction another backend, as a pooler in transaction
// mode does that has much to do.
func backends() func(*standin.Conn, string) standin.Reply {
	var n atomic.Int64
	return func(c *standin.Conn, sql string) standin.Reply {
		return scripted("pg_backend_pid", strconv.FormatInt(n.Add(1), 10))(c, sql)
	}
}

// scripted answers the statements that hold a text with one row, and version()
// as a database does.
func scripted(text string, row ...string) func(*standin.Conn, string) standin.Reply {
	return func(_ *standin.Conn, sql string) (r standin.Reply) {
		switch {
		case strings.Contains(sql, "set_config"):
		case strings.Contains(sql, "version()"):
			r.Rows = [][]string{{"PostgreSQL 15 on a stand-in", "0", "Supavisor - live"}}
		case strings.Contains(sql, text):
			r.Rows = [][]string{row}
		}
		return r
	}
}
