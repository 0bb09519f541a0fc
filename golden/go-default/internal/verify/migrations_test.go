package verify

import (
	"context"
	"go/ast"
	"go/constant"
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
	{"NP02", "source", oneConnectionInSource},
	{"NP02", "one connection for a run, none afterwards", oneConnectionForRun},
	{"NP02", "two runs at once", twoRuns},
	{"NP30", "applied once by two runs at once", twoRuns},
	{"NP30", "a waiting run blocks nobody", pollsForLock},
	{"NP30", "timeouts of its own", migrationTimeouts},
	{"NP30", "files without a transaction", withoutTransaction},
	{"NP30", "no migrations at all", noMigrations},
	{"NP30", "refuses a pooler in transaction mode", refusesTransactionMode},
	{"NP30", "an address of its own", separateAddress},
}

// migrationFiles are files of ours: the owner's may be any or none.
func migrationFiles(up ...string) fs.FS {
	files := fstest.MapFS{}
	for i, sql := range up {
		name := "0000" + string(rune('1'+i)) + "_step.sql"
		files[name] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql + "\n-- +goose Down\nselect 1;\n")}
	}
	return files
}

func migrateOptions(t testing.TB, url string, files fs.FS) migrate.Options {
	t.Helper()
	return migrate.Options{Connector: connector(t, url, anyServer()), FS: files, Out: io.Discard, ConnectTimeout: 10 * time.Second}
}

// oneConnectionInSource wants every handle of database/sql to be limited to
// one connection, by a constant, where it is made.
func oneConnectionInSource(t *T) {
	for _, p := range owned(t).packages {
		if !strings.HasSuffix(p.PkgPath, "/internal/migrate") {
			continue
		}
		limits := map[string]int{}
		opens := 0
		c := &checker{source: owned(t), pkg: p}
		for _, file := range p.Syntax {
			inspect(file, func(n ast.Node, _ []ast.Node) {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return
				}
				path, name := c.callee(call)
				switch {
				case path == "database/sql" && (name == "SetMaxOpenConns" || name == "SetMaxIdleConns"):
					limits[name]++
					value := p.TypesInfo.Types[call.Args[0]].Value
					if n, exact := int64(0), value != nil; !exact || func() bool { n, _ = constant.Int64Val(value); return n > 1 }() ||
						name == "SetMaxOpenConns" && n != 1 {
						t.Errorf("%v: %s must be the constant 1", p.Fset.Position(call.Pos()), name)
					}
				case name == "Open" && path == "database/sql", name == "OpenDB" && (path == "database/sql" || pgxStdlib.MatchString(path)):
					opens++
				}
			})
		}
		if opens == 0 || limits["SetMaxOpenConns"] != opens || limits["SetMaxIdleConns"] != opens {
			t.Errorf("%d handles of database/sql, limits on them: %v", opens, limits)
		}
		return
	}
	t.Fatal("there is no internal/migrate")
}

// oneConnectionForRun counts connections during a run that is slow enough to
// be seen.
func oneConnectionForRun(t *T) {
	url, r := newRelay(t, pgtest.Database(t))
	files := migrationFiles("create table a (id int);", "select pg_sleep(0.3);", "create table b (id int);")
	if err := migrate.Run(context.Background(), migrateOptions(t, url, files), "up"); err != nil {
		t.Fatalf("migrate up: %v", err)
	}
	if r.peak.Load() != 1 || r.total.Load() > 2 {
		t.Errorf("a run made %d connections, %d at once", r.total.Load(), r.peak.Load())
	}
	if !within(5*time.Second, func() bool { return r.open.Load() == 0 }) {
		t.Errorf("%d connections left", r.open.Load())
	}
}

// waiting counts who waits, inside the server, for an advisory lock.
const waiting = "select count(*) from pg_locks join pg_database d on d.oid = database" +
	" where locktype = 'advisory' and not granted and datname = current_database()"

// twoRuns migrates twice at the same time, as two replicas would: while the
// first is held up inside its migration, the second stays out, and then finds
// nothing to do. Neither takes a second connection.
func twoRuns(t *T) {
	ctx, database := context.Background(), pgtest.Database(t)
	admin, watch := pgtest.Admin(t, database), pgtest.Admin(t, database)
	gate, err := admin.Begin(ctx)
	if err == nil {
		_, err = gate.Exec(ctx, "select pg_advisory_xact_lock(42)")
	}
	if err != nil {
		t.Fatal(err)
	}
	inside := func() (n int) {
		_ = watch.QueryRow(ctx, waiting).Scan(&n)
		return n
	}
	files := migrationFiles("select pg_advisory_xact_lock(42); create table once (id int); insert into once values (1);")
	var all sync.WaitGroup
	run := func() *relay {
		url, r := newRelay(t, database)
		all.Go(func() {
			if err := migrate.Run(ctx, migrateOptions(t, url, files), "up"); err != nil {
				t.Errorf("migrate up beside another: %v", err)
			}
		})
		return r
	}
	first := run()
	if !within(10*time.Second, func() bool { return inside() == 1 }) {
		t.Errorf("the first run never came to its migration")
	}
	second := run()
	within(10*time.Second, func() bool { return second.total.Load() > 0 })
	if within(2*time.Second, func() bool { return inside() == 2 }) {
		t.Errorf("two runs were in the same migration")
	}
	if err := gate.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if first.peak.Load() != 1 || second.peak.Load() != 1 {
		t.Errorf("the runs had %d and %d connections at once", first.peak.Load(), second.peak.Load())
	}
	var rows int
	if err := watch.QueryRow(ctx, "select count(*) from once").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("applied %d times, %v", rows, err)
	}
	if !within(5*time.Second, func() bool { return pgtest.Connections(t, database) == 0 }) {
		t.Errorf("%d connections left", pgtest.Connections(t, database))
	}
}

