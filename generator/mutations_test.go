package generator_test

// pooledPackage is what somebody adds who has never heard of the rest.
const pooledPackage = `package reports

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

func Connect(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	return pool.Ping(ctx)
}
`

// takeConnection lets a session have another's connection, which is past its start.
const takeConnection = `func (c *connection) take(before *connection) {
	c.pgx, c.flight = before.pgx, before.flight
	c.flight.sent, c.flight.over, c.flight.err = false, false, nil
}

// hangUp waits`

// Files that many mutations touch.
const (
	session    = "internal/httpapi/session.go"
	middleware = "internal/httpapi/middleware.go"
	problems   = "internal/httpapi/problem.go"
	health     = "internal/httpapi/health.go"
	handlers   = "internal/httpapi/notes.go"
	engine     = "internal/nopool/nopool.go"
	sessions   = "internal/nopool/session.go"
	slotsFile  = "internal/nopool/slots.go"
	openFile   = "internal/nopool/opening.go"
	flightFile = "internal/nopool/flight.go"
	connection = "internal/nopool/connection.go"
	events     = "internal/nopool/events.go"
	errorsFile = "internal/nopool/errors.go"
	connecting = "internal/connect/url.go"
	dialFile   = "internal/connect/dial.go"
	connector  = "internal/connect/connector.go"
	loginFile  = "internal/connect/login.go"
	breaker    = "internal/connect/breaker.go"
	refusals   = "internal/connect/refusal.go"
	migrations = "internal/migrate/migrate.go"
	settings   = "internal/config/config.go"
	serve      = "cmd/demo/serve.go"
	command    = "cmd/demo/main.go"
	reports    = "internal/reports/reports.go"
)

