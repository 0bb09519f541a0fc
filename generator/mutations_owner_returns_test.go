package generator_test

// ownerReturns are edits of the owner's own code in which a function, a variable with one,
// or a value of the owner's own stands between what breaks a rule and where it does.
var ownerReturns = []mutation{
	{name: "a helper returns the text of an error to a client", source: "NP24", edits: []edit{
		code("internal/httpapi/reason.go", `
func reason(err error) string { return strings.ToLower(err.Error()) }

func touch(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	if _, err := session.Exec(r.Context(), "update notes set updated_at = now()"); err != nil {
		return newError(http.StatusConflict, "failed", reason(err))
	}
	return nil
}

var _ SessionHandler = touch
`),
	}},
	{name: "a helper makes an answer of the text of an error", source: "NP24", edits: []edit{
		code("internal/httpapi/failure.go", `
type failure struct{ Message string }

func failureOf(err error) failure { return failure{Message: err.Error()} }

func touch(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	if _, err := session.Exec(r.Context(), "update notes set updated_at = now()"); err != nil {
		text, _ := json.Marshal(failureOf(err))
		_, err = w.Write(text)
		return err
	}
	return nil
}

var _ SessionHandler = touch
`),
	}},
	{name: "a method returns the engine's counters to a handler", source: "NP24", edits: []edit{
		code("internal/httpapi/load.go", `
func (s *Server) load() map[string]int {
	now := s.DB.Snapshot()
	return map[string]int{"in_use": now.InUse}
}

func (s *Server) showLoad(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.load()) }

var _ = (*Server).showLoad
`),
	}},
	{name: "a function returns a setting of the session", source: "NP16", edits: []edit{
		code("internal/ledger/tenant.go", `
func path(tenant string) string { return "set search_path to " + pgx.Identifier{tenant}.Sanitize() }

// Enter goes to a tenant's tables.
func Enter(ctx context.Context, session *nopool.Session, tenant string) error {
	_, err := session.Exec(ctx, path(tenant))
	return err
}
`),
	}},
	{name: "a method returns a lock of the session", source: "NP16", edits: []edit{
		code("internal/ledger/lock.go", `
type lock int64

func (l lock) statement() (sql string, args []any) { return "select pg_advisory_lock($1)", []any{int64(l)} }

// Alone waits until nobody else counts.
func Alone(ctx context.Context, session *nopool.Session) error {
	sql, args := lock(7).statement()
	_, err := session.Exec(ctx, sql, args...)
	return err
}
`),
	}},
	{name: "a job's method starts its work, which has the session", source: "NP03", edits: []edit{
		code("internal/ledger/job.go", `
type job struct {
	name string
	work func(context.Context) error
}

func (j job) start(ctx context.Context) {
	go func() { _ = j.work(ctx) }()
}

// Start does work beside its caller.
func Start(ctx context.Context, session *nopool.Session) {
	j := job{"count", func(ctx context.Context) error {
		_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
		return err
	}}
	j.start(ctx)
}
`),
	}},
	{name: "a job's method keeps its work, which has the session", source: "NP15", edits: []edit{
		code("internal/ledger/kept.go", `
type step func(context.Context) error

var steps []step

func (s step) later() { steps = append(steps, s) }

// Later leaves work to somebody.
func Later(session *nopool.Session) {
	work := step(func(ctx context.Context) error { return session.Rollback(ctx) })
	work.later()
}
`),
	}},
	{name: "sessions are copied into a map of the package", source: "NP15", edits: []edit{
		code("internal/ledger/known.go", `
var known = map[string]any{}

// Keep keeps the last session.
func Keep(session *nopool.Session) {
	maps.Copy(known, map[string]any{"last": session})
}
`),
	}},
	{name: "sessions are copied into an array of the package", source: "NP15", edits: []edit{
		code("internal/ledger/slots.go", `
var slots [4]any

// Keep keeps the first session.
func Keep(session *nopool.Session) { copy(slots[:], []any{session}) }
`),
	}},
	{name: "sessions are the keys of a map of the package", source: "NP15", edits: []edit{
		code("internal/ledger/used.go", `
var inUse = map[any]time.Time{}

// Keep notes since when a session is used.
func Keep(session *nopool.Session) { inUse[session] = time.Now() }
`),
	}},
	{name: "functions with a session are the keys of a map of a field", source: "NP15", edits: []edit{
		code("internal/ledger/names.go", `
// Names says what things are called.
type Names struct{ of map[any]string }

// Call gives a session a name.
func (n *Names) Call(session *nopool.Session, name string) {
	n.of[&struct{ end func(context.Context) error }{session.Rollback}] = name
}
`),
	}},
	{name: "a deferred function reads the rest of the body", source: "NP13", edits: []edit{
		code("internal/httpapi/rest.go", `
func storeRest(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	defer func() { _, _ = io.Copy(io.Discard, r.Body) }()
	_, err := session.Exec(r.Context(), "insert into uploads default values")
	return err
}

var _ SessionHandler = storeRest
`),
	}},
	{name: "a deferred call reads the rest of a reader", source: "NP13", edits: []edit{
		code("internal/httpapi/rest.go", `
func storeLines(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	lines := bufio.NewReader(r.Body)
	defer lines.Discard(1 << 20)
	_, err := session.Exec(r.Context(), "insert into uploads default values")
	return err
}

var _ SessionHandler = storeLines
`),
	}},
	{name: "a function in a variable reads the body after the first query", source: "NP13", edits: []edit{
		code("internal/httpapi/lazy.go", `
func storeLazily(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	read := func() ([]byte, error) { return io.ReadAll(r.Body) }
	if _, err := session.Exec(r.Context(), "insert into uploads default values"); err != nil {
		return err
	}
	_, err := read()
	return err
}

var _ SessionHandler = storeLazily
`),
	}},
	{name: "a part of an upload is read after the first query", source: "NP13", edits: []edit{
		code("internal/httpapi/part.go", `
func storePart(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	part, err := multipart.NewReader(r.Body, "mixed").NextPart()
	if err != nil {
		return err
	}
	if _, err := session.Exec(r.Context(), "insert into uploads (name) values ($1)", part.FileName()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, part)
	return err
}

var _ SessionHandler = storePart
`),
	}},
	{name: "psql, field by field", source: "NP03", edits: []edit{
		code("internal/ledger/vacuum.go", `
// Vacuum frees what is left of old notes.
func Vacuum() error {
	var run exec.Cmd
	run.Path = "/usr/bin/psql"
	run.Args = append(run.Args, "vacuum")
	return run.Run()
}
`),
	}},
	{name: "pg_dump in the arguments of a shell", source: "NP03", edits: []edit{
		code("internal/ledger/dump.go", `
// Dump writes all notes.
func Dump(to io.Writer) error {
	run := &exec.Cmd{Path: "/bin/sh", Stdout: to}
	run.Args = []string{"sh", "-c", "pg_dump --table notes"}
	return run.Run()
}
`),
	}},
	{name: "a session of a method as a value has no end", source: "NP04", edits: []edit{
		code("internal/ledger/begin.go", `
// Count counts the notes.
func Count(ctx context.Context, db *nopool.DB) (n int, err error) {
	begin := db.Session
	session := begin(ctx, nopool.TxOptions{ReadOnly: true})
	if err := session.QueryRow(ctx, "select count(*) from notes").Scan(&n); err != nil {
		return 0, err
	}
	return n, session.Commit(ctx)
}
`),
	}},
	{name: "a session of a function in a field has no end", source: "NP04", edits: []edit{
		code("internal/ledger/field.go", `
// Counter counts.
type Counter struct {
	Begin func(context.Context, nopool.TxOptions) *nopool.Session
}

// Count counts the notes.
func (c Counter) Count(ctx context.Context) (n int, err error) {
	session := c.Begin(ctx, nopool.TxOptions{ReadOnly: true})
	if err := session.QueryRow(ctx, "select count(*) from notes").Scan(&n); err != nil {
		return 0, err
	}
	return n, session.Commit(ctx)
}
`),
	}},
}
