package nopool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ending is how a session ended.
type ending struct {
	name  string
	count func(total *Snapshot)
}

var (
	committed  = ending{"committed", func(total *Snapshot) { total.Committed++ }}
	rolledBack = ending{"rolled back", func(total *Snapshot) { total.RolledBack++ }}
	aborted    = ending{"aborted", func(total *Snapshot) { total.Aborted++ }}
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

// events counts and logs what happens to the sessions of a DB.
type events struct {
	log *slog.Logger
	mu  sync.Mutex
	now Snapshot // without the slots
}

func (e *events) count(update func(total *Snapshot)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	update(&e.now)
}

func (e *events) totals() (now Snapshot) {
	e.count(func(total *Snapshot) { now = *total })
	return now
}

// logError logs what may be logged at any level; the server's own words, which
// can quote data, only when the logger is at debug. What a client cancelled is no
// error.
func (e *events) logError(ctx context.Context, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	attrs := []slog.Attr{slog.String("error", Describe(err))}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		attrs = append(attrs, slog.String("sqlstate", pgErr.Code))
		if e.log.Enabled(ctx, slog.LevelDebug) {
			attrs = append(attrs, slog.String("message", pgErr.Message), slog.String("detail", pgErr.Detail))
		}
	}
	e.log.LogAttrs(ctx, slog.LevelError, "database session error", attrs...)
}
