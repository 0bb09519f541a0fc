package migrate

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.org/team/tiny-shop/internal/connect"
	"example.org/team/tiny-shop/internal/pgtest"
	"example.org/team/tiny-shop/migrations"
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
