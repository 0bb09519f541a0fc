package verify

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// furtherParts are the rules about a transaction and its response.
var furtherParts = []part{
	{"NP16", "what is sent, stand-in", whatIsSent},
	{"NP16", "what is in force, Postgres", kindInForce},
	{"NP19", "a COMMIT that fails, Postgres", failedCommit},
	{"NP19", "a COMMIT that is lost", lostCommit},
	{"NP28", "the commit point of a stream", streaming},
	{"NP28", "a failure after it", failsLater},
}

// whatIsSent wants one flight of BEGIN, timeouts and statement, no prepared
// statement, no start-up parameter that poolers refuse, and nothing at all
// before the first use.
func whatIsSent(t *T) {
	pooler := standin.Start(t, standin.Options{})
	b := on(t, pooler.URL())
	used := make(chan int, 1)
	b.handle("GET /", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		time.Sleep(50 * time.Millisecond)
		used <- pooler.Stats().Dials
		for range 2 {
			if _, err := s.Exec(r.Context(), "select $1::text", "x"); err != nil {
				return err
			}
		}
		return nil
	})
	b.want(200, "GET", "/")
	b.wantNoneLeft()
	if n := <-used; n != 0 {
		t.Errorf("%d connections before the first use", n)
	}
	if len(pooler.Conns()) != 1 {
		t.Fatalf("%d connections, want one that has ended", len(pooler.Conns()))
	}
	conn := pooler.Conns()[0]
	got := strings.ToLower(strings.Join(conn.Statements, ";"))
	if !strings.HasPrefix(got, "begin") || !strings.HasSuffix(got, ";commit") || !strings.Contains(strings.Split(got, ";")[0], "read only") {
		t.Errorf("statements of a GET: %q", got)
	}
	if n := count(conn.Statements, "select $1"); n != 2 || conn.Bursts > 5 {
		t.Errorf("2 statements were sent %d times, in %d bursts", n, conn.Bursts)
	}
	for name := range conn.Parameters {
		if name != "user" && name != "database" && name != "application_name" {
			t.Errorf("start-up parameter %s", name)
		}
	}
}

// kindInForce asks the server what it runs, for each kind that can be asked for.
func kindInForce(t *T) {
	b := real(t)
	show := func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		var readOnly, isolation string
		err := s.QueryRow(r.Context(), "select current_setting('transaction_read_only'), current_setting('transaction_isolation')").
			Scan(&readOnly, &isolation)
		if err == nil {
			w.Header().Set("Kind", readOnly+", "+isolation) // which HEAD gets too
		}
		return err
	}
	b.handle("/", show)
	b.handle("/other", show, nopool.TxOptions{Isolation: pgx.Serializable})
	for request, want := range map[string]string{
		"GET /": "on, read committed", "HEAD /": "on, read committed", "POST /": "off, read committed", "PUT /": "off, read committed", "DELETE /": "off, read committed",
		"GET /other": "off, serializable", "POST /other": "off, serializable",
	} {
		method, path, _ := strings.Cut(request, " ")
		if a := b.want(200, method, path); a.header.Get("Kind") != want {
			t.Errorf("%s: %s, want %s", request, a.header.Get("Kind"), want)
		}
	}
	// Settings end with their transaction: the next client of a pooler's
	// backend must not inherit them.
	err := b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		var left string
		if _, err := s.Exec(ctx, "commit; begin"); err != nil {
			return err
		}
		err := s.QueryRow(ctx, "select current_setting('statement_timeout') || current_setting('lock_timeout')").Scan(&left)
		if left != "00" { // what a new database has
			t.Errorf("the timeouts outlive the transaction: %s", left)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	b.wantNoneLeft()
}

