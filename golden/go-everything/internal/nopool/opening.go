package nopool

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	transientTries = 3                     // attempts at a database that cannot be reached
	retryPause     = 20 * time.Millisecond // at most, before the second of them, doubled before the third
)

// operation is what a session does with its connection.
type operation func(ctx context.Context, conn *connection) error

// opening is how one session gets its connection.
type opening struct {
	db     *DB
	ctx    context.Context         // of log lines
	opts   TxOptions               // of its transaction
	first  operation               // with which BEGIN travels
	cancel context.CancelCauseFunc // ends the context of first, which its rows or batch keep using

	freed     time.Time // when there was room for it, if that is known
	transient int       // attempts that failed for a reason that may pass
}

// open takes a slot, dials, and does first. ConnectTimeout bounds all that follows the wait for the
// slot, up to the answer to BEGIN: PgBouncer admits a client and says only at its first statement
// that it is full. When BEGIN was refused nothing has happened, and first is done again on another
// connection: on a full pooler until the deadline, on a database out of reach a few times, after
// any other refusal never; nor when the connection was lost while first may have run behind BEGIN.
// It returns no connection and why, or one and first's own error.
func (o *opening) open(ctx context.Context) (opened *connection, err error) {
	started := time.Now()
	if o.freed, err = o.takeSlot(ctx); err != nil {
		return nil, err
	}
	var conn *connection
	defer func() {
		if opened == nil { // failed, or panicking
			go func() { conn.hangUp(); o.db.slots.release() }()
		}
	}()
	gotSlot := time.Now()
	deadline := time.AfterFunc(o.db.config.ConnectTimeout, func() { o.cancel(errOpenTimeout) })
	defer deadline.Stop()
	var reason error
	for attempt := 1; ; attempt++ {
		o.db.slots.settle(o.freed)
		conn = &connection{db: o.db, ctx: o.ctx, dialled: time.Now()}
		conn.unclosed.Add(1)
		err, refusal := o.attempt(ctx, gotSlot, conn, func() bool {
			if !deadline.Stop() {
				<-ctx.Done() // the deadline has cancelled it, or is about to
				return false
			}
			if limit := conn.flight.timeout; limit > 0 { // so far the bound was that of the opening
				conn.patience.Store(int64(limit + statementMargin))
			}
			o.db.config.Connector.Opened(conn.dialled)
			o.db.count(func(total *Snapshot) { total.Opened++; total.LastOpened = time.Now() })
			o.db.log.DebugContext(o.ctx, "database session opened", "waited", gotSlot.Sub(started),
				"took", time.Since(started), "attempts", attempt, "read_only", o.opts.ReadOnly)
			return true
		})
		if refusal == nil {
			return conn, err
		}
		if reason == nil || ctx.Err() == nil && !errors.Is(refusal, errOpenTimeout) {
			reason = refusal // which says more than the end of the time for other attempts
		}
		if !o.tryAgain(ctx, conn, refusal, attempt) {
			o.db.count(func(total *Snapshot) { total.OpenErrors++ })
			o.db.logError(o.ctx, reason)
			return nil, reason
		}
	}
}

func (o *opening) takeSlot(ctx context.Context) (freed time.Time, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.db.config.SessionWait, ErrBusy)
	defer cancel()
	freed, err = o.db.slots.acquire(ctx)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrSessionDone) { // else it left the queue by itself
		o.db.count(func(total *Snapshot) { total.Rejected++ })
		o.db.log.WarnContext(o.ctx, "database session rejected", "error", Describe(err))
	}
	return freed, err
}

