package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/httpapi"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// service is a service of its own for one part: the owner's engine and HTTP layer on a database or a stand-in, with
// handlers that the part brings along.
type service struct {
	t      *T
	url    string // of the database, through the relay
	behind string // of the same, past the relay; "" on a stand-in, and where a pooler keeps connections
	relay  *pgtest.Relay
	pooler *standin.Server // of onStandin
	admin  *pgx.Conn       // for value, one at a time, and create
	asking sync.Mutex
	db     *nopool.DB
	log    *pgtest.Log
	api    *httpapi.Server
	mux    *http.ServeMux
	http   *httptest.Server
}

// options may be changed before a service is set up.
type options struct {
	nopool.Config
	connect.Options
	requestTimeout time.Duration
	level          slog.Level // of the log; debug unless changed
	bouncer        bool       // go through a PgBouncer
	noRelay        bool       // dial the host of the URL, whatever it is
}

// patient are settings that no check of another rule meets.
func patient() nopool.Config {
	return nopool.Config{
		MaxSessions: 4, MaxWaiting: 1000,
		SessionWait: time.Minute, ConnectTimeout: 20 * time.Second, StatementTimeout: 20 * time.Second,
		LockTimeout: 10 * time.Second, IdleInTransactionTimeout: 20 * time.Second,
	}
}

// anyServer accepts a plain one, which TEST_DATABASE_URL may be.
func anyServer() connect.Options {
	return connect.Options{AppName: "verify", AllowPlaintext: true, AllowPlainAuth: true}
}

// connector returns a Connector for a URL that is acceptable.
func connector(t testing.TB, url string, o connect.Options) *connect.Connector {
	t.Helper()
	c, err := connect.Parse(url, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// real sets up a service on an empty database of a real Postgres, behind a relay that counts. It skips the part where
// there is none.
func real(t *T, change ...func(*options)) *service {
	t.Helper()
	s := &service{t: t, behind: pgtest.Database(t)}
	s.admin = pgtest.Admin(t, s.behind)
	return s.build(s.behind, change)
}

// on sets up a service on a server that the part itself runs.
func on(t *T, url string, change ...func(*options)) *service {
	t.Helper()
	return (&service{t: t}).build(url, change)
}

// onStandin sets up a service on a stand-in of its own.
func onStandin(t *T, pooler standin.Options, change ...func(*options)) *service {
	t.Helper()
	s := &service{t: t, pooler: standin.Start(t, pooler)}
	return s.build(s.pooler.URL(), change)
}

func (s *service) build(url string, change []func(*options)) *service {
	s.t.Helper()
	o := options{Config: patient(), Options: anyServer(), requestTimeout: 30 * time.Second, level: slog.LevelDebug}
	for _, f := range change {
		f(&o)
	}
	if o.bouncer {
		url, s.behind = pgtest.PgBouncer(s.t, url, pgtest.PgBouncerOptions{}), ""
	}
	if s.url, s.relay = url, new(pgtest.Relay); !o.noRelay {
		s.url, s.relay = pgtest.NewRelay(s.t, url)
	}
	s.log = &pgtest.Log{}
	logger := slog.New(httpapi.WithCorrelation(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: o.level}))).
		With("of", "the part") // a logger with attributes of its own keeps the correlation id
	o.Connector, o.Logger = connector(s.t, s.url, o.Options), logger
	var err error
	s.db, err = nopool.Open(o.Config)
	s.t.need(err)
	s.t.Cleanup(func() { _ = s.db.Close(s.t.Context()) }) // which is over: what still runs is ended
	s.api = &httpapi.Server{DB: s.db, Logger: logger, MaxBody: 1 << 16, RequestTimeout: o.requestTimeout}
	s.mux = http.NewServeMux()
	s.serve(s.api.Wrap(s.mux))
	return s
}

// serve lets do ask another handler.
func (s *service) serve(handler http.Handler) {
	s.http = httptest.NewServer(handler)
	s.t.Cleanup(s.http.Close)
}

