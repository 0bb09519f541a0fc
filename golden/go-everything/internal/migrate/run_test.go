package migrate

import (
	"context"
	"errors"
	"fmt"
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

// A list of what is pending is a question, which leaves nothing behind and wants no right to create.
func TestStatusMakesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, url, one, "status")
	if got := schema(t, pgtest.Admin(t, url)); got != "" {
		t.Errorf("tables: %s", got)
	}
}

// TestSchemaInFront has a file put another schema in front of the one that the record is in.
func TestSchemaInFront(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"of the user": `do $$ begin execute format('create schema %I', current_user); end $$;`,
		"of the path": `do $$ begin create schema ahead; execute format('alter database %I set search_path = ahead, public', current_database()); end $$;`,
	} {
		url := pgtest.Database(t)
		fsys := files(map[string]string{"1_first.sql": "-- +goose Up\n-- +goose StatementBegin\n" + sql + "\n-- +goose StatementEnd\n"})
		mustMigrate(t, url, fsys, "up")
		if out, err := migrate(t, url, fsys, "up"); err != nil || out != "nothing to do\n" {
			t.Errorf("%s: up again: %q, %v", name, out, err)
		}
		if out := mustMigrate(t, url, fsys, "status"); !strings.Contains(out, "applied") {
			t.Errorf("%s: status: %s", name, out)
		}
	}
}

// TestRecordOfOthers has the record of another service in sight, behind the schema of this one.
func TestRecordOfOthers(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip("its user may own both")
	}
	url := pgtest.Database(t)
	_, err := pgtest.Admin(t, url).Exec(t.Context(), "create table goose_db_version (id int, version_id int, is_applied bool, tstamp timestamp); "+
		"insert into goose_db_version values (1, 0, true, now()), (2, 1, true, now()); create schema app authorization app")
	if err != nil {
		t.Fatal(err)
	}
	if out := mustMigrate(t, url, one, "up"); !strings.Contains(out, "up   00001_one.sql") {
		t.Errorf("up: %s", out)
	}
}

// TestRecordThatIsGranted has a role run the files whose record another one made for it.
func TestRecordThatIsGranted(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip("its user may own all")
	}
	url := pgtest.Database(t)
	mustMigrate(t, url, one, "up")
	_, err := pgtest.Admin(t, url).Exec(t.Context(), "alter table goose_db_version owner to postgres; grant all on goose_db_version to app")
	if err != nil {
		t.Fatal(err)
	}
	if out := mustMigrate(t, url, one, "up"); out != "nothing to do\n" {
		t.Errorf("up again: %s", out)
	}
}

func TestFilesThatWouldBeSkipped(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"create.sql", "create_1.sql", "00001-create.sql", "00001.sql", "00000_create.sql", "00001_create.SQL", "00001_create.Sql", "v2/00001_create.sql",
	} {
		err := Run(t.Context(), Options{Connector: connector(t, "postgres://app@127.0.0.1:1/app"), FS: files(map[string]string{name: "-- +goose Up\nselect 1;\n"})}, "up")
		if err == nil || !strings.Contains(err.Error(), name+" would be skipped") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What one file sets reaches neither the record of its version nor the next file, which sees seen.
func TestFilesStartAfresh(t *testing.T) {
	t.Parallel()
	const seen = `create table public.seen as select concat_ws(' ', current_user, current_setting('search_path'),
		current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'),
		current_setting('default_transaction_read_only'), to_regclass('pg_temp.kept') is null,
		(select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())) as state;`
	state := func(first string) (state string) {
		url := pgtest.Database(t)
		mustMigrate(t, url, files(map[string]string{"1_first.sql": first, "2_second.sql": "-- +goose Up\n" + seen}), "up")
		if err := pgtest.Admin(t, url).QueryRow(t.Context(), "select state from seen").Scan(&state); err != nil {
			t.Error(err)
		}
		return state
	}
	want := state("-- +goose Up\nselect 1;\n")
	for _, sets := range []string{
		"select pg_catalog.set_config('search_path', '', false);", // as pg_dump does
		"set search_path = pg_catalog;",
		"set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0;",
		"set role pg_database_owner;",
		"create temp table kept (n int);",
		"set default_transaction_read_only = on;",
	} {
		for _, mode := range []string{"", "-- +goose NO TRANSACTION\n"} {
			if got := state(mode + "-- +goose Up\n" + sets + "\n"); got != want {
				t.Errorf("%s%s\n got %s\nwant %s", mode, sets, got, want)
			}
		}
	}
}

// CREATE INDEX CONCURRENTLY waits for every transaction that is open, by design.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	const note = "insert into noted values (current_setting('lock_timeout'));\n"
	url := pgtest.Database(t)
	fsys := files(map[string]string{
		"1_begin.sql":   "-- +goose NO TRANSACTION\n-- +goose Up\ncreate table noted (lock_timeout text);\n" + note,
		"2_outside.sql": "-- +goose no transaction\n-- +goose Up\n" + note,
		"10_inside.sql": "-- +goose Up\n" + note, // in order of number
		"11_end.sql":    "-- +goose NO TRANSACTION\n-- +goose Up\n" + note + "-- +goose Down\n" + note,
	})
	mustMigrate(t, url, fsys, "up")
	mustMigrate(t, url, fsys, "down")
	var noted string
	err := pgtest.Admin(t, url).QueryRow(t.Context(), "select string_agg(lock_timeout, ' ' order by ctid) from noted").Scan(&noted)
	if err != nil || noted != "0 0 5s 0 0" {
		t.Errorf("lock_timeout: %s, %v", noted, err)
	}
}

