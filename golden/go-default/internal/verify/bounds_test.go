package verify

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"example.com/demo/internal/config"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// wantSQLState wants an error of the server's with a SQLSTATE.
func wantSQLState(t *T, what, code string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), code) {
		t.Errorf("%s: want SQLSTATE %s, got %v", what, code, err)
	}
}

// serverBounds exceeds each bound that the server enforces.
func serverBounds(t *T) {
	b := real(t, func(o *benchOptions) { o.StatementTimeout, o.LockTimeout = 400*time.Millisecond, 150*time.Millisecond })
	b.exec("create table item (id int primary key)")
	wantSQLState(t, "statement", "57014", b.run("select pg_sleep(5)"))
	err := b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		if _, err := s.Exec(ctx, "lock table item"); err != nil {
			return err
		}
		wantSQLState(t, "lock", "55P03", b.run("lock table item"))
		return nil
	})
	if err != nil {
		t.Errorf("lock: %v", err)
	}
	b.wantNoneLeft()
	b = real(t, func(o *benchOptions) { o.IdleInTransactionTimeout = 500 * time.Millisecond })
	b.exec("create table item (id int primary key)")
	err = b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		if _, err := s.Exec(ctx, "insert into item values (1)"); err != nil {
			t.Errorf("idle in transaction: %v", err)
		}
		time.Sleep(time.Second)
		_, err := s.Exec(ctx, "select 1")
		return err
	})
	if err == nil {
		t.Errorf("idle in transaction: the session went on")
	}
	b.wantRows(0, "item")
	b.wantNoneLeft()
}

// clientBounds exceeds each bound that this process enforces, and wants the
// end near the bound.
func clientBounds(t *T) {
	near := func(what string, bound time.Duration, f func()) {
		t.Helper()
		began := time.Now()
		f()
		if took := time.Since(began); took < bound || took > bound+2*time.Second {
			t.Errorf("%s: ended after %v, the bound is %v", what, took, bound)
		}
	}
	const bound = 300 * time.Millisecond
	hung := standin.Start(t, standin.Options{OnStatement: sleepy})

	unanswered := on(t, silent(t), func(o *benchOptions) { o.ConnectTimeout = bound })
	near("connect", bound, func() {
		if err := unanswered.run("select 1"); !errors.Is(err, nopool.ErrUnavailable) {
			t.Errorf("connect: want ErrUnavailable, got %v", err)
		}
	})
	// PgBouncer admits a client, and lets its first statement wait.
	beginHangs := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Hang: strings.HasPrefix(strings.ToLower(sql), "begin")}
	}})
	unbegun := on(t, beginHangs.URL(), func(o *benchOptions) { o.ConnectTimeout = bound })
	near("connect until BEGIN", bound, func() {
		if err := unbegun.run("select 1"); !errors.Is(err, nopool.ErrUnavailable) {
			t.Errorf("connect until BEGIN: want ErrUnavailable, got %v", err)
		}
	})
	full := on(t, hung.URL(), func(o *benchOptions) { o.MaxSessions, o.SessionWait = 1, bound })
	_ = full.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		near("session wait", bound, func() {
			if err := full.run("select 1"); !errors.Is(err, nopool.ErrBusy) {
				t.Errorf("session wait: want ErrBusy, got %v", err)
			}
		})
		return err
	})
	slow := on(t, hung.URL(), func(o *benchOptions) { o.requestTimeout = bound })
	slow.handle("GET /", sleep)
	near("request", bound, func() { slow.want(http.StatusGatewayTimeout, "GET", "/") })

	slow = on(t, hung.URL())
	go func() { _ = slow.run("select pg_sleep(20)") }()
	within(5*time.Second, func() bool { return slow.db.Snapshot().Opened == 1 })
	near("shutdown", bound, func() {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		if err := slow.db.Close(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
}

// timeoutSettings wants each bound to have a default and a setting, and none
// to be switched off by a zero.
func timeoutSettings(t *T) {
	settings := map[string]func(config.Config) time.Duration{
		"DB_CONNECT_TIMEOUT":             func(c config.Config) time.Duration { return c.DB.ConnectTimeout },
		"DB_SESSION_WAIT":                func(c config.Config) time.Duration { return c.DB.SessionWait },
		"DB_STATEMENT_TIMEOUT":           func(c config.Config) time.Duration { return c.DB.StatementTimeout },
		"DB_LOCK_TIMEOUT":                func(c config.Config) time.Duration { return c.DB.LockTimeout },
		"DB_IDLE_IN_TRANSACTION_TIMEOUT": func(c config.Config) time.Duration { return c.DB.IdleInTransactionTimeout },
		"REQUEST_TIMEOUT":                func(c config.Config) time.Duration { return c.RequestTimeout },
		"SHUTDOWN_TIMEOUT":               func(c config.Config) time.Duration { return c.ShutdownTimeout },
		"DB_STARTUP_TIMEOUT":             func(c config.Config) time.Duration { return c.StartupTimeout },
	}
	load := func(more ...string) (config.Config, error) {
		return config.Load(func(name string) string {
			for i := 0; i+1 < len(more); i += 2 {
				if more[i] == name {
					return more[i+1]
				}
			}
			return map[string]string{"DATABASE_URL": "postgres://u:p@db.example.com/d?sslmode=require"}[name]
		})
	}
	plain, err := load()
	if err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	for name, value := range settings {
		if value(plain) <= 0 {
			t.Errorf("%s has no default", name)
		}
		changed := "3s"
		if name == "REQUEST_TIMEOUT" {
			changed = "77s" // it must be more than those it contains
		}
		want, _ := time.ParseDuration(changed)
		if c, err := load(name, changed); err != nil || value(c) != want {
			t.Errorf("%s=%s: %v, %v", name, changed, value(c), err)
		}
		if _, err := load(name, "0"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=0 switches the bound off: %v", name, err)
		}
	}
}