// handle adds a handler with a session.
func (s *service) handle(pattern string, h httpapi.SessionHandler, options ...nopool.TxOptions) {
	s.mux.Handle(pattern, s.api.InSession(h, options...))
}

// answer is a response, read to its end.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem map[string]any // the body, when it is a problem
	err     error          // of the request, or of reading its end
}

// do sends a request, with headers given as name and value in turn.
func (s *service) do(ctx context.Context, method, path string, headers ...string) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second) // a service that hangs must not take the report with it
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.http.URL+path, nil)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.http.Client().Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer context.AfterFunc(ctx, func() { response.Body.Close() })() // that of a 101 knows no context
	defer response.Body.Close()
	a = answer{status: response.StatusCode, header: response.Header}
	body, err := io.ReadAll(response.Body)
	a.body, a.err = string(body), err
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		_ = json.Unmarshal(body, &a.problem)
	}
	return a
}

// want sends a request and wants a status. An error must come as a problem with the response's correlation id.
func (s *service) want(status int, method, path string, headers ...string) answer {
	s.t.Helper()
	a := s.do(context.Background(), method, path, headers...)
	s.t.failIf(a.err != nil || a.status != status, "%s %s: want %d, got %d %s %v", method, path, status, a.status, a.body, a.err)
	id := a.header.Get("X-Request-ID")
	s.t.failIf(a.status >= 400 && (a.problem["correlation_id"] != id || id == "" || a.problem["status"] != float64(a.status)), "%s %s: want a problem with correlation id %q, got %s", method, path, id, a.body)
	return a
}

// run runs statements in a session of their own, one after the other.
func (s *service) run(statements ...string) error {
	return s.session(func(ctx context.Context, session *nopool.Session) error {
		for _, sql := range statements {
			if _, err := session.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// session runs a function with a session of its own.
func (s *service) session(f func(ctx context.Context, session *nopool.Session) error) error {
	return s.db.Run(context.Background(), nopool.TxOptions{}, f)
}

// holding runs a function while a session of another caller holds its connection.
func (s *service) holding(f func()) {
	s.t.Helper()
	held := s.db.Session(context.Background(), nopool.TxOptions{})
	defer held.Rollback(context.Background())
	_, err := held.Exec(context.Background(), "select 1")
	s.t.failIf(err != nil, "a session to hold: %v", err)
	f()
}

// value returns what a query of one value gives a superuser.
func (s *service) value(sql string) (value string) {
	s.t.Helper()
	s.asking.Lock()
	defer s.asking.Unlock()
	err := s.admin.QueryRow(context.Background(), "select ("+sql+")::text").Scan(&value)
	s.t.failIf(err != nil, "%s: %v", sql, err)
	return value
}

// create makes what the part needs, past the service.
func (s *service) create(sql string) {
	s.t.Helper()
	_, err := s.admin.Exec(context.Background(), sql+"; grant all on all tables in schema public to public")
	s.t.need(err)
}

// wantNoneLeft wants every connection to be gone within seconds.
func (s *service) wantNoneLeft() {
	s.t.Helper()
	problem := s.left()
	s.t.failIf(problem != "", "%s", problem)
}

// left says what is left: as the engine, the network and the server itself count it.
func (s *service) left() (problem string) {
	s.t.Helper()
	pgtest.Within(10*time.Second, func() bool {
		server, network, now := 0, s.relay.Open.Load(), s.db.Snapshot()
		if s.behind != "" {
			server = pgtest.Connections(s.t, s.behind)
		}
		if problem = ""; now.InUse > 0 || network > 0 || server > 0 || now.CloseTimeouts > 0 {
			problem = fmt.Sprintf("left: the engine counts %d, the network %d, the server %d; %d slots were freed before the server had closed",
				now.InUse, network, server, now.CloseTimeouts)
		}
		return problem == ""
	})
	return problem
}

// together runs a function n times at once and waits for all.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}
