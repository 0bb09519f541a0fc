package nopool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// DB opens sessions. It holds no connection of its own.
type DB struct {
	config Config
	slots  *slots
	life   context.Context // ends when Close gives up waiting, and every session's life with it
	abort  context.CancelCauseFunc
	loaded atomic.Pointer[[]*pgtype.Type] // by LoadTypes
	log    *slog.Logger
	mu     sync.Mutex
	now    Snapshot // without the slots
}

// Config says where the database is and how much of it may be used. SessionWait and ConnectTimeout
// must be positive, StatementTimeout at least 1 ms. The server counts in whole milliseconds: a
// LockTimeout or IdleInTransactionTimeout below one sets no limit.
type Config struct {
	Connector   Connector // see package connect
	MaxSessions int       // connections that may exist at any instant, at least 1
	MaxWaiting  int       // sessions that may queue for a slot; 0 refuses at once

	SessionWait    time.Duration // the longest wait for a slot
	ConnectTimeout time.Duration // from the first dial to the answer to BEGIN, retries included

	// Types, if not nil, is given what each connection knows of types, to register others, such as those of
	// a library for decimals. It must not depend on the connection: it costs no round trip.
	Types func(*pgtype.Map) `json:"-"`

	StatementTimeout         time.Duration // per statement, enforced by the server, and 3 s later by us
	LockTimeout              time.Duration // per lock wait, enforced by the server
	IdleInTransactionTimeout time.Duration // between statements, enforced by the server

	Logger *slog.Logger // session events; nil discards them
}

// Connector knows how to reach the database.
type Connector interface {
	// Config returns a configuration for one connection to one host, for the caller to change, or
	// an error when no connection should be made now, which goes to Refused like any other.
	Config() (*pgx.ConnConfig, error)
	// Refused is told why a connection could not be opened, and returns what that
	// means: ErrPoolerFull, ErrUnavailable or ErrConfiguration.
	Refused(err error) error
	// Opened is told that BEGIN was acknowledged by the attempt that began at since.
	Opened(since time.Time)
}

// TxOptions are the properties of a session's transaction. The zero value has the server's
// defaults: read write and read committed, unless role or database say otherwise.
type TxOptions struct {
	ReadOnly  bool
	Isolation pgx.TxIsoLevel // "" leaves it to the server
	Settings  []Setting      // made in this order, after the timeouts

	// WaitForCommit makes Finish, and so the response of a request, wait for COMMIT
	// where it would not: in a read-only session below serializable. That is for what
	// such a session can do all the same: NOTIFY, pg_logical_emit_message, advisory
	// locks, LISTEN, large objects (Postgres 15 and older), SET without LOCAL, what a
	// function does on another server, and a transaction that a statement has begun.
	WaitForCommit bool
}

// Setting is a parameter of the server for one transaction, as by SET LOCAL. It travels with BEGIN,
// at no round trip of its own. The role is one of them (Name "role"), and so are those that
// row-level security policies read, such as Supabase's "request.jwt.claims". A setting that the
// server refuses makes the session's opening fail with ErrSetting, or with the server's own error
// if it is no text. A statement_timeout among them is ours too, which one that is set later is not.
// Those that the text of results depends on, such as DateStyle and client_encoding, are the
// session's own.
type Setting struct{ Name, Value string }

// Snapshot is the state of a DB and what has happened since its start. It is for the
// service's own code and metrics, not for a public endpoint.
type Snapshot struct {
	MaxSessions, InUse, Waiting int // slots; those taken, from dial to the server's close; sessions in the queue

	Opened     uint64 // sessions whose BEGIN was acknowledged
	Closed     uint64 // of those, the ones whose connection is gone
	Committed  uint64
	RolledBack uint64
	Aborted    uint64 // closed without an answer to COMMIT or ROLLBACK

	Dials         uint64 // connections attempted
	OpenRetries   uint64 // attempts after a session's first
	OpenErrors    uint64 // sessions that could not be opened, those whose client left included
	Rejected      uint64 // sessions that got no slot
	CommitUnknown uint64 // COMMITs whose answer was lost
	CloseTimeouts uint64 // connections whose close by the server was not seen within 5 s

	ReadCommitErrors uint64 // COMMITs of reads that failed when Finish had returned

	LastOpened time.Time // zero before the first session
}

// Snapshot returns the DB's state and totals.
func (db *DB) Snapshot() (now Snapshot) {
	db.count(func(total *Snapshot) { now = *total })
	now.MaxSessions, now.InUse, now.Waiting = db.config.MaxSessions, int(db.slots.inUse.Load()), int(db.slots.waiting.Load())
	return now
}

func (db *DB) count(update func(total *Snapshot)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	update(&db.now)
}

// logError logs what may be logged at any level; the server's own words, which
// can quote data, only when the logger is at debug. What a client cancelled is no
// error, and that a value was refused is none of ours.
func (db *DB) logError(ctx context.Context, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	level, attrs := slog.LevelError, []slog.Attr{slog.String("error", Describe(err))}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		attrs = append(attrs, slog.String("sqlstate", pgErr.Code))
		ours := errors.As(err, new(*sessionError)) || pgErr.Code == "22012" // division by zero
		if !ours && (input.MatchString(pgErr.Code) || RefusedByPolicy(err)) {
			level = slog.LevelInfo
		}
		if db.log.Enabled(ctx, slog.LevelDebug) {
			attrs = append(attrs, slog.String("message", pgErr.Message), slog.String("detail", pgErr.Detail))
		}
	}
	db.log.LogAttrs(ctx, level, "database session error", attrs...)
}
