package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/config"
	"example.com/demo/internal/nopool"
	schema "example.com/demo/migrations"
)

// Why a rule cannot be checked against a database that is in use. The tests
// check it on databases of their own.
const (
	needsSource  = "needs the source"
	wouldWrite   = "would write"
	wouldDisturb = "needs servers of its own"
)

var notLive = map[string]string{
	"NP03": needsSource, "NP14": needsSource, "NP15": needsSource,
	"NP02": wouldWrite, "NP05": wouldWrite, "NP06": wouldWrite, "NP07": wouldWrite,
	"NP19": wouldWrite, "NP29": wouldWrite,
}

// warning is what an owner should know of a rule that holds, or may hold.
type warning string

func (w warning) Error() string { return string(w) }

// liveCheck looks at one rule. It returns what it saw, and why the rule does
// not hold there, or a warning.
type liveCheck struct {
	rule string
	run  func(context.Context, *live) (string, error)
}

// liveChecks run in this order: what the first finds out, the others use, and
// what all of them left behind is looked at last.
var liveChecks = []liveCheck{
	{"NP09", answers},
	{"NP01", distinct},
	{"NP12", encrypted},
	{"NP13", timeouts},
	{"NP16", explicit},
	{"NP17", budgeted},
	{"NP30", migrated},
	{"NP18", lazy},
	{"NP23", ended},
	{"NP04", closed},
	{"NP11", monitored},
}

// checkTimeout bounds one check, beside the bounds of the sessions it uses.
const checkTimeout = 20 * time.Second

// Live checks what can be seen of the rules in the database that cfg names. It
// opens at most two sessions at a time, only reads, and leaves nothing behind.
// Failures are in the report, where every rule that it could not look at says
// why not.
func Live(ctx context.Context, cfg config.Config, logger *slog.Logger) Report {
	r := NewReport("self-verification of "+cfg.AppName+" against its database\n"+
		"what could not run here runs in go test -v ./internal/verify", wouldDisturb)
	for rule, reason := range notLive {
		r.Set(rule, StatusNotRun, reason)
	}
	l, err := newLive(cfg, logger)
	if err != nil { // the URL, or what it asks for, is not acceptable
		r.Set("NP12", StatusFailed, err.Error())
		return r
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		_ = l.db.Close(bounded) // ends what a failed check may have left; NP04 has reported on it
	}()
	for _, check := range liveChecks {
		if err != nil {
			r.Set(check.rule, StatusNotRun, "the database could not be reached")
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, checkTimeout)
		seen, failure := check.run(bounded, l)
		cancel()
		switch warned, ok := errors.AsType[warning](failure); {
		case ok:
			r.Set(check.rule, StatusWarned, strings.TrimPrefix(seen+"\n"+string(warned), "\n"))
		case failure != nil:
			r.Set(check.rule, StatusFailed, nopool.Describe(failure))
		default:
			r.Set(check.rule, StatusPassed, seen)
		}
		if check.rule == "NP09" {
			err = failure // nothing else can be seen either
		}
	}
	return r
}

// answers opens the first session: the version, and whether a pooler is
// between here and there. Supavisor tells by the name that it gives itself at the
// server.
func answers(ctx context.Context, l *live) (seen string, err error) {
	var version, port, name string // of all answers the text, as every server gives it
	const whoAnswers = "select version(), coalesce(inet_client_port()::text, ''), current_setting('application_name')"
	err = l.read(ctx, whoAnswers, &version, &port, &name)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	l.direct = l.local[port]
	l.mu.Unlock()
	version, _, _ = strings.Cut(version, " on ")
	switch {
	case l.direct:
		return version + ", directly", nil
	case strings.HasPrefix(name, "Supavisor"):
		return version + ", through Supavisor", nil
	}
	return version + ", through PgBouncer or another pooler or proxy", nil
}

