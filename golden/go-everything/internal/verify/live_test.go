package verify

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/config"
	"example.com/demo/internal/connect"
	"example.com/demo/internal/migrate"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
	schema "example.com/demo/migrations"
)

// liveOptions may be changed before the live checks run.
type liveOptions struct {
	config.Config
	connect.Options
	url       string
	migrateTo bool // migrations go where requests go
}

// liveOn runs the live checks with settings for a database.
func liveOn(t *testing.T, databaseURL string, change ...func(*liveOptions)) Report {
	t.Helper()
	o := liveOptions{url: databaseURL, Options: anyServer(), Config: config.Config{
		AppName: "live", Env: "local", DB: patient(), RequestTimeout: time.Minute, ShutdownTimeout: time.Second}}
	o.AllowPlainAuth = false
	for _, f := range change {
		f(&o)
	}
	o.Database = connector(t, o.url, o.Options)
	o.DB.Connector = o.Database
	if o.migrateTo {
		o.Migrations = o.Database
	}
	return Live(context.Background(), o.Config, slog.New(slog.DiscardHandler))
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
var seenLive = []string{"NP01", "NP04", "NP09", "NP13", "NP16", "NP17"}

// pending is what an empty database is warned of, unless there is nothing to migrate.
var pending = func() []string {
	if files, _ := fs.Glob(schema.FS, "*.sql"); len(files) == 0 {
		return nil
	}
	return []string{"NP30"}
}()

// TestLive looks at a database before its migrations, after them, and when one of them is missing.
func TestLive(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pooled := pgtest.PgBouncer(t, database, pgtest.PgBouncerOptions{})
	for _, url := range []string{database, pooled} {
		for _, sessions := range []int{1, 4} {
			r := liveOn(t, url, func(o *liveOptions) { o.DB.MaxSessions, o.AllowPlainAuth = sessions, true })
			wantStatus(t, r, StatusPassed, seenLive...)
			wantStatus(t, r, StatusWarned, pending...)
			if url == pooled || os.Getenv("TEST_DATABASE_URL") == "" { // which may be warned of: TestLiveOnStandin sees to that
				wantStatus(t, r, StatusPassed, "NP12")
			}
			if !strings.HasPrefix(r.Summary(), "areas 1/1, checks 5/5, further 3/3") || !strings.HasSuffix(r.Summary(), "; 23 are for the tests to see") {
				t.Errorf("not all is well: %s", r.Summary())
			}
		}
	}
	if n := pgtest.Connections(t, database); n > 2 { // what PgBouncer keeps
		t.Errorf("%d connections left", n)
	}
	var tables int
	admin := pgtest.Admin(t, database)
	if err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_user_tables").Scan(&tables); err != nil || tables != 0 {
		t.Errorf("it made %d tables, %v", tables, err)
	}
	allowAny := func(o *liveOptions) { o.AllowPlainAuth, o.migrateTo = true, true }
	if err := migrate.Run(t.Context(), migrateOptions(t, database, schema.FS), "up"); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{database, pooled} {
		wantStatus(t, liveOn(t, url, allowAny), StatusPassed, "NP30")
	}
	if len(pending) > 0 {
		if _, err := admin.Exec(t.Context(), "delete from goose_db_version where version_id > 0"); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, liveOn(t, database, allowAny), StatusWarned, "NP30")
	}
}

