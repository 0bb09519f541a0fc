package standin_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/standin"
)

func connect(t *testing.T, address string, mode pgx.QueryExecMode) (*pgx.Conn, error) {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = mode
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return pgx.ConnectConfig(ctx, config)
}

func mustConnect(t *testing.T, s *standin.Server) *pgx.Conn {
	t.Helper()
	conn, err := connect(t, s.URL(), pgx.QueryExecModeExec)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// eventually waits for what the server sees only after the client has gone on.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func hasCode(err error, code string) bool {
	var refusal *pgconn.PgError
	return errors.As(err, &refusal) && refusal.Code == code
}

func TestQueriesWithAndWithoutArguments(t *testing.T) {
	t.Parallel()
	s := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		if strings.Contains(sql, "item") {
			return standin.Reply{Rows: [][]string{{"7", "x"}, {"8", "y"}}}
		}
		return standin.Reply{}
	}})
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			conn, err := connect(t, s.URL(), mode)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			var one string
			if err := conn.QueryRow(t.Context(), "select 1").Scan(&one); err != nil || one != "1" {
				t.Errorf("got %q, %v", one, err)
			}
			tag, err := conn.Exec(t.Context(), "insert into t values (1)")
			if err != nil || tag.String() != "INSERT" {
				t.Errorf("got %v, %v", tag, err)
			}
			rows, _ := conn.Query(t.Context(), "select id, name from item")
			found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ ID, Name string }])
			if err != nil || len(found) != 2 || found[1].Name != "y" {
				t.Errorf("got %v, %v", found, err)
			}
		})
	}
	conn := mustConnect(t, s)
	defer conn.Close(t.Context())
	var id, name string
	if err := conn.QueryRow(t.Context(), "select id, name from item where id > $1", "6").Scan(&id, &name); err != nil || id != "7" {
		t.Errorf("got %q, %v", id, err)
	}
}

func TestTransactionStatus(t *testing.T) {
	t.Parallel()
	s := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		if sql == "fail" {
			return standin.Reply{Error: standin.Error("23505", "duplicate")}
		}
		return standin.Reply{}
	}})
	conn := mustConnect(t, s)
	step := func(sql, tag, code string, status byte) {
		t.Helper()
		got, err := conn.Exec(t.Context(), sql)
		if got.String() != tag || code != "" && !hasCode(err, code) || code == "" && err != nil {
			t.Errorf("%s: tag %q, error %v", sql, got, err)
		}
		if is := conn.PgConn().TxStatus(); is != status {
			t.Errorf("%s: status %c, want %c", sql, is, status)
		}
	}
	step("begin read only", "BEGIN", "", 'T')
	step("insert into t values (1)", "INSERT", "", 'T')
	step("fail", "", "23505", 'E')
	step("select 1", "", "25P02", 'E')
	step("commit", "ROLLBACK", "", 'I')
	step("fail", "", "23505", 'I')
	step("begin", "BEGIN", "", 'T')
	step("rollback", "ROLLBACK", "", 'I')
	conn.Close(t.Context())
	eventually(t, "the end is seen", func() bool { return s.Conns()[0].End == standin.Terminated })
	got := s.Conns()[0]
	if len(got.Statements) != 8 || got.Statements[0] != "begin read only" || got.Status != 'I' {
		t.Errorf("%q, status %c", got.Statements, got.Status)
	}
}

func TestErrorInAPipelineSkipsToSync(t *testing.T) {
	t.Parallel()
	s := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		if sql == "select fail" {
			return standin.Reply{Error: standin.Error("22012", "division by zero")}
		}
		return standin.Reply{}
	}})
	conn := mustConnect(t, s)
	defer conn.Close(t.Context())
	batch := &pgx.Batch{}
	batch.BeginTx(pgx.TxOptions{})
	batch.Queue("select fail")
	batch.Queue("select never")
	if err := conn.SendBatch(t.Context(), batch).Close(); !hasCode(err, "22012") {
		t.Fatalf("got %v", err)
	}
	if status := conn.PgConn().TxStatus(); status != 'E' {
		t.Errorf("status %c, want E", status)
	}
	if got := s.Conns()[0].Statements; slices.Contains(got, "select never") {
		t.Errorf("ran %q after an error", got)
	}
}

// A one-query transaction is six bursts: start-up, SASL, SASL, BEGIN with the query, COMMIT, Terminate.
func TestAuthenticationAndBursts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		opts   standin.Options
		bursts int
	}{
		{"trust", standin.Options{}, 4},
		{"cleartext", standin.Options{Auth: standin.Cleartext}, 5},
		{"scram", standin.Options{Auth: standin.SCRAM}, 6},
		{"scram over TLS", standin.Options{Auth: standin.SCRAM, TLS: true}, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := standin.Start(t, test.opts)
			conn := mustConnect(t, s)
			batch := &pgx.Batch{}
			batch.BeginTx(pgx.TxOptions{})
			batch.Queue("select $1", "x")
			if err := conn.SendBatch(t.Context(), batch).Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "commit"); err != nil {
				t.Fatal(err)
			}
			conn.Close(t.Context())
			eventually(t, "the end is seen", func() bool { return s.Conns()[0].End == standin.Terminated })
			if got := s.Conns()[0]; got.Bursts != test.bursts {
				t.Errorf("%d bursts; want %d", got.Bursts, test.bursts)
			}
			if test.opts.Auth == standin.Trust {
				return
			}
			wrong, _ := url.Parse(s.URL())
			wrong.User = url.UserPassword("app", "wrong")
			if _, err := connect(t, wrong.String(), pgx.QueryExecModeExec); !hasCode(err, "28P01") {
				t.Errorf("wrong password: %v", err)
			}
		})
	}
}

