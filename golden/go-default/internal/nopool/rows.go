package nopool

import (
	"cmp"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// rows are the open rows of a session. While they are open the session takes
// no other statement. Reading and closing them excludes the session's end.
type rows struct {
	pgx.Rows // nil for a batch
	session  *Session
	stop     func()      // unbinds the statement's context
	misused  atomic.Bool // by a second goroutine, which pgx's own Err knows nothing of
	err      error       // what ended them
}

// enter admits one caller at a time, until the rows are closed.
func (r *rows) enter() bool {
	entered := r.session.mu.TryLock()
	if !entered {
		r.misused.Store(true)
	}
	return entered
}

func (r *rows) Next() bool {
	if !r.enter() {
		return false
	}
	defer r.session.mu.Unlock()
	more := r.Rows.Next()
	if !more {
		r.finish()
	}
	return more
}

func (r *rows) Scan(dest ...any) error {
	if !r.enter() {
		return ErrSessionBusy
	}
	defer r.session.mu.Unlock()
	return r.session.failed(r.Rows.Scan(dest...))
}

func (r *rows) Values() ([]any, error) {
	if !r.enter() {
		return nil, ErrSessionBusy
	}
	defer r.session.mu.Unlock()
	return r.Rows.Values()
}

func (r *rows) Close() {
	if r.enter() {
		defer r.session.mu.Unlock()
		r.finish()
	}
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
	if r.Rows != nil {
		r.Rows.Close()
		r.err = r.session.failed(r.Rows.Err())
	}
	r.stop()
}

// flightRows are the rows of the statement that travelled with BEGIN.
type flightRows struct {
	pgx.Rows
	flight *pgconn.Pipeline
}

func (r flightRows) Close() {
	r.Rows.Close()
	r.flight.Close() // reads to the end, after which the connection can be used again
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
	defer r.rows.Close()
	if !r.rows.Next() {
		return cmp.Or(r.rows.Err(), pgx.ErrNoRows)
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// batch is the answer to SendBatch. It keeps the session busy until it is closed;
// Exec and Close exclude the session's end, reading rows does not.
type batch struct {
	pgx.BatchResults
	open *rows
}

func (b batch) Exec() (pgconn.CommandTag, error) {
	if !b.open.enter() {
		return pgconn.CommandTag{}, ErrSessionBusy
	}
	defer b.open.session.mu.Unlock()
	return b.BatchResults.Exec()
}

func (b batch) Close() error {
	if !b.open.enter() {
		return ErrSessionBusy
	}
	defer b.open.session.mu.Unlock()
	err := b.open.session.failed(b.BatchResults.Close())
	b.open.finish()
	return err
}

// failedBatch answers every question with the error that prevented the batch.
type failedBatch struct{ err error }

func (b failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, b.err }
func (b failedBatch) Query() (pgx.Rows, error)         { return nil, b.err }
func (b failedBatch) QueryRow() pgx.Row                { return row{err: b.err} }
func (b failedBatch) Close() error                     { return b.err }
func (b failedBatch) Tx() pgx.Tx                       { return nil }
