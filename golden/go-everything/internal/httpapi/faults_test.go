package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// logBuffer is a log that several requests write to.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// dbConfig is what a test may change.
type dbConfig struct {
	nopool.Config
	connect.Options
}

// serverOn returns a server on the database at url, and its log.
func serverOn(t *testing.T, url string, changes ...func(*dbConfig)) (*Server, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	logger := slog.New(WithCorrelation(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	config := dbConfig{nopool.Config{
		MaxSessions: 4, MaxWaiting: 10, SessionWait: time.Second, ConnectTimeout: 5 * time.Second,
		StatementTimeout: 5 * time.Second, Logger: logger,
	}, connect.Options{AllowPlaintext: true, AllowPlainAuth: true}}
	for _, change := range changes {
		change(&config)
	}
	connector, err := connect.Parse(url, config.Options)
	if err != nil {
		t.Fatal(err)
	}
	config.Connector = connector
	db, err := nopool.Open(config.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return &Server{DB: db, Logger: logger, MaxBody: 1000, RequestTimeout: 10 * time.Second}, log
}

// serveRows serves POST /rows/{id}, one row each, on the database at url.
func serveRows(t *testing.T, url string, change func(*dbConfig)) (*httptest.Server, *Server, *logBuffer) {
	t.Helper()
	server, log := serverOn(t, url, change)
	server.RequestTimeout = 2 * time.Second
	mux := http.NewServeMux()
	mux.Handle("POST /rows/{id}", server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		w.WriteHeader(http.StatusCreated)
		_, err := s.Exec(r.Context(), "insert into t values ("+r.PathValue("id")+")") // in the text, for the stand-in to see
		return err
	}))
	web := httptest.NewServer(server.Wrap(mux))
	t.Cleanup(web.Close)
	return web, server, log
}

// problem is the body of an error.
type problem struct {
	Code, Detail  string
	CorrelationID string `json:"correlation_id"`
}

// post asks for a row and returns the status and the body.
func post(t *testing.T, web *httptest.Server, id string) (int, problem) {
	t.Helper()
	response, err := web.Client().Post(web.URL+"/rows/"+id, "", nil)
	if err != nil {
		t.Error(err)
		return 0, problem{}
	}
	defer response.Body.Close()
	var p problem
	if response.StatusCode >= 400 {
		if err := json.NewDecoder(response.Body).Decode(&p); err != nil {
			t.Errorf("body of a %d: %v", response.StatusCode, err)
		}
	}
	return response.StatusCode, p
}

// fault is one way for a connection to break: at a step of its opening, or at a
// statement.
type fault struct {
	name   string
	step   standin.Step
	fault  standin.Fault
	sql    string // the statement with which reply begins
	reply  standin.Reply
	once   bool // the first connection alone meets it
	status int
	code   string // of the problem
	log    string // a word of the log
	met    atomic.Int64
}

var steps = []standin.Step{standin.Accepted, standin.Encrypting, standin.Starting, standin.Challenged, standin.Proving, standin.Authenticated}

func allFaults() []*fault {
	const down, unknown = "database_unavailable", "commit_unknown"
	serialization := standin.Error("40001", "could not serialize secret")
	duplicate := standin.Error("23505", "duplicate secret")
	restart := standin.Fatal("57P01", "terminating connection due to administrator command")
	queued := standin.Fatal("08P01", "query_wait_timeout")
	faults := []*fault{
		{name: "none", status: 201, log: "committed"},
		{name: "COMMIT refused", sql: "commit", reply: standin.Reply{Error: serialization}, status: 503, code: "concurrent_change", log: "40001"},
		{name: "deferred constraint", sql: "commit", reply: standin.Reply{Error: duplicate}, status: 409, code: "already_exists", log: "23505"},
		{name: "COMMIT lost", sql: "commit", reply: standin.Reply{Drop: true}, status: 500, code: unknown, log: "commit outcome unknown"},
		{name: "COMMIT unanswered", sql: "commit", reply: standin.Reply{Hang: true}, status: 500, code: unknown, log: "commit outcome unknown"},
		{name: "slow COMMIT", sql: "commit", reply: standin.Reply{Delay: 300 * time.Millisecond}, status: 201, log: "committed"},
		{name: "BEGIN unanswered", sql: "begin", reply: standin.Reply{Hang: true}, status: 503, code: down, log: "no answer to BEGIN"},
		{name: "BEGIN lost once", sql: "begin", reply: standin.Reply{Drop: true}, once: true, status: 503, code: down, log: "database is unavailable"},
		{name: "statement lost", sql: "insert", reply: standin.Reply{Drop: true}, status: 503, code: down, log: "database is unavailable"},
		{name: "statement unanswered", sql: "insert", reply: standin.Reply{Hang: true}, status: 504, code: "timeout", log: "deadline"},
		{name: "statement interrupted", sql: "insert", reply: standin.Reply{Error: restart}, status: 503, code: down, log: "57P01"},
		{name: "unique violation", sql: "insert", reply: standin.Reply{Error: duplicate}, status: 409, code: "already_exists", log: "rolled back"},
		{name: "full once, at BEGIN", sql: "begin", reply: standin.Reply{Error: queued}, once: true, status: 201, log: "attempts=2"},
	}
	for _, step := range steps {
		when := " when " + string(step)
		faults = append(faults,
			&fault{name: "hang" + when, step: step, fault: standin.Hang, status: 503, code: down, log: "no answer to BEGIN"},
			&fault{name: "drop" + when, step: step, fault: standin.Drop, status: 503, code: down, log: "database is unavailable"},
			&fault{name: "reset" + when, step: step, fault: standin.Reset, status: 503, code: down, log: "database is unavailable"},
			&fault{name: "reset once" + when, step: step, fault: standin.Reset, once: true, status: 201, log: "attempts=2"},
		)
	}
	return faults
}

// behave returns the options of a pooler where connection n meets the fault that
// of returns.
func behave(of func(n int) *fault) standin.Options {
	return standin.Options{
		TLS: true, Auth: standin.SCRAM,
		OnStep: func(n int, step standin.Step) standin.Fault {
			if f := of(n); step == f.step {
				f.met.Add(1)
				return f.fault
			}
			return nil
		},
		OnStatement: func(c *standin.Conn, sql string) standin.Reply {
			if f := of(c.N); f.sql != "" && strings.HasPrefix(sql, f.sql) {
				f.met.Add(1)
				return f.reply
			}
			return standin.Reply{}
		},
	}
}

// TestFaults breaks a connection at each of its steps, and each of its
// statements, in each way. What is answered must be right, come in time, tell
// nothing of the reason, and leave nothing open.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range allFaults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			pooler := standin.Start(t, behave(func(n int) *fault {
				if f.once && n > 1 {
					return new(fault)
				}
				return f
			}))
			web, server, log := serveRows(t, pooler.URL(), func(c *dbConfig) { c.ConnectTimeout = 4 * time.Second })
			server.RequestTimeout = 8 * time.Second // a busy machine takes seconds for what goes well
			started := time.Now()
			status, p := post(t, web, "1")
			if took := time.Since(started); took > 25*time.Second { // a COMMIT's timeout is 5 s
				t.Errorf("answered after %v", took)
			}
			if status != f.status || p.Code != f.code {
				t.Errorf("%d %s, want %d %s", status, p.Code, f.status, f.code)
			}
			if strings.Contains(p.Detail, "secret") || (p.CorrelationID == "") != (status == 201) {
				t.Errorf("body: %+v", p)
			}
			wantNothingOpen(t, pooler, server.DB)
			if !strings.Contains(log.String(), f.log) {
				t.Errorf("no %q in the log:\n%s", f.log, log)
			}
		})
	}
}

// wantNothingOpen ends the database and looks for what is left of it.
func wantNothingOpen(t *testing.T, pooler *standin.Server, db *nopool.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := db.Close(ctx); err != nil {
		t.Error(err)
	}
	if now := db.Snapshot(); now.InUse != 0 || now.Waiting != 0 || now.Opened != now.Closed {
		t.Errorf("left behind: %+v", now)
	}
	if db.Snapshot().CloseTimeouts > 0 {
		time.Sleep(time.Second) // the pooler has yet to see that we gave one up
	}
	if open := pooler.Stats().Open; open != 0 {
		t.Errorf("%d connections left at the pooler", open)
	}
}
