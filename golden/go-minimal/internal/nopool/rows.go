package nopool

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Query runs a statement and returns its rows, which must be closed or read to
// their end before the session is used again. As in pgx, rows.Err says what the
// error does, and an error of the statement may come from there alone.
func (s *Session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r := &rows{of: &results{session: s}}
	r.end = r.of.end
	r.of.close = func() error { r.Rows.Close(); return r.Rows.Err() }
	err := s.use(ctx, r.of, func(ctx context.Context, conn *connection) error {
		sql, args, err := typed(ctx, conn, sql, args)
		if err == nil {
			r.Rows, err = conn.pgx.Query(ctx, sql, args...)
		}
		return err
	})
	if err != nil {
		return failed(err)
	}
	return r, nil
}

// QueryRow runs a statement and returns its first row. All errors come from Scan:
// pgx.ErrNoRows when there is no row.
func (s *Session) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := s.Query(ctx, sql, args...)
	return row{rows}
}

// SendBatch runs the statements of b in two round trips: the server is asked for the types of
// their parameters first. The session is busy until the results are closed; errors come from
// them. A batch cannot begin a transaction.
func (s *Session) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	refused := pgx.FailedBatchResults(b, errors.New("a batch with BeginTx: the session is a transaction already"))
	if refused.Tx() != nil {
		return refused
	}
	r := &batch{of: &results{session: s}, queued: b.QueuedQueries}
	r.of.close = func() error { return r.BatchResults.Close() }
	err := s.use(ctx, r.of, func(ctx context.Context, conn *connection) error {
		var sent pgx.Batch // without what is to be called, which would get the connection
		for _, query := range b.QueuedQueries {
			sql, args, err := rewritten(ctx, conn, query.SQL, query.Arguments)
			if err != nil {
				return err
			}
			sent.Queue(sql, args...)
		}
		r.BatchResults = conn.pgx.SendBatch(ctx, &sent)
		return nil
	})
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return r
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