// TestLiveRowLevelSecurity gives the roles of Supabase's API what they have there, and the service a role that does not
// migrate.
func TestLiveRowLevelSecurity(t *testing.T) {
	t.Parallel()
	if len(pending) == 0 {
		t.Skip("no migrations, so nobody is known to own their tables")
	}
	database := pgtest.Server(t).URL("rls") // roles are the server's, so it is one of ours
	admin, err := pgx.Connect(t.Context(), pgtest.Server(t).AdminURL("postgres"))
	if err == nil {
		err = errors.Join(pgtest.Server(t).CreateDatabase(t.Context(), "rls"), admin.Close(t.Context()))
	}
	if err == nil {
		admin, err = pgx.Connect(t.Context(), pgtest.Server(t).AdminURL("rls"))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	u, _ := url.Parse(database)
	u.User = url.UserPassword("service", "secret")
	must := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	must("create role anon; create role service login password 'secret'")
	if err := migrate.Run(t.Context(), migrateOptions(t, database, schema.FS), "up"); err != nil {
		t.Fatal(err)
	}
	must("create table drafts (n int); alter table drafts owner to app; grant insert on drafts to service; grant select (n) on drafts to anon")
	must("grant select on all tables in schema public to service")
	for _, step := range []struct {
		sql        string
		app, other Status
	}{
		{"select 1", StatusWarned, StatusWarned},
		{"alter table drafts enable row level security", StatusPassed, StatusFailed},
		{"create policy only_read on drafts as restrictive using (true); create policy other on drafts to anon using (true)", StatusPassed, StatusFailed},
		{"create policy service on drafts to service using (true)", StatusPassed, StatusPassed},
		{"alter policy service on drafts using (false)", StatusPassed, StatusFailed},
		{"alter policy service on drafts using (true); create policy nobody on drafts as restrictive using (false)", StatusPassed, StatusFailed},
		{"drop policy service on drafts; revoke all on drafts from service", StatusPassed, StatusPassed},
		{"create view drafts_seen with (security_invoker) as select * from drafts; grant select on drafts_seen to anon; alter view drafts_seen owner to app", StatusPassed, StatusPassed},
		{"alter view drafts_seen set (security_invoker = off)", StatusWarned, StatusWarned},
	} {
		must(step.sql)
		for address, want := range map[string]Status{database: step.app, u.String(): step.other} {
			r := liveOn(t, address)
			wantStatus(t, r, want, "NP30")
			for _, x := range r.Results {
				if x.ID == "NP30" && want != StatusPassed && !strings.Contains(x.Detail, ": drafts") {
					t.Errorf("%s: %s", step.sql, x.Detail)
				}
			}
		}
	}
}

// TestLiveOnStandin sets servers up in ways that are allowed and should be known, and wrongly, and wants the rule concerned
// to say so, and no other.
func TestLiveOnStandin(t *testing.T) {
	t.Parallel()
	well := seeing("", "")
	for name, c := range map[string]struct {
		want   Status
		rule   string
		pooler standin.Options
		change func(*liveOptions)
	}{
		"plaintext":           {StatusWarned, "NP12", standin.Options{OnStatement: well}, func(o *liveOptions) { o.AllowPlainAuth = true }},
		"unverified":          {StatusWarned, "NP12", standin.Options{TLS: true, Auth: standin.SCRAM, OnStatement: well}, func(o *liveOptions) { o.url = withMode(o.url, "require") }},
		"password given away": {StatusWarned, "NP12", standin.Options{TLS: true, Auth: standin.Cleartext, OnStatement: well}, nil},
		"no password at all":  {StatusWarned, "NP12", standin.Options{TLS: true, OnStatement: well}, nil},
		"a guess":             {StatusWarned, "NP17", standin.Options{TLS: true, OnStatement: well}, func(o *liveOptions) { o.BudgetGuessed = true }},
		"wrong password":      {StatusFailed, "NP09", standin.Options{TLS: true, Auth: standin.SCRAM}, func(o *liveOptions) { o.url = strings.Replace(o.url, ":stand-in", ":not-", 1) }},
		"no TLS":              {StatusFailed, "NP09", standin.Options{}, func(o *liveOptions) { o.url = withMode(o.url, "require") }},
		"timeouts dropped":    {StatusFailed, "NP13", standin.Options{TLS: true, OnStatement: seeing("timeouts", "0 0 0")}, nil},
		"not read only":       {StatusFailed, "NP16", standin.Options{TLS: true, OnStatement: seeing("kind", "off, repeatable read")}, nil},
		"one shared server":   {StatusFailed, "NP01", standin.Options{TLS: true, OnStatement: oneServer}, nil},
		"no room":             {StatusFailed, "NP17", standin.Options{TLS: true, OnStatement: seeing("allowed", "3")}, nil},
		"too many replicas":   {StatusFailed, "NP17", standin.Options{TLS: true, OnStatement: well}, func(o *liveOptions) { o.Replicas = 25 }},
		"transaction mode":    {StatusFailed, "NP30", standin.Options{TLS: true, OnStatement: backends()}, func(o *liveOptions) { o.migrateTo = true }},
		"never closes":        {StatusFailed, "NP04", standin.Options{TLS: true, ReleaseLag: time.Minute, OnStatement: well}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := liveOn(t, standin.Start(t, c.pooler).URL(), func(o *liveOptions) {
				if c.change != nil {
					c.change(o)
				}
			})
			wantStatus(t, r, c.want, c.rule)
			if c.want == StatusWarned {
				if r.Strict(); !r.Failed() {
					t.Error("the strict report does not count as failed")
				}
				return
			}
			for _, x := range r.Results {
				if x.ID == "NP09" && x.Status == StatusPassed && !strings.Contains(x.Detail, "through Supavisor") {
					t.Errorf("the pooler is not known: %s", x.Detail)
				}
				if x.Status == StatusFailed && x.ID != c.rule {
					t.Errorf("%s failed as well: %s", x.ID, x.Detail)
				}
			}
		})
	}
}

// backends gives each transaction another backend, as a pooler in transaction
// mode does that has much to do.
func backends() func(*standin.Conn, string) standin.Reply {
	var n atomic.Int64
	rest := seeing("", "")
	return func(c *standin.Conn, sql string) standin.Reply {
		if sql == whoAmI {
			return standin.Reply{Rows: [][]string{{strconv.FormatInt(n.Add(1), 10)}}}
		}
		return rest(c, sql)
	}
}

// oneServer gives all sessions the same backend, as a pool of one would.
func oneServer(c *standin.Conn, sql string) standin.Reply {
	if sql == whoAmI {
		return standin.Reply{Rows: [][]string{{"42"}}}
	}
	return seeing("", "")(c, sql)
}

// seeing is a server of which all is well with these checks' settings, but for one
// of the facts. Whoever asks for a backend gets that of his connection.
func seeing(name, value string) func(*standin.Conn, string) standin.Reply {
	all := map[string]string{
		"version": "PostgreSQL 15", "port": "0", "pooler": "Supavisor", "timeouts": "20000 10000 20000",
		"kind": "on, repeatable read", "allowed": "97",
	}
	all[name] = value
	return func(c *standin.Conn, sql string) (r standin.Reply) {
		switch sql {
		case facts:
			object, _ := json.Marshal(all) // of strings, which never fails
			r.Rows = [][]string{{string(object)}}
		case whoAmI:
			r.Rows = [][]string{{strconv.Itoa(c.N)}}
		}
		return r
	}
}
