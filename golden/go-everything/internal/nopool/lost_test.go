package nopool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

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

// TestLostLogin drops the connection while it logs in: pgx would dial once more for each,
// to cancel nothing, after the session has given its slot back.
func TestLostLogin(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{Auth: standin.SCRAM, OnStep: func(_ int, step standin.Step) standin.Fault {
		if step == standin.Challenged {
			return standin.Drop
		}
		return nil
	}})
	db := on(t, pooler.URL(), nil)
	for range 3 {
		if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if dials, attempts := pooler.Stats().Dials, db.Snapshot().Dials; uint64(dials) != attempts {
		t.Errorf("%d dials for %d attempts", dials, attempts)
	}
}

// TestLostBehindCommit breaks the connection behind the answer to COMMIT: nothing is unknown.
func TestLostBehindCommit(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]error{"COMMIT": nil, "ROLLBACK": nopool.ErrRolledBack} {
		pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (reply standin.Reply) {
			if sql == "fail" {
				reply.Error = standin.Error("22012", "division by zero")
			}
			return reply
		}})
		db := on(t, pooler.URL(), func(c *config) {
			c.wrap = func(conn net.Conn) net.Conn { return &cut{Conn: conn, behind: answer + "\x00"} }
		})
		err := db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			if answer == "ROLLBACK" {
				_, _ = s.Exec(ctx, "fail")
				return nil
			}
			return selectOne(ctx, s)
		})
		if !errors.Is(err, want) || db.Snapshot().CommitUnknown != 0 {
			t.Errorf("%s: %v, want %v", answer, err, want)
		}
	}
}

// cut ends behind a text.
type cut struct {
	net.Conn
	behind string
	over   bool
}

func (c *cut) Read(p []byte) (int, error) {
	if c.over {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	if before, _, found := strings.Cut(string(p[:n]), c.behind); found {
		c.over = true
		n = len(before) + len(c.behind)
	}
	return n, err
}

// TestPanickingDialer wants the slot back of a session that never came to be.
func TestPanickingDialer(t *testing.T) {
	t.Parallel()
	for name, panics := range map[string]func(*config){
		"the owner's dialer": func(c *config) {
			c.DialFunc = func(context.Context, string, string) (net.Conn, error) { panic("dialer") }
		},
		"a hook behind it": func(c *config) { c.wrap = func(net.Conn) net.Conn { panic("hook") } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := on(t, standin.Start(t, standin.Options{}).URL(), panics)
			func() {
				defer func() { _ = recover() }()
				_ = db.Run(t.Context(), nopool.TxOptions{}, selectOne)
			}()
			for started := time.Now(); db.Snapshot().InUse > 0; time.Sleep(time.Millisecond) {
				if time.Since(started) > 10*time.Second {
					t.Fatal("the slot was kept")
				}
			}
		})
	}
}

// TestNothingWasSaid wants COMMIT not to wait for what the server could have said before it.
func TestNothingWasSaid(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		db := on(t, standin.Start(t, standin.Options{TLS: encrypted}).URL(), nil)
		least := time.Hour
		for range 30 {
			s := db.Session(t.Context(), nopool.TxOptions{})
			must(t, selectOne(t.Context(), s))
			started := time.Now()
			must(t, s.Commit(t.Context()))
			least = min(least, time.Since(started))
		}
		if least >= time.Millisecond {
			t.Errorf("encrypted %t: COMMIT takes %v at least", encrypted, least)
		}
	}
}

// TestRefusedIsNotCommitted wants no success from a session whose statement never ran,
// although its caller did not look.
func TestRefusedIsNotCommitted(t *testing.T) {
	t.Parallel()
	db := on(t, standin.Start(t, standin.Options{}).URL(), func(c *config) { c.MaxSessions, c.MaxWaiting = 1, 0 })
	holder := db.Session(t.Context(), nopool.TxOptions{})
	must(t, selectOne(t.Context(), holder))
	err := db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_ = selectOne(ctx, s)
		must(t, holder.Rollback(ctx))
		return nil
	})
	if !errors.Is(err, nopool.ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
}

// TestClosedUnderAStatement wants a statement that Close has cut short to say so.
func TestClosedUnderAStatement(t *testing.T) {
	t.Parallel()
	db := on(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		if strings.HasPrefix(sql, "slow") {
			time.Sleep(300 * time.Millisecond)
		}
		return standin.Reply{}
	}}).URL(), nil)
	session := db.Session(t.Context(), nopool.TxOptions{})
	must(t, selectOne(t.Context(), session))
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_ = db.Close(ctx)
	}()
	if _, err := session.Exec(t.Context(), "slow"); !errors.Is(err, nopool.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	_ = session.Rollback(t.Context())
}
