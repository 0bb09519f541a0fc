package nopool

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

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
// error, and that a value was refused, classes 22 and 23, is none of ours.
func (db *DB) logError(ctx context.Context, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	level, attrs := slog.LevelError, []slog.Attr{slog.String("error", Describe(err))}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		attrs = append(attrs, slog.String("sqlstate", pgErr.Code))
		ours := errors.As(err, new(*sessionError)) || pgErr.Code == "22012" // division by zero
		if class := pgErr.Code[:min(2, len(pgErr.Code))]; !ours && (class == "22" || class == "23") {
			level = slog.LevelInfo
		}
		if db.log.Enabled(ctx, slog.LevelDebug) {
			attrs = append(attrs, slog.String("message", pgErr.Message), slog.String("detail", pgErr.Detail))
		}
	}
	db.log.LogAttrs(ctx, level, "database session error", attrs...)
}
