package nopool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A statement takes one round trip where its arguments can go as text before anybody knows the
// types of its parameters. A Go type that stands for several SQL types would then arrive as
// something else, in silence: a time.Time as the day before, a []byte as hexadecimal digits,
// a constant with a String method as its number. For those the server is asked first, by the
// connection's own mode.

// typed returns sql and args for pgx, led by what makes it not ask if none of them needs it. A
// mode among args comes later, and so wins.
func typed(ctx context.Context, conn *connection, sql string, args []any) (string, []any, error) {
	sql, args, err := rewritten(ctx, conn, sql, args)
	if !slices.ContainsFunc(args, ambiguous) {
		args = slices.Concat([]any{pgx.QueryExecModeExec}, args)
	}
	return sql, args, err
}

// rewritten returns what one of args, such as pgx.NamedArgs, makes of sql and the others.
// pgx would give it the connection.
func rewritten(ctx context.Context, conn *connection, sql string, args []any) (string, []any, error) {
	conn.flight.asked = append(conn.flight.asked, sql)
	for i, arg := range args {
		if rewriter, ok := arg.(pgx.QueryRewriter); ok {
			sql, values, err := rewriter.RewriteQuery(ctx, nil, sql, args[i+1:])
			if err != nil {
				err = fmt.Errorf("rewrite query: %w", err)
			}
			return sql, slices.Concat(args[:i], values), err
		}
	}
	return sql, args, nil
}

// ambiguous reports whether arg could arrive as something else while its parameter's type
// is not known.
func ambiguous(arg any) bool {
	switch arg.(type) {
	case nil, string, bool, int, int32, int64, pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return false
	}
	t, v := reflect.TypeOf(arg), reflect.ValueOf(arg)
	pointer, list := t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice
	valuer, isValuer := arg.(driver.Valuer)
	switch {
	case (pointer || list) && v.IsNil():
		return isValuer // else NULL
	case isValuer:
		if inner := reflect.Indirect(v); inner.Kind() == reflect.Struct && inner.FieldByName("V").IsValid() && ambiguous(inner.FieldByName("V").Interface()) {
			return true // sql.Null: Value forgets its type
		}
		value, err := valuer.Value()
		return err != nil || ambiguous(value)
	case t.NumMethod() > 0, list && (v.Len() == 0 || t.Elem() == reflect.TypeFor[byte]() || t.PkgPath()+t.Elem().PkgPath() != ""): // none is {} as an array, [] as json
		return true
	case pointer || list:
		t = t.Elem()
	}
	plain := t.Kind() == reflect.String || t.Kind() >= reflect.Bool && t.Kind() <= reflect.Uint64
	return !plain || t.NumMethod() > 0
}

// copySource is a source of CopyFrom of which it is known how it ended. pgx reads it in a
// goroutine of its own, where a panic would end the process, and tells the server of an
// error, whose answer then takes the error's place.
type copySource struct {
	pgx.CopyFromSource
	err      error
	panicked any
}

func (c *copySource) next() (values []any, err error) {
	defer func() {
		if c.panicked = recover(); c.panicked != nil {
			err = errors.New("the source panicked")
		}
		c.err = err
	}()
	if !c.Next() {
		return nil, c.Err()
	}
	values, err = c.Values()
	return append([]any{}, values...), err // nil would be the end
}

// answer returns what CopyFrom's failure means: nil where it is the source's.
func (c *copySource) answer(err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case c.err != nil:
		return nil //nolint:nilerr // it is not the session's, which is fine
	case ok && pgErr.Code == "57014" && pgErr.Routine == "CopyGetData": // told by pgx that a value cannot be encoded
		return errors.New(pgErr.Message)
	}
	return err
}