// An index that could not be built stays behind, and with "if not exists" the next run takes it for done.
func TestInvalidIndex(t *testing.T) {
	t.Parallel()
	const table = "-- +goose Up\ncreate table twice (n int);\ninsert into twice values (1), (1);\n"
	for _, test := range []struct{ again, name string }{
		{"-- +goose NO TRANSACTION\n-- +goose Up\ncreate unique index concurrently if not exists Twice_N on twice (n);\n", "twice_n"},
		{"-- +goose Up\ncreate unique index if not exists twice_n on twice (n);\n", "twice_n"},
		{"-- +goose Up\nanalyze twice;\n", "twice_n"}, // whatever it does, it does it to that table
	} {
		url := pgtest.Database(t)
		build := "-- +goose NO TRANSACTION\n-- +goose Up\ncreate unique index concurrently twice_n on twice (n);\n"
		for _, second := range []string{build, test.again, test.again} {
			_, err := migrate(t, url, files(map[string]string{"1_table.sql": table, "2_index.sql": second}), "up")
			if err == nil || !strings.HasPrefix(err.Error(), "2_index.sql: ") || !strings.Contains(err.Error(), "invalid index") || !strings.Contains(err.Error(), test.name) {
				t.Errorf("%s: %v", second, err)
			}
		}
		admin := pgtest.Admin(t, url)
		if _, err := admin.Exec(t.Context(), "drop index twice_n; truncate twice"); err != nil {
			t.Fatal(err)
		}
		mustMigrate(t, url, files(map[string]string{"1_table.sql": table, "2_index.sql": test.again}), "up")
	}
	// One that no file speaks of is not ours, nor is one that waits for its partitions.
	url := pgtest.Database(t)
	mustMigrate(t, url, files(map[string]string{"1_table.sql": table}), "up")
	if _, err := pgtest.Admin(t, url).Exec(t.Context(), "create unique index concurrently twice_n on twice (n)"); err == nil {
		t.Fatal("the index was built")
	}
	mustMigrate(t, url, files(map[string]string{"1_table.sql": table, "2_other.sql": `-- +goose Up
create table parts (n int) partition by range (n);
create table part partition of parts for values from (1) to (2);
create index parts_n on only parts (n);
`}), "up")
}

// A file is applied as a whole and recorded, or is not recorded and said to have failed, also when it is run again.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	const (
		table       = "create table if not exists x (n int);\n"
		up, outside = "-- +goose Up\n" + table, "-- +goose NO TRANSACTION\n-- +goose Up\n"
		ended, open = "ended the transaction", "leaves a transaction open"
	)
	url := pgtest.Database(t)
	admin := pgtest.Admin(t, url)
	for _, test := range []struct{ text, want string }{
		{up + "rollback;\n", ended},
		{up + "commit;\n", ended},
		{up + "rollback and chain;\n", ended},
		{up + "commit and chain;\n", ended},
		{up + "commit;\nbegin;\n", ended},
		{up + "-- +goose StatementBegin\nrollback; begin\n-- +goose StatementEnd\n", ended},
		{up + "reset all;\n", ended},
		{"-- +goose Up\nset transaction isolation level serializable;\nsavepoint s;\nselect 1;\nrollback to s;\n", ""},
		{outside + "begin;\n" + table, open},
		{outside + "start transaction;\n" + table + "commit and chain;\n", open},
		{outside + "begin;\n" + table + "commit;\n", ""},
		{outside + table + "discard all;\n", "leave out DISCARD ALL"},
		{outside + `create table if not exists "My Größe" (n int);
insert into "My Größe" values (1), (1);
create unique index concurrently if not exists "My Index" on "My Größe" (n);
`, `invalid index "My Index": drop it`},
		{"\ufeff" + up, "without a byte order mark"},
	} {
		for range 2 {
			out, err := migrate(t, url, files(map[string]string{"1_odd.sql": test.text}), "up")
			applied := strings.HasPrefix(out, "up   1_odd.sql")
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) ||
				applied != (test.want == "" || strings.Contains(test.text, "discard all")) {
				t.Errorf("%s: %q, %v", test.text, out, err)
			}
			if applied {
				break
			}
		}
		if _, err := admin.Exec(t.Context(), "drop table if exists goose_db_version, x"); err != nil {
			t.Fatal(err)
		}
	}
	early, late := "1_early.sql", "2_late.sql"
	mustMigrate(t, url, files(map[string]string{late: up}), "up")
	if _, err := migrate(t, url, files(map[string]string{early: up, late: up}), "up"); err == nil || !strings.Contains(err.Error(), "highest number") {
		t.Errorf("a file that comes late: %v", err)
	}
	if _, err := migrate(t, url, files(map[string]string{early: up}), "down"); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("a file that is gone: %v", err)
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
		if got := transactionMode.MatchString(fmt.Sprintf("%s:%d", config.Host, config.Port)); got != test.refused {
			t.Errorf("%s: refused is %v", test.address, got)
		}
	}
}
