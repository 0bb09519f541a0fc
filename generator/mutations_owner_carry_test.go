package generator_test

// ownerCarries are edits of the owner's own code in which a session is used by others
// than those whose it is, or later than it lives.
var ownerCarries = []mutation{
	// Method values.
	{name: "a session's method is kept in a struct", source: "NP15", edits: []edit{
		code("internal/audit/audit.go", `
// Log writes lines to the database.
type Log struct {
	write func(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// To makes the log write by a session.
func (l *Log) To(session *nopool.Session) { l.write = session.Exec }

// Line writes one line.
func (l *Log) Line(ctx context.Context, text string) error {
	_, err := l.write(ctx, "insert into audit (line) values ($1)", text)
	return err
}
`),
	}},
	{name: "a session's method runs later", source: "NP03", edits: []edit{
		imports(handlers, "context"),
		{handlers, "	w.WriteHeader(http.StatusNoContent)\n", "	context.AfterFunc(r.Context(), chore{r.Context(), session}.up)\n	w.WriteHeader(http.StatusNoContent)\n"},
		{handlers, "// noteID reads", `type chore struct {
	ctx context.Context
	in  notes.Queries
}

func (t chore) up() { _, _ = notes.List(t.ctx, t.in, 1, 0) }

// noteID reads`},
	}},
	{name: "a goroutine is given a session's method", source: "NP03", edits: []edit{
		code("internal/httpapi/warm.go", `
func warm(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	query := session.Query
	go each(r.Context(), query)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func each(ctx context.Context, query func(context.Context, string, ...any) (pgx.Rows, error)) {
	if rows, err := query(ctx, "select id from notes"); err == nil {
		rows.Close()
	}
}
`),
		route(`mux.Handle("GET /warm", s.InSession(warm))`),
	}},

	// Variables from around the handler.
	{name: "a handler keeps the session of the last request in a variable around it", source: "NP15", edits: []edit{
		code("internal/httpapi/previous.go", `
func previous() SessionHandler {
	var last notes.Queries
	return func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		if last == nil {
			last = session
		}
		page, err := notes.List(r.Context(), last, 1, 0)
		return answerWith(w, page, err)
	}
}
`),
		route(`mux.Handle("GET /previous", s.InSession(previous()))`),
	}},
	{name: "Run's session is taken out of its function", source: "NP15", edits: []edit{
		code("internal/reports/outside.go", `
// Outside counts the notes after the end of its transaction.
func Outside(ctx context.Context, db *nopool.DB) (n int, err error) {
	var inside *nopool.Session
	err = db.Run(ctx, nopool.TxOptions{}, func(_ context.Context, session *nopool.Session) error {
		inside = session
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, inside.QueryRow(ctx, "select count(*) from notes").Scan(&n)
}
`),
	}},
	{name: "the context of a request in a package variable", source: "NP15", edits: []edit{
		code("internal/httpapi/latest_context.go", `
var latestContext context.Context

func noted(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	latestContext = r.Context()
	page, err := notes.List(latestContext, session, 1, 0)
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /noted", s.InSession(noted))`),
	}},
	{name: "the context of a session is taken out of its function", source: "NP15", edits: []edit{
		code("internal/reports/context.go", `
// Twice deletes all counts, and then the notes, on behalf of the same session.
func Twice(ctx context.Context, db *nopool.DB) error {
	within := ctx
	err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		within = context.WithoutCancel(ctx)
		_, err := session.Exec(ctx, "delete from counts")
		return err
	})
	if err != nil {
		return err
	}
	return db.Run(within, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "delete from notes")
		return err
	})
}
`),
	}},

	// Composite literals and fields that are interfaces.
	{name: "a repository with a session is kept by the server", source: "NP15", edits: []edit{
		{server, "	ready    readiness\n", "	ready    readiness\n	titles   *titles\n"},
		code("internal/httpapi/titles.go", `
type titles struct{ db notes.Queries }

func (t titles) first(r *http.Request) (notes.Page, error) { return notes.List(r.Context(), t.db, 1, 0) }

func (s *Server) firstTitle(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	if s.titles == nil {
		s.titles = &titles{db: session}
	}
	page, err := s.titles.first(r)
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /first", s.InSession(s.firstTitle))`),
	}, also: "NP03"},
	{name: "a field that is an interface is given the session of the moment", source: "NP15", edits: []edit{
		code("internal/httpapi/latest.go", `
type reader interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

type latest struct {
	mu   sync.Mutex
	from reader
}

func (l *latest) serve(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = session
	var id int64
	err := l.from.QueryRow(r.Context(), "select max(id) from notes").Scan(&id)
	return answerWith(w, id, err)
}
`),
		route(`mux.Handle("GET /latest", s.InSession(new(latest).serve))`),
	}},
	{name: "a task with a session is sent to a worker", source: "NP03", edits: []edit{
		code("internal/audit/audit.go", `
// Task is a line to write.
type Task struct {
	Line string
	In   interface {
		Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	}
}

// Tasks are written by one goroutine.
var Tasks = make(chan any, 100)

// Write writes what comes.
func Write(ctx context.Context) {
	for each := range Tasks {
		if task, ok := each.(Task); ok {
			_, _ = task.In.Exec(ctx, "insert into audit (line) values ($1)", task.Line)
		}
	}
}
`),
		{handlers, "	w.Header().Set(\"Location\"", "	audit.Tasks <- audit.Task{Line: note.Title, In: session}\n	w.Header().Set(\"Location\""},
		imports(handlers, "example.com/demo/internal/audit"),
		{serve, "	s.warn()\n", "	s.warn()\n	go audit.Write(ctx)\n"},
		imports(serve, "example.com/demo/internal/audit"),
	}},

	// Lists.
	{name: "sessions are appended to a list", source: "NP15", edits: []edit{
		code("internal/httpapi/recent.go", `
var recent struct {
	sync.Mutex
	all []any // what to close at the end
}

func remember(session *nopool.Session) {
	recent.Lock()
	defer recent.Unlock()
	recent.all = append(recent.all, session)
}
`),
		{handlers, "	page, err := notes.List(", "	remember(session)\n	page, err := notes.List("},
	}},
	{name: "what has still to be done is appended to a list", source: "NP15", edits: []edit{
		code("internal/httpapi/later.go", `
type todo struct {
	mu    sync.Mutex
	steps []func(context.Context) error
}

var later todo

func (t *todo) add(step func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps = append(t.steps, step)
}
`),
		{handlers, "	w.WriteHeader(http.StatusNoContent)\n", `	later.add(func(ctx context.Context) error {
		_, err := session.Exec(ctx, "insert into audit (line) values ('deleted')")
		return err
	})
	w.WriteHeader(http.StatusNoContent)
`},
		imports(handlers, "context"),
	}},
	{name: "sessions are kept by their caller's name", source: "NP15", edits: []edit{
		code("internal/httpapi/callers.go", `
// callers has what each caller read last.
type callers map[string]notes.Queries

var known = callers{}

func (c callers) serve(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	c[r.Header.Get("X-User")] = session
	page, err := notes.List(r.Context(), c[r.Header.Get("X-User")], 1, 0)
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /mine", s.InSession(known.serve))`),
	}},
}
