package nopool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// A statement takes one round trip: its arguments go as text before anybody knows the types
// of its parameters. A Go type that stands for several SQL types would then arrive as
// something else, in silence: a time.Time as the day before, a []byte as hexadecimal digits,
// a constant with a String method as its number. For those the server is asked first, as in
// pgx's default mode.

// typed returns args, led by what makes pgx ask if one of them needs it. A mode among args
// comes later, and so wins.
func typed(args []any) []any {
	if !slices.ContainsFunc(args, ambiguous) {
		return args
	}
	return slices.Concat([]any{pgx.QueryExecModeDescribeExec}, args)
}

// typeBatch encodes the arguments of those statements of b that need it, each of which is
// asked for once: pgx has one mode for all batches.
func typeBatch(ctx context.Context, conn *pgx.Conn, b *pgx.Batch) (err error) {
	described := map[string]*pgconn.StatementDescription{}
	for _, query := range b.QueuedQueries {
		sql, args := query.SQL, query.Arguments
		if !slices.ContainsFunc(args, ambiguous) {
			continue
		}
		if rewriter, ok := args[0].(pgx.QueryRewriter); ok {
			if sql, args, err = rewriter.RewriteQuery(ctx, conn, sql, args[1:]); err != nil {
				return fmt.Errorf("rewrite query failed: %w", err)
			}
		}
		if described[sql] == nil {
			if described[sql], err = conn.Prepare(ctx, "", sql); err != nil {
				return err
			}
		}
		types := described[sql].ParamOIDs
		if len(types) != len(args) {
			return fmt.Errorf("expected %d arguments, got %d", len(types), len(args))
		}
		query.SQL, query.Arguments = sql, slices.Clone(args)
		for i, arg := range args {
			if !ambiguous(arg) {
				continue
			}
			if query.Arguments[i], err = asText(conn.TypeMap(), types[i], arg); err != nil {
				return fmt.Errorf("failed to encode args[%d]: %w", i, err)
			}
		}
	}
	return nil
}

// asText returns arg as a string, or nil for NULL. Where the type has a binary format, pgx
// first tries what arg means as that.
func asText(types *pgtype.Map, oid uint32, arg any) (any, error) {
	t, ok := types.TypeForOID(oid)
	if ok && t.Codec.PreferredFormat() == pgtype.BinaryFormatCode {
		if binary, err := types.Encode(oid, pgtype.BinaryFormatCode, arg, []byte{}); err == nil {
			value, err := t.Codec.DecodeValue(types, oid, pgtype.BinaryFormatCode, binary)
			if text, encode := types.Encode(oid, pgtype.TextFormatCode, value, []byte{}); err == nil && encode == nil && text != nil {
				return string(text), nil
			}
		}
	}
	text, err := types.Encode(oid, pgtype.TextFormatCode, arg, []byte{})
	if text == nil {
		return nil, err
	}
	return string(text), err
}

// ambiguous reports whether arg could arrive as something else while its parameter's type
// is not known.
func ambiguous(arg any) bool {
	switch arg := arg.(type) {
	case nil, string, bool, int, int32, int64, pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return false
	case pgx.NamedArgs:
		return slices.ContainsFunc(slices.Collect(maps.Values(arg)), ambiguous)
	case pgx.StrictNamedArgs:
		return ambiguous(pgx.NamedArgs(arg))
	}
	t, v := reflect.TypeOf(arg), reflect.ValueOf(arg)
	pointer, list := t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice
	valuer, isValuer := arg.(driver.Valuer)
	switch {
	case (pointer || list) && v.IsNil():
		return isValuer // else NULL
	case isValuer:
		if inner := reflect.Indirect(v); inner.Kind() == reflect.Struct && inner.FieldByName("V").IsValid() { // sql.Null: Value forgets its type
			return ambiguous(inner.FieldByName("V").Interface())
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

func (c *copySource) Next() (more bool) {
	defer c.recover()
	return c.CopyFromSource.Next()
}

func (c *copySource) Values() (values []any, err error) {
	defer func() { err = c.err }()
	defer c.recover()
	values, c.err = c.CopyFromSource.Values()
	return values, c.err
}

func (c *copySource) Err() (err error) {
	defer func() { err = c.err }()
	defer c.recover()
	if c.panicked == nil {
		c.err = c.CopyFromSource.Err()
	}
	return c.err
}

func (c *copySource) recover() {
	if value := recover(); value != nil {
		c.panicked, c.err = value, errors.New("the source panicked")
	}
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
