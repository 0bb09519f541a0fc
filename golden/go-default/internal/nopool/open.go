package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	transientTries = 3                     // attempts at a database that cannot be reached
	retryPause     = 20 * time.Millisecond // at most, before the second of them, doubled before the third
)

var errOpenTimeout error = &sessionError{ErrUnavailable, errors.New("no answer to BEGIN in time")}

// open takes a slot, dials and sends BEGIN with the first statement, if there is
// one; ConnectTimeout bounds all that follows the wait for the slot. BEGIN belongs
// to opening because PgBouncer admits a client first and says only at its first
// statement that it is full. A full pooler is retried until the deadline, a
// database out of reach a few times, and a refusal never. In the pipeline that
// open returns, the answer to the first statement comes next.
func (s *Session) open(ctx context.Context, first *statement) (*pgconn.Pipeline, error) {
	if outer, ok := s.ctx.Value(sessionKey{}).(*Session); ok && outer.db == s.db && outer.holding.Load() {
		return nil, ErrNested
	}
	started := time.Now()
	waiting, stop := context.WithTimeoutCause(ctx, s.db.config.SessionWait, ErrBusy)
	err := s.db.slots.acquire(waiting, false)
	stop()
	if err != nil {
		s.rejected(err)
		return nil, err
	}
	s.holding.Store(true)
	waited := time.Since(started)
	ctx, cancel := context.WithCancelCause(ctx) // not ended here: the flight that is returned lives in it
	defer time.AfterFunc(s.db.config.ConnectTimeout, func() { cancel(errOpenTimeout) }).Stop()
	var reason error // the last failure that was not a timeout
	for attempt := 1; ; attempt++ {
		flight, err := s.attempt(ctx, first)
		if err == nil {
			s.opened(started, waited, attempt)
			return flight, nil
		}
		if !outOfTime(err) {
			reason = err
		}
		if err = s.tryAgain(ctx, err, attempt); err == nil {
			continue
		}
		if outOfTime(err) {
			err = cmp.Or(reason, err) // which says more than the timeout that ended the retries
		}
		s.refusal = err
		s.holding.Store(false)
		s.db.count(func(total *Snapshot) { total.OpenErrors++ })
		s.logError(err)
		return nil, err
	}
}

