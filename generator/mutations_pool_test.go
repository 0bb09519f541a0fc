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

// poolMutations lead around the one engine, or keep a connection beyond its session,
// in the order of the rules.
var poolMutations = []mutation{
	{name: "connections are kept for the next session", fails: "NP01", source: "NP15", edits: []edit{
		{endFile, `	s.conn.hangUp()
`, `	select {
	case kept <- s.conn:
	default:
		s.conn.hangUp()
	}
`},
		{endFile, `// end gives`, `var kept = make(chan *connection, 4)

// end gives`},
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
	{name: "a connection is handed on when somebody waits, as database/sql does", fails: "NP01/200_sessions_over_a_cap_of_4,_Postgres", source: "NP15", edits: []edit{
		{endFile, `	s.conn.hangUp()
`, `	if s.db.slots.waiting.Load() > 0 && how.name != aborted.name {
		handedOn.Store(s.db, s.conn)
	} else {
		s.conn.hangUp()
	}
`},
		{endFile, `// end gives`, `var handedOn sync.Map

// end gives`},
		{endFile, "	\"fmt\"\n", "	\"fmt\"\n	\"sync\"\n"},
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

	{name: "a handler connects by itself", source: "NP03", edits: []edit{
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
	{name: "a goroutine uses the request's session", source: "NP03", edits: []edit{
		{handlers, `	w.Header().Set("Location"`, `	go func() {
		_, _ = session.Exec(r.Context(), "insert into audit (note) values ($1)", note.ID)
	}()
	w.Header().Set("Location"`},
	}},
	{name: "a goroutine is given the request's session", source: "NP03", edits: []edit{
		{handlers, `	w.Header().Set("Location"`, `	go audit(r, session)
	w.Header().Set("Location"`},
		{handlers, "// noteID reads", `func audit(r *http.Request, session *nopool.Session) {
	_, _ = session.Exec(r.Context(), "insert into audit default values")
}

// noteID reads`},
	}},
	{name: "a package opens an engine of its own", source: "NP03", edits: []edit{
		{reports, "", `package reports

import "example.com/demo/internal/nopool"

func Open(to nopool.Connector) (*nopool.DB, error) {
	return nopool.Open(nopool.Config{Connector: to, MaxSessions: 5})
}
`},
	}},
	{name: "a connection is made from its parts", source: "NP03", edits: []edit{
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
		{sessions, "	if err == nil && s.open != nil {\n		err = ErrSessionBusy\n	}\n", ""},
	}, also: "NP04"},

	{name: "a pool in another package", source: "NP14", edits: []edit{{reports, "", pooledPackage}}},
	{name: "a pool under another name", source: "NP14", edits: []edit{
		{reports, "", `package reports

import (
	"context"

	db "github.com/jackc/pgx/v5/pgxpool"
)

type Pool = db.Pool

func Connect(ctx context.Context, url string) (*Pool, error) { return db.New(ctx, url) }
`},
	}},
	{name: "a pool through a helper", source: "NP14", edits: []edit{
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
	{name: "sql.Open in a handler", source: "NP14", also: "NP02", edits: []edit{
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
	{name: "a handler takes the migrations' handle", source: "NP14", edits: []edit{
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
	{name: "a pool under a dot import", source: "NP14", edits: []edit{
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
	{name: "a pool for one operating system", source: "NP14", edits: []edit{
		{reports, "", "package reports\n"},
		{"internal/reports/reports_plan9.go", "", pooledPackage},
	}},
	{name: "a pool in a second program", source: "NP14", edits: []edit{
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
	{name: "a pool in a type parameter", source: "NP14 NP15", edits: []edit{
		{reports, "", `package reports

import "github.com/jackc/pgx/v5/pgxpool"

type lazy[T any] struct{ value T }

type Reports struct{ db lazy[*pgxpool.Pool] }
`},
	}},

	{name: "a connection in a struct", source: "NP15", edits: []edit{
		{reports, "", `package reports

import "github.com/jackc/pgx/v5"

type Reports struct{ conn *pgx.Conn }

func New(conn *pgx.Conn) *Reports { return &Reports{conn: conn} }
`},
	}},
	{name: "a connection in a package variable", source: "NP15", edits: []edit{
		{"internal/notes/notes.go", "// columns are named", `var conn *pgx.Conn

// columns are named`},
	}},
	{name: "a connection in a sync.Once", source: "NP15 NP03", edits: []edit{
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
	{name: "a handler around a session", source: "NP15", edits: []edit{
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
	{name: "sqlc's queries in a package variable", source: "NP15", edits: []edit{
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
	{name: "sessions in a sync.Map", source: "NP15", edits: []edit{
		{reports, "", `package reports

import (
	"sync"

	"example.com/demo/internal/nopool"
)

type Reports struct{ byUser sync.Map }

func (r *Reports) Keep(user string, session *nopool.Session) { r.byUser.Store(user, session) }
`},
	}},
	{name: "a channel of connections", source: "NP15", edits: []edit{
		{reports, "", `package reports

import "github.com/jackc/pgx/v5"

func Free(n int) chan *pgx.Conn { return make(chan *pgx.Conn, n) }
`},
	}},
	{name: "the engine keeps its last connection", source: "NP15", edits: []edit{
		{events, "type DB struct {\n", "type DB struct {\n	last *pgconn.PgConn\n\n"},
	}},
	{name: "a session that is embedded", source: "NP15", edits: []edit{
		{reports, "", `package reports

import "example.com/demo/internal/nopool"

type Store struct {
	*nopool.Session
	name string
}
`},
	}},
}
