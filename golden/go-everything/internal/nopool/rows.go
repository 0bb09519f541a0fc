package nopool

import (
	"cmp"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// rows are the open rows of a session. While they are open the session takes no
// other statement. Reading and closing them takes the session's lock, so that the
// session cannot end in the middle.
type rows struct {
	pgx.Rows                  // nil for a batch
	batch    pgx.BatchResults // nil for rows
	session  *Session
	stop     func()      // unbinds the statement's context
	misused  atomic.Bool // a second goroutine used the session, which pgx's own Err does not know
	err      error       // what ended them
}

// alone runs use while nobody else uses the session.
func (r *rows) alone(use func() error) error {
	if !r.session.mu.TryLock() {
		r.misused.Store(true)
		return ErrSessionBusy
	}
	defer r.session.mu.Unlock()
	return r.session.failed(use())
}

func (r *rows) Next() (more bool) {
	_ = r.alone(func() error {
		if more = r.Rows.Next(); !more {
			r.finish()
		}
		return nil
	})
	return more
}

func (r *rows) Scan(dest ...any) error { return r.alone(func() error { return r.Rows.Scan(dest...) }) }

func (r *rows) Values() (values []any, err error) {
	err = r.alone(func() (err error) { values, err = r.Rows.Values(); return err })
	return values, err
}

// Close waits for its turn: rows that stay open keep the session busy.
func (r *rows) Close() {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.finish()
}

func (r *rows) Err() error {
	if r.misused.Load() {
		return ErrSessionBusy
	}
	return cmp.Or(r.err, r.Rows.Err())
}

// Conn returns nil: the connection belongs to the session alone.
func (r *rows) Conn() *pgx.Conn { return nil }

// finish ends the rows; the caller holds the session's lock.
func (r *rows) finish() {
	if r.session.rows != r {
		return
	}
	r.session.rows = nil
	if r.batch != nil {
		r.err = r.session.failed(r.batch.Close())
	} else {
		r.Rows.Close()
		r.err = r.session.failed(r.Rows.Err())
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
	open *rows
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

// failedBatch answers every question with the error that prevented the batch.
type failedBatch struct{ err error }

func (b failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, b.err }
func (b failedBatch) Query() (pgx.Rows, error)         { return nil, b.err }
func (b failedBatch) QueryRow() pgx.Row                { return row{err: b.err} }
func (b failedBatch) Close() error                     { return b.err }
func (b failedBatch) Tx() pgx.Tx                       { return nil }
