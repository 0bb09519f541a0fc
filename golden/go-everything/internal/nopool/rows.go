package nopool

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// turn says who uses a session now: one call, by holding it, or open rows.
type turn struct {
	sync.Mutex                       // held during each call, by TryLock: nothing queues for it
	rows       *openRows             // nil if none are open
	failed     func(err error) error // is told of all failures, and says what they mean
}

// lockWithin is Lock that gives up after limit.
func (t *turn) lockWithin(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); !t.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// openRows are the open rows of a session. While they are open the session takes no
// other statement. Reading and closing them takes the session's turn, so that the
// session cannot end in the middle.
type openRows struct {
	pgx.Rows                  // nil for a batch
	batch    pgx.BatchResults // nil for rows
	turn     *turn
	stop     func()      // unbinds the statement's context
	misused  atomic.Bool // a second goroutine used the session, which pgx's own Err does not know
	err      error       // what ended them
}

// alone runs use while nobody else uses the session.
func (r *openRows) alone(use func() error) error {
	if !r.turn.TryLock() {
		r.misused.Store(true)
		return ErrSessionBusy
	}
	defer r.turn.Unlock()
	return r.turn.failed(use())
}

func (r *openRows) Next() (more bool) {
	_ = r.alone(func() error {
		if more = r.Rows.Next(); !more {
			r.finish()
		}
		return nil
	})
	return more
}

func (r *openRows) Scan(dest ...any) error {
	return r.alone(func() error { return r.Rows.Scan(dest...) })
}

func (r *openRows) Values() (values []any, err error) {
	err = r.alone(func() (err error) { values, err = r.Rows.Values(); return err })
	return values, err
}

// Close waits for its turn: rows that stay open keep the session busy.
func (r *openRows) Close() {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.finish()
}

func (r *openRows) Err() error {
	if r.misused.Load() {
		return ErrSessionBusy
	}
	return cmp.Or(r.err, r.Rows.Err())
}

// Conn returns nil: the connection belongs to the session alone.
func (r *openRows) Conn() *pgx.Conn { return nil }

// finish ends the rows; the caller has the turn.
func (r *openRows) finish() {
	if r.turn.rows != r {
		return
	}
	r.turn.rows = nil
	if r.batch != nil {
		r.err = r.turn.failed(r.batch.Close())
	} else {
		r.Rows.Close()
		r.err = r.turn.failed(r.Rows.Err())
	}
	r.stop()
}

// row is the answer to QueryRow.
type row struct {
	rows pgx.Rows
	err  error
}

func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	_, err := pgx.CollectOneRow(r.rows, func(found pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, found.Scan(dest...)
	})
	return err
}

// batch is the answer to SendBatch. It keeps the session busy until it is closed;
// Exec and Close exclude the session's end, reading rows does not.
type batch struct {
	pgx.BatchResults
	open *openRows
}

func (b batch) Exec() (tag pgconn.CommandTag, err error) {
	err = b.open.alone(func() (err error) { tag, err = b.BatchResults.Exec(); return err })
	return tag, err
}

func (b batch) Close() error {
	b.open.Close()
	return b.open.err
}

// Tx returns nil: the transaction is the session's.
func (b batch) Tx() pgx.Tx { return nil }