func outOfTime(err error) bool {
	return errors.Is(err, errOpenTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// tryAgain takes another slot for another attempt, after one that failed with
// err. A full pooler needs no pause: its refusal has lowered the limit, so a slot
// is there when a connection has ended or the limit is raised. It returns err when
// there must be no other attempt, or what ended the wait for it.
func (s *Session) tryAgain(ctx context.Context, err error, attempt int) error {
	if !errors.Is(err, ErrPoolerFull) {
		if !errors.Is(err, ErrUnavailable) || attempt >= transientTries {
			return err
		}
		if err := pause(ctx, retryPause<<(attempt-1)); err != nil {
			return err
		}
	}
	if err := s.db.slots.acquire(ctx, true); err != nil {
		return err
	}
	s.db.count(func(total *Snapshot) { total.OpenRetries++ })
	return nil
}

// attempt makes one connection in the slot that is held, and sends BEGIN on it.
// When that fails, the slot is freed in the background, as soon as the connection
// is gone. The error carries what it means (errors.go); the caller's own
// cancellation comes back as it is.
func (s *Session) attempt(ctx context.Context, first *statement) (flight *pgconn.Pipeline, err error) {
	lease := newLease(s)
	defer func() {
		if errors.Is(err, ErrPoolerFull) {
			s.refused(err)
		}
		if flight == nil { // failed, or panicking
			go lease.giveUp()
		}
	}()
	if err := s.db.breaker.check(); err != nil {
		return nil, err
	}
	s.db.count(func(total *Snapshot) { total.Dials++ })
	if lease.conn, err = s.db.dialer.connect(ctx, lease); err == nil {
		flight, err = s.takeOff(ctx, lease.conn, first)
	}
	if err == nil {
		s.lease, s.conn = lease, lease.conn
		s.db.breaker.report(nil)
		return flight, nil
	}
	err = cmp.Or(context.Cause(ctx), error(&sessionError{openKind(err), err}))
	if errors.As(err, new(*sessionError)) && !lease.elsewhere.Load() { // else nothing is known of the database
		s.db.breaker.report(err)
	}
	return nil, err
}

// takeOff sends BEGIN, the settings and the first statement in one write, and
// waits for the answers to the first two. The statement itself may take longer: a
// Flush before it makes the server answer BEGIN at once, not when all is done.
func (s *Session) takeOff(ctx context.Context, conn *pgx.Conn, first *statement) (*pgconn.Pipeline, error) {
	flight := conn.PgConn().StartPipeline(ctx)
	flight.SendQueryParams(s.opts.begin(), nil, nil, nil, nil)
	settings, values := s.settings()
	flight.SendQueryParams(settings, values, nil, nil, nil)
	flight.SendFlushRequest()
	if first != nil {
		flight.SendQueryParams(first.sql, first.ParamValues, nil, first.ParamFormats, nil)
	}
	err := flight.Sync()
	for range 2 { // BEGIN, then the settings
		var result any
		if err == nil {
			result, err = flight.GetResults()
		}
		if answer, ok := result.(*pgconn.ResultReader); ok {
			_, err = answer.Close()
		}
	}
	if err != nil {
		flight.Close()
		return nil, err
	}
	return flight, nil
}

// statement is SQL with its arguments in their wire format.
type statement struct {
	sql string
	pgx.ExtendedQueryBuilder
}

// fitsFlight reports whether a statement can travel with BEGIN. What may be several
// commands in one string cannot, since it needs the simple protocol; nor can one
// whose arguments begin with an option of pgx, which needs pgx's own path.
func fitsFlight(sql string, args []any) bool {
	if len(args) == 0 {
		return !strings.Contains(strings.TrimRight(sql, "; \t\r\n"), ";")
	}
	switch args[0].(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
		return false
	}
	return true
}

// begin returns the statement that begins the transaction.
func (o TxOptions) begin() string {
	sql := "begin"
	if o.Isolation != "" {
		sql += " isolation level " + string(o.Isolation)
	}
	if o.ReadOnly {
		sql += " read only"
	}
	return sql
}

// settings returns the statement that sets the timeouts and the caller's own
// settings for the transaction, and its parameters. Timeouts cannot be start-up
// parameters: PgBouncer refuses those and Supavisor drops them. All end with the
// transaction, so the next client of the pooler's connection does not inherit them.
func (s *Session) settings() (sql string, values [][]byte) {
	milliseconds := func(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
	all := append([]Setting{
		{"statement_timeout", milliseconds(s.db.config.StatementTimeout)},
		{"lock_timeout", milliseconds(s.db.config.LockTimeout)},
		{"idle_in_transaction_session_timeout", milliseconds(s.db.config.IdleInTransactionTimeout)},
	}, s.opts.Settings...)
	calls := make([]string, len(all))
	for i, setting := range all {
		values = append(values, []byte(setting.Name), []byte(setting.Value))
		calls[i] = fmt.Sprintf("set_config($%d, $%d, true)", 2*i+1, 2*i+2)
	}
	return "select " + strings.Join(calls, ", "), values
}

// breaker spaces out the attempts at a database that has refused several times
// running: in between, sessions fail at once with what the last attempt was told.
type breaker struct {
	mu       sync.Mutex
	failures int
	last     error
	next     time.Time // when an attempt is due
}

const (
	breakerFailures = 10
	breakerPause    = time.Second // at most, between attempts; at least half of it
)

// check returns nil to a caller who may make an attempt.
func (b *breaker) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures >= breakerFailures && time.Now().Before(b.next) {
		return b.last
	}
	b.next = time.Now().Add(breakerPause/2 + rand.N(breakerPause/2))
	return nil
}

// report says how an attempt ended. A full pooler can be reached, and lowers the
// limit of the slots instead. So can a server that let us in and then refused a
// setting, which may be one caller's alone.
func (b *breaker) report(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || errors.Is(err, ErrPoolerFull) || !connectionLost(err) {
		b.failures = 0
		return
	}
	b.failures++
	b.last = err
}
