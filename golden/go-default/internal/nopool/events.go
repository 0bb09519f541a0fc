package nopool

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// outcome is how a session ended.
type outcome string

const (
	unused     outcome = "unused"
	committed  outcome = "committed"
	rolledBack outcome = "rolled back"
	aborted    outcome = "aborted" // closed without an answer to ROLLBACK
)

// counters since the start of the process.
type counters struct {
	opened, closed, committed, rolledBack, aborted     atomic.Uint64
	dials, openRetries, openErrors, rejected           atomic.Uint64
	commitUnknown, closeTimeouts, lastOpenedUnixMillis atomic.Uint64
}

// Snapshot is the state of a DB at one instant and what has happened since its
// start. It is for the service's own code and metrics, not for a public
// endpoint.
type Snapshot struct {
	MaxSessions, InUse, Waiting int

	Opened     uint64 // sessions whose BEGIN was acknowledged
	Closed     uint64 // of those, the ones whose connection is gone
	Committed  uint64
	RolledBack uint64
	Aborted    uint64 // closed without COMMIT or ROLLBACK, after a cancel or a lost connection

	Dials         uint64 // connections attempted
	OpenRetries   uint64 // attempts after the first, within an open
	OpenErrors    uint64 // sessions that could not be opened
	Rejected      uint64 // sessions that got no slot
	CommitUnknown uint64 // COMMITs whose answer was lost
	CloseTimeouts uint64 // slots freed before the server's close was seen

	LastOpened time.Time // zero before the first session
}

// Snapshot returns the DB's counters. Each is exact; together they are not of
// one instant.
func (db *DB) Snapshot() Snapshot {
	c := &db.counters
	snapshot := Snapshot{
		MaxSessions: db.config.MaxSessions,
		Opened:      c.opened.Load(), Closed: c.closed.Load(),
		Committed: c.committed.Load(), RolledBack: c.rolledBack.Load(), Aborted: c.aborted.Load(),
		Dials: c.dials.Load(), OpenRetries: c.openRetries.Load(), OpenErrors: c.openErrors.Load(),
		Rejected: c.rejected.Load(), CommitUnknown: c.commitUnknown.Load(), CloseTimeouts: c.closeTimeouts.Load(),
	}
	snapshot.InUse, snapshot.Waiting = db.slots.usage()
	if at := c.lastOpenedUnixMillis.Load(); at > 0 {
		snapshot.LastOpened = time.UnixMilli(int64(at))
	}
	return snapshot
}

func (s *Session) opened(attempts int) {
	s.db.counters.opened.Add(1)
	s.db.counters.lastOpenedUnixMillis.Store(uint64(time.Now().UnixMilli()))
	s.db.log.DebugContext(s.ctx, "database session opened",
		"waited", s.lease.waited, "took", time.Since(s.lease.started), "attempts", attempts, "read_only", s.opts.ReadOnly)
}

// finished counts how a session ended, and logs what went wrong in it.
func (s *Session) finished(how outcome) {
	c := &s.db.counters
	switch how {
	case committed:
		c.committed.Add(1)
	case rolledBack:
		c.rolledBack.Add(1)
	case aborted:
		c.aborted.Add(1)
	}
	if s.err != nil && !errors.Is(s.err, context.Canceled) {
		s.logError("database session error", s.err)
	}
}

// closed reports a session whose connection the server has closed (clean), or
// whose close was not seen in time.
func (s *Session) closed(how outcome, ended time.Time, clean bool) {
	s.db.counters.closed.Add(1)
	s.db.log.DebugContext(s.ctx, "database session closed", "outcome", how,
		"duration", ended.Sub(s.lease.started), "close", time.Since(ended))
	s.db.reportClose(s.ctx, clean)
}

func (db *DB) reportClose(ctx context.Context, clean bool) {
	if !clean {
		db.counters.closeTimeouts.Add(1)
		db.log.WarnContext(ctx, "database connection close not confirmed by the server", "waited", closeTimeout)
	}
}

// openFailed ends the lease of a session that could not be opened.
func (s *Session) openFailed(err error) error {
	s.db.counters.openErrors.Add(1)
	if !ended(err) {
		s.logError("database session error", err)
	}
	go s.release(func(clean bool) { s.db.reportClose(s.ctx, clean) })
	return err
}

func (s *Session) reject(err error) {
	s.db.counters.rejected.Add(1)
	s.db.log.WarnContext(s.ctx, "database session rejected", "error", Describe(err))
}

// logError logs what may be logged at any level; the server's own words, which
// can quote data, only when the logger is at debug.
func (s *Session) logError(message string, err error) {
	attrs := []slog.Attr{slog.String("error", Describe(err))}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		attrs = append(attrs, slog.String("sqlstate", pgErr.Code))
		if s.db.log.Enabled(s.ctx, slog.LevelDebug) {
			attrs = append(attrs, slog.String("message", pgErr.Message), slog.String("detail", pgErr.Detail))
		}
	}
	s.db.log.LogAttrs(s.ctx, slog.LevelError, message, attrs...)
}
