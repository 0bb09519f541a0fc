// Package migrate applies the embedded SQL over a single connection, which it closes when it is done. It is the one place
// where database/sql is used, since goose asks for it; limited to one connection it is no pool.
package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"example.com/demo/internal/connect"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// lockWait is how many seconds a run waits for another one to end. It polls: a blocking wait would hold a snapshot, and
// CREATE INDEX CONCURRENTLY in the other run would wait for that in turn, until one of the two is killed.
const lockWait = 60

// cancelTimeout bounds the wait for an interrupted statement to be cancelled.
const cancelTimeout = 5 * time.Second

// transactionMode matches what is known to be a pooler in transaction mode, as HOST:PORT: of Supabase and of Neon.
var transactionMode = regexp.MustCompile(`(?i)\.(pooler\.supabase\.com|supabase\.co)\.?:6543$|-pooler\..*\.neon\.tech\.?:`)

// Commands are what Run understands: apply everything, take the last one back, show what is applied.
var Commands = []string{"up", "down", "status"}

// Options are what a run needs.
type Options struct {
	Connector      *connect.Connector
	FS             fs.FS         // files named NUMBER_what_it_does.sql; none at all is fine
	Out            io.Writer     // one line for each migration
	ConnectTimeout time.Duration // what comes after it has no bound but the server's
	AllowPooler    bool          // go ahead on what looks like a transaction-mode pooler
}

// Run runs one of Commands and writes what it did to Out. It refuses, before it connects, a pooler in transaction mode.
func Run(ctx context.Context, o Options, command string) error {
	config, err := o.Connector.Config()
	if err != nil {
		return err
	}
	if address := fmt.Sprintf("%s:%d", config.Host, config.Port); !o.AllowPooler && transactionMode.MatchString(address) {
		return fmt.Errorf("%s hands each transaction to another connection, so the lock that keeps two runs apart would not hold: "+
			"set MIGRATION_DATABASE_URL to the direct or session-mode address (or MIGRATION_ALLOW_POOLER=true)", address)
	}
	record, err := newRecord(o.FS, command)
	if err != nil {
		return err
	}
	db, closeAll := open(config)
	defer closeAll()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockWait), lock.WithUnlockTimeout(1, 5))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectCustom, db, o.FS, goose.WithStore(record),
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if errors.Is(err, goose.ErrNoMigrations) {
		fmt.Fprintln(o.Out, "no migrations")
		return nil
	}
	if err != nil {
		return errors.New(strings.Join(strings.Fields(err.Error()), " ")) // two files of one number, in one line
	}
	opening, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	if err := connect.OnceMore(opening, db.PingContext); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if command == "status" {
		return status(ctx, provider, record, db, o.Out)
	}
	return perform(ctx, provider, record, db, o.Out)
}

// open returns a handle that never has more than one connection, kept from one step of goose to the next: a second one
// might meet a full pooler. closeAll returns when the server has been told to stop what it does, since a process that
// just exits leaves a migration running, with its locks.
func open(config *pgx.ConnConfig) (db *sql.DB, closeAll func()) {
	var cancelled <-chan struct{}
	config.Tracer = marker{}
	db = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		cancelled = conn.PgConn().CleanupDone()
		return nil
	}))
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, func() {
		if db.Close(); cancelled != nil { // its error is of a connection that may be broken already
			select {
			case <-cancelled:
			case <-time.After(cancelTimeout):
			}
		}
	}
}

// hints say what to do about an error of goose's that says something of the kind.
var hints = map[string]string{
	"failed to acquire lock":   fmt.Sprintf("another run has held the lock for %d s: try again when it has ended", lockWait),
	"failed to unlock session": "a file has given up the lock that keeps two runs apart: leave out DISCARD ALL and pg_advisory_unlock_all()",
	"version not found":        "the file of the last migration is gone",
	"out-of-order":             "give the new file the highest number",
	`\ufeff`:                   "save the file without a byte order mark",
}