// distinct wants a connection of its own for each session: two at the same
// time, where the settings admit two, and one after them.
func distinct(ctx context.Context, l *live) (seen string, err error) {
	const whoAmI = "select pg_backend_pid()::text"
	before, _ := l.connections()
	retries := l.db.Snapshot().OpenRetries
	pids := make([]string, 3)
	want := 2
	err = l.db.Run(ctx, readOnly, func(inner context.Context, s *nopool.Session) error {
		err := s.QueryRow(inner, whoAmI).Scan(&pids[0])
		if err == nil && l.cfg.DB.MaxSessions > 1 {
			want = 3
			err = l.read(ctx, whoAmI, &pids[1]) // with the outer context: two at once are meant
		}
		return err
	})
	if err == nil {
		err = l.read(ctx, whoAmI, &pids[2])
	}
	after, _ := l.connections()
	switch dials := after - before - int(l.db.Snapshot().OpenRetries-retries); {
	case err != nil:
		return "", err
	case dials != want:
		return "", fmt.Errorf("%d sessions dialled %d times", want, dials)
	case pids[0] == pids[1], l.direct && (pids[2] == pids[0] || pids[2] == pids[1]): // a pooler may give a backend again
		return "", errors.New("two sessions had the same connection")
	}
	return fmt.Sprintf("%d sessions, %d connections", want, want), nil
}

// encrypted looks at what the engine insists on, and at the server's own view
// where the server is what answers.
func encrypted(ctx context.Context, l *live) (seen string, err error) {
	parsed, err := nopool.ParseConfig(l.cfg.DB.URL, l.cfg.DB.AllowPlaintext, l.cfg.DB.AllowPlainAuth)
	if err != nil {
		return "", err
	}
	if parsed.TLSConfig == nil {
		return "", warning("plaintext, which APP_ENV=local allows to this machine")
	}
	seen = "TLS"
	if l.direct {
		var on string
		err = l.read(ctx, "select ssl::text, coalesce(version, '') from pg_stat_ssl where pid = pg_backend_pid()", &on, &seen)
		if err != nil {
			return "", err
		}
		if on != "true" {
			return "", errors.New("the server says that the connection is not encrypted")
		}
	}
	if parsed.TLSConfig.InsecureSkipVerify && parsed.TLSConfig.VerifyPeerCertificate == nil {
		return seen + ", SCRAM", warning("the certificate is not verified: set sslmode=verify-full and sslrootcert")
	}
	seen += ", certificate verified"
	if err := scram(ctx, l); err != nil {
		return seen, warning("the server does not ask for SCRAM, so it gets to know the password: " + nopool.Describe(err))
	}
	return seen + ", SCRAM", nil
}

// scram opens one more session, which takes no other authentication.
func scram(ctx context.Context, l *live) error {
	cfg := l.cfg.DB
	cfg.Logger, cfg.AppName = nil, "verify"
	separator := " "
	if strings.Contains(cfg.URL, "://") {
		separator = "&"
		if !strings.Contains(cfg.URL, "?") {
			separator = "?"
		}
	}
	cfg.URL += separator + "require_auth=scram-sha-256"
	db, err := nopool.Open(cfg)
	if err != nil {
		return err
	}
	err = db.Run(ctx, readOnly, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		return err
	})
	return errors.Join(err, db.Close(ctx))
}

// timeouts compares what is in force inside a session with the settings.
func timeouts(ctx context.Context, l *live) (seen string, err error) {
	const inForce = "select string_agg(setting, ' ' order by name) from pg_settings where name in " +
		"('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')"
	if err := l.read(ctx, inForce, &seen); err != nil {
		return "", err
	}
	c := l.cfg.DB
	want := fmt.Sprint(c.IdleInTransactionTimeout.Milliseconds(), c.LockTimeout.Milliseconds(), c.StatementTimeout.Milliseconds())
	if seen != want {
		return "", fmt.Errorf("idle in transaction, lock and statement are %s ms, not %s ms", seen, want)
	}
	for name, bound := range map[string]time.Duration{
		"connect": c.ConnectTimeout, "session wait": c.SessionWait,
		"request": l.cfg.RequestTimeout, "shutdown": l.cfg.ShutdownTimeout,
	} {
		if bound <= 0 {
			return "", fmt.Errorf("the %s timeout is not set", name)
		}
	}
	return "idle in transaction, lock, statement: " + seen + " ms", nil
}

