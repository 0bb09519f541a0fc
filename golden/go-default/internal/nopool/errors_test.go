package nopool

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

func TestOpenKind(t *testing.T) {
	t.Parallel()
	tests := []struct {
		code, message string
		want          error
	}{
		{"XX000", "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15", ErrPoolerFull},
		{"XX000", "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size", ErrPoolerFull},
		{"XX000", "Max client connections reached", ErrPoolerFull},
		{"XX000", "(EMAXCONN) max client connections reached, limit: 200", ErrPoolerFull},
		{"XX000", "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 60000ms in Session mode", ErrPoolerFull},
		{"XX000", "(EDBHANDLEREXITED) connection to database closed", ErrUnavailable},
		{"XX000", "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked", ErrConfiguration},
		{"XX000", "(ENOTFOUND) tenant/user x.y not found", ErrConfiguration},
		{"XX000", "Tenant or user not found", ErrConfiguration},
		{"XX000", "what nobody has met yet", ErrUnavailable},
		{"08P01", "no more connections allowed (max_client_conn)", ErrPoolerFull},
		{"08P01", "query_wait_timeout", ErrPoolerFull},
		{"08P01", "SASL authentication failed", ErrConfiguration},
		{"08P01", "no such database: x", ErrConfiguration},
		{"08P01", "unsupported startup parameter: statement_timeout", ErrConfiguration},
		{"08P01", "server login has been failing, cached error: x (server_login_retry)", ErrUnavailable},
		{"53300", "sorry, too many clients already", ErrPoolerFull},
		{"53300", `too many connections for role "app"`, ErrPoolerFull},
		{"28P01", `password authentication failed for user "app"`, ErrConfiguration},
		{"28000", "no pg_hba.conf entry", ErrConfiguration},
		{"3D000", `database "x" does not exist`, ErrConfiguration},
		{"57P03", "the database system is starting up", ErrUnavailable},
		{"57P01", "terminating connection due to administrator command", ErrUnavailable},
	}
	for _, test := range tests {
		err := fmt.Errorf("failed to connect: %w", &pgconn.PgError{Severity: "FATAL", Code: test.code, Message: test.message})
		if got := openKind(err); got != test.want {
			t.Errorf("%s %s: %v, want %v", test.code, test.message, got, test.want)
		}
	}
	// The pooler's password at the server is not ours, and is not held against us.
	failing := &pgconn.PgError{Code: "08P01", Message: "server login has been failing, cached error: password authentication failed (server_login_retry)"}
	if IsAuthentication(failing) {
		t.Errorf("%v is taken for a refused password", failing)
	}
}

// TestDescribeLeaksNothing wants no value of a user in what is logged at any level.
func TestDescribeLeaksNothing(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: `invalid input syntax for type integer: "s3cret"`, Detail: "s3cret"},
		fmt.Errorf("insert: %w", &pgconn.PgError{Severity: "ERROR", Code: "23505", ConstraintName: "notes_key", Message: "s3cret", Detail: "Key (title)=(s3cret)"}),
		&sessionError{ErrOutcomeUnknown, fmt.Errorf("commit: %w", &pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "s3cret"})},
		encodeError(t),
	} {
		if text := Describe(err); strings.Contains(text, "s3cret") {
			t.Errorf("%s", text)
		}
	}
}

func encodeError(t *testing.T) error {
	t.Helper()
	err := new(statement).Build(pgtype.NewMap(), nil, []any{struct{ Field string }{"s3cret"}})
	if err == nil {
		t.Fatal("a struct was encoded")
	}
	return err
}

func TestEncodeErrorsCostNoConnection(t *testing.T) {
	t.Parallel()
	db, err := Open(Config{URL: "postgres://u:p@127.0.0.1:1/db?sslmode=require", MaxSessions: 1, SessionWait: 1, ConnectTimeout: 1, StatementTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	session := db.Session(context.Background(), TxOptions{})
	if _, err := session.Exec(t.Context(), "select $1", struct{}{}); err == nil || db.Snapshot().Dials != 0 {
		t.Errorf("error %v after %d dials, want an error and none", err, db.Snapshot().Dials)
	}
	if err := session.Commit(t.Context()); err != nil {
		t.Errorf("a session that was never opened cannot be committed: %v", err)
	}
}