func TestServerWithoutTLSIsRefusedByTheClient(t *testing.T) {
	t.Parallel()
	s := standin.Start(t, standin.Options{})
	if _, err := connect(t, strings.Replace(s.URL(), "=disable", "=require", 1), pgx.QueryExecModeExec); err == nil {
		t.Error("connected")
	}
	if stats := s.Stats(); stats.Dials != 1 || stats.Open != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	const lag = 500 * time.Millisecond
	s := standin.Start(t, standin.Options{MaxClients: 1, ReleaseLag: lag})
	conn := mustConnect(t, s)
	_, err := connect(t, s.URL(), pgx.QueryExecModeExec)
	if !hasCode(err, "XX000") || !strings.Contains(err.Error(),
		"(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 1") {
		t.Fatalf("got %v", err)
	}
	start := time.Now()
	conn.Close(t.Context())
	if _, err := connect(t, s.URL(), pgx.QueryExecModeExec); !hasCode(err, "XX000") {
		t.Errorf("before the lag is over: %v", err)
	}
	eventually(t, "the place is free", func() bool { return s.Stats().Open == 0 })
	if took := time.Since(start); took < lag {
		t.Errorf("free after %v", took)
	}
	mustConnect(t, s).Close(t.Context())
	if got := s.Stats(); got.Dials != 4 || got.Rejected != 2 || got.Peak != 1 {
		t.Errorf("%+v", got)
	}
	if end := s.Conns()[1].End; end != "refused" {
		t.Errorf("ended %q", end)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := standin.Start(t, standin.Options{
		OnStartup: func(n int) *pgproto3.ErrorResponse {
			if n == 1 {
				return standin.Fatal("57P03", "the database system is starting up")
			}
			return nil
		},
		OnStatement: func(c *standin.Conn, sql string) standin.Reply {
			switch sql {
			case "begin":
				if c.N == 2 {
					return standin.Reply{Error: standin.Fatal("08P01", "query_wait_timeout")}
				}
			case "commit":
				return standin.Reply{Drop: true}
			case "slow":
				return standin.Reply{Delay: 50 * time.Millisecond}
			}
			return standin.Reply{}
		},
	})
	if _, err := connect(t, s.URL(), pgx.QueryExecModeExec); !hasCode(err, "57P03") {
		t.Errorf("first: %v", err)
	}
	second := mustConnect(t, s)
	if _, err := second.Exec(t.Context(), "begin"); !hasCode(err, "08P01") || !second.IsClosed() {
		t.Errorf("second: %v", err)
	}
	third := mustConnect(t, s)
	start := time.Now()
	if _, err := third.Exec(t.Context(), "begin"); err != nil {
		t.Error(err)
	}
	if _, err := third.Exec(t.Context(), "slow"); err != nil || time.Since(start) < 50*time.Millisecond {
		t.Errorf("slow: %v after %v", err, time.Since(start))
	}
	if _, err := third.Exec(t.Context(), "commit"); err == nil || hasCode(err, "") {
		t.Errorf("commit: %v", err)
	}
	eventually(t, "the end is seen", func() bool { return s.Stats().Open == 0 })
	if got := s.Conns()[2]; got.End != "dropped" || got.Status != 'T' {
		t.Errorf("%+v", got)
	}
}

func TestHangIsEndedByTheClient(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		s := standin.Start(t, standin.Options{TLS: encrypted, OnStatement: func(*standin.Conn, string) standin.Reply {
			return standin.Reply{Hang: true}
		}})
		conn := mustConnect(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := conn.Exec(ctx, "select pg_sleep($1)", "60"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		select {
		case <-conn.PgConn().CleanupDone():
		case <-time.After(5 * time.Second):
			t.Error("the cancelled connection is still open after 5 s")
		}
		eventually(t, "the end is seen", func() bool { return s.Stats().Open == 0 })
		if got := s.Stats(); got.CancelRequests != 1 || got.Dials != 2 {
			t.Errorf("%+v", got)
		}
	}
}

func TestTheEndOfTheTestEndsEverything(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	t.Run("a test", func(t *testing.T) {
		s := standin.Start(t, standin.Options{ReleaseLag: time.Hour, OnStatement: func(*standin.Conn, string) standin.Reply {
			return standin.Reply{Hang: true}
		}})
		mustConnect(t, s).Close(t.Context()) // in its lag
		hanging := mustConnect(t, s)
		go func() {
			_, err := hanging.Exec(context.Background(), "select 1")
			failed <- err
		}()
		silent, err := net.Dial("tcp", hanging.PgConn().Conn().RemoteAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { silent.Close() })
		eventually(t, "the statement is there", func() bool { return len(s.Conns()[1].Statements) == 1 })
	})
	if err := <-failed; err == nil {
		t.Error("the hanging statement succeeded")
	}
}
