package nopool

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// TestDescribeLeaksNothing wants no value of a user in what is logged at any level.
func TestDescribeLeaksNothing(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: `invalid input syntax for type integer: "s3cret"`, Detail: "s3cret"},
		fmt.Errorf("insert: %w", &pgconn.PgError{Severity: "ERROR", Code: "23505", ConstraintName: "notes_key", Message: "s3cret", Detail: "Key (title)=(s3cret)"}),
		&sessionError{ErrOutcomeUnknown, fmt.Errorf("commit: %w", &pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "s3cret"})},
		encodeError(t),
		errors.Unwrap(encodeError(t)), // as in the simple protocol
		pgx.ScanRow(pgtype.NewMap(), []pgconn.FieldDescription{{Name: "n", DataTypeOID: pgtype.Int8OID}}, [][]byte{[]byte("s3cret")}, new(int16)),
	} {
		if text := Describe(err); strings.Contains(text, "s3cret") {
			t.Errorf("%s", text)
		}
	}
}

func encodeError(t *testing.T) error {
	t.Helper()
	err := new(pgx.ExtendedQueryBuilder).Build(pgtype.NewMap(), nil, []any{struct{ Field string }{"s3cret"}})
	if err == nil {
		t.Fatal("a struct was encoded")
	}
	return err
}
