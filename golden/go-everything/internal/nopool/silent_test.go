package nopool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// TestSilentPeer loses the network with a session open, and wants both back in time: the
// caller, whose context bounds nothing, and the slot.
func TestSilentPeer(t *testing.T) {
	t.Parallel()
	const statement, margin, finish, silence, closing = 500 * time.Millisecond, 3 * time.Second, 5 * time.Second, time.Second, 5 * time.Second
	exec := func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "update")
		return err
	}
	var all sync.WaitGroup // rather than parallel tests, of which two would run on two cores
	for _, test := range []struct {
		name         string
		do           func(ctx context.Context, s *nopool.Session) error
		want         error
		caller, slot time.Duration
	}{
		{"statement", exec, nopool.ErrUnavailable, statement + margin, statement + margin + silence},
		{"rows", func(ctx context.Context, s *nopool.Session) error {
			return s.QueryRow(ctx, "select 1").Scan(new(int))
		}, nopool.ErrUnavailable, statement + margin, statement + margin + silence},
		{"batch", func(ctx context.Context, s *nopool.Session) error {
			b := &pgx.Batch{}
			b.Queue("update")
			return s.SendBatch(ctx, b).Close()
		}, nopool.ErrUnavailable, statement + margin, statement + margin + silence},
		{"an error that is ignored", func(ctx context.Context, s *nopool.Session) error {
			_ = exec(ctx, s)
			return nil
		}, nopool.ErrUnavailable, statement + margin, statement + margin + silence},
		{"COMMIT", func(context.Context, *nopool.Session) error { return nil }, nopool.ErrOutcomeUnknown, finish, finish + silence},
		{"ROLLBACK", func(context.Context, *nopool.Session) error { return context.Canceled }, context.Canceled, finish, finish + silence},
		{"cancel", func(ctx context.Context, s *nopool.Session) error {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			return exec(ctx, s)
		}, context.DeadlineExceeded, 100 * time.Millisecond, closing},
	} {
		all.Go(func() {
			t.Run(test.name, func(t *testing.T) {
				var gone atomic.Bool
				db := on(t, standin.Start(t, standin.Options{TLS: true}).URL(), func(c *config) {
					c.StatementTimeout = statement
					c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
						conn, err := new(net.Dialer).DialContext(ctx, network, address)
						return &pgtest.Lost{Conn: conn, Gone: &gone}, err
					}
				})
				var lost time.Time
				err := db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
					must(t, selectOne(ctx, s))
					gone.Store(true)
					lost = time.Now()
					return test.do(ctx, s)
				})
				caller := time.Since(lost)
				for db.Snapshot().InUse > 0 && time.Since(lost) < 30*time.Second {
					time.Sleep(time.Millisecond)
				}
				slot := time.Since(lost)
				t.Logf("the caller was back after %v, the slot free after %v", caller, slot)
				const late = time.Second
				if !errors.Is(err, test.want) || caller < test.caller || caller > test.caller+late || slot > test.slot+late {
					t.Errorf("%v after %v, the slot was free after %v; want %v after %v, the slot after at most %v", err, caller, slot, test.want, test.caller, test.slot)
				}
				if n := db.Snapshot().CloseTimeouts; n != 1 {
					t.Errorf("%d slots are counted that nobody gave back, want 1", n)
				}
			})
		})
	}
	all.Wait()
}

// TestStuckStatement sends more than a server takes that has stopped to read.
func TestStuckStatement(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	db := on(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		if sql == "stop" {
			<-release
		}
		return standin.Reply{}
	}}).URL(), func(c *config) { c.StatementTimeout = 500 * time.Millisecond })
	done := make(chan error, 1)
	go func() {
		done <- db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			must(t, selectOne(ctx, s))
			b := &pgx.Batch{}
			b.Queue("stop")
			b.Queue("insert", strings.Repeat("x", 30<<20))
			return s.SendBatch(ctx, b).Close()
		})
	}()
	select {
	case err := <-done:
		if !errors.Is(err, nopool.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no end after 10 s, want one after 3.5 s")
	}
}

// TestLongStatement wants a session that has asked for more time to have it.
func TestLongStatement(t *testing.T) {
	t.Parallel()
	db, _ := open(t, func(c *config) { c.StatementTimeout = 200 * time.Millisecond })
	patient := nopool.TxOptions{Settings: []nopool.Setting{{Name: "statement_timeout", Value: "1min"}}}
	must(t, db.Run(t.Context(), patient, func(ctx context.Context, s *nopool.Session) error {
		must(t, selectOne(ctx, s))
		_, err := s.Exec(ctx, "select pg_sleep(4)")
		return err
	}))
}

// TestRollbackOfStuckCopy rolls back while the source of a COPY does not return.
func TestRollbackOfStuckCopy(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	session := db.Session(t.Context(), nopool.TxOptions{})
	must(t, selectOne(t.Context(), session))
	begun, release := make(chan struct{}), make(chan struct{})
	copied := make(chan error, 1)
	go func() {
		_, err := session.CopyFrom(context.Background(), pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromFunc(func() ([]any, error) {
			close(begun)
			<-release
			return nil, nil
		}))
		copied <- err
	}()
	<-begun
	started, undone := time.Now(), make(chan error, 1)
	go func() { undone <- session.Undo(t.Context(), io.EOF) }()
	if err := session.Rollback(t.Context()); !errors.Is(err, nopool.ErrSessionBusy) || time.Since(started) > 7*time.Second {
		t.Errorf("%v after %v, want ErrSessionBusy after 5 s", err, time.Since(started))
	}
	if err := <-undone; err != io.EOF {
		t.Errorf("undone for %v, want EOF", err)
	}
	close(release)
	if err := <-copied; err == nil {
		t.Error("the COPY went on")
	}
}
