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

// notLive are the rules that cannot be checked against a database that is in use, by the reason why. The tests check
// them on databases of their own.
var notLive = map[string][]string{
	"needs the source": {"NP03", "NP14", "NP15"},
	"would write":      {"NP02", "NP05", "NP06", "NP07", "NP19", "NP29"},
}

// liveChecks look at one rule each, in this order, closed last: it looks at what the others left behind. A check returns
// what it saw, and an error that says why the rule does not hold, or is a warning.
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
// reads, and leaves nothing behind. Failures are in the report, where every rule that it could not look at says why not.
func Live(ctx context.Context, cfg config.Config, logger *slog.Logger) Report {
	r := NewReport("self-verification of "+cfg.AppName+" against its database\n"+
		"what could not run here runs in go test -v ./internal/verify", "needs servers of its own")
	for reason, rules := range notLive {
		for _, rule := range rules {
			r.Set(rule, StatusNotRun, reason)
		}
	}
	for _, check := range liveChecks {
		r.Set(check.rule, StatusNotRun, "the database could not be reached")
	}
	l, err := newLive(cfg, logger)
	if err != nil {
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
	dials            atomic.Int64
	port             atomic.Value // string: the local one of the last dial, "" for a Unix socket

	facts  map[string]string // what the query facts returns, "" for NULL
	direct bool              // no pooler is in between
}

func newLive(cfg config.Config, logger *slog.Logger) (l *live, err error) {
	l = &live{Connector: cfg.DB.Connector, cfg: cfg, name: "verify-" + rand.Text()}
	cfg.DB.Connector, cfg.DB.Logger = l, logger
	l.db, err = nopool.Open(cfg.DB)
	return l, err
}

// Config is the owner's, under another name and with a record of its dials.
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
			l.dials.Add(1)
		}
		return conn, err
	}
	return config, nil
}

// facts are what a session sees, as an object in JSON. All values are text: every server, pooler and stand-in gives that
// alike. NULL is the port of a Unix socket, and what there is none of.
const facts = `select json_object_agg(name, value)::text from (values
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
	('migrations', to_regclass('goose_db_version')::text) -- goose's own name for its table
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
// that the server sees is not ours. Supavisor is known by the application_name that its connections
// start with.
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

// distinct wants a dial for each session, one after the other and, where the settings admit two, at the same time.
func distinct(ctx context.Context, l *live) (string, error) {
	var one string
	other, err := l.read(ctx, whoAmI) // answers has had a session before
	if err == nil && l.cfg.DB.MaxSessions > 1 {
		first, second := l.db.Session(ctx, asked), l.db.Session(ctx, asked)
		defer first.Rollback(ctx)
		defer second.Rollback(ctx)
		err = errors.Join(first.QueryRow(ctx, whoAmI).Scan(&one), second.QueryRow(ctx, whoAmI).Scan(&other))
	}
	c, dials := l.db.Snapshot(), l.dials.Load()
	if err == nil && one == other {
		err = errors.New("two sessions had the same connection")
	} else if err == nil && dials != int64(c.Opened+c.OpenRetries) {
		err = fmt.Errorf("%d sessions dialled %d times", c.Opened, dials)
	}
	return fmt.Sprintf("%d sessions, %d dials", c.Opened, dials), err
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
	want := fmt.Sprint(c.IdleInTransactionTimeout.Milliseconds(), c.LockTimeout.Milliseconds(), c.StatementTimeout.Milliseconds())
	return same("idle in transaction, lock, statement, in ms: ", l.facts["timeouts"], want)
}

// explicit wants the transaction to be of the kind that was asked for.
func explicit(_ context.Context, l *live) (string, error) {
	return same("read only, isolation: ", l.facts["kind"], "on, repeatable read")
}

func same(what, seen, want string) (string, error) {
	if seen != want {
		return "", errors.New(what + seen + ", asked for " + want)
	}
	return what + seen, nil
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

// migrated compares the migrations in this program with those that the database has. It fails where migrate would run
// through a pooler in transaction mode.
func migrated(ctx context.Context, l *live) (string, error) {
	pending, err := fs.Glob(schema.FS, "*.sql")
	if err == nil && l.cfg.Migrations == l.cfg.Database && !l.cfg.MigrationAllowPooler {
		err = l.inSessionMode(ctx)
	}
	if err != nil {
		return "", err
	}
	all, applied := len(pending), ""
	if table := l.facts["migrations"]; table != "" {
		sql := "select concat(string_agg(version_id::text, ' ')) from " + table + " where is_applied"
		if applied, err = l.read(ctx, sql); err != nil {
			return "", warning("the table " + table + " cannot be read: " + nopool.Describe(err))
		}
	}
	pending = slices.DeleteFunc(pending, func(file string) bool {
		number, _, _ := strings.Cut(file, "_")
		return slices.Contains(strings.Fields(applied), strings.TrimLeft(number, "0"))
	})
	if len(pending) > 0 {
		return "", warning(fmt.Sprintf("%d of %d migrations are not applied: %s", len(pending), all, strings.Join(pending, ", ")))
	}
	return fmt.Sprintf("all %d migrations are applied", all), nil
}

// inSessionMode returns an error when a pooler gives one connection another backend for its second transaction, while
// the first one's is taken by somebody else. It takes two sessions: where the settings admit one, nothing can be told.
func (l *live) inSessionMode(ctx context.Context) error {
	if l.direct || l.cfg.DB.MaxSessions < 2 {
		return nil
	}
	s, taker := l.db.Session(ctx, asked), l.db.Session(ctx, asked)
	defer s.Rollback(ctx)
	defer taker.Rollback(ctx)
	var before, after string
	first := s.QueryRow(ctx, whoAmI).Scan(&before)
	_, commit := s.Exec(ctx, "commit")
	taken := taker.QueryRow(ctx, whoAmI).Scan(new(string))
	_, begin := s.Exec(ctx, "begin read only")
	err := errors.Join(first, commit, taken, begin, s.QueryRow(ctx, whoAmI).Scan(&after))
	if err == nil && before != after {
		err = errors.New("the pooler is in transaction mode, where the lock that keeps two runs apart does not hold")
	}
	return err
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