// perform runs up or down and reports what it did, also when it failed half-way.
func perform(ctx context.Context, provider *goose.Provider, record *record, db *sql.DB, out io.Writer) error {
	var done []*goose.MigrationResult
	var last *goose.MigrationResult
	var err error
	if record.command == "up" {
		done, err = provider.Up(ctx)
	} else if last, err = provider.Down(ctx); err == nil {
		done = append(done, last)
	}
	switch partial, ok := errors.AsType[*goose.PartialError](err); {
	case errors.Is(err, goose.ErrNoNextVersion) || err == nil && len(done) == 0:
		fmt.Fprintln(out, "nothing to do")
		return nil
	case ok:
		done, err = partial.Applied, fmt.Errorf("%s: %w", path.Base(partial.Failed.Source.Path), cmp.Or(ctx.Err(), partial.Err))
		if left := record.check(ctx, db, partial.Failed.Source.Version); errors.Is(left, errInvalidIndex) && !errors.Is(err, errInvalidIndex) {
			err = fmt.Errorf("%w; %w", err, left)
		}
	case err != nil:
		for sign, hint := range hints {
			if strings.Contains(err.Error(), sign) {
				err = fmt.Errorf("%w: %s", err, hint)
			}
		}
	}
	for _, result := range done {
		fmt.Fprintf(out, "%-4s %s (%v)\n", result.Direction, path.Base(result.Source.Path), result.Duration.Round(time.Millisecond))
	}
	return err
}

// status lists all files. Goose's own would take the lock, and make its table where there is none.
func status(ctx context.Context, provider *goose.Provider, record *record, db *sql.DB, out io.Writer) error {
	exists, err := record.TableExists(ctx, db)
	for _, source := range provider.ListSources() {
		state, when := goose.StatePending, ""
		if exists && err == nil {
			var found *database.GetMigrationResult
			if found, err = record.GetMigration(ctx, db, source.Version); err == nil {
				state, when = goose.StateApplied, found.Timestamp.UTC().Format(time.RFC3339)
			} else if errors.Is(err, database.ErrVersionNotFound) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-8s %-20s %s\n", state, when, path.Base(source.Path))
	}
	return nil
}

// afresh takes back what the last file has set and sets what the next one may take. DISCARD ALL would give up the lock
// that keeps two runs apart. SET reaches the server through every session-mode pooler, start-up parameters do not. A
// role's own statement_timeout, made for requests, would cut a long migration short; a file may set each differently.
const afresh = "set session authorization default; reset role; reset all; discard temp; " +
	"set statement_timeout = '15min'; set idle_in_transaction_session_timeout = '5min'; set lock_timeout = "

// untransacted is how a file says that it runs without a transaction.
var untransacted = regexp.MustCompile(`(?im)^--.*\+goose\s+NO TRANSACTION\s*$`)

// record is goose's own of the versions that are applied. Since goose writes it right behind a file, in the same
// transaction where there is one, it is also the place to clean up behind that file, and to prepare for the next one.
type record struct {
	database.StoreExtender
	command string
	texts   map[int64]string // the files, by number
}

// newRecord reads all files. It is an error when goose would skip one.
func newRecord(files fs.FS, command string) (*record, error) {
	store, err := database.NewStore(database.DialectPostgres, goose.DefaultTablename)
	if err != nil {
		return nil, err
	}
	r := &record{store.(database.StoreExtender), command, map[int64]string{}}
	return r, fs.WalkDir(files, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.EqualFold(path.Ext(name), ".sql") {
			return err
		}
		number, err := goose.NumericComponent(name)
		if err != nil || path.Dir(name) != "." {
			return fmt.Errorf("%s would be skipped: name it NUMBER_what_it_does.sql, outside of any folder", name)
		}
		text, err := fs.ReadFile(files, name)
		r.texts[number] = string(text)
		return err
	})
}

// TableExists finds the table where goose's statements do. Goose looks in the first schema alone, which a file can have put
// in front: all files would run again. One behind it that belongs to others is that of another service.
func (r *record) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, "select exists (select from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = to_regclass('"+
		goose.DefaultTablename+"') and (nspname = current_schema() or pg_has_role(relowner, 'usage')))").Scan(&exists)
	return exists, err
}

