package verify

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/localpg/pgtest"
	"example.org/team/tiny-shop/internal/localpg/standin"
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
var seenLive = []string{"NP01", "NP04", "NP09", "NP11", "NP12", "NP13", "NP16", "NP18", "NP23"}

func TestLive(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	for _, url := range []string{database, pgtest.PgBouncer(t, database, pgtest.PgBouncerOptions{})} {
		for _, sessions := range []int{1, 4} {
			r := liveOn(url, func(c *config.Config) { c.DB.MaxSessions, c.DB.AllowPlainAuth = sessions, true })
			wantStatus(t, r, StatusPassed, seenLive...)
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

// scripted answers the statements that hold a text with one row, and version()
// as a database does.
func scripted(text string, row ...string) func(*standin.Conn, string) standin.Reply {
	return func(_ *standin.Conn, sql string) (r standin.Reply) {
		switch {
		case strings.Contains(sql, "set_config"):
		case strings.Contains(sql, "version()"):
			r.Rows = [][]string{{"PostgreSQL 15 on a stand-in", "0"}}
		case strings.Contains(sql, text):
			r.Rows = [][]string{row}
		}
		return r
	}
}