// pollsForLock lets one run take its time while another waits for its turn. A
// wait inside the server holds a snapshot, which CREATE INDEX CONCURRENTLY in the
// first run would wait for in its turn.
func pollsForLock(t *T) {
	database := pgtest.Database(t)
	admin := pgtest.Admin(t, database)
	files := migrationFiles("create table t (id int);",
		"-- +goose StatementBegin\ndo $$ begin perform pg_sleep(1.5); end $$;\n-- +goose StatementEnd")
	var running sync.WaitGroup
	var relays [2]*relay
	for i := range relays {
		var url string
		url, relays[i] = newRelay(t, database)
		running.Go(func() {
			if err := migrate.Run(context.Background(), migrateOptions(t, url, files), "up"); err != nil {
				t.Errorf("migrate up beside another: %v", err)
			}
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	seen := 0 // both at once
	for over := false; !over; {
		var n int
		if err := admin.QueryRow(context.Background(), waiting).Scan(&n); err != nil || n > 0 {
			t.Errorf("%d runs waited for the lock inside the server, %v", n, err)
		}
		if relays[0].open.Load() > 0 && relays[1].open.Load() > 0 {
			seen++
		}
		select {
		case <-done:
			over = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	if seen == 0 {
		t.Errorf("the runs were not at the same time: this proves nothing")
	}
}

// migrationTimeouts wants a bound on every lock and statement of a migration,
// which a role's own settings do not give.
func migrationTimeouts(t *T) {
	database := pgtest.Database(t)
	files := migrationFiles("create table seen as select name, setting::bigint from pg_settings where name in ('lock_timeout', 'statement_timeout');")
	if err := migrate.Run(context.Background(), migrateOptions(t, database, files), "up"); err != nil {
		t.Fatalf("migrate up: %v", err)
	}
	var bounded int
	err := pgtest.Admin(t, database).QueryRow(context.Background(), "select count(*) from seen where setting > 0").Scan(&bounded)
	if err != nil || bounded != 2 {
		t.Errorf("%d of 2 timeouts are set, %v", bounded, err)
	}
}

// withoutTransaction runs what Postgres refuses inside a transaction, and
// wants all other files to be all or nothing.
func withoutTransaction(t *T) {
	database := pgtest.Database(t)
	files := fstest.MapFS{
		"00001_index.sql": {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\ncreate table t (id int);\ncreate index concurrently i on t (id);\n")},
		"00002_half.sql":  {Data: []byte("-- +goose Up\ncreate table half (id int);\nselect 1/0;\n")},
	}
	err := migrate.Run(context.Background(), migrateOptions(t, database, files), "up")
	if err == nil || !strings.Contains(err.Error(), "00002_half.sql") {
		t.Errorf("want the second file to fail by name, got %v", err)
	}
	var index, half bool
	err = pgtest.Admin(t, database).QueryRow(context.Background(), "select to_regclass('i') is not null, to_regclass('half') is not null").Scan(&index, &half)
	if err != nil || !index || half {
		t.Errorf("index made: %v, half of a failed file kept: %v, %v", index, half, err)
	}
}

func noMigrations(t *T) {
	database := pgtest.Database(t)
	for _, command := range migrate.Commands {
		if err := migrate.Run(context.Background(), migrateOptions(t, database, fstest.MapFS{}), command); err != nil {
			t.Errorf("migrate %s without migrations: %v", command, err)
		}
	}
}

// refusesTransactionMode wants a refusal before anything is dialled, and none
// where the owner says so: then the address cannot be resolved.
func refusesTransactionMode(t *T) {
	for url, refused := range map[string]bool{
		"postgres://u:secret-word@aws-0-eu.pooler.supabase.com:6543/d?sslmode=require":      true,
		"postgres://u:secret-word@db.ref.supabase.co:6543/d?sslmode=require":                true,
		"postgres://u:secret-word@ep-cool-1-pooler.eu.aws.neon.tech/d?sslmode=require":      true,
		"postgres://u:secret-word@127.0.0.1:1/d?sslmode=disable":                            false,
		"postgres://u:secret-word@nowhere.invalid:6543/d?sslmode=require&connect_timeout=1": false,
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := migrate.Run(ctx, migrateOptions(t, url, migrationFiles("select 1;")), "up")
		cancel()
		if err == nil || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("want an error without the password, got %v", err)
		} else if got := strings.Contains(err.Error(), "MIGRATION_DATABASE_URL"); got != refused {
			t.Errorf("refused %v, want %v: %v", got, refused, err)
		}
	}
}

// separateAddress wants the program to migrate at MIGRATION_DATABASE_URL alone.
// It connects to neither when the owner has no migrations.
func separateAddress(t *T) {
	refusing := standin.Options{TLS: true, OnStartup: func(int) *pgproto3.ErrorResponse { return standin.Fatal("3D000", "no such database") }}
	requests, migrations := standin.Start(t, refusing), standin.Start(t, refusing)
	p := start(t, requests.URL(), []string{"migrate", "status"}, "MIGRATION_DATABASE_URL="+migrations.URL())
	p.wait(15 * time.Second)
	if n := requests.Stats().Dials; n > 0 {
		t.Errorf("migrating made %d connections to DATABASE_URL, and %d to MIGRATION_DATABASE_URL", n, migrations.Stats().Dials)
	}
}