// ListMigrations is what goose begins with, so it prepares for the first file.
func (r *record) ListMigrations(ctx context.Context, db database.DBTxConn) ([]*database.ListMigrationsResult, error) {
	list, err := r.StoreExtender.ListMigrations(ctx, db)
	if err != nil || len(list) == 0 {
		return list, err
	}
	last := list[0].Version
	if r.command == "down" {
		last-- // the last one is the next
	}
	return list, r.prepare(ctx, db, last)
}

// Insert records a file that was applied.
func (r *record) Insert(ctx context.Context, db database.DBTxConn, request database.InsertRequest) error {
	err := r.prepare(ctx, db, request.Version)
	if err == nil {
		err = r.check(ctx, db, request.Version)
	}
	if err != nil {
		return err
	}
	return r.StoreExtender.Insert(ctx, db, request)
}

// Delete records a file that was taken back.
func (r *record) Delete(ctx context.Context, db database.DBTxConn, version int64) error {
	if err := r.prepare(ctx, db, version); err != nil {
		return err
	}
	return r.StoreExtender.Delete(ctx, db, version)
}

// marker marks the transactions that goose begins, by "begin" alone: a file's own has a semicolon behind it.
type marker struct{}

func (marker) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, marker{}, data.SQL == "begin")
}

func (marker) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryEndData) {
	if ctx.Value(marker{}) == true {
		conn.Exec(ctx, "set local migrate.mark = 'set'") //nolint:errcheck // intact sees whether it is set
	}
}

// intact returns an error when a file has ended the transaction that goose began for it, or has left one of its own open.
func intact(ctx context.Context, db database.DBTxConn) error {
	if conn, ok := db.(*sql.Conn); ok {
		return conn.Raw(func(c any) error {
			if c.(*stdlib.Conn).Conn().PgConn().TxStatus() != 'I' {
				return errors.New("it leaves a transaction open, of which nothing lasts: end it with COMMIT")
			}
			return nil
		})
	}
	var mark sql.NullString
	err := db.QueryRowContext(ctx, "select current_setting('migrate.mark', true)").Scan(&mark)
	if err == nil && mark.String == "" {
		err = errors.New("it has ended the transaction that it runs in, so parts of it may last: " +
			"leave out COMMIT, ROLLBACK and RESET ALL, or add -- +goose NO TRANSACTION")
	}
	return err
}

// prepare looks whether the file before was sound, cleans up behind it, and sets the timeouts for the file that follows a
// version: none on locks if that file runs outside of a transaction, since CREATE INDEX CONCURRENTLY waits for all
// transactions that are open, by design.
func (r *record) prepare(ctx context.Context, db database.DBTxConn, version int64) error {
	if err := intact(ctx, db); err != nil {
		return err
	}
	lockTimeout := "'5s'"
	numbers := slices.Sorted(maps.Keys(r.texts))
	if at := slices.IndexFunc(numbers, func(n int64) bool { return n > version }); at >= 0 && untransacted.MatchString(r.texts[numbers[at]]) {
		lockTimeout = "0"
	}
	_, err := db.ExecContext(ctx, afresh+lockTimeout)
	return err
}

var errInvalidIndex = errors.New("invalid index")

// invalidIndexes are those whose build failed, where a text has the name of the index or of its table, word by word. One on
// a partitioned table is only waiting for its partitions.
const invalidIndexes = `select string_agg(indexrelid::regclass::text, ', ')
	from pg_index join pg_class i on i.oid = indexrelid join pg_class t on t.oid = indrelid
	where not indisvalid and i.relkind = 'i'
		and exists (select from unnest(array[t.relname::text, regexp_replace(i.relname, '_cc(new|old)\d*$', '')]) as own
			where strpos(regexp_replace(lower($1), '\W+', ' ', 'g'), regexp_replace(lower(' ' || own || ' '), '\W+', ' ', 'g')) > 0)`

// check looks for invalid indexes among what a file speaks of. Postgres leaves one behind where CREATE INDEX CONCURRENTLY
// fails, and the next time takes it for done if the file says "if not exists".
func (r *record) check(ctx context.Context, db database.DBTxConn, version int64) error {
	var found sql.NullString
	if err := db.QueryRowContext(ctx, invalidIndexes, r.texts[version]).Scan(&found); err != nil || !found.Valid {
		return err
	}
	return fmt.Errorf("%w %s: drop it and run this again", errInvalidIndex, found.String)
}
