package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/httpapi"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))) // most parts wait most of the time
	}
	code := pgtest.Main(m)
	cleanUp()
	if err := printReport(); err != nil {
		fmt.Fprintln(os.Stderr, "write the report:", err)
		code = 1
	}
	os.Exit(code)
}

// bench is a service of its own for one part: the owner's engine and HTTP
// layer, with handlers that the part brings along, on a database or a stand-in.
type bench struct {
	t      *T
	url    string // of the database, through the relay
	behind string // of the same, past the relay; "" on a stand-in, and where a pooler keeps connections
	relay  *relay
	admin  *pgx.Conn
	db     *nopool.DB
	log    *logBuffer
	api    *httpapi.Server
	mux    *http.ServeMux
	http   *httptest.Server

	failing chan struct{} // a failing handler has written, and goes on to fail
}

// benchOptions may be changed before a bench is set up.
type benchOptions struct {
	nopool.Config
	connect.Options
	requestTimeout time.Duration
	level          slog.Level               // of the log; debug unless changed
	bouncer        *pgtest.PgBouncerOptions // go through a PgBouncer with these limits
}

// patient are settings that no check of another rule meets.
func patient() nopool.Config {
	return nopool.Config{
		MaxSessions: 4, MaxWaiting: 1000,
		SessionWait: 30 * time.Second, ConnectTimeout: 20 * time.Second, StatementTimeout: 20 * time.Second,
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

// real sets up a bench on an empty database of a real Postgres, behind a relay
// that counts. It skips the part where there is none.
func real(t *T, change ...func(*benchOptions)) *bench {
	t.Helper()
	b := &bench{t: t, behind: pgtest.Database(t), failing: make(chan struct{}, 1)}
	b.admin = pgtest.Admin(t, b.behind)
	return b.build(b.behind, change)
}

// on sets up a bench on a server that the part itself runs, such as a stand-in.
func on(t *T, url string, change ...func(*benchOptions)) *bench {
	t.Helper()
	return (&bench{t: t, failing: make(chan struct{}, 1)}).build(url, change)
}

func (b *bench) build(url string, change []func(*benchOptions)) *bench {
	b.t.Helper()
	o := benchOptions{Config: patient(), Options: anyServer(), requestTimeout: 30 * time.Second, level: slog.LevelDebug}
	for _, f := range change {
		f(&o)
	}
	if o.bouncer != nil {
		url, b.behind = pgtest.PgBouncer(b.t, url, *o.bouncer), ""
	}
	b.url, b.relay = newRelay(b.t, url)
	b.log = &logBuffer{}
	logger := slog.New(httpapi.WithCorrelation(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: o.level}))).
		With("of", "the bench") // a logger with attributes of its own keeps the correlation id
	o.Connector, o.Logger = connector(b.t, b.url, o.Options), logger
	var err error
	if b.db, err = nopool.Open(o.Config); err != nil {
		b.t.Fatalf("open: %v", err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = b.db.Close(ctx)
	})
	b.api = httpapi.New(httpapi.Options{DB: b.db, Logger: logger, MaxBody: 1 << 16, RequestTimeout: o.requestTimeout})
	b.mux = http.NewServeMux()
	b.http = httptest.NewServer(b.api.Wrap(b.mux))
	b.t.Cleanup(b.http.Close)
	return b
}

// handle adds a handler with a session.
func (b *bench) handle(pattern string, h httpapi.SessionHandler, options ...nopool.TxOptions) {
	b.mux.Handle(pattern, b.api.InSession(h, options...))
}

// answer is a response, read to its end.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem map[string]any // the body, when it is a problem
	err     error          // of the request; then the rest is empty
	first   time.Duration  // until its header was there
	took    time.Duration  // until its end
}

// do sends a request, with headers given as name and value in turn.
func (b *bench) do(ctx context.Context, method, path string, headers ...string) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second) // a service that hangs must not take the report with it
	defer cancel()
	started := time.Now()
	defer func() { a.took = time.Since(started) }()
	request, err := http.NewRequestWithContext(ctx, method, b.http.URL+path, nil)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := b.http.Client().Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	first := time.Since(started)
	body, err := io.ReadAll(response.Body)
	a = answer{first: first, status: response.StatusCode, header: response.Header, body: string(body), err: err}
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		_ = json.Unmarshal(body, &a.problem)
	}
	return a
}

// want sends a request and wants a status. An error must come as a problem
// with the response's correlation id.
func (b *bench) want(status int, method, path string, headers ...string) answer {
	b.t.Helper()
	a := b.do(context.Background(), method, path, headers...)
	if a.err != nil || a.status != status {
		b.t.Errorf("%s %s: want %d, got %d %s %v", method, path, status, a.status, a.body, a.err)
	}
	id := a.header.Get("X-Request-ID")
	if a.status >= 400 && (a.problem["correlation_id"] != id || id == "" || a.problem["status"] != float64(a.status)) {
		b.t.Errorf("%s %s: want a problem with correlation id %q, got %s", method, path, id, a.body)
	}
	return a
}

// exec runs a statement in a session of its own.
func (b *bench) exec(sql string) {
	b.t.Helper()
	if err := b.run(sql); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

func (b *bench) run(sql string) error {
	return b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, sql)
		return err
	})
}

// wantRows wants a table to have so many rows, as another connection sees it.
func (b *bench) wantRows(n int, table string) {
	b.t.Helper()
	var got int
	if err := b.admin.QueryRow(context.Background(), "select count(*) from "+table).Scan(&got); err != nil {
		b.t.Fatalf("count %s: %v", table, err)
	}
	if got != n {
		b.t.Errorf("%s has %d rows, want %d", table, got, n)
	}
}

// wantNoneLeft wants every connection to be gone within seconds: as the
// engine, the network and the server itself count them.
func (b *bench) wantNoneLeft() {
	b.t.Helper()
	left := func() (int, int32, int) {
		server := 0
		if b.behind != "" {
			server = pgtest.Connections(b.t, b.behind)
		}
		return b.db.Snapshot().InUse, b.relay.open.Load(), server
	}
	gone := within(10*time.Second, func() bool { inUse, open, server := left(); return inUse == 0 && open == 0 && server == 0 })
	if !gone {
		inUse, open, server := left()
		b.t.Errorf("connections left: the engine counts %d, the network %d, the server %d", inUse, open, server)
	}
	if n := b.db.Snapshot().CloseTimeouts; n > 0 {
		b.t.Errorf("%d slots were freed before the server had closed", n)
	}
}

// within reports whether something comes true in time.
func within(limit time.Duration, come func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if come() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// logBuffer keeps JSON log lines.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// records returns all lines, as maps.
func (l *logBuffer) records() (all []map[string]any) {
	for line := range strings.Lines(l.String()) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil {
			all = append(all, record)
		}
	}
	return all
}

// lines returns the records with a message.
func (l *logBuffer) lines(message string) (found []map[string]any) {
	for _, record := range l.records() {
		if record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

// together runs a function n times at once and waits for all.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}
