package nopool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// lossy is a connection that is lost with the answer to BEGIN.
type lossy struct {
	net.Conn
	lost *atomic.Bool // the first of them
}

func (l *lossy) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if bytes.Contains(p[:n], []byte("BEGIN\x00")) && l.lost.CompareAndSwap(false, true) {
		time.Sleep(100 * time.Millisecond) // for what is behind BEGIN to run
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestLostAnswer loses the answer to BEGIN of first statements that have run: none may run
// twice.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	lost := new(atomic.Bool)
	lost.Store(true) // from the second session on
	db, _ := open(t, func(c *config) { c.wrap = func(conn net.Conn) net.Conn { return &lossy{conn, lost} } })
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "create sequence q")
		return err
	}))
	exec := func(sql string, args ...any) func(context.Context, *nopool.Session) error {
		return func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, sql, args...)
			return err
		}
	}
	for name, first := range map[string]func(context.Context, *nopool.Session) error{
		"simple":        exec("select nextval('q')"),
		"several":       exec("select nextval('q'); commit"),
		"parameters":    exec("select nextval($1::text::regclass)", "q"),
		"in a function": exec("do $$ begin perform nextval('q'); end $$"),
		"batch": func(ctx context.Context, s *nopool.Session) error {
			batch := &pgx.Batch{}
			batch.Queue("select nextval('q')")
			return s.SendBatch(ctx, batch).Close()
		},
	} {
		must(t, db.Run(t.Context(), nopool.TxOptions{}, exec("select setval('q', 1)")))
		lost.Store(false)
		if err := db.Run(t.Context(), nopool.TxOptions{}, first); !errors.Is(err, nopool.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
		var n int
		must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			return s.QueryRow(ctx, "select last_value from q").Scan(&n)
		}))
		if n > 2 {
			t.Errorf("%s: ran %d times", name, n-1)
		}
	}
}

// TestOpeningAgain has the first attempts end in some way, and wants as many as may be
// made, whose last ends well.
func TestOpeningAgain(t *testing.T) {
	t.Parallel()
	const drop = "drop"
	answer := func(said []string, n int) *pgproto3.ErrorResponse {
		if n > len(said) {
			return nil
		}
		code, text, _ := strings.Cut(said[n-1], " ")
		return standin.Fatal(code, text)
	}
	full, draining, unknown := "53300 sorry, too many clients already", "57P01 terminating connection due to administrator command", "XX000 what nobody has met yet"
	for name, test := range map[string]struct {
		start, begin []string // what the first connections are told, at start-up or in answer to BEGIN
		dials        int
		err          error
	}{
		"unknown":                                {start: []string{unknown, unknown}, dials: 3},
		"unknown for too long":                   {start: []string{unknown, unknown, unknown}, dials: 3, err: nopool.ErrUnavailable},
		"unknown at BEGIN":                       {begin: []string{unknown, unknown}, dials: 3},
		"lost by Supavisor":                      {begin: []string{"XX000 (EDBHANDLEREXITED) DbHandler exited. Check logs for more information"}, dials: 1, err: nopool.ErrUnavailable},
		"draining":                               {start: []string{draining, draining, draining, draining, draining}, dials: 6},
		"draining at BEGIN":                      {begin: []string{draining, draining, draining, draining, draining}, dials: 6},
		"full, then unknown":                     {start: []string{full, full, full, unknown, unknown}, dials: 6},
		"draining, then starting":                {start: []string{draining, draining, draining, "57P03 the database system is starting up"}, dials: 5},
		"waited too long at a pooler":            {begin: []string{"08P01 query_timeout"}, dials: 2},
		"lost":                                   {begin: []string{drop}, dials: 1, err: nopool.ErrUnavailable},
		"lost between the pooler and the server": {begin: []string{"08P01 server conn crashed?"}, dials: 1, err: nopool.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pooler := standin.Start(t, standin.Options{
				OnStartup: func(n int) *pgproto3.ErrorResponse { return answer(test.start, n) },
				OnStatement: func(c *standin.Conn, sql string) (reply standin.Reply) {
					if sql != "begin" || c.N > len(test.begin) {
						return reply
					}
					if test.begin[c.N-1] == drop {
						return standin.Reply{Drop: true}
					}
					return standin.Reply{Error: answer(test.begin, c.N)}
				},
			})
			db := on(t, pooler.URL(), nil)
			if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("%v, want %v", err, test.err)
			}
			if n := int(db.Snapshot().Dials); n != test.dials { // the pooler sees those of pgx's cancels, too
				t.Errorf("%d dials, want %d", n, test.dials)
			}
		})
	}
}

