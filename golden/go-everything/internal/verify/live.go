package verify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/config"
	"example.com/demo/internal/nopool"
	schema "example.com/demo/migrations"
)

// liveChecks look at one rule each, in this order, closed last: it looks at what the others left behind. A check returns
// what it saw, and an error that says why the rule does not hold, or is a warning. All other rules need the source or a
// server of their own, or would write.
var liveChecks = []struct {
	rule string
	run  func(context.Context, *live) (string, error)
}{
	{"NP09", answers}, {"NP01", distinct}, {"NP12", encrypted}, {"NP13", timeouts}, {"NP16", explicit}, {"NP17", budgeted},
	{"NP30", migrated}, {"NP04", closed},
}

// warning is what an owner should know of a rule that holds, or may hold.
type warning string

func (w warning) Error() string { return string(w) }

// checkTimeout bounds one check, beside the bounds of the sessions it uses.
const checkTimeout = 20 * time.Second

// Live checks what can be seen of the rules in the database that cfg names. It opens at most two sessions at a time, only
// reads, and leaves nothing behind. Failures are in the report.
func Live(ctx context.Context, cfg config.Config, logger *slog.Logger) Report {
	r := NewReport("self-verification of "+cfg.AppName+" against its database\n"+
		"what cannot be seen here is for go test -v ./internal/verify", elsewhere)
	for _, check := range liveChecks {
		r.Set(check.rule, StatusNotRun, "the database could not be reached")
	}
	l := &live{Connector: cfg.DB.Connector, cfg: cfg, name: "verify-" + rand.Text()}
	cfg.DB.Connector, cfg.DB.Logger = l, logger
	var err error
	if l.db, err = nopool.Open(cfg.DB); err != nil {
		r.Set("NP09", StatusFailed, err.Error())
		return r
	}
	defer l.db.Close(ctx) // waits for what a failed check may have left, as long as the engine does; NP04 has reported on it
	for _, check := range liveChecks {
		bounded, cancel := context.WithTimeout(ctx, checkTimeout)
		seen, err := check.run(bounded, l)
		cancel()
		status := StatusPassed
		if warned, ok := errors.AsType[warning](err); ok {
			status, seen = StatusWarned, strings.TrimPrefix(seen+"\n"+string(warned), "\n")
		} else if err != nil {
			status, seen = StatusFailed, nopool.Describe(err)
		}
		if r.Set(check.rule, status, seen); l.facts == nil { // answers saw nothing
			break
		}
	}
	return r
}

// live is an engine whose connections are watched. It has a name of its own in the server's list, since the service may
// be running beside it.
type live struct {
	nopool.Connector // the owner's
	cfg              config.Config
	name             string
	db               *nopool.DB
	port             atomic.Value // string: the local one of the last dial, "" for a Unix socket

	facts  map[string]string // what the query facts returns, "" for NULL
	direct bool              // no pooler is in between
	moved  bool              // a pooler gave a session another backend
}

// Config is the owner's, under another name.
func (l *live) Config() (*pgx.ConnConfig, error) {
	config, err := l.Connector.Config()
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = l.name
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
			l.port.Store(port)
		}
		return conn, err
	}
	return config, nil
}

// facts are what a session sees, as an object in JSON. All values are text: every server, pooler and stand-in gives that
// alike. NULL stands for the port of a Unix socket, and for what does not exist.
const facts = `with tables as (select oid, relnamespace, relrowsecurity or coalesce(reloptions::text, '') ~* 'security_invoker=(t|on|y|1)' as guarded
	from pg_class where relkind in ('r', 'p', 'v', 'm', 'f') and relowner in
	(select relowner from pg_class where oid = to_regclass('goose_db_version') union select oid from pg_roles where rolname = current_user))
select json_object_agg(name, value)::text from (values
	('version', split_part(version(), ' on ', 1)),
	('port', inet_client_port()::text),
	('pooler', (select reset_val from pg_settings where name = 'application_name')),
	('tls', (select version from pg_stat_ssl where pid = pg_backend_pid() and ssl)),
	('timeouts', (select string_agg(setting, ' ' order by name) from pg_settings where name in
		('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout'))),
	('kind', concat_ws(', ', current_setting('transaction_read_only'), current_setting('transaction_isolation'))),
	('allowed', (select least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1),
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)::text
		from pg_roles, pg_database where rolname = current_user and datname = current_database())),
	('migrations', to_regclass('goose_db_version')::text), -- goose's own name for its table
	('open', (select string_agg(oid::regclass::text, ', ') from tables t where not guarded and exists (select from pg_roles r
		where rolname in ('anon', 'authenticated') and has_schema_privilege(r.oid, relnamespace, 'usage')
		and (has_any_column_privilege(r.oid, t.oid, 'select, insert, update') or has_table_privilege(r.oid, t.oid, 'delete, truncate'))))),
	('shut', (select string_agg(oid::regclass::text, ', ') from tables t where row_security_active(oid)
		and has_any_column_privilege(oid, 'select, insert, update') and (select coalesce(bool_or(polpermissive and lets), false)
			and bool_and(polpermissive or lets or polcmd <> '*') from (select polpermissive, polcmd, -- false and nothing let nobody through
				'false' <> any(array[coalesce(pg_get_expr(polqual, polrelid), 'false'), coalesce(pg_get_expr(polwithcheck, polrelid), 'false')])
			from pg_policy where polrelid = t.oid and (0 = any(polroles) or exists (select from pg_roles r
				where r.oid = any(polroles) and pg_has_role(r.oid, 'usage')))) as policies (polpermissive, polcmd, lets)) is not true))
) as facts (name, value)`