// mutations are in the order of the rules.
var mutations = []mutation{
	{name: "connections are kept for the next session", fails: "NP01 NP15", edits: []edit{
		{sessions, `	s.conn.hangUp()
`, `	select {
	case kept <- s.conn:
	default:
		s.conn.hangUp()
	}
`},
		{sessions, `// end marks`, `var kept = make(chan *connection, 4)

// end marks`},
		{openFile, `	if refusal = o.connect(ctx, conn, gotSlot.Add(o.db.config.ConnectTimeout)); refusal == nil {
`, `	select {
	case before := <-kept:
		conn.take(before)
	default:
		refusal = o.connect(ctx, conn, gotSlot.Add(o.db.config.ConnectTimeout))
	}
	if refusal == nil {
`},
		{connection, `// hangUp waits`, takeConnection},
	}, also: "NP03 NP04 NP05 NP06 NP07 NP08 NP10 NP11 NP12 NP13 NP16 NP17 NP18 NP19 NP20 NP21 NP22 NP23 NP24 NP25 NP26 NP27 NP28 NP29 NP31"},
	{name: "a connection is handed on when somebody waits, as database/sql does", fails: "NP01 NP15", edits: []edit{
		{sessions, `	s.conn.hangUp()
`, `	if s.db.slots.waiting.Load() > 0 && how.name != aborted.name {
		handedOn.Store(s.db, s.conn)
	} else {
		s.conn.hangUp()
	}
`},
		{sessions, `// end marks`, `var handedOn sync.Map

// end marks`},
		{sessions, "	\"sync/atomic\"\n", "	\"sync\"\n	\"sync/atomic\"\n"},
		{openFile, `	if refusal = o.connect(ctx, conn, gotSlot.Add(o.db.config.ConnectTimeout)); refusal == nil {
`, `	if before, ok := handedOn.LoadAndDelete(o.db); ok {
		conn.take(before.(*connection))
	} else {
		refusal = o.connect(ctx, conn, gotSlot.Add(o.db.config.ConnectTimeout))
	}
	if refusal == nil {
`},
		{connection, `// hangUp waits`, takeConnection},
	}, also: "NP17 NP21 NP22 NP04 NP16 NP23"},

	{name: "migrations may have any number of connections", fails: "NP02", edits: []edit{
		{migrations, "	db.SetMaxOpenConns(1)\n", ""},
	}},
	{name: "migrations keep idle connections", fails: "NP02", edits: []edit{
		{migrations, "db.SetMaxIdleConns(1)", "db.SetMaxIdleConns(4)"},
	}},
	{name: "migrations do not close their connection", fails: "NP02", edits: []edit{
		{migrations, "	defer closeAll()\n", "	_ = closeAll\n"},
	}, also: "NP30"},
	{name: "migrations open a pool of their own", fails: "NP02 NP14", edits: []edit{
		{migrations, "	locker, err := lock.", `	pool, err := pgxpool.New(ctx, config.ConnString())
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil {
		return err
	}
	locker, err := lock.`},
		{migrations, `	"github.com/jackc/pgx/v5/stdlib"
`, `	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
`},
	}, also: "NP30"},

	{name: "a handler connects by itself", fails: "NP03", edits: []edit{
		{handlers, `	draft, err := readNote(r)
	if err != nil {
		return err
	}
	note, err := notes.Create(`, `	draft, err := readNote(r)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(r.Context(), os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer conn.Close(r.Context())
	note, err := notes.Create(`},
		{handlers, `	"example.com/demo/internal/nopool"
`, `	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
`},
		{handlers, `	"net/http"
`, `	"net/http"
	"os"
`},
	}},
	{name: "a goroutine uses the request's session", fails: "NP03", edits: []edit{
		{handlers, `	w.Header().Set("Location"`, `	go func() {
		_, _ = session.Exec(r.Context(), "insert into audit (note) values ($1)", note.ID)
	}()
	w.Header().Set("Location"`},
	}},
	{name: "a goroutine is given the request's session", fails: "NP03", edits: []edit{
		{handlers, `	w.Header().Set("Location"`, `	go audit(r, session)
	w.Header().Set("Location"`},
		{handlers, "// noteID reads", `func audit(r *http.Request, session *nopool.Session) {
	_, _ = session.Exec(r.Context(), "insert into audit default values")
}

// noteID reads`},
	}},
	{name: "a package opens an engine of its own", fails: "NP03", edits: []edit{
		{reports, "", `package reports

import "example.com/demo/internal/nopool"

func Open(to nopool.Connector) (*nopool.DB, error) {
	return nopool.Open(nopool.Config{Connector: to, MaxSessions: 5})
}
`},
	}},
	{name: "a connection is made from its parts", fails: "NP03", edits: []edit{
		{reports, "", `package reports

import (
	"context"

	pg "github.com/jackc/pgx/v5/pgconn"
)

var connect = pg.ConnectConfig

func Ping(ctx context.Context, config *pg.Config) error {
	conn, err := connect(ctx, config)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
`},
	}, also: "NP15"},
	{name: "a second goroutine waits for the session", fails: "NP03", edits: []edit{
		{sessions, `func (s *Session) enter() error {
	if !s.turn.TryLock() {
		return ErrSessionBusy
	}
`, `func (s *Session) enter() error {
	s.turn.Lock()
`},
	}},
	{name: "open rows do not keep the session busy", fails: "NP03", edits: []edit{
		{sessions, "	if err == nil && s.turn.rows != nil {\n		err = ErrSessionBusy\n	}\n", ""},
	}, also: "NP04"},

	{name: "the deferred rollback is gone", fails: "NP04 NP06", edits: []edit{
		{session, "		defer session.Rollback(ctx)\n", ""},
	}, also: "NP08 NP23"},
	{name: "a session with open rows is not rolled back", fails: "NP04", edits: []edit{
		{sessions, `	if s.turn.rows != nil { // reading them to their end could take for ever
		s.cancel(ErrSessionDone)
		s.turn.rows.finish()
	}
`, `	if s.turn.rows != nil {
		return ErrSessionBusy
	}
`},
	}},
	{name: "the engine is closed without waiting for sessions", fails: "NP04", edits: []edit{
		{engine, `	case <-idle:
		return nil
	case <-ctx.Done():
	}
	db.abort(ErrClosed)
`, `	case <-idle:
		return nil
	default:
	}
	db.abort(ErrClosed)
`},
	}, also: "NP10 NP13"},

	{name: "the commit is moved behind the response", fails: "NP05 NP19", edits: []edit{
		{session, `		if err == nil {
			err = held.finish()
		}
`, `		if err == nil {
			held.send()
			err = held.finish()
		}
`},
	}, also: "NP06 NP28"},
	{name: "the status leaves at once", fails: "NP05 NP19", edits: []edit{
		{session, `	case h.status == 0:
		h.status = status
`, `	case h.status == 0:
		h.status = status
		h.ResponseWriter.WriteHeader(status)
		_ = http.NewResponseController(h.ResponseWriter).Flush()
`},
	}, also: "NP06 NP08 NP25 NP04 NP23"},

	{name: "a handler's error commits", fails: "NP06", edits: []edit{
		{session, "			if said := held.undo(err)", "			_ = session.Commit(ctx)\n			if said := held.undo(err)"},
	}, also: "NP08 NP25 NP11 NP20 NP24 NP23 NP04"},
	{name: "only a status of ours rolls back", fails: "NP06", edits: []edit{
		{session, "h.status >= http.StatusBadRequest", "h.status >= http.StatusInternalServerError"},
	}},
	{name: "a cancelled request commits", fails: "NP06", edits: []edit{
		{session, "	case ctx.Err() != nil:\n", "	case ctx.Err() != nil && context.Cause(ctx) == http.ErrServerClosed:\n"},
	}},
	{name: "what is not found is no failure", fails: "NP06", edits: []edit{
		{session, "	case h.status >= http.StatusBadRequest:\n", "	case h.status >= http.StatusBadRequest && h.status != http.StatusNotFound:\n"},
	}},
	{name: "a rollback only closes", fails: "NP06 NP23", edits: []edit{
		{sessions, `_, err = s.say(ctx, "rollback"); err`, `err = ctx.Err(); err`},
	}, also: "NP04"},

	{name: "background work that panics is not rolled back", fails: "NP07", edits: []edit{
		{engine, "	defer s.Rollback(ctx) // does nothing once Commit has ended the session\n", ""},
	}, also: "NP29 NP04 NP10 NP02 NP20 NP13 NP17 NP12 NP24 NP22 NP23"},
	{name: "background work that was cancelled commits", fails: "NP07", edits: []edit{
		{engine, "	late := ctx.Err()\n", "	var late error\n"},
	}},
	{name: "background work commits whatever the function says", fails: "NP07", edits: []edit{
		{engine, `	if err := fn(WithSession(ctx, s), s); err != nil {
`, `	if err := fn(WithSession(ctx, s), s); err != nil {
		_ = s.Commit(ctx)
`},
	}, also: "NP23"},
	{name: "background work is not told that its commit failed", fails: "NP07", edits: []edit{
		{engine, "	return err\n}\n\n// RunWithRetry", "	return late\n}\n\n// RunWithRetry"},
	}},

	{name: "no panic is recovered", fails: "NP08", edits: []edit{
		{middleware, "		defer s.recover(recorder, r)\n", ""},
	}, also: "NP04 NP06 NP23"},
	{name: "a panic is answered with its value", fails: "NP08", edits: []edit{
		{middleware, "	s.write(w, r, internalError)\n", `	s.write(w, r, &Error{Status: http.StatusInternalServerError, Code: "internal_error", Detail: err.Error()})
`},
	}},
	{name: "a panic is not logged", fails: "NP08", edits: []edit{
		{middleware, "s.Logger.ErrorContext(r.Context(), \"panic\"", "s.Logger.DebugContext(context.WithoutCancel(r.Context()), \"request ended\""},
	}},

	{name: "it starts without asking the database", fails: "NP09", edits: []edit{
		{serve, `Name: "database", Start: s.checkDatabase,`, `Name: "database",`},
	}, also: "NP12"},
	{name: "every failure at start is tried again", fails: "NP09", edits: []edit{
		{serve, "case errors.Is(err, nopool.ErrConfiguration):", "case ctx.Err() != nil:"},
	}, also: "NP12"},
	{name: "nothing at start is tried again", fails: "NP09", edits: []edit{
		{serve, "case errors.Is(err, nopool.ErrConfiguration):", "case err != nil:"},
	}},
	{name: "a refused password ends the process at once", fails: "NP09", edits: []edit{
		{command, "	if connect.IsAuthentication(err) {", "	if false && connect.IsAuthentication(err) {"},
	}},
	{name: "a refused password is not given once more", fails: "NP09", edits: []edit{
		{refusals, `!ok || pgErr.Code != "28P01" {`, `!ok || pgErr.Code != "none" {`},
	}},
	{name: "it listens first and looks for its database then", fails: "NP09", edits: []edit{
		{serve, `		lifecycle.Hook{Name: "database", Start: s.checkDatabase, Stop: s.db.Close},
		lifecycle.Hook{Name: "http server", Start: s.listen, Stop: s.drain},
`, `		lifecycle.Hook{Name: "http server", Start: s.listen, Stop: s.drain},
		lifecycle.Hook{Name: "database", Start: s.checkDatabase, Stop: s.db.Close},
`},
	}},

	{name: "requests under way are cut at the signal", fails: "NP10", edits: []edit{
		{serve, "	if err := s.http.Shutdown(ctx); err != nil {", "	if err := s.http.Close(); err != nil {"},
	}},
	{name: "the database is not closed at the end", fails: "NP10", edits: []edit{
		{serve, ", Stop: s.db.Close}", "}"},
	}},
	{name: "SIGTERM is not heard", fails: "NP10", edits: []edit{
		{command, "signal.Notify(received, os.Interrupt, syscall.SIGTERM)", "signal.Notify(received, os.Interrupt)"},
		{command, "	\"syscall\"\n", ""},
	}},
	{name: "it is ready to the end", fails: "NP10", edits: []edit{
		{serve, "	s.api.Drain()\n", ""},
	}},

	{name: "the close is logged without its request", fails: "NP11", edits: []edit{
		{sessions, `s.db.log.DebugContext(s.ctx, "database session closed"`, `s.db.log.Debug("database session closed"`},
	}, also: "NP26"},
	{name: "closes are not counted", fails: "NP11", edits: []edit{
		{sessions, "	s.db.count(func(total *Snapshot) { total.Closed++ })\n", ""},
	}},
	{name: "errors are logged as warnings", fails: "NP11", edits: []edit{
		{events, `slog.LevelError, "database session error"`, `slog.LevelWarn, "database session error"`},
	}},
	{name: "refused sessions leave no trace", fails: "NP11", edits: []edit{
		{openFile, `		o.db.count(func(total *Snapshot) { total.Rejected++ })
		o.db.log.WarnContext(o.ctx, "database session rejected", "error", Describe(err))
`, ""},
	}},
	{name: "a timeout is not logged", fails: "NP11", edits: []edit{
		{events, "	if err == nil || errors.Is(err, context.Canceled) {\n", "	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {\n"},
	}},

	{name: "plaintext to any host in development", fails: "NP12", edits: []edit{
		{connecting, "plaintext && !(o.AllowPlaintext && local(config.Host))", "plaintext && !o.AllowPlaintext"},
	}},
	{name: "every environment but production is local", fails: "NP12", edits: []edit{
		{settings, `AllowPlaintext: c.Env == "local"`, `AllowPlaintext: c.Env != "production"`},
	}},
	{name: "no certificate is verified", fails: "NP12", edits: []edit{
		{connecting, "	if !verified(config) && !o.AllowPlainAuth {", `	if config.TLSConfig != nil {
		config.TLSConfig.InsecureSkipVerify, config.TLSConfig.VerifyPeerCertificate = true, nil
	}
	if !verified(config) && !o.AllowPlainAuth {`},
	}, also: "NP09 NP10"},
	{name: "pgx logs in on a connection of another type, and channel binding is off", fails: "NP12", edits: []edit{
		{loginFile, "	return conn, nil\n", "	return struct{ net.Conn }{conn}, nil\n"},
	}},
	{name: "the password is given to whoever asks", fails: "NP12", edits: []edit{
		{connecting, `		config.RequireAuth = onlySCRAM
`, `		config.RequireAuth = ""
`},
	}},

	{name: "no lock timeout", fails: "NP13", edits: []edit{
		{openFile, `		{"lock_timeout", in(o.db.config.LockTimeout)},
`, ""},
	}, also: "NP16"},
	{name: "the timeouts are start-up parameters", fails: "NP13", edits: []edit{
		{connection, "	dial, build := config.DialFunc", `	config.RuntimeParams["statement_timeout"] = "30000"
	dial, build := config.DialFunc`},
	}, also: "NP20 NP23 NP16"},
	{name: "a timeout of zero is taken", fails: "NP13", edits: []edit{
		{settings, "	shortest = time.Millisecond // Postgres counts in these, and reads 0 as \"no limit\"\n", "	shortest = 0\n"},
	}},
	{name: "a setting is read into another's timeout", fails: "NP13", edits: []edit{
		{settings, `duration(&c.DB.IdleInTransactionTimeout, shortest)`, `duration(&c.DB.LockTimeout, shortest)`},
	}},
	{name: "requests have no bound", fails: "NP13", edits: []edit{
		{middleware, "w, r, s.RequestTimeout)", "w, r, s.RequestTimeout+10*time.Second)"},
	}},
	{name: "a handler reads its body after its query", fails: "NP13", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	_ = r.ParseForm()\n	w.Header().Set(\"Location\""},
	}},
	{name: "opening takes longer than it may", fails: "NP13", edits: []edit{
		{openFile, "time.AfterFunc(o.db.config.ConnectTimeout, ", "time.AfterFunc(o.db.config.ConnectTimeout+5*time.Second, "},
		{openFile, "gotSlot.Add(o.db.config.ConnectTimeout)", "gotSlot.Add(o.db.config.ConnectTimeout+5*time.Second)"},
	}, also: "NP09 NP11 NP20"},

	{name: "a pool in another package", fails: "NP14", edits: []edit{{reports, "", pooledPackage}}},
	{name: "a pool under another name", fails: "NP14", edits: []edit{
		{reports, "", `package reports

import (
	"context"

	db "github.com/jackc/pgx/v5/pgxpool"
)

type Pool = db.Pool

func Connect(ctx context.Context, url string) (*Pool, error) { return db.New(ctx, url) }
`},
	}},
	{name: "a pool through a helper", fails: "NP14", edits: []edit{
		{"internal/storage/storage.go", "", `package storage

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

//verify:allow NP14 somebody else's
func Connect(ctx context.Context, url string) (*pgxpool.Pool, error) { return pgxpool.New(ctx, url) }
`},
		{reports, "", `package reports

import (
	"context"

	"example.com/demo/internal/storage"
)

func Ping(ctx context.Context) error {
	pool, err := storage.Connect(ctx, "")
	if err != nil {
		return err
	}
	return pool.Ping(ctx)
}
`},
	}},
	{name: "sql.Open in a handler", fails: "NP14", edits: []edit{
		{reports, "", `package reports

import (
	"database/sql"
	"net/http"
	"os"

	_ "github.com/jackc/pgx/v5/stdlib"
)

func Count(w http.ResponseWriter, r *http.Request) {
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		http.Error(w, "no database", http.StatusServiceUnavailable)
		return
	}
	defer db.Close()
	db.SetMaxIdleConns(10)
	if err := db.PingContext(r.Context()); err != nil {
		http.Error(w, "no database", http.StatusServiceUnavailable)
	}
}
`},
	}},
	{name: "a handler takes the migrations' handle", fails: "NP14", edits: []edit{
		{"internal/migrate/handle.go", "", `package migrate

import (
	"database/sql"

	"example.com/demo/internal/connect"
)

func Handle(url string) (*sql.DB, func(), error) {
	to, err := connect.Parse(url, connect.Options{})
	if err != nil {
		return nil, nil, err
	}
	config, err := to.Config()
	if err != nil {
		return nil, nil, err
	}
	db, closeAll := open(config)
	return db, closeAll, nil
}
`},
		{"internal/httpapi/export.go", "", `package httpapi

import (
	"net/http"
	"os"

	"example.com/demo/internal/migrate"
)

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	db, closeAll, err := migrate.Handle(os.Getenv("DATABASE_URL"))
	if err != nil {
		s.problem(w, r, err)
		return
	}
	defer closeAll()
	if _, err := db.ExecContext(r.Context(), "select 1"); err != nil {
		s.problem(w, r, err)
	}
}

var _ = (*Server).export
`},
	}},
	{name: "a pool under a dot import", fails: "NP14", edits: []edit{
		{reports, "", `package reports

import (
	"context"
	. "github.com/jackc/pgx/v5/pgxpool"
)

func Ping(ctx context.Context, url string) error {
	pool, err := New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	return pool.Ping(ctx)
}
`},
	}},
	{name: "a pool for one operating system", fails: "NP14", edits: []edit{
		{reports, "", "package reports\n"},
		{"internal/reports/reports_plan9.go", "", pooledPackage},
	}},
	{name: "a pool in a second program", fails: "NP14", edits: []edit{
		{"cmd/worker/main.go", "", `package main

import (
	"context"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	pool, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		os.Exit(1)
	}
	defer pool.Close()
}
`},
	}},
	{name: "a pool in a type parameter", fails: "NP14 NP15", edits: []edit{
		{reports, "", `package reports

import "github.com/jackc/pgx/v5/pgxpool"

type lazy[T any] struct{ value T }

type Reports struct{ db lazy[*pgxpool.Pool] }
`},
	}},

	{name: "a connection in a struct", fails: "NP15", edits: []edit{
		{reports, "", `package reports

import "github.com/jackc/pgx/v5"

type Reports struct{ conn *pgx.Conn }

func New(conn *pgx.Conn) *Reports { return &Reports{conn: conn} }
`},
	}},
	{name: "a connection in a package variable", fails: "NP15", edits: []edit{
		{"internal/notes/notes.go", "// columns are named", `var conn *pgx.Conn

// columns are named`},
	}},
	{name: "a connection in a sync.Once", fails: "NP15 NP03", edits: []edit{
		{reports, "", `package reports

import (
	"context"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
)

var conn = sync.OnceValue(func() *pgx.Conn {
	c, err := pgx.Connect(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		panic(err)
	}
	return c
})

func Ping(ctx context.Context) error { return conn().Ping(ctx) }
`},
	}},
	{name: "a handler around a session", fails: "NP15", edits: []edit{
		{reports, "", `package reports

import (
	"net/http"

	"example.com/demo/internal/nopool"
)

func Handler(session *nopool.Session) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = session.Exec(r.Context(), "select 1")
	}
}
`},
	}},
	{name: "sqlc's queries in a package variable", fails: "NP15", edits: []edit{
		{reports, "", `package reports

import (
	"context"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/notes"
)

var queries notes.Queries

func Use(session *nopool.Session) { queries = session }

func Get(ctx context.Context, id int64) (notes.Note, error) { return notes.Get(ctx, queries, id) }
`},
	}},
	{name: "sessions in a sync.Map", fails: "NP15", edits: []edit{
		{reports, "", `package reports

import (
	"sync"

	"example.com/demo/internal/nopool"
)

type Reports struct{ byUser sync.Map }

func (r *Reports) Keep(user string, session *nopool.Session) { r.byUser.Store(user, session) }
`},
	}},
	{name: "a channel of connections", fails: "NP15", edits: []edit{
		{reports, "", `package reports

import "github.com/jackc/pgx/v5"

func Free(n int) chan *pgx.Conn { return make(chan *pgx.Conn, n) }
`},
	}},
	{name: "the engine keeps its last connection", fails: "NP15", edits: []edit{
		{engine, "type DB struct{ engine }\n", "type DB struct {\n	engine\n	last *pgconn.PgConn\n}\n"},
	}},
	{name: "a session that is embedded", fails: "NP15", edits: []edit{
		{reports, "", `package reports

import "example.com/demo/internal/nopool"

type Store struct {
	*nopool.Session
	name string
}
`},
	}},

	{name: "a GET may write", fails: "NP16", edits: []edit{
		{session, "nopool.TxOptions{ReadOnly: r.Method == http.MethodGet || r.Method == http.MethodHead}", "nopool.TxOptions{}"},
	}, also: "NP13"},
	{name: "a HEAD may write", fails: "NP16", edits: []edit{
		{session, "r.Method == http.MethodGet || r.Method == http.MethodHead}", "r.Method == http.MethodGet}"},
	}, also: "NP13"},
	{name: "the isolation level is lost", fails: "NP16", edits: []edit{
		{flightFile, `		begin += " isolation level " + string(o.Isolation)
`, `		_ = o.Isolation
`},
	}, also: "NP13"},
	{name: "text results depend on role and database", fails: "NP16", edits: []edit{
		{flightFile, "append(calls, pinned, ", "append(calls, "},
	}},
	{name: "the timeouts outlive their transaction", fails: "NP16", edits: []edit{
		{flightFile, `"set_config($%d, $%d, true)"`, `"set_config($%d, $%d, false)"`},
	}, also: "NP13"},
	{name: "statements are prepared", fails: "NP16", edits: []edit{
		{connecting, "config.DefaultQueryExecMode = pgx.QueryExecModeExec", "config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement"},
		{connecting, "config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0", "config.StatementCacheCapacity, config.DescriptionCacheCapacity = 512, 512"},
	}, also: "NP31"},

	{name: "one connection too many", fails: "NP17", edits: []edit{
		{slotsFile, "	s := &slots{free:", "	n++\n	s := &slots{free:"},
	}, also: "NP01 NP11 NP13 NP18 NP22 NP27"},
	{name: "who waits is served in any order", fails: "NP17", edits: []edit{
		{slotsFile, "	if s.waiting.Add(1) > s.maxWaiting {\n		return freed, ErrBusy\n	}\n", `	if s.waiting.Add(1) > s.maxWaiting {
		return freed, ErrBusy
	}
	time.Sleep(rand.N(100 * time.Millisecond)) // so that not all come back at once
`},
	}},
	{name: "the queue has no end", fails: "NP17", edits: []edit{
		{slotsFile, "s.waiting.Add(1) > s.maxWaiting {", "s.waiting.Add(1) > s.maxWaiting+1000 {"},
	}, also: "NP18 NP11"},
	{name: "a full queue is our fault", fails: "NP17", edits: []edit{
		{problems, "	{nopool.ErrBusy, busy},\n", ""},
	}, also: "NP11 NP18"},

	{name: "each session says hello to the database", fails: "NP18", edits: []edit{
		{session, "		// A panic, or runtime.Goexit", "		_, _ = session.Exec(ctx, \"select 1\")\n		// A panic, or runtime.Goexit"},
	}, also: "NP01 NP11 NP16 NP17 NP19 NP20 NP21 NP23 NP24 NP25 NP28 NP31 NP04 NP05 NP06 NP08 NP13 NP26 NP22"},
	{name: "each request looks whether the database is there", fails: "NP18 NP27", edits: []edit{
		{middleware, "		r.Body = http.MaxBytesReader(", "		_ = reachable(s.DB)\n		r.Body = http.MaxBytesReader("},
	}, also: "NP01 NP10 NP11 NP16 NP17 NP19 NP20 NP21 NP22 NP23 NP24 NP25 NP28 NP31 NP04 NP05 NP06 NP08 NP13 NP26 NP09"},
	{name: "a session takes its slot when it is made", fails: "NP18", edits: []edit{
		{engine, "	s.life, s.cancel = context.WithCancelCause(db.life)\n", `	s.life, s.cancel = context.WithCancelCause(db.life)
	if int(db.slots.inUse.Load()) < db.config.MaxSessions {
		if _, err := db.slots.acquire(ctx); err == nil {
			context.AfterFunc(s.life, db.slots.release)
		}
	}
`},
	}, also: "NP01 NP02 NP04 NP05 NP06 NP07 NP10 NP11 NP13 NP17 NP20 NP21 NP22 NP23 NP27 NP29 NP31 NP09 NP19 NP28 NP03 NP08 NP12 NP16 NP24 NP25 NP26"},

	{name: "a COMMIT of the handler's own is an error", fails: "NP05", edits: []edit{
		{sessions, "		return s.said\n", "		return err\n"},
	}},
	{name: "a failed commit is not looked at", fails: "NP19", edits: []edit{
		{session, "			err = held.finish()\n", "			_ = held.finish()\n"},
	}, also: "NP06"},
	{name: "a lost COMMIT is called a lost connection", fails: "NP19", edits: []edit{
		{sessions, "	case unsent || s.opts.ReadOnly:\n", "	case unsent || s.opts.ReadOnly || s.conn.pgx.IsClosed():\n"},
	}},
	{name: "a write does not wait for its COMMIT", fails: "NP05 NP19", edits: []edit{
		{sessions, "	return s.opts.ReadOnly && !s.opts.WaitForCommit && level", "	return !s.opts.WaitForCommit && level"},
	}, also: "NP07 NP23 NP28 NP06"},
	{name: "a serializable read does not wait for its COMMIT", fails: "NP19", edits: []edit{
		{sessions, `level != "" && level != string(pgx.Serializable) &&`, `level != "" &&`},
	}},
	{name: "only a level that was asked for is looked at", fails: "NP19", edits: []edit{
		{sessions, "	level := s.conn.flight.isolation\n", "	level := cmp.Or(s.opts.Isolation, pgx.ReadCommitted)\n"},
		{sessions, "level != string(pgx.Serializable)", "level != pgx.Serializable"},
	}},
	{name: "COMMIT is sent to a server that has closed the connection", fails: "NP19", edits: []edit{
		{sessions, "if !unsent && !s.opts.ReadOnly {", "if unsent {"},
	}},
	{name: "a route cannot ask to wait for COMMIT", fails: "NP19", edits: []edit{
		{sessions, "s.opts.ReadOnly && !s.opts.WaitForCommit &&", "s.opts.ReadOnly &&"},
	}},
	{name: "a read that has failed is answered as if it had not", fails: "NP19", edits: []edit{
		{sessions, " &&\n		!s.conn.pgx.IsClosed() && s.conn.pgx.PgConn().TxStatus() == 'T'\n", "\n"},
	}},
	{name: "a failed COMMIT of a read is not counted", fails: "NP19", edits: []edit{
		{sessions, "			s.db.count(func(total *Snapshot) { total.ReadCommitErrors++ })\n", ""},
	}},
	{name: "a failed COMMIT of a read is not logged", fails: "NP19", edits: []edit{
		{sessions, "		s.record(how)\n		s.close(", "		s.db.count(how.count)\n		s.close("},
	}},
	{name: "programs cannot tell an unknown outcome", fails: "NP19", edits: []edit{
		{problems, "`json:\"code\"`", "`json:\"-\"`"},
	}},
	{name: "a COMMIT that rolled back is a success", fails: "NP19", edits: []edit{
		{sessions, `	case err == nil && tag.String() == "COMMIT":
`, `	case err == nil && tag.String() != "":
`},
	}},

	{name: "Supavisor's refusal is not known", fails: "NP20", edits: []edit{
		{refusals, `"EMAXCONN|MaxClientsInSessionMode|Max`, `"Max`},
	}, also: "NP21 NP27"},
	{name: "PgBouncer's refusal of the first statement is not known", fails: "NP20", edits: []edit{
		{refusals, `|query_wait_timeout`, ``},
	}},
	{name: "a refused password is tried again", fails: "NP20", edits: []edit{
		{refusals, `	{"28", "", nopool.ErrConfiguration},`, `	{"none", "", nopool.ErrConfiguration},`},
	}, also: "NP09 NP12"},
	{name: "a refused password is given any number of times", fails: "NP20", edits: []edit{
		{breaker, "	maxRefused    = 3  ", "	maxRefused    = 300"},
	}},
	{name: "a pooler that cannot ask for secrets is given more logins", fails: "NP20", edits: []edit{
		{refusals, "return ok && kindOf(err) == nopool.ErrUnavailable &&", "return !ok && kindOf(err) == nopool.ErrUnavailable &&"},
	}},
	{name: "an error in answer to SSLRequest means no TLS", fails: "NP20", edits: []edit{
		{connector, "		dial = greet(dial)\n", ""},
	}},
	{name: "a refusal that nobody knows is final", fails: "NP20", edits: []edit{
		{openFile, "	transientTries = 3 ", "	transientTries = 1 "},
	}},
	{name: "what may have run is tried again", fails: "NP20", edits: []edit{
		{openFile, " || conn.flight.mayHaveRun(answer):", ":"},
	}},
	{name: "a full pooler is our fault", fails: "NP20", edits: []edit{
		{problems, "	{nopool.ErrPoolerFull, busy},\n", ""},
	}},

	{name: "pgx falls back", fails: "NP21", edits: []edit{
		{connecting, "config.Fallbacks, config.ValidateConnect = nil, nil", "config.ValidateConnect = nil"},
		{connection, "if c.flight != nil && !loggedIn.Load() {", "if c.flight == nil && loggedIn.Load() {"},
	}, also: "NP12"},
	{name: "several hosts in a URL", fails: "NP21", edits: []edit{
		{connecting, `		if fallback.Host != config.Host || fallback.Port != config.Port {
			return nil, invalid("names several hosts; name one")
		}
`, ""},
	}},
	{name: "pgx tries all addresses of the host", fails: "NP21", edits: []edit{
		{connector, "func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }", "resolve"},
		{connection, "if c.flight != nil && !loggedIn.Load() {", "if c.flight == nil && loggedIn.Load() {"},
	}},
	{name: "a silent server is waited for", fails: "NP21", edits: []edit{
		{flightFile, "int64(f.timeout + statementMargin)", "0"},
	}},
	{name: "the next address is not tried", fails: "NP21", edits: []edit{
		{dialFile, "	for i, ip := range known.addresses {\n", "	for i, ip := range known.addresses[:1] {\n"},
	}},

	{name: "the slot is freed before the close", fails: "NP22", edits: []edit{
		{sessions, "	s.conn.hangUp()\n", "	s.db.slots.release()\n	s.conn.hangUp()\n"},
		{sessions, "\"close\", time.Since(ended))\n	s.db.slots.release()\n", "\"close\", time.Since(ended))\n"},
	}, also: "NP01 NP04 NP10 NP17"},
	{name: "a failed open gives its slot back at once", fails: "NP22", edits: []edit{
		{openFile, "go func() { conn.hangUp(); o.db.slots.release() }()", "go func() { o.db.slots.release(); conn.hangUp() }()"},
	}},
	{name: "another attempt does not wait for the end of the last", fails: "NP22", edits: []edit{
		{openFile, "	case <-gone:\n", "	default:\n"},
	}, also: "NP17 NP20 NP21"},
	{name: "nobody waits for the server's close", fails: "NP22", edits: []edit{
		{connection, "	_, _ = io.Copy(io.Discard, e.Conn)\n", ""},
	}, also: "NP01 NP04 NP10 NP17 NP23"},
	{name: "a slot is freed after a moment, whatever the server does", fails: "NP22", edits: []edit{
		{connection, "	closeTimeout = 5 * time.Second\n", "	closeTimeout = 50 * time.Millisecond\n"},
	}, also: "NP01 NP04 NP10 NP17 NP06 NP13"},
	{name: "a pooler that is late is given no time", fails: "NP22", edits: []edit{
		{slotsFile, "age+settleStep, settleMost", "0, settleMost"},
	}},
	{name: "an opening that is given up ends at once", fails: "NP22", edits: []edit{
		{openFile, "context.WithoutCancel(ctx), deadline", "ctx, deadline"},
	}},
	{name: "the response waits for the server's close", fails: "NP22", edits: []edit{
		{sessions, "		go s.close(how, time.Now())\n", "		s.close(how, time.Now())\n"},
	}, also: "NP10"},

	{name: "a rollback under the request's own context", fails: "NP23 NP06", edits: []edit{
		{sessions, `s.say(ctx, "rollback")`, `s.conn.pgx.Exec(ctx, "rollback")`},
	}},
	{name: "a commit under the request's own context", fails: "NP23", edits: []edit{
		{sessions, `s.say(ctx, "commit")`, `s.conn.pgx.Exec(ctx, "commit")`},
	}},
	{name: "what was only read is not committed", fails: "NP23", edits: []edit{
		{sessions, "	// Asked before", `	if s.opts.ReadOnly {
		return committed, nil
	}
	// Asked before`},
	}, also: "NP16"},
	{name: "a read whose answer has left is not committed", fails: "NP23", edits: []edit{
		{sessions, "		if how, s.err = s.commit(ctx); s.err != nil {", "		if how = committed; s.err != nil {"},
	}, also: "NP16 NP19 NP31 NP11"},
	{name: "a connection is dropped without a word", fails: "NP23", edits: []edit{
		{connection, "			_ = c.pgx.Close(ctx) // the endpoint knows when the server has closed\n", "			_ = c.pgx.PgConn().Conn().Close()\n			time.Sleep(10 * time.Millisecond)\n			_ = c.pgx.Close(ctx)\n"},
	}, also: "NP06 NP10 NP22 NP31"},

	{name: "an error's text in the response", fails: "NP24", edits: []edit{
		{problems, "	return internalError\n}\n", "	return &Error{Status: http.StatusInternalServerError, Code: \"internal_error\", Detail: err.Error()}\n}\n"},
	}, also: "NP08"},
	{name: "the server's words in the response", fails: "NP24", edits: []edit{
		{problems, "return state.answer", "return newError(state.answer.Status, state.answer.Code, pgErr.Message)"},
	}},
	{name: "the server's words in the log", fails: "NP24", edits: []edit{
		{events, "		if e.log.Enabled(ctx, slog.LevelDebug) {", "		if e.log.Enabled(ctx, slog.LevelError) {"},
	}},
	{name: "a printed configuration shows its URL", fails: "NP24", edits: []edit{
		{settings, `{ fmt.Fprintf(f, "config of %s (%s)", c.AppName, c.Env) }`, `{
	to, _ := c.Database.Config()
	fmt.Fprintf(f, "config of %s (%s): %s", c.AppName, c.Env, to.ConnString())
}`},
	}},
	{name: "a handler sends the server's words", fails: "NP24", edits: []edit{
		{handlers, `	note, err := notes.Create(r.Context(), session, draft)
	if err != nil {
`, `	note, err := notes.Create(r.Context(), session, draft)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23505" {
		return &Error{Status: http.StatusConflict, Code: "already_exists", Detail: pgErr.Detail}
	}
	if err != nil {
`},
		{handlers, `	"example.com/demo/internal/nopool"
`, `	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
`},
		{handlers, "import (\n", "import (\n	\"errors\"\n"},
	}},
	{name: "a handler without a session sends an error's text", fails: "NP24", edits: []edit{
		{"internal/httpapi/export.go", "", `package httpapi

import (
	"context"
	"net/http"

	"example.com/demo/internal/nopool"
)

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	err := s.DB.Run(r.Context(), nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "select title from notes")
		return err
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

var _ = (*Server).export
`},
	}},
	{name: "a malformed URL is quoted", fails: "NP24", edits: []edit{
		{connecting, `return "", invalid("must begin with postgres:// or be a list of keyword=value")`, `return "", invalid(connString + " must begin with postgres:// or be a list of keyword=value")`},
	}},

	{name: "a FATAL is taken for the client's fault", fails: "NP25", edits: []edit{
		{errorsFile, "return ok && isFatal(pgErr) &&", "return ok && isFatal(pgErr) && pgErr.Code[:2] == \"57\" &&"},
	}},
	{name: "a duplicate is a bad request", fails: "NP25", edits: []edit{
		{problems, `{"23505", newError(http.StatusConflict,`, `{"23505", newError(http.StatusBadRequest,`},
	}, also: "NP19"},
	{name: "nothing says when to come back", fails: "NP25", edits: []edit{
		{problems, `		w.Header().Set("Retry-After", "1")
`, `		w.Header().Set("Cache-Control", "no-cache")
`},
	}, also: "NP17 NP20"},
	{name: "a problem is plain JSON", fails: "NP25", edits: []edit{
		{problems, `"application/problem+json")`, `"application/json")`},
	}, also: "NP04 NP05 NP06 NP08 NP11 NP13 NP17 NP18 NP19 NP20 NP23 NP26 NP27 NP28"},

	{name: "any id is taken", fails: "NP26", edits: []edit{
		{middleware, "`^[A-Za-z0-9._-]{1,64}$`", "`^.+$`"},
	}},
	{name: "the id is not in the response", fails: "NP26", edits: []edit{
		{middleware, "		w.Header().Set(correlationHeader, id)\n", ""},
	}, also: "NP04 NP05 NP06 NP08 NP11 NP13 NP17 NP18 NP19 NP20 NP23 NP24 NP25 NP27 NP28 NP16 NP22 NP31"},
	{name: "the id is not in the log", fails: "NP26", edits: []edit{
		{middleware, "		record.AddAttrs(slog.String(\"correlation_id\", id))\n", "		_ = slog.String(\"correlation_id\", id)\n"},
	}, also: "NP08 NP11"},
	{name: "a logger with attributes loses the id", fails: "NP26", edits: []edit{
		{middleware, `func (c correlated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return correlated{c.Handler.WithAttrs(attrs)}
}

`, ""},
		{serve, "	cfg.DB.Logger = s.log\n", "	cfg.DB.Logger = s.log.With(\"of\", \"database\")\n"},
	}, also: "NP08 NP11"},
	{name: "any traceparent is taken", fails: "NP26", edits: []edit{
		{middleware, "	if match == nil || strings.HasPrefix(trace, \"ff\") ||\n", "	if match == nil ||\n"},
	}},

	{name: "/health asks the database", fails: "NP27", edits: []edit{
		{health, `	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
`, `	if reachable(s.DB) != nil {
		s.write(w, r, databaseDown)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
`},
	}},
	{name: "readiness is not kept", fails: "NP27", edits: []edit{
		{health, "	if time.Since(c.checked) < readyFor {", "	if time.Since(c.checked) < 0 {"},
	}},
	{name: "only a good answer of readiness is kept", fails: "NP27", edits: []edit{
		{health, "	c.checked = time.Now()\n", "	if c.err == nil {\n		c.checked = time.Now()\n	}\n"},
	}},
	{name: "a busy service is not ready", fails: "NP27", edits: []edit{
		{health, `	if now.InUse >= now.MaxSessions && time.Since(now.LastOpened) < busyFor {
		return nil
	}
`, ""},
		{health, "	if errors.Is(err, nopool.ErrBusy) || errors.Is(err, nopool.ErrPoolerFull) {\n		return nil\n	}\n", ""},
		{health, "	if errors.Is(err, context.DeadlineExceeded) && time.Since(now.LastOpened) < busyFor {\n		return nil // PgBouncer lets a client wait for its first statement\n	}\n", "	_, _ = errors.Is, now\n"},
	}},

	{name: "a flush does not commit", fails: "NP28", edits: []edit{
		{session, `	if err := h.stream(); err != nil {
		return err
	}
	return http.NewResponseController(h.ResponseWriter).Flush()
`, `	h.send()
	return http.NewResponseController(h.ResponseWriter).Flush()
`},
	}},
	{name: "a full buffer does not commit", fails: "NP28", edits: []edit{
		{session, `		if err := h.stream(); err != nil {
			return 0, err
		}
`, `		h.send()
`},
	}},
	{name: "a hijack does not commit", fails: "NP28", edits: []edit{
		{session, `	if err := h.finish(); err != nil {
		return nil, nil, err
	}
	conn, buffered`, `	conn, buffered`},
	}},
	{name: "a failure after the commit point looks like the end", fails: "NP28", edits: []edit{
		{session, "			panic(http.ErrAbortHandler) // the client must see that the response is cut short\n", "			return\n"},
	}},
	{name: "a panic is answered where an answer has begun", fails: "NP28", edits: []edit{
		{middleware, "	if w.status != 0 {\n		panic(http.ErrAbortHandler)\n	}\n", ""},
	}},

	{name: "a retry has no end", fails: "NP29", edits: []edit{
		{engine, "		if attempt == 3 || !ok ||", "		if attempt == 30 || !ok ||"},
	}},
	{name: "a deadlock is not retried", fails: "NP29", edits: []edit{
		{engine, `(pgErr.Code != "40001" && pgErr.Code != "40P01")`, `pgErr.Code != "40001"`},
	}},
	{name: "all of class 40 is retried", fails: "NP29", edits: []edit{
		{engine, `!ok || (pgErr.Code != "40001" && pgErr.Code != "40P01")`, `!ok || pgErr.Code[:2] != "40"`},
	}},
	{name: "everything is retried", fails: "NP29", edits: []edit{
		{engine, `		if attempt == 3 || !ok || (pgErr.Code != "40001" && pgErr.Code != "40P01") ||`, `		_, _ = pgErr, ok
		if attempt == 3 || err == nil ||`},
	}},

	{name: "two migrations run at once", fails: "NP30 NP02", edits: []edit{
		{migrations, `		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))`, `		goose.WithDisableGlobalRegistry(true))`},
		{migrations, "	locker, err := lock.", "	_, err = lock."},
	}},
	{name: "migrations have no timeouts", fails: "NP30", edits: []edit{
		{migrations, `const session = "set lock_timeout = '5s'; set statement_timeout = '15min'; set idle_in_transaction_session_timeout = '5min'"`, `const session = "select 1"`},
	}},
	{name: "migrations go through port 6543", fails: "NP30", edits: []edit{
		{migrations, "port == 6543 && supabase", "port == 0 && supabase"},
	}},
	{name: "migrations go where requests go", fails: "NP30", edits: []edit{
		{command, "cfg.Migrations,", "cfg.Database,"},
	}},
	{name: "no migrations are an error", fails: "NP30", edits: []edit{
		{migrations, `	if errors.Is(err, goose.ErrNoMigrations) {
		fmt.Fprintln(o.Out, "no migrations")
		return nil
	}
`, ""},
	}},

	{name: "the answer to a read waits for COMMIT", fails: "NP31 NP19", edits: []edit{
		{session, "h.err = h.session.Finish(ctx)", "h.err = h.session.Commit(ctx)"},
	}},
	{name: "BEGIN travels alone", fails: "NP31", edits: []edit{
		{openFile, "		err = o.first(ctx, conn)\n", "		_, _ = conn.pgx.Exec(ctx, \";\")\n		err = o.first(ctx, conn)\n"},
	}, also: "NP16"},
	{name: "the connection is cleaned before it is closed", fails: "NP31", edits: []edit{
		{connection, "			_ = c.pgx.Close(ctx) // the endpoint", "			_, _ = c.pgx.Exec(ctx, \"discard all\")\n			_ = c.pgx.Close(ctx) // the endpoint"},
	}, also: "NP06 NP23 NP22 NP28 NP16"},
	{name: "the connection is tried before it is used", fails: "NP31", edits: []edit{
		{openFile, "		conn.flight.begin, conn.flight.onOpen", "		_ = conn.pgx.Ping(ctx)\n		conn.flight.begin, conn.flight.onOpen"},
	}, also: "NP16 NP19 NP23 NP24 NP29"},
}
