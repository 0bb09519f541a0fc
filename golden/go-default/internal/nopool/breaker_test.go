package nopool_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/localpg/standin"
	"example.com/demo/internal/nopool"
)

// TestBrokenDatabase wants a database that refuses everybody to be left alone
// for most of the time, and to be found again when it is back.
func TestBrokenDatabase(t *testing.T) {
	t.Parallel()
	for _, broken := range []*pgproto3.ErrorResponse{
		standin.Fatal("57P03", "the database system is starting up"),
		standin.Fatal("3D000", "database \"app\" does not exist"),
	} {
		var back atomic.Bool
		pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse {
			if back.Load() {
				return nil
			}
			return broken
		}})
		db := on(t, pooler.URL(), nil)
		for range 100 {
			err := db.Run(t.Context(), nopool.TxOptions{}, selectOne)
			if err == nil || !strings.Contains(err.Error(), broken.Message) {
				t.Fatalf("%v, want what the database said", err)
			}
		}
		// Ten before the breaker opens, and one in each half second of what may be a slow test.
		if n := pooler.Stats().Dials; n < 10 || n > 30 {
			t.Errorf("%s: %d dials for 100 sessions", broken.Message, n)
		}
		back.Store(true)
		for started := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); err == nil {
				break
			} else if time.Since(started) > 10*time.Second {
				t.Fatalf("not found again: %v", err)
			}
		}
	}
}

// TestLostConnection breaks the connection under a statement: whatever pgx calls
// it, the caller learns that the database is to blame.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Drop: strings.HasPrefix(sql, "drop")}
	}})
	db := on(t, pooler.URL(), nil)
	for _, first := range []bool{true, false} {
		for _, sql := range []string{"drop", "drop $1"} {
			s := db.Session(t.Context(), nopool.TxOptions{})
			if !first {
				must(t, selectOne(t.Context(), s))
			}
			var args []any
			if strings.Contains(sql, "$1") {
				args = append(args, 1)
			}
			rows, err := s.Query(t.Context(), sql, args...)
			if err == nil {
				rows.Close()
				err = rows.Err()
			}
			if !errors.Is(err, nopool.ErrUnavailable) {
				t.Errorf("first use %t, %q: %v, want ErrUnavailable", first, sql, err)
			}
			if err := s.Commit(t.Context()); !errors.Is(err, nopool.ErrUnavailable) {
				t.Errorf("first use %t, %q: commit says %v, want ErrUnavailable", first, sql, err)
			}
		}
	}
}