const whoAmI = "select pg_backend_pid()::text"

// asked is more than a plain session has, so that explicit can see whether it is given.
var asked = nopool.TxOptions{ReadOnly: true, Isolation: pgx.RepeatableRead}

// read runs a query of one value in a session of its own.
func (l *live) read(ctx context.Context, sql string) (value string, err error) {
	err = l.db.Run(ctx, asked, func(ctx context.Context, s *nopool.Session) error {
		return s.QueryRow(ctx, sql).Scan(&value)
	})
	return value, err
}

// answers wants the database to answer at all. It tells the version, and whether a pooler is in between: then the port
// that the server sees is not ours. Supavisor is known by the application_name that its connections start with.
func answers(ctx context.Context, l *live) (string, error) {
	seen, err := l.read(ctx, facts)
	if err == nil {
		err = json.Unmarshal([]byte(seen), &l.facts)
	}
	l.direct = l.facts["port"] == l.port.Load()
	how := ", through PgBouncer or another pooler or proxy"
	if l.direct {
		how = ", directly"
	} else if strings.HasPrefix(l.facts["pooler"], "Supavisor") {
		how = ", through Supavisor"
	}
	return l.facts["version"] + how, err
}

// distinct wants a dial for each session, one after the other and, where the settings admit two, at the same time. Then it
// sees a pooler in transaction mode, too: that gives the first another backend for its second transaction, while the one
// of its first is taken.
func distinct(ctx context.Context, l *live) (string, error) {
	var before, after string
	other, err := l.read(ctx, whoAmI) // answers has had a session before
	if err == nil && l.cfg.DB.MaxSessions > 1 {
		first, second := l.db.Session(ctx, asked), l.db.Session(ctx, asked)
		defer first.Rollback(ctx)
		defer second.Rollback(ctx)
		err = first.QueryRow(ctx, whoAmI).Scan(&before)
		_, commit := first.Exec(ctx, "commit")
		taken := second.QueryRow(ctx, whoAmI).Scan(&other)
		_, begin := first.Exec(ctx, "begin read only")
		err = errors.Join(err, commit, taken, begin, first.QueryRow(ctx, whoAmI).Scan(&after))
	}
	l.moved = before != after
	c := l.db.Snapshot()
	if err == nil && after == other {
		err = errors.New("two sessions had the same connection")
	} else if err == nil && c.Dials != c.Opened+c.OpenRetries {
		err = fmt.Errorf("%d sessions dialled %d times", c.Opened, c.Dials)
	}
	return fmt.Sprintf("%d sessions, %d dials", c.Opened, c.Dials), err
}

// encrypted looks at what the engine insists on and, where no pooler is in between, at what the server says of the
// connection.
func encrypted(_ context.Context, l *live) (string, error) {
	config, err := l.cfg.Database.Config()
	if err != nil {
		return "", err
	}
	seen := "TLS"
	if l.direct {
		seen = l.facts["tls"]
	}
	switch {
	case config.TLSConfig == nil:
		return "", warning("plaintext, which APP_ENV=local allows to this machine")
	case seen == "":
		return "", errors.New("the server says that the connection is not encrypted")
	case !l.cfg.Database.Verified():
		return seen + ", SCRAM", warning("the certificate is not verified: set sslmode=verify-full and sslrootcert")
	case !l.cfg.Database.SCRAM():
		return seen + ", certificate verified", warning("the server does not ask for SCRAM, so it gets to know the password")
	}
	return seen + ", certificate verified, SCRAM", nil
}

