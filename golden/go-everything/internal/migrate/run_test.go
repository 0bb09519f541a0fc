package migrate

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

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
	if !pgtest.Within(30*time.Second, func() bool { return pgtest.Connections(t, url) == 0 }) {
		t.Fatalf("%d connections are left", pgtest.Connections(t, url))
	}
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

func files(sql map[string]string) fs.FS {
	m := fstest.MapFS{"README.md": {Data: []byte("not a migration")}}
	for name, content := range sql {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

// one is a single migration, whatever the project's own are.
var one = files(map[string]string{"00001_one.sql": "-- +goose Up\ncreate table one (n int);\n-- +goose Down\ndrop table one;\n"})

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
	err := Run(ctx, Options{Connector: connector(t, url), FS: fsys, Out: new(strings.Builder), ConnectTimeout: 10 * time.Second}, "up")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("want the deadline, got %v", err)
	}
	awaitNone(t, url)
	if out := mustMigrate(t, url, fsys, "status"); !strings.Contains(out, "pending") {
		t.Errorf("status: %s", out)
	}
}

// TestNewPassword refuses a password once, as Supavisor does with a new one.
func TestNewPassword(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{OnStartup: func(n int) *pgproto3.ErrorResponse {
		if n == 1 {
			return standin.Fatal("28P01", "password authentication failed for user \"app\"")
		}
		return standin.Fatal("3D000", "which shows that it came again")
	}})
	if _, err := migrate(t, pooler.URL(), one, "up"); err == nil || !strings.Contains(err.Error(), "3D000") || pooler.Stats().Dials != 2 {
		t.Errorf("%v after %d dials, want another", err, pooler.Stats().Dials)
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
}
