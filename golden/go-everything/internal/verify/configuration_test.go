package verify

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/config"
	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

var configurationParts = []part{
	{"NP12", "source", weakExamples},
	{"NP12", "weak settings are refused", weakRefused},
	{"NP12", "a server without TLS is refused", withoutTLS},
	{"NP12", "the certificate is verified", verifiedCertificate},
	{"NP12", "the password goes to nobody unproven", provenFirst},
	{"NP12", "a real server's TLS, with its channel bound", realTLS},
	{"NP13 NP16", "in force, Postgres", func(t *T) { inForce(t, false) }},
	{"NP13", "in force, through PgBouncer", func(t *T) { inForce(t, true) }},
	{"NP13 NP21", "each bound of ours ends what exceeds it", clientBounds},
	{"NP13", "each is set and can be set", timeoutSettings},
}

// load reads an environment that has these settings, as NAME=value.
func load(settings ...string) (config.Config, error) {
	return config.Load(append([]string{"DATABASE_URL=postgres://u:p@db.example.com/d?sslmode=require"}, settings...))
}

// weakRefused goes through every sslmode, for hosts near and far.
func weakRefused(t *T) {
	for mode, strong := range map[string]bool{
		"disable": false, "allow": false, "prefer": false, "": false, "require": true, "verify-ca": true, "verify-full": true,
	} {
		for host, near := range map[string]bool{"127.0.0.1": true, "localhost": true, "10.0.0.1": false, "db.example.com": false} {
			for _, local := range []bool{false, true} {
				_, err := connect.Parse("postgres://u:p@"+host+"/d?sslmode="+mode, connect.Options{AllowPlaintext: local})
				if want := strong || near && local; (err == nil) != want {
					t.Errorf("sslmode %q, host %s, local %v: accepted %v, want %v", mode, host, local, err == nil, want)
				}
			}
		}
	}
	for _, env := range []string{"", "production", "staging"} {
		_, err := load("APP_ENV="+env, "DATABASE_URL=postgres://u:p@127.0.0.1/d?sslmode=disable")
		t.failIf(err == nil, "APP_ENV=%q: plaintext was accepted", env)
	}
}

// weakExamples looks at what is deployed as it stands, or copied: the settings and the compose files in the module's own
// folder. A host without a dot is in a network of one's own, where nobody signs certificates.
func weakExamples(t *T) {
	address, mode := re(`postgres(ql)?://[^@\s]*@([^:/\s]+)[^'"\s]*|\bhost=(\S+)[^'"\n]*`), re(`sslmode=([\w-]*)`)
	for _, pattern := range []string{".env.example", "*compose*.y*ml"} {
		files, err := filepath.Glob(filepath.Join(moduleDir(), pattern))
		t.need(err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			t.need(err)
			for _, url := range address.FindAllStringSubmatch(string(text), -1) {
				host, asked := cmp.Or(url[2], url[3]), append(mode.FindStringSubmatch(url[0]), "", "")[1]
				strong := asked == "verify-full" || !strings.Contains(host, ".") && slices.Contains([]string{"require", "verify-ca"}, asked)
				t.failIf(!strong, "%s: sslmode %q for host %s", filepath.Base(file), asked, host)
			}
			weak := re(`(?m)PGSSLMODE\W+(disable|allow|prefer)|\bssl=off|HOST_AUTH_METHOD\W+trust|^APP_ENV=local|^DB_ALLOW_PLAIN_AUTH=true`).FindString(string(text))
			t.failIf(weak != "", "%s: %s", filepath.Base(file), weak)
		}
	}
}

// withoutTLS wants nothing to be sent in the clear when a server has refused TLS.
func withoutTLS(t *T) {
	plain := standin.Start(t, standin.Options{Auth: standin.Cleartext})
	for _, mode := range []string{"require", "verify-full"} {
		t.wantErr(nopool.ErrConfiguration, on(t, withMode(plain.URL(), mode)).run("select 1"), "sslmode %s", mode)
	}
	t.failIf(len(plain.Conns()) > 0, "%d clients went on without TLS", len(plain.Conns()))
}

