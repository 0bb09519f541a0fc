package verify

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/migrate"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

var migrationParts = []part{
	{"NP02 NP30", "two runs at once, one connection each, of which one waits outside", twoRuns},
	{"NP30", "timeouts, files without a transaction, and what a file sets", files},
	{"NP30", "an invalid index, and files that would be skipped", nothingSkipped},
	{"NP30", "no migrations at all", noMigrations},
	{"NP30", "refuses a pooler in transaction mode", refusesTransactionMode},
	{"NP30", "an address of its own", separateAddress},
}

// up migrates with files of ours, given as name and text: the owner's may be any or none.
func up(t testing.TB, url string, files map[string]string) error {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return migrate.Run(context.Background(), migrateOptions(t, url, tree), "up")
}

func migrateOptions(t testing.TB, url string, files fs.FS) migrate.Options {
	t.Helper()
	return migrate.Options{Connector: connector(t, url, anyServer()), FS: files, Out: io.Discard, ConnectTimeout: 10 * time.Second}
}

// twoRuns migrates twice at the same time, as two replicas would: while the first is held up inside its migration, the
// second stays out, and then finds nothing to do. It waits for its turn outside of the server: a wait inside holds a
// snapshot, which CREATE INDEX CONCURRENTLY in the first would wait for. Neither takes a second connection.
func twoRuns(t *T) {
	ctx, database := context.Background(), pgtest.Database(t)
	admin, watch := pgtest.Admin(t, database), pgtest.Admin(t, database)
	gate, err := admin.Begin(ctx)
	if err == nil {
		_, err = gate.Exec(ctx, "select pg_advisory_xact_lock(42)")
	}
	t.need(err)
	waiting := func() (n int) { // for an advisory lock, in the server
		_ = watch.QueryRow(ctx, "select count(*) from pg_locks join pg_database d on d.oid = database"+
			" where locktype = 'advisory' and not granted and datname = current_database()").Scan(&n)
		return n
	}
	var all sync.WaitGroup
	run := func() *pgtest.Relay {
		url, relay := pgtest.NewRelay(t, database)
		all.Go(func() {
			t.wantErr(nil, up(t, url, map[string]string{"00001_once.sql": "-- +goose Up\nselect pg_advisory_xact_lock(42); create table once as select 1;"}), "migrate up beside another")
		})
		return relay
	}
	first := run()
	t.failIf(!pgtest.Within(soon, func() bool { return waiting() == 1 }), "the first run never came to its migration")
	second := run()
	pgtest.Within(soon, func() bool { return second.Total.Load() > 0 })
	t.failIf(pgtest.Within(2*time.Second, func() bool { return waiting() == 2 }), "two runs were in the same migration, or one waited for the other inside the server")
	t.need(gate.Commit(ctx))
	all.Wait()
	for _, relay := range []*pgtest.Relay{first, second} {
		t.failIf(relay.Peak.Load() != 1 || relay.Total.Load() > 2, "a run made %d connections, %d at once", relay.Total.Load(), relay.Peak.Load())
	}
	var rows int
	err = watch.QueryRow(ctx, "select count(*) from once").Scan(&rows)
	t.failIf(err != nil || rows != 1, "applied %d times, %v", rows, err)
	t.failIf(!pgtest.Within(soon, func() bool { return pgtest.Connections(t, database) == 0 }), "%d connections left", pgtest.Connections(t, database))
}

