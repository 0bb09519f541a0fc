package nopool

import (
	"context"
	"errors"
	"strconv"
	"time"
)

const (
	transientTries = 3                     // attempts at a database that cannot be reached
	retryPause     = 20 * time.Millisecond // at most, before the second of them, doubled before the third
)

var errOpenTimeout = errors.New("no answer to BEGIN in time")

// engine is what the sessions of a DB share.
type engine struct {
	config Config
	slots  *slots
	events
}

// operation is what a session does with its connection.
type operation func(ctx context.Context, conn *connection) error

// opening is how one session gets its connection.
type opening struct {
	db     *engine
	ctx    context.Context         // of log lines
	opts   TxOptions               // of its transaction
	first  operation               // with which BEGIN travels
	cancel context.CancelCauseFunc // ends the context of first, which its rows or batch keep using
}

// open takes a slot, dials, and does first. ConnectTimeout bounds all that follows the
// wait for the slot, up to the answer to BEGIN: PgBouncer admits a client and says only
// at its first statement that it is full. As long as BEGIN is not acknowledged nothing
// has happened, and first is done again on another connection: on a full pooler until
// the deadline, on a database out of reach a few times, after any other refusal never.
// It returns no connection and why, or one and first's own error.
func (o *opening) open(ctx context.Context) (opened *connection, err error) {
	started := time.Now()
	if err := o.takeSlot(ctx); err != nil {
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
		conn = &connection{events: &o.db.events, ctx: o.ctx, dialled: time.Now()}
		err, refusal := o.attempt(ctx, gotSlot, conn, func() {
			if deadline.Stop() { // else ctx has ended
				o.db.count(func(total *Snapshot) { total.Opened++; total.LastOpened = time.Now() })
				o.db.log.DebugContext(o.ctx, "database session opened", "waited", gotSlot.Sub(started),
					"took", time.Since(started), "attempts", attempt, "read_only", o.opts.ReadOnly)
			}
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

func (o *opening) takeSlot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.db.config.SessionWait, ErrBusy)
	defer cancel()
	err := o.db.slots.acquire(ctx)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrSessionDone) { // else it left the queue by itself
		o.db.count(func(total *Snapshot) { total.Rejected++ })
		o.db.log.WarnContext(o.ctx, "database session rejected", "error", Describe(err))
	}
	return err
}

// attempt connects and does first. refusal is nil once BEGIN is acknowledged, and err
// is then first's own; else refusal says why not, as ErrPoolerFull, ErrUnavailable or
// ErrConfiguration, or is the cause for which ctx ended.
func (o *opening) attempt(ctx context.Context, gotSlot time.Time, conn *connection, onOpen func()) (err, refusal error) {
	// The addresses of a host share this deadline. ctx has none, since rows outlive the opening.
	connecting, cancel := context.WithDeadlineCause(ctx, gotSlot.Add(o.db.config.ConnectTimeout), errOpenTimeout)
	defer cancel()
	if refusal = conn.connect(connecting, o.db.config.Connector); refusal == nil {
		conn.flight.begin, conn.flight.onOpen = begin(o.opts, o.settings(conn)), onOpen
		conn.flight.timeout = o.db.config.StatementTimeout
		err = o.first(ctx, conn)
		if !conn.flight.sent { // an argument could not be encoded: an empty statement carries BEGIN, and the session is of use
			_, _ = conn.pgx.Exec(ctx, ";")
		}
		if refusal = conn.flight.answer(ctx, conn.pgx.PgConn()); refusal == nil && !errors.Is(context.Cause(ctx), errOpenTimeout) {
			return err, nil
		}
	}
	if cause := context.Cause(connecting); errors.Is(cause, errOpenTimeout) {
		refusal = cause
	} else if cause != nil {
		return nil, cause
	}
	return nil, &sessionError{o.db.config.Connector.Refused(refusal), refusal}
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
	if !errors.Is(refusal, ErrPoolerFull) {
		if limit, room = retryPause<<(attempt-1), nil; !errors.Is(refusal, ErrUnavailable) || attempt >= transientTries {
			return false
		}
	}
	gone := make(chan struct{})
	go func() { conn.hangUp(); close(gone) }()
	select {
	case <-gone:
	case <-ctx.Done():
		return false
	}
	o.db.count(func(total *Snapshot) { total.OpenRetries++ })
	return pause(ctx, limit, room) == nil
}
