package nopool

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

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
	// Opened is told that BEGIN was acknowledged on a connection that was asked for since then.
	Opened(since time.Time)
}

func (c Config) check() error {
	if c.Connector == nil || c.MaxSessions < 1 || c.SessionWait <= 0 || c.ConnectTimeout <= 0 ||
		c.StatementTimeout < time.Millisecond || c.MaxWaiting < 0 || min(c.LockTimeout, c.IdleInTransactionTimeout) < 0 ||
		max(c.StatementTimeout, c.LockTimeout, c.IdleInTransactionTimeout).Milliseconds() > math.MaxInt32 {
		return fmt.Errorf("%w: Connector must be set, MaxSessions be at least 1, SessionWait and ConnectTimeout positive, "+
			"StatementTimeout at least 1ms, nothing negative, and no timeout of the server above 2^31 ms", ErrConfiguration)
	}
	return nil
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
