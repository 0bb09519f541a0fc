package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"example.com/demo/internal/nopool"
)

const (
	readyFor     = 3 * time.Second        // how long an answer is kept
	readyTimeout = 3 * time.Second        // of the check itself: some databases are far away
	busyFor      = 30 * time.Second       // how long after the last session opened a wait still means ready
	busyTimeout  = 500 * time.Millisecond // of the check, then
)

// health answers that the process lives. It never asks the database: a restart would not mend that.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz answers whether requests should be sent here.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.draining.Load():
		s.write(w, r, shuttingDown)
	case s.ready.check(s.DB) != nil:
		s.write(w, r, databaseDown)
	default:
		writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	}
}

// readiness keeps the last answer for a while and has at most one check under
// way: probes come from many places and must not cost connections.
type readiness struct {
	mu      sync.Mutex
	checked time.Time
	err     error
}

func (c *readiness) check(db *nopool.DB) error {
	c.mu.Lock() // later callers wait for the check that runs, and share its answer
	defer c.mu.Unlock()
	if time.Since(c.checked) > readyFor {
		c.err = reachable(db)
		c.checked = time.Now()
	}
	return c.err
}

// reachable returns nil when a query in a session of its own succeeds. It is not
// tried where all slots are in use and one was taken of late: that is proof enough
// that the database answers. So is then a queue that makes us wait, and always a full pooler.
func reachable(db *nopool.DB) error {
	now := db.Snapshot()
	answers, limit := time.Since(now.LastOpened) < busyFor, readyTimeout
	if answers && now.InUse >= now.MaxSessions {
		return nil
	}
	if answers {
		limit = busyTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := db.Run(ctx, nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "select 1")
		return err
	})
	if is(nopool.ErrPoolerFull)(err) || answers && is(nopool.ErrBusy, context.DeadlineExceeded)(err) {
		return nil // the last since PgBouncer lets a client wait for its first statement
	}
	return err
}