// withMode returns a URL with another sslmode; require knows no certificate.
func withMode(databaseURL, mode string) string {
	u, _ := url.Parse(databaseURL)
	q := u.Query()
	q.Set("sslmode", mode)
	if mode == "require" {
		q.Del("sslrootcert")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// verifiedCertificate wants verify-full to accept the server's own authority and no other, and no other name.
func verifiedCertificate(t *T) {
	pooler, other := standin.Start(t, standin.Options{TLS: true}), standin.Start(t, standin.Options{TLS: true})
	t.wantErr(nil, on(t, pooler.URL()).run("select 1"), "the right certificate was refused")
	address, _, _ := strings.Cut(other.URL(), "?")
	_, certificate, _ := strings.Cut(pooler.URL(), "?")
	t.wantErr(nopool.ErrConfiguration, on(t, address+"?"+certificate).run("select 1"), "a certificate of another authority was accepted, or is not an error of the configuration")
	t.failIf(len(other.Conns()) > 0, "a start-up message was sent to a server with the wrong certificate")
}

// provenFirst wants no cleartext password for a server without a verified certificate, unless the owner says so.
func provenFirst(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.Cleartext})
	greedy := withMode(pooler.URL(), "require")
	plain := func(allowed bool) func(*options) { return func(o *options) { o.AllowPlainAuth = allowed } }
	t.wantErr(nopool.ErrConfiguration, on(t, greedy, plain(false)).run("select 1"), "a server that asks for the password")
	p := start(t, greedy, nil)
	if code := p.wait(); code == 0 || !strings.Contains(p.said.String(), "certificate is not verified") {
		t.Errorf("it ended with %d, and should have warned of the certificate: %s", code, p.said.Tail())
	}
	t.failIf(pooler.Stats().Passwords > 0, "the password was handed out")
	t.wantErr(nil, on(t, greedy, plain(true)).run("select 1"), "refused although allowed")
	scram := withMode(standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM}).URL(), "require")
	t.wantErr(nil, on(t, scram, plain(false)).run("select 1"), "SCRAM without a verified certificate")
}

// realTLS asks a real server, which offers to bind the login to its TLS channel. Nobody is told when that is left out,
// unless the URL insists on it.
func realTLS(t *T) {
	s := on(t, pgtest.Server(t).URL("postgres")+"&channel_binding=require")
	var encrypted bool
	err := s.session(func(ctx context.Context, session *nopool.Session) error {
		return session.QueryRow(ctx, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&encrypted)
	})
	t.failIf(err != nil || !encrypted, "encrypted: %v, %v", encrypted, err)
	s.wantNoneLeft()
}

// inForce asks the server what it runs, for each kind of transaction that can be asked for, in one whose first use cannot
// travel with BEGIN (PUT) as in others: read only or not, the isolation level, and the bounds that the server enforces.
func inForce(t *T, bouncer bool) {
	s := real(t, func(o *options) {
		o.StatementTimeout, o.LockTimeout, o.IdleInTransactionTimeout = 11111*time.Millisecond, 2222*time.Millisecond, 13333*time.Millisecond
		o.bouncer = bouncer
	})
	const settings = "select string_agg(setting, ' ' order by name desc) from pg_settings where name in ('transaction_read_only', " +
		"'transaction_isolation', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')"
	show := func(w http.ResponseWriter, r *http.Request, session *nopool.Session) (err error) {
		if r.Method == http.MethodPut {
			_, err = session.Exec(r.Context(), "select 1; select 2")
		}
		var got string
		err = errors.Join(err, session.QueryRow(r.Context(), settings).Scan(&got))
		w.Header().Set("In-Force", got) // which HEAD gets too
		return err
	}
	s.handle("/", show)
	s.handle("/other", show, nopool.TxOptions{Isolation: pgx.Serializable})
	for request, want := range map[string]string{
		"GET /": "on read committed", "HEAD /": "on read committed", "POST /": "off read committed", "PUT /": "off read committed",
		"DELETE /": "off read committed", "GET /other": "off serializable", "POST /other": "off serializable",
	} {
		method, path, _ := strings.Cut(request, " ")
		got, want := s.want(http.StatusOK, method, path).header.Get("In-Force"), want+" 11111 2222 13333"
		t.failIf(got != want, "%s: %s, want %s", request, got, want)
	}
	// Settings end with their transaction: the next client of a pooler's backend must not inherit them.
	var left string
	err := s.session(func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "commit; begin")
		return errors.Join(err, session.QueryRow(ctx, settings).Scan(&left))
	})
	t.failIf(!strings.HasSuffix(left, " 0 0 0"), "after a commit the timeouts are still in force: %s", left) // a new database has none
	t.wantErr(nopool.ErrNoTransaction, err, "another transaction than the session's is committed")
	s.wantNoneLeft()
}