// TestDrain has a pooler refuse everybody while it stops, for a second under load: no
// session fails.
func TestDrain(t *testing.T) {
	t.Parallel()
	var draining atomic.Bool
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, OnStartup: func(int) *pgproto3.ErrorResponse {
		if draining.Load() {
			return standin.Fatal("57P01", "terminating connection due to administrator command")
		}
		return nil
	}})
	db := on(t, pooler.URL(), nil)
	time.AfterFunc(100*time.Millisecond, func() { draining.Store(true) })
	time.AfterFunc(1100*time.Millisecond, func() { draining.Store(false) })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for started := time.Now(); time.Since(started) < 1300*time.Millisecond; time.Sleep(10 * time.Millisecond) {
				if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if db.Snapshot().OpenRetries == 0 {
		t.Error("nobody was refused: this proves nothing")
	}
}

// TestOpenedOnce has BEGIN answered at about ConnectTimeout: a session is open or it is
// not, to all who count or use it.
func TestOpenedOnce(t *testing.T) {
	t.Parallel()
	const timeout = 50 * time.Millisecond
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (reply standin.Reply) {
		if sql == "begin" {
			reply.Delay = timeout - 15*time.Millisecond + rand.N(20*time.Millisecond)
		}
		return reply
	}})
	db := on(t, pooler.URL(), func(c *config) { c.MaxSessions, c.ConnectTimeout = 64, timeout })
	var used atomic.Uint64
	var all sync.WaitGroup
	for range 48 {
		all.Go(func() {
			for range 20 {
				if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); err == nil {
					used.Add(1)
				} else if !errors.Is(err, nopool.ErrUnavailable) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	must(t, db.Close(context.Background()))
	if now := db.Snapshot(); now.Opened != now.Closed || now.Committed != used.Load() || now.Opened+now.OpenErrors != 48*20 {
		t.Errorf("%d used, counted %+v", used.Load(), now)
	}
}

// TestOpeningAtOnce wants logins not to wait for each other where none proves a password.
func TestOpeningAtOnce(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{CheckOut: 200 * time.Millisecond})
	db := on(t, pooler.URL(), func(c *config) { c.MaxSessions = 10 })
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	started := time.Now()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne)) })
	}
	if all.Wait(); time.Since(started) > time.Second {
		t.Errorf("10 took %v, want about 200 ms", time.Since(started))
	}
}

// TestAnybodysText has a statement fail with a text that can be a user's: it is no word of the
// pooler's about logins.
func TestAnybodysText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"EAUTHQUERY", "(ECIRCUITBREAKER) too many authentication failures", "no such user", "terminating connection"} {
		db := on(t, standin.Start(t, standin.Options{Auth: standin.SCRAM, OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
			if sql == "fail" {
				r.Error = standin.Error("P0001", text)
			}
			return r
		}}).URL(), nil)
		for range 4 {
			_ = db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				_, err := s.Exec(ctx, "fail")
				return err
			})
		}
		if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); err != nil {
			t.Errorf("after %q: %v", text, err)
		}
	}
}

// TestLeftWhileOpening has requests leave while the pooler is still at work for them, as
// Supavisor is for up to 15 s: it counts them until then, and so must we.
func TestLeftWhileOpening(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		pooler := standin.Start(t, standin.Options{TLS: encrypted, Auth: standin.SCRAM, MaxClients: 4, CheckOut: 2 * time.Second})
		db := on(t, pooler.URL(), func(c *config) { c.ConnectTimeout = time.Minute })
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				ctx := t.Context()
				if i < 4 {
					early, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
					defer cancel()
					ctx = early
				} else {
					time.Sleep(100 * time.Millisecond)
				}
				started := time.Now()
				err := db.Run(ctx, nopool.TxOptions{}, selectOne)
				if left := i < 4; left && (!errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 1800*time.Millisecond) || !left && err != nil {
					t.Errorf("session %d: %v after %v", i, err, time.Since(started))
				}
			})
		}
		all.Wait()
		must(t, db.Close(context.Background()))
		if now := pooler.Stats(); now.Rejected > 0 || now.Open > 0 {
			t.Errorf("%+v", now)
		}
		for _, conn := range pooler.Conns() {
			if conn.End != standin.Terminated {
				t.Errorf("connection %d: %q", conn.N, conn.End)
			}
		}
	}
}

// TestClosedWhileOpening wants the end of a DB not to wait for openings.
func TestClosedWhileOpening(t *testing.T) {
	t.Parallel()
	db := on(t, standin.Start(t, standin.Options{CheckOut: time.Minute}).URL(), func(c *config) { c.ConnectTimeout = time.Minute })
	ended := make(chan error)
	for _, leaves := range []bool{true, false} {
		go func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if leaves {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
			ended <- db.Run(ctx, nopool.TxOptions{}, selectOne)
		}()
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	must(t, db.Close(ctx))
	if err := <-ended; !errors.Is(err, nopool.ErrClosed) {
		t.Errorf("who stayed got %v, want ErrClosed", err)
	}
}
