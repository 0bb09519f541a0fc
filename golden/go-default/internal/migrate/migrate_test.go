package migrate

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/pgtest"
	"example.com/demo/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func files(sql map[string]string) fs.FS {
	m := fstest.MapFS{"README.md": {Data: []byte("not a migration")}}
	for name, content := range sql {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

// one is a single migration, whatever the project's own are.
var one = files(map[string]string{"00001_one.sql": "-- +goose Up\ncreate table one (n int);\n-- +goose Down\ndrop table one;\n"})

// migrate runs a command and returns what it printed.
func migrate(t *testing.T, url string, fsys fs.FS, command string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := Run(t.Context(), Options{Connector: connector(t, url), FS: fsys, Out: &out, ConnectTimeout: 10 * time.Second}, command)
	return out.String(), err
}

func connector(t *testing.T, url string) *connect.Connector {
	t.Helper()
	c, err := connect.Parse(url, connect.Options{AppName: "migrator", AllowPlaintext: true, AllowPlainAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustMigrate(t *testing.T, url string, fsys fs.FS, command string) string {
	t.Helper()
	out, err := migrate(t, url, fsys, command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return out
}

// awaitNone waits for the server to notice that its clients have gone.
func awaitNone(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n := pgtest.Connections(t, url)
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", n)
		}
	}
}

// The project's own migrations go up, down and up again.
func TestOwnMigrations(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	admin := pgtest.Admin(t, url)
	empty := schema(t, admin)
	mustMigrate(t, url, migrations.FS, "up")
	full := schema(t, admin)
	for strings.Contains(mustMigrate(t, url, migrations.FS, "down"), "down") {
	}
	if got := schema(t, admin); strings.ReplaceAll(got, "goose_db_version ", "") != empty {
		t.Errorf("left behind by down: %s", got)
	}
	mustMigrate(t, url, migrations.FS, "up")
	if got := schema(t, admin); got != full {
		t.Errorf("after up, down, up: %s, want %s", got, full)
	}
	awaitNone(t, url)
}

func schema(t *testing.T, conn *pgx.Conn) (tables string) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `select coalesce(string_agg(tablename || ' ', '' order by tablename), '')
		from pg_tables where schemaname = 'public'`).Scan(&tables)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

func TestStatus(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	fsys := files(map[string]string{
		"00001_first.sql":  "-- +goose Up\nselect 1;\n-- +goose Down\nselect 1;\n",
		"00002_second.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nselect 2;\n",
	})
	if out := mustMigrate(t, url, fsys, "status"); strings.Count(out, "pending") != 2 {
		t.Errorf("before: %s", out)
	}
	if out := mustMigrate(t, url, fsys, "up"); !strings.Contains(out, "up   00001_first.sql") || !strings.Contains(out, "up   00002_second.sql") {
		t.Errorf("up: %s", out)
	}
	if out := mustMigrate(t, url, fsys, "status"); strings.Count(out, "applied") != 2 {
		t.Errorf("after: %s", out)
	}
	if out := mustMigrate(t, url, fsys, "up"); out != "nothing to do\n" {
		t.Errorf("second up: %s", out)
	}
}

func TestNoMigrations(t *testing.T) {
	t.Parallel()
	url := "postgres://nobody@127.0.0.1:1/none?sslmode=disable" // is not even dialled
	for _, command := range Commands {
		if out := mustMigrate(t, url, files(nil), command); out != "no migrations\n" {
			t.Errorf("%s: %q", command, out)
		}
	}
}

// Two runs at once: one migrates, the other waits for it; each has one
// connection at any instant, its own timeouts, and a name that tells whose it is.
func TestOneConnectionEach(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	fsys := files(map[string]string{
		"00001_slow.sql": "-- +goose Up\ncreate table once (i int);\ninsert into once values (1);\nselect pg_sleep(1.5);\n",
		"00002_settings.sql": "-- +goose NO TRANSACTION\n-- +goose Up\ncreate table settings as select name, setting from pg_settings " +
			"where name in ('application_name', 'lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout');\n",
	})
	var runs sync.WaitGroup
	for range 2 {
		runs.Go(func() {
			if _, err := migrate(t, url, fsys, "up"); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { runs.Wait(); close(done) }()
	most := 0
	for running := true; running; {
		most = max(most, pgtest.Connections(t, url))
		select {
		case <-done:
			running = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	if most != 2 {
		t.Errorf("%d connections for two runs", most)
	}
	awaitNone(t, url)
	var rows int
	var settings string
	err := pgtest.Admin(t, url).QueryRow(t.Context(), `select (select count(*) from once),
		(select string_agg(setting, ' ' order by name) from settings)`).Scan(&rows, &settings)
	if err != nil || rows != 1 || settings != "migrator 300000 5000 900000" {
		t.Errorf("applied %d times, settings %q, error %v", rows, settings, err)
	}
}

// CREATE INDEX CONCURRENTLY waits for every older snapshot, so a run that waits
// must not hold one.
func TestConcurrentIndexWhileAnotherRunWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	fsys := files(map[string]string{
		"00001_table.sql": "-- +goose Up\ncreate table t (i int);\nselect pg_sleep(0.5);\n",
		"00002_index.sql": "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently on t (i);\n",
	})
	var runs sync.WaitGroup
	for range 3 {
		runs.Go(func() {
			if _, err := migrate(t, url, fsys, "up"); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
}

func TestFailedMigration(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	fsys := files(map[string]string{
		"00001_good.sql": "-- +goose Up\ncreate table good (i int);\n",
		"00002_bad.sql":  "-- +goose Up\ncreate table bad (i int);\nselect nonsense;\n",
	})
	out, err := migrate(t, url, fsys, "up")
	if err == nil || !strings.HasPrefix(err.Error(), "00002_bad.sql: ") || !strings.Contains(err.Error(), "42703") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out, "00001_good.sql") || strings.Contains(out, "bad") {
		t.Errorf("printed %q", out)
	}
	if got := schema(t, pgtest.Admin(t, url)); got != "good goose_db_version " {
		t.Errorf("tables: %s", got)
	}
	awaitNone(t, url)
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	fsys := files(map[string]string{"00001_slow.sql": "-- +goose Up\ncreate table t (i int);\nselect pg_sleep(60);\n"})
	started := time.Now()
	err := Run(ctx, Options{Connector: connector(t, url), FS: fsys, Out: new(strings.Builder), ConnectTimeout: 10 * time.Second}, "up")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(started), err)
	}
	awaitNone(t, url)
	if out := mustMigrate(t, url, fsys, "status"); !strings.Contains(out, "pending") {
		t.Errorf("status: %s", out)
	}
}

func TestThroughSessionPooler(t *testing.T) {
	t.Parallel()
	url := pgtest.PgBouncer(t, pgtest.Database(t), pgtest.PgBouncerOptions{PoolSize: 1})
	mustMigrate(t, url, one, "up")
	mustMigrate(t, url, one, "down")
	mustMigrate(t, url, one, "up")
}

func TestTransactionPoolersAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		address string
		refused bool
	}{
		{"aws-0-eu-west-1.pooler.supabase.com:6543", true},
		{"AWS-0-EU-WEST-1.Pooler.Supabase.com.:6543", true},
		{"aws-0-eu-west-1.pooler.supabase.com:5432", false},
		{"db.abcdefghij.supabase.co:6543", true},
		{"db.abcdefghij.supabase.co:5432", false},
		{"ep-cool-name-123456-pooler.eu-central-1.aws.neon.tech:5432", true},
		{"ep-cool-name-123456.eu-central-1.aws.neon.tech:5432", false},
		{"db.example.com:6543", false},
		{"notsupabase.co:6543", false},
		{"my-pooler.example.com:5432", false},
	} {
		config, err := connector(t, "postgres://app:s3cret@"+test.address+"/app?sslmode=require").Config()
		if err != nil {
			t.Fatal(err)
		}
		if got := transactionPooler(config.Host, config.Port) != ""; got != test.refused {
			t.Errorf("%s: refused is %v", test.address, got)
		}
	}
	url := "postgres://app:s3cret@x.pooler.supabase.com:6543/app?sslmode=require"
	options := Options{Connector: connector(t, url), FS: one, Out: new(strings.Builder), ConnectTimeout: time.Millisecond}
	err := Run(t.Context(), options, "up")
	if err == nil || !strings.Contains(err.Error(), "MIGRATION_DATABASE_URL") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	options.AllowPooler = true
	if err := Run(t.Context(), options, "up"); err == nil || !strings.HasPrefix(err.Error(), "connect: ") {
		t.Errorf("allowed all the same: %v", err)
	}
}

func TestErrorsHoldNoPassword(t *testing.T) {
	t.Parallel()
	refused, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	refused.User, refused.Path = url.UserPassword(refused.User.Username(), "s3cret"), "/missing"
	for _, url := range []string{
		"postgres://app:s3cret@127.0.0.1:1/app?sslmode=require",
		refused.String(),
	} {
		if _, err := migrate(t, url, one, "up"); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v", err)
		}
	}
}
