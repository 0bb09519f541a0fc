package nopool

import (
	"cmp"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// results are the rows of a statement, or the answers to a batch. While they are open the
// session takes no other statement. Reading and closing them takes the session's turn, so
// that the session cannot end in the middle.
type results struct {
	session *Session
	close   func() error // reads what is left
	stop    func()       // unbinds the statement's context
	done    atomic.Bool  // nothing is left to close
	misused atomic.Bool  // a second goroutine used the session, which pgx's own Err does not know
	err     error        // what ended them
}

// alone runs use while nobody else uses the session.
func (r *results) alone(use func() error) error {
	if !r.session.turn.TryLock() {
		r.misused.Store(true)
		return ErrSessionBusy
	}
	defer r.session.turn.Unlock()
	if r.session.open != r {
		return cmp.Or(r.err, errors.New("rows or batch are closed already"))
	}
	return r.session.failed(use())
}

// end ends them; the caller has the turn.
func (r *results) end() {
	if r.session.open == r {
		r.session.open = nil
		defer r.stop()
		r.err = r.session.failed(cmp.Or(r.err, r.close()))
		r.done.Store(true)
	}
}

// leave waits for its turn to end them, or a part: what stays open keeps the session busy.
func (r *results) leave(end func()) {
	if r.done.Load() { // nor wait for the turn: its holder may be waiting for the caller
		return
	}
	r.session.turn.Lock()
	defer r.session.turn.Unlock()
	if r.session.open == r {
		end()
	}
}

// rows are those of a statement, or of one in a batch.
type rows struct {
	pgx.Rows
	of  *results
	end func() // with the turn
	err error  // of one in a batch
}

// failed returns rows that have nothing but err, as pgx does.
func failed(err error) (*rows, error) {
	none, _ := pgx.FailedBatchResults(&pgx.Batch{}, err).Query()
	return &rows{Rows: none, of: &results{session: new(Session), err: err}}, err
}

func (r *rows) Next() (more bool) {
	_ = r.of.alone(func() error {
		if more = r.Rows.Next(); !more {
			r.end()
		}
		return nil
	})
	return more
}

func (r *rows) Scan(dest ...any) error {
	if len(dest) == 1 {
		if whole, ok := dest[0].(pgx.RowScanner); ok { // pgx would give it its own rows
			return whole.ScanRow(r)
		}
	}
	return r.of.alone(func() error { return r.Rows.Scan(dest...) })
}

func (r *rows) Values() (values []any, err error) {
	err = r.of.alone(func() (err error) { values, err = r.Rows.Values(); return err })
	return values, err
}

func (r *rows) Close() { r.of.leave(r.end) }

func (r *rows) Err() error {
	if r.of.misused.Load() {
		return ErrSessionBusy
	}
	return cmp.Or(r.err, r.of.err, r.Rows.Err())
}

// Conn returns nil: the connection belongs to the session alone.
func (r *rows) Conn() *pgx.Conn { return nil }

// row is the answer to QueryRow.
type row struct{ pgx.Rows }

func (r row) Scan(dest ...any) error {
	_, err := pgx.CollectOneRow(r.Rows, func(found pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, found.Scan(dest...)
	})
	return err
}

// batch is the answer to SendBatch.
type batch struct {
	pgx.BatchResults
	of     *results
	queued []*pgx.QueuedQuery // those whose answers were not asked for
}

// next has read ask for the next answer.
func (b *batch) next(read func() error) error {
	return b.of.alone(func() error {
		b.queued = b.queued[min(1, len(b.queued)):]
		return read()
	})
}

func (b *batch) Exec() (tag pgconn.CommandTag, err error) {
	err = b.next(func() (err error) { tag, err = b.BatchResults.Exec(); return err })
	return tag, err
}

func (b *batch) Query() (pgx.Rows, error) {
	r := &rows{of: b.of}
	r.end = func() { r.Rows.Close(); r.err = r.of.session.failed(r.Rows.Err()) }
	err := b.next(func() (err error) { r.Rows, err = b.BatchResults.Query(); return err })
	if err != nil {
		return failed(err)
	}
	return r, nil
}

func (b *batch) QueryRow() pgx.Row {
	rows, _ := b.Query()
	return row{rows}
}

// Close calls what was queued with the statements, and reads the other answers, also when
// such a call panics: the session can be rolled back.
func (b *batch) Close() (err error) {
	var failed error
	defer func() {
		b.of.leave(func() { b.of.err = failed; b.of.end() })
		err = b.of.err
	}()
	for failed == nil && len(b.queued) > 0 && !b.of.done.Load() {
		if call := b.queued[0].Fn; call != nil {
			failed = call(b)
		} else {
			_, failed = b.Exec()
		}
	}
	return nil
}
