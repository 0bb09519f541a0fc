package nopool

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// flight is BEGIN, the timeouts and the first statement, sent in one write. As
// rows it is the answer to the statement.
type flight struct {
	pgx.Rows // nil when there was no statement
	pipeline *pgconn.Pipeline
	cancel   context.CancelCauseFunc
}

// begin opens the session with BEGIN alone, for a first use that cannot travel
// with it. It does nothing on an open session.
func (s *Session) begin(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	ctx, stop := s.bind(ctx)
	defer stop()
	f, err := s.open(ctx, nil)
	if err != nil {
		return err
	}
	f.Close()
	return nil
}

// takeOff sends the flight and waits for the answer to BEGIN until deadline.
// The statement itself may take longer: a Flush between them makes the server
// answer BEGIN at once, not when the statement is done.
func (s *Session) takeOff(ctx context.Context, cancel context.CancelCauseFunc, deadline time.Time, conn *pgx.Conn, first *encoded) (*flight, error) {
	timer := time.AfterFunc(time.Until(deadline), func() { cancel(errOpenTimeout) })
	defer timer.Stop()

	f := &flight{pipeline: conn.PgConn().StartPipeline(ctx), cancel: cancel}
	f.pipeline.SendQueryParams(s.opts.begin(), nil, nil, nil, nil)
	settings, values := s.settings()
	f.pipeline.SendQueryParams(settings, values, nil, nil, nil)
	f.pipeline.SendFlushRequest()
	if first != nil {
		f.pipeline.SendQueryParams(first.sql, first.ParamValues, nil, first.ParamFormats, nil)
	}
	err := f.pipeline.Sync()
	for range 2 { // BEGIN, then the timeouts
		if err == nil {
			_, err = f.next()
		}
	}
	if err != nil {
		f.pipeline.Close()
		return nil, err
	}
	return f, nil
}

// land waits for the first answer to the flight's statement and makes the
// flight its rows. An error of the statement leaves the session open.
func (f *flight) land(conn *pgx.Conn) (pgx.Rows, error) {
	result, err := f.pipeline.GetResults()
	if err != nil {
		f.Close()
		return nil, err
	}
	f.Rows = pgx.RowsFromResultReader(conn.TypeMap(), result.(*pgconn.ResultReader))
	return f, nil
}

// next reads the next result of the flight to its end.
func (f *flight) next() (pgconn.CommandTag, error) {
	result, err := f.pipeline.GetResults()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return pgconn.CommandTag{}, fmt.Errorf("unexpected answer %T", result)
	}
	return reader.Close()
}

// Close reads what is left of the answers, after which the connection can be
// used again.
func (f *flight) Close() {
	if f.Rows != nil {
		f.Rows.Close()
	}
	f.pipeline.Close()
	f.cancel(nil)
}

// encoded is a statement whose arguments are in their wire format.
type encoded struct {
	sql string
	pgx.ExtendedQueryBuilder
}

// encode fails before anything is dialled for a statement that cannot be sent.
func encode(sql string, args []any) (*encoded, error) {
	e := &encoded{sql: sql}
	return e, e.Build(pgtype.NewMap(), nil, args)
}

// begin returns the statement that begins the transaction.
func (o TxOptions) begin() string {
	sql := "begin"
	if o.Isolation != "" {
		sql += " isolation level " + string(o.Isolation)
	}
	if o.ReadOnly {
		sql += " read only"
	}
	return sql
}

// settings returns the statement that sets the timeouts and the caller's own
// settings, and the parameters of the latter.
func (s *Session) settings() (sql string, values [][]byte) {
	calls := []string{s.db.timeouts}
	for _, setting := range s.opts.Settings {
		values = append(values, []byte(setting.Name), []byte(setting.Value))
		calls = append(calls, fmt.Sprintf("set_config($%d, $%d, true)", len(values)-1, len(values)))
	}
	return strings.Join(calls, ", "), values
}

// timeouts returns the statement that sets the timeouts for the transaction.
// They cannot be start-up parameters: PgBouncer refuses those and Supavisor
// drops them. They end with the transaction, so the next client of the pooler's
// connection does not inherit them.
func (c Config) timeouts() string {
	var calls []string
	for _, timeout := range []struct {
		name  string
		value time.Duration
	}{
		{"statement_timeout", c.StatementTimeout},
		{"lock_timeout", c.LockTimeout},
		{"idle_in_transaction_session_timeout", c.IdleInTransactionTimeout},
	} {
		calls = append(calls, fmt.Sprintf("set_config('%s', '%dms', true)", timeout.name, timeout.value.Milliseconds()))
	}
	return "select " + strings.Join(calls, ", ")
}