// explicit wants the transaction to be one, and of the kind that was asked for.
func explicit(ctx context.Context, l *live) (string, error) {
	var kind, isolation string
	var began [2]string
	opts := nopool.TxOptions{ReadOnly: true, Isolation: pgx.RepeatableRead}
	err := l.db.Run(ctx, opts, func(ctx context.Context, s *nopool.Session) error {
		const about = "select now()::text, current_setting('transaction_read_only'), current_setting('transaction_isolation')"
		err := s.QueryRow(ctx, about).Scan(&began[0], &kind, &isolation)
		if err == nil {
			err = s.QueryRow(ctx, "select now()::text").Scan(&began[1])
		}
		return err
	})
	switch {
	case err != nil:
		return "", err
	case kind != "on" || isolation != string(pgx.RepeatableRead):
		return "", fmt.Errorf("asked for read only and repeatable read, got %s and %s", kind, isolation)
	case began[0] != began[1]:
		return "", errors.New("two statements of one session ran in two transactions")
	}
	return "one transaction, read only and isolation as asked for", nil
}

// budgeted compares what all processes together may open with what the server
// allows this role and this database: a pooler in session mode cannot give more
// than that either, and may give less, which only its owner knows.
func budgeted(ctx context.Context, l *live) (string, error) {
	const allowed = "select (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)::text," +
		" rolconnlimit::text, datconnlimit::text from pg_roles, pg_database where rolname = current_user and datname = current_database()"
	var limits [3]string
	if err := l.read(ctx, allowed, &limits[0], &limits[1], &limits[2]); err != nil {
		return "", err
	}
	least := math.MaxInt
	for _, text := range limits {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 { // -1 is no limit
			least = min(least, n)
		}
	}
	replicas := max(1, l.cfg.Replicas)
	all := replicas * l.cfg.DB.MaxSessions
	seen := fmt.Sprintf("%d x %d sessions, the server allows %d", replicas, l.cfg.DB.MaxSessions, least)
	if all > least {
		return "", fmt.Errorf("DB_REPLICAS x DB_MAX_SESSIONS is %d, the server allows this role %d", all, least)
	}
	if l.cfg.BudgetGuessed {
		return seen, warning("DB_MAX_SESSIONS is a guess: set DB_POOL_SIZE and DB_REPLICAS")
	}
	return seen, nil
}

// migrated compares the migrations in this program with those that the database
// has, and wants them to have somewhere to go.
func migrated(ctx context.Context, l *live) (string, error) {
	if l.cfg.MigrationURL == l.cfg.DB.URL && !l.cfg.MigrationAllowPooler {
		switch transactions, err := l.inTransactionMode(ctx); {
		case err != nil:
			return "", err
		case transactions:
			return "", errors.New("the pooler is in transaction mode, where the lock that keeps two runs apart does not hold")
		}
	}
	var table, versions string
	const applied = "goose_db_version" // goose's own name for it
	if err := l.read(ctx, "select coalesce(to_regclass('"+applied+"')::text, '')", &table); err != nil {
		return "", err
	}
	if table != "" {
		err := l.read(ctx, "select coalesce(string_agg(version_id::text, ' '), '') from "+applied+" where is_applied", &versions)
		if err != nil {
			return "", warning("the table " + applied + " cannot be read: " + nopool.Describe(err))
		}
	}
	files, err := fs.Glob(schema.FS, "*.sql")
	if err != nil {
		return "", err
	}
	var pending []string
	for _, file := range files {
		number, _, _ := strings.Cut(file, "_")
		if !slices.Contains(strings.Fields(versions), strings.TrimLeft(number, "0")) {
			pending = append(pending, file)
		}
	}
	if len(pending) > 0 {
		return "", warning(fmt.Sprintf("%d of %d migrations are not applied: %s", len(pending), len(files), strings.Join(pending, ", ")))
	}
	return fmt.Sprintf("all %d migrations are applied", len(files)), nil
}