// failedCommit lets a constraint fail at COMMIT, which the handler cannot see.
func failedCommit(t *T) {
	b := real(t)
	b.exec("create table item (id int unique deferrable initially deferred)")
	b.handle("POST /", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(strings.Repeat("made", 25_000)))
		_, err := s.Exec(r.Context(), "insert into item values (1)")
		return err
	})
	b.handle("POST /swallowed", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, _ = s.Exec(r.Context(), "insert into item values (2)")
		_, _ = s.Exec(r.Context(), "select 1/0")
		w.WriteHeader(http.StatusCreated)
		return nil
	})
	b.want(http.StatusCreated, "POST", "/")
	if a := b.want(http.StatusConflict, "POST", "/"); strings.Contains(a.body, "made") {
		t.Errorf("the response to a failed commit holds the success: %s", a.body)
	}
	b.want(http.StatusInternalServerError, "POST", "/swallowed")
	b.wantRows(1, "item")
	b.wantNoneLeft()
}

// lostCommit drops the connection on COMMIT: nobody can tell, so the client is
// told just that, once, and nothing is tried again.
func lostCommit(t *T) {
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Drop: strings.EqualFold(sql, "commit")}
	}})
	b := on(t, pooler.URL())
	b.handle("POST /", query("insert into t"))
	a := b.want(http.StatusInternalServerError, "POST", "/")
	if code, _ := a.problem["code"].(string); code == "" || code == "internal_error" {
		t.Errorf("an unknown outcome has no code of its own: %s", a.body)
	}
	b.wantNoneLeft()
	if n := len(pooler.Conns()); n != 1 || b.db.Snapshot().CommitUnknown != 1 {
		t.Errorf("%d connections, %d unknown outcomes counted", n, b.db.Snapshot().CommitUnknown)
	}
	if !strings.Contains(b.log.String(), "outcome unknown") {
		t.Errorf("the log does not say that the outcome is unknown")
	}
}

// streaming reads the first bytes of responses that are not held back, and
// wants their session to be over by then.
func streaming(t *T) {
	pooler := standin.Start(t, standin.Options{})
	b := on(t, pooler.URL())
	after := make(chan error, 1)
	leave := map[string]func(w http.ResponseWriter){
		"flush": func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"full":  func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 8<<20)) },
		"hijack": func(w http.ResponseWriter) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"))
				_ = conn.Close()
			}
		},
	}
	for name, f := range leave {
		b.handle("POST /"+name, func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			if _, err := s.Exec(r.Context(), "insert into t"); err != nil {
				return err
			}
			f(w)
			_, err := s.Exec(r.Context(), "select 1")
			after <- err
			return nil
		})
		if a := b.do(context.Background(), "POST", "/"+name); a.err != nil || a.status != 200 {
			t.Errorf("%s: %d %v", name, a.status, a.err)
		}
		if err := <-after; err == nil || !strings.Contains(err.Error(), nopool.ErrSessionDone.Error()) {
			t.Errorf("%s: a query after the commit point: %v", name, err)
		}
		b.wantNoneLeft()
		conns := pooler.Conns()
		if last := conns[len(conns)-1].Statements; !strings.EqualFold(last[len(last)-1], "commit") {
			t.Errorf("%s: statements %q", name, last)
		}
	}
	// A commit that fails at that point must not look like a success.
	broken := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if strings.EqualFold(sql, "commit") {
			r.Error = standin.Error("40001", "could not serialize")
		}
		return r
	}})
	b = on(t, broken.URL())
	b.handle("POST /", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		if _, err := s.Exec(r.Context(), "insert into t"); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	b.want(http.StatusServiceUnavailable, "POST", "/")
}

// failsLater wants what fails after the commit point not to look like a success:
// the client sees that the response is cut short.
func failsLater(t *T) {
	b := on(t, standin.Start(t, standin.Options{}).URL())
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("too late") }, "panic": func() error { panic("too late") },
	} {
		b.handle("GET /late-"+name, func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
			return fail()
		})
		if a := b.do(context.Background(), "GET", "/late-"+name); a.status != 200 || a.err == nil {
			t.Errorf("%s after the commit point: the response looks complete: %d %s", name, a.status, a.body)
		}
	}
}