// attempt connects and does first. refusal is nil once BEGIN is acknowledged in time, and
// err is then first's own; else refusal says why not, as ErrPoolerFull, ErrUnavailable,
// ErrConfiguration or ErrSetting, or is the cause for which ctx ended.
func (o *opening) attempt(ctx context.Context, gotSlot time.Time, conn *connection, onOpen func() bool) (err, refusal error) {
	if refusal = o.connect(ctx, conn, gotSlot.Add(o.db.config.ConnectTimeout)); refusal == nil {
		conn.flight.begin, conn.flight.onOpen = begin(o.opts, o.settings(conn)), onOpen
		conn.flight.timeout = o.db.config.StatementTimeout
		err = o.first(ctx, conn)
		if !conn.flight.sent { // an argument could not be encoded: an empty statement carries BEGIN, and the session is of use
			_, _ = conn.pgx.Exec(ctx, ";")
			conn.flight.laden = false
		}
		if refusal = conn.flight.answer(ctx); refusal == nil {
			return err, nil
		}
		if cause := context.Cause(ctx); errors.Is(cause, errOpenTimeout) { // so does a full PgBouncer: no failure of the database
			return nil, &sessionError{ErrUnavailable, cause}
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errOpenTimeout) {
		refusal = cause
	} else if cause != nil {
		return nil, cause
	}
	kind := o.db.config.Connector.Refused(refusal)
	answer, ok := errors.AsType[*pgconn.PgError](refusal)
	if ok && kind == ErrConfiguration && len(o.opts.Settings) > 0 && conn.flight != nil && conn.flight.begun {
		if answer.Code == "22021" || answer.Code == "22P05" {
			return nil, refusal // bytes that are no text, which may be what a client has sent
		}
		kind = ErrSetting
	}
	return nil, &sessionError{kind, refusal}
}

// connect connects conn, and returns when ctx ends. What has dialled by then goes on all
// the same: a pooler that is busy with a client does not see it leave, and counts it as
// long. So the slot is taken, too.
func (o *opening) connect(ctx context.Context, conn *connection, deadline time.Time) error {
	dialling, left := context.WithDeadlineCause(ctx, deadline, errOpenTimeout)
	connecting, cancel := context.WithDeadlineCause(context.WithoutCancel(ctx), deadline, errOpenTimeout)
	closed := context.AfterFunc(o.db.life, cancel)
	var err error
	var panicked any
	done := make(chan struct{})
	conn.connecting.Go(func() {
		defer close(done)
		defer func() { panicked = recover(); left(); closed(); cancel() }()
		err = conn.connect(dialling, connecting)
	})
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if panicked != nil {
		panic(panicked)
	}
	if err != nil && !time.Now().Before(deadline) {
		<-ctx.Done() // which has the same deadline
	}
	return err
}

// settings cannot be start-up parameters: PgBouncer refuses timeouts there, Supavisor drops
// them and gives all clients its own name.
func (o *opening) settings(conn *connection) []Setting {
	in := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	return []Setting{
		{"statement_timeout", in(o.db.config.StatementTimeout)},
		{"lock_timeout", in(o.db.config.LockTimeout)},
		{"idle_in_transaction_session_timeout", in(o.db.config.IdleInTransactionTimeout)},
		{"application_name", conn.name},
	}
}

// tryAgain reports whether there may be another attempt, when it is time for it. The
// connection of the last one counts until it is gone.
func (o *opening) tryAgain(ctx context.Context, conn *connection, refusal error, attempt int) bool {
	limit, room := fullPause, o.db.slots.room
	answer, answered := errors.AsType[*pgconn.PgError](refusal)
	switch full := errors.Is(refusal, ErrPoolerFull); {
	case full && attempt == 1 && o.db.slots.late(o.freed, conn.dialled.Sub(o.freed)):
		limit, room = 1, nil
	case full:
	case ctx.Err() != nil || !errors.Is(refusal, ErrUnavailable) || conn.flight.mayHaveRun(answer):
		return false
	case answered && answer.Code == "57P01": // a pool that drains, for up to 5 s
		room = nil
	default:
		if o.transient++; o.transient >= transientTries {
			return false
		}
		limit, room = retryPause<<(o.transient-1), nil
	}
	gone := make(chan struct{})
	go func() { conn.hangUp(); close(gone) }()
	select {
	case <-gone:
	case <-ctx.Done():
		return false
	}
	o.db.count(func(total *Snapshot) { total.OpenRetries++ })
	if room != nil {
		o.freed = time.Time{}
	}
	return pause(ctx, limit, room) == nil
}