// inTransactionMode reports whether a pooler gives one connection another backend
// for its second transaction, while the first one's is taken by somebody else. It
// takes two sessions, so where the settings admit one it reports false.
func (l *live) inTransactionMode(ctx context.Context) (other bool, err error) {
	if l.direct || l.cfg.DB.MaxSessions < 2 {
		return false, nil
	}
	const whoAmI = "select pg_backend_pid()::text"
	err = l.db.Run(ctx, readOnly, func(inner context.Context, s *nopool.Session) error {
		var first, second string
		if err := s.QueryRow(inner, whoAmI).Scan(&first); err != nil {
			return err
		}
		if _, err := s.Exec(inner, "commit"); err != nil {
			return err
		}
		// With the outer context: two at once are meant.
		return l.db.Run(ctx, readOnly, func(between context.Context, taker *nopool.Session) error {
			if _, err := taker.Exec(between, "select 1"); err != nil {
				return err
			}
			if _, err := s.Exec(inner, "begin read only"); err != nil {
				return err
			}
			err := s.QueryRow(inner, whoAmI).Scan(&second)
			other = err == nil && first != second
			return err
		})
	})
	return other, err
}

// lazy wants a session that is never used to cost nothing.
func lazy(ctx context.Context, l *live) (string, error) {
	before, _ := l.connections()
	err := l.db.Session(ctx, readOnly).Commit(ctx)
	if after, _ := l.connections(); after != before {
		err = errors.Join(err, fmt.Errorf("a session without a query dialled %d times", after-before))
	}
	return "a session without a query does not dial", err
}

// ended wants each session so far to have ended its transaction itself.
func ended(_ context.Context, l *live) (string, error) {
	c := l.db.Snapshot()
	if c.Committed+c.RolledBack != c.Opened {
		return "", fmt.Errorf("%d sessions, %d ended by COMMIT or ROLLBACK", c.Opened, c.Committed+c.RolledBack)
	}
	return fmt.Sprintf("%d sessions ended by COMMIT or ROLLBACK", c.Opened), nil
}

// closed wants none of the connections to be left: here, and in the server's
// own list where that shows them under this run's name.
func closed(ctx context.Context, l *live) (string, error) {
	for l.db.Snapshot().InUse > 0 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if c := l.db.Snapshot(); c.InUse > 0 || c.CloseTimeouts > 0 {
		return "", fmt.Errorf("%d sessions are open, the close of %d was not seen", c.InUse, c.CloseTimeouts)
	}
	if _, open := l.connections(); open > 0 {
		return "", fmt.Errorf("%d connections are open here", open)
	}
	if !l.direct {
		return "none here; what the pooler keeps is its own", nil
	}
	const others = "select count(*)::text from pg_stat_activity where pid <> pg_backend_pid() and application_name = " +
		"(select application_name from pg_stat_activity where pid = pg_backend_pid())"
	var left string
	if err := l.read(ctx, others, &left); err != nil {
		return "", err
	}
	if left != "0" {
		return "", fmt.Errorf("the server counts %s connections", left)
	}
	return "none here, none at the server", nil
}

// monitored wants the sessions so far in the counters and in the log.
func monitored(_ context.Context, l *live) (string, error) {
	dials, _ := l.connections()
	if c := l.db.Snapshot(); c.Opened == 0 || int(c.Dials) != dials {
		return "", fmt.Errorf("%d dials, %d counted; %d sessions counted", dials, c.Dials, c.Opened)
	}
	for _, message := range []string{"database session opened", "database session closed"} {
		if _, ok := l.logged.Load(message); !ok {
			return "", fmt.Errorf("no log line %q", message)
		}
	}
	return "counters and log lines", nil
}

var readOnly = nopool.TxOptions{ReadOnly: true}