// timeouts compares what is in force inside a session with the settings. The other timeouts are not the server's: config
// sees to it that each is set.
func timeouts(_ context.Context, l *live) (string, error) {
	c := l.cfg.DB
	return l.wants("timeouts", "idle in transaction, lock, statement, in ms: ",
		fmt.Sprint(c.IdleInTransactionTimeout.Milliseconds(), c.LockTimeout.Milliseconds(), c.StatementTimeout.Milliseconds()))
}

// explicit wants the transaction to be of the kind that was asked for.
func explicit(_ context.Context, l *live) (string, error) {
	return l.wants("kind", "read only, isolation: ", "on, repeatable read")
}

// wants compares a fact with what was asked for.
func (l *live) wants(fact, title, want string) (string, error) {
	seen := title + l.facts[fact]
	if l.facts[fact] != want {
		return "", errors.New(seen + ", asked for " + want)
	}
	return seen, nil
}

// budgeted compares what all processes together may open with what the server allows this role and this database: a
// pooler in session mode cannot give more than that either, and may give less, which only its owner knows.
func budgeted(_ context.Context, l *live) (string, error) {
	replicas, sessions := max(1, l.cfg.Replicas), l.cfg.DB.MaxSessions
	allowed, err := strconv.Atoi(l.facts["allowed"])
	seen := fmt.Sprintf("%d x %d sessions, the server allows this role %d", replicas, sessions, allowed)
	switch {
	case err != nil:
		return "", err
	case replicas*sessions > allowed:
		return "", errors.New("DB_REPLICAS x DB_MAX_SESSIONS is " + seen)
	case l.cfg.BudgetGuessed:
		return seen, warning("DB_MAX_SESSIONS is a guess: set DB_POOL_SIZE and DB_REPLICAS")
	}
	return seen, nil
}

// migrated compares the migrations in this program with those that the database has, and looks at whom their tables are
// open to. It fails where migrate would run through a pooler in transaction mode.
func migrated(ctx context.Context, l *live) (string, error) {
	pending, err := fs.Glob(schema.FS, "*.sql")
	if l.moved && l.cfg.Migrations == l.cfg.Database && !l.cfg.MigrationAllowPooler {
		err = errors.New("the pooler is in transaction mode, where the lock that keeps two runs apart does not hold")
	}
	if err != nil {
		return "", err
	}
	all, applied := len(pending), ""
	if table := l.facts["migrations"]; table != "" {
		if applied, err = l.read(ctx, "select concat(string_agg(version_id::text, ' ')) from "+table+" where is_applied"); err != nil {
			return "", warning("the table " + table + " cannot be read: " + nopool.Describe(err))
		}
	}
	pending = slices.DeleteFunc(pending, func(file string) bool {
		number, _, _ := strings.Cut(file, "_")
		return slices.Contains(strings.Fields(applied), strings.TrimLeft(number, "0"))
	})
	var warned []string
	if len(pending) > 0 {
		warned = append(warned, fmt.Sprintf("%d of %d migrations are not applied: %s", len(pending), all, strings.Join(pending, ", ")))
	}
	if tables := l.facts["open"]; tables != "" {
		warned = append(warned, "open to Supabase's public API, without row-level security: "+tables)
	}
	if tables := l.facts["shut"]; tables != "" {
		return "", errors.New("row-level security shuts this role out, for want of a policy: " + tables)
	} else if len(warned) > 0 {
		return "", warning(strings.Join(warned, "\n"))
	}
	return fmt.Sprintf("all %d migrations are applied", all), nil
}

// closed wants none of the connections to be left: here, and in the server's own list where that shows them under this
// run's name.
func closed(ctx context.Context, l *live) (string, error) {
	for l.db.Snapshot().InUse > 0 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if c := l.db.Snapshot(); c.InUse > 0 || c.CloseTimeouts > 0 {
		return "", fmt.Errorf("%d sessions are open, the close of %d was not seen", c.InUse, c.CloseTimeouts)
	}
	if !l.direct {
		return "none here; what the pooler keeps is its own", nil
	}
	left, err := l.read(ctx, "select count(*)::text from pg_stat_activity where pid <> pg_backend_pid() and application_name = "+
		"current_setting('application_name')")
	if err == nil && left != "0" {
		err = fmt.Errorf("the server counts %s connections", left)
	}
	return "none here, none at the server", err
}