// files wants each file to have a bound on its statements, and on its locks where it has a transaction, which a role's own
// settings do not give; what one of them has set to be gone behind it; and one that fails to leave nothing.
func files(t *T) {
	database := pgtest.Database(t)
	const note = `insert into public.seen select (select setting from pg_settings where name = 'lock_timeout')::int,
		(select setting from pg_settings where name = 'statement_timeout')::int, current_setting('search_path');` + "\n"
	err := up(t, database, map[string]string{
		"00001_dump.sql":  "-- +goose Up\ncreate table seen (locks int, statements int, path text);\n" + note + "set statement_timeout = 0; select set_config('search_path', '', false);\n",
		"00002_index.sql": "-- +goose NO TRANSACTION\n-- +goose Up\n" + note + "create index concurrently i on seen (path);\n",
		"00003_last.sql":  "-- +goose Up\n" + note,
		"00004_half.sql":  "-- +goose Up\ncreate table half (id int);\nselect 1/0;\n",
	})
	t.failIf(err == nil || !strings.Contains(err.Error(), "00004_half.sql"), "want the last file to fail by name, got %v", err)
	var got string
	err = pgtest.Admin(t, database).QueryRow(context.Background(), `select concat_ws(' ', bool_and(statements > 0 and path <> ''),
		string_agg((locks > 0)::text, ' ' order by ctid), to_regclass('i') is not null, to_regclass('half') is null) from seen`).Scan(&got)
	t.failIf(err != nil || got != "t true false true t t", "timeouts and search path, three times those of locks, whether the index is made, and half a file not kept: %s, %v", got, err)
}

// nothingSkipped wants an error for an index whose build failed, which "if not exists" takes for done at the second run,
// and for a file that goose would not run.
func nothingSkipped(t *T) {
	database := pgtest.Database(t)
	for range 2 {
		err := up(t, database, map[string]string{
			"00001_twice.sql": "-- +goose Up\ncreate table twice as select 1 as n union all select 1;\n",
			"00002_index.sql": "-- +goose NO TRANSACTION\n-- +goose Up\ncreate unique index concurrently if not exists twice_n on twice (n);\n",
		})
		t.failIf(err == nil || !strings.Contains(err.Error(), "twice_n"), "want the index that could not be built by name, got %v", err)
	}
	for _, name := range []string{"create.sql", "00003_create.SQL", "later/00003_create.sql"} {
		t.failIf(up(t, database, map[string]string{name: "-- +goose Up\nselect 1;\n"}) == nil, "%s was skipped without a word", name)
	}
}

func noMigrations(t *T) {
	database := pgtest.Database(t)
	for _, command := range migrate.Commands {
		err := migrate.Run(context.Background(), migrateOptions(t, database, fstest.MapFS{}), command)
		t.failIf(err != nil, "migrate %s without migrations: %v", command, err)
	}
}

// refusesTransactionMode wants a refusal before anything is dialled.
func refusesTransactionMode(t *T) {
	for address, refused := range map[string]bool{
		"aws-0-eu.pooler.supabase.com:6543": true, "db.ref.supabase.co:6543": true, "ep-cool-1-pooler.eu.aws.neon.tech": true, "127.0.0.1:1": false,
	} {
		err := up(t, "postgres://u:secret-word@"+address+"/d?sslmode=require", map[string]string{"00001_step.sql": "-- +goose Up\nselect 1;"})
		if err == nil || strings.Contains(err.Error(), "secret-word") || strings.Contains(err.Error(), "MIGRATION_DATABASE_URL") != refused {
			t.Errorf("%s: refused without the password should be %v: %v", address, refused, err)
		}
	}
}

// separateAddress wants the program to migrate at MIGRATION_DATABASE_URL alone. It connects to neither when the owner has
// no migrations.
func separateAddress(t *T) {
	refusing := standin.Options{TLS: true, OnStartup: func(int) *pgproto3.ErrorResponse { return standin.Fatal("3D000", "no such database") }}
	requests, migrations := standin.Start(t, refusing), standin.Start(t, refusing)
	start(t, requests.URL(), []string{"migrate", "status"}, "MIGRATION_DATABASE_URL="+migrations.URL()).wait()
	if n := requests.Stats().Dials; n > 0 {
		t.Errorf("migrating made %d connections to DATABASE_URL, and %d to MIGRATION_DATABASE_URL", n, migrations.Stats().Dials)
	}
}