// clientBounds exceeds each bound that this process enforces, and wants the end not before it, and not long after.
func clientBounds(t *T) {
	const bound = 300 * time.Millisecond
	near := func(what string, want error, f func() error) {
		t.Helper()
		began := time.Now()
		err := f()
		if took := time.Since(began); !errors.Is(err, want) || took < bound || took > bound+6*time.Second {
			t.Errorf("%s: %v after %v, the bound is %v", what, err, took, bound)
		}
	}
	within := func(o *options) { o.ConnectTimeout, o.requestTimeout = bound, bound }
	near("connect", nopool.ErrUnavailable, func() error { return on(t, silent(t).URL(), within).run("select 1") })
	// PgBouncer admits a client, and lets its first statement wait.
	unbegun := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Hang: strings.HasPrefix(strings.ToLower(sql), "begin")}
	}})
	near("connect until BEGIN", nopool.ErrUnavailable, func() error { return on(t, unbegun.URL(), within).run("select 1") })

	hung := standin.Start(t, standin.Options{OnStatement: asPostgres}) // it does not hear of a cancel, either
	slow := on(t, hung.URL(), func(o *options) { o.StatementTimeout = bound })
	near("statement", nopool.ErrUnavailable, func() error { return slow.run("select 1", "select pg_sleep(20)") })
	full := on(t, hung.URL(), func(o *options) { o.MaxSessions, o.SessionWait = 1, bound })
	full.holding(func() { near("session wait", nopool.ErrBusy, func() error { return full.run("select 1") }) })
	slow = on(t, hung.URL(), func(o *options) { o.requestTimeout = bound })
	slow.handle("GET /", query("select pg_sleep(20)"))
	near("request", nil, func() error { return slow.want(http.StatusGatewayTimeout, "GET", "/").err })

	slow = on(t, hung.URL())
	go func() { _ = slow.run("select pg_sleep(20)") }()
	pgtest.Within(soon, func() bool { return slow.db.Snapshot().Opened == 1 })
	near("shutdown", nil, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		return slow.db.Close(ctx)
	})
	slow.wantNoneLeft()
}

// timeoutSettings wants each bound to have a default and a setting, and none to be switched off by a zero.
func timeoutSettings(t *T) {
	names := strings.Fields("DB_CONNECT_TIMEOUT DB_SESSION_WAIT DB_STATEMENT_TIMEOUT DB_LOCK_TIMEOUT DB_IDLE_IN_TRANSACTION_TIMEOUT " +
		"DB_STARTUP_TIMEOUT REQUEST_TIMEOUT SHUTDOWN_TIMEOUT")
	bounds := func(settings ...string) []time.Duration {
		c, err := load(settings...)
		t.failIf(err != nil, "%v: %v", settings, err)
		return []time.Duration{c.DB.ConnectTimeout, c.DB.SessionWait, c.DB.StatementTimeout, c.DB.LockTimeout,
			c.DB.IdleInTransactionTimeout, c.StartupTimeout, c.RequestTimeout, c.ShutdownTimeout}
	}
	for i, name := range names {
		want := bounds()
		t.failIf(want[i] <= 0, "%s has no default", name)
		want[i] += 7 * time.Second // what REQUEST_TIMEOUT contains stays within it
		got := bounds(name + "=" + want[i].String())
		t.failIf(!slices.Equal(got, want), "%s is %v: in force are %v, want %v", name, want[i], got, want)
		_, err := load(name + "=0")
		t.failIf(err == nil || !strings.Contains(err.Error(), name), "%s=0 switches the bound off: %v", name, err)
	}
}
