// Package migrate applies the embedded SQL over a single connection, which it
// closes when it is done. It is the one place where database/sql is used, since
// goose asks for it; limited to one connection it is no pool.
package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"example.org/team/tiny-shop/internal/connect"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// session sets what a migration may take. SET reaches the server through every
// session-mode pooler, start-up parameters do not. A role's own
// statement_timeout, made for requests, would cut a long migration short; a file
// may set either differently.
const session = "set lock_timeout = '5s'; set statement_timeout = '15min'; set idle_in_transaction_session_timeout = '5min'"

// lockWait is how many seconds a run waits for another one to end. It polls: a
// blocking wait would hold a snapshot, and CREATE INDEX CONCURRENTLY in the
// other run would wait for that in turn, until one of the two is killed.
const lockWait = 60

// Commands are what Run understands: apply everything, take the last one back,
// show what is applied.
var Commands = []string{"up", "down", "status"}

// Options are what a run needs.
type Options struct {
	Connector      *connect.Connector
	FS             fs.FS         // files named NUMBER_name.sql; none at all is fine
	Out            io.Writer     // one line for each migration
	ConnectTimeout time.Duration // what comes after it has no bound but the server's
	AllowPooler    bool          // go ahead on what looks like a transaction-mode pooler
}

// Run runs one of Commands and writes what it did to Out. It refuses, before it
// connects, a pooler in transaction mode.
func Run(ctx context.Context, o Options, command string) error {
	config, err := o.Connector.Config()
	if err != nil {
		return err
	}
	if pooler := transactionPooler(config.Host, config.Port); pooler != "" && !o.AllowPooler {
		return fmt.Errorf("%s hands each transaction to another connection, so the lock that keeps two runs apart would not hold: "+
			"set MIGRATION_DATABASE_URL to the direct or session-mode address (or MIGRATION_ALLOW_POOLER=true)", pooler)
	}
	db, closeAll := open(config)
	defer closeAll()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockWait), lock.WithUnlockTimeout(1, 5))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, o.FS,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if errors.Is(err, goose.ErrNoMigrations) {
		fmt.Fprintln(o.Out, "no migrations")
		return nil
	}
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	if err := connect.OnceMore(opening, db.PingContext); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	err = perform(ctx, provider, o.Out, command)
	if err != nil && strings.Contains(err.Error(), "failed to acquire lock") {
		return fmt.Errorf("another run has held the lock for %d s: try again when it has ended", lockWait)
	}
	return err
}

// closeTimeout bounds the wait for an interrupted statement to be cancelled.
const closeTimeout = 5 * time.Second

// open returns a handle that never has more than one connection. It keeps it
// from one step of goose to the next: a second one might meet a full pooler.
// closeAll returns when the server has been told to stop what it does, since a
// process that just exits leaves a migration and its locks running.
func open(config *pgx.ConnConfig) (db *sql.DB, closeAll func()) {
	var cleanup <-chan struct{}
	db = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		cleanup = conn.PgConn().CleanupDone()
		_, err := conn.Exec(ctx, session)
		if err != nil {
			_ = conn.Close(ctx) // nobody else will
		}
		return err
	}))
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, func() {
		_ = db.Close() // of a connection that may be broken already
		if cleanup == nil {
			return
		}
		select {
		case <-cleanup:
		case <-time.After(closeTimeout):
		}
	}
}

// perform runs a command and reports what it did, also when it failed half-way.
func perform(ctx context.Context, provider *goose.Provider, out io.Writer, command string) error {
	var done []*goose.MigrationResult
	var err error
	switch command {
	case "up":
		done, err = provider.Up(ctx)
	case "down":
		var last *goose.MigrationResult
		if last, err = provider.Down(ctx); last != nil {
			done = append(done, last)
		}
	default:
		return status(ctx, provider, out)
	}
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		done = partial.Applied
		err = fmt.Errorf("%s: %w", path.Base(partial.Failed.Source.Path), partial.Err)
	}
	for _, result := range done {
		fmt.Fprintf(out, "%-4s %s (%v)\n", result.Direction, path.Base(result.Source.Path), result.Duration.Round(time.Millisecond))
	}
	if errors.Is(err, goose.ErrNoNextVersion) || (err == nil && len(done) == 0) {
		fmt.Fprintln(out, "nothing to do")
		return nil
	}
	return err
}

func status(ctx context.Context, provider *goose.Provider, out io.Writer) error {
	migrations, err := provider.Status(ctx)
	for _, m := range migrations {
		when := ""
		if m.State == goose.StateApplied {
			when = m.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(out, "%-8s %-20s %s\n", m.State, when, path.Base(m.Source.Path))
	}
	return err
}

// transactionPooler names the pooler in transaction mode that an address
// belongs to, "" when it is not known to be one.
func transactionPooler(host string, port uint16) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	supabase := strings.HasSuffix(host, ".pooler.supabase.com") || strings.HasSuffix(host, ".supabase.co")
	switch {
	case strings.HasSuffix(host, ".neon.tech") && strings.Contains(host, "-pooler."):
		return "Neon's pooled address (-pooler)"
	case port == 6543 && supabase:
		return "Supabase's port 6543"
	}
	return ""
}
