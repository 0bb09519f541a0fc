package generator_test

// harmlessRelatives are what looks like a broken rule, and is none.
var harmlessRelatives = []harmlessEdit{
	{name: "an iterator over rows, used inside its handler", edits: []edit{
		code("internal/httpapi/titles.go", `
func titles(ctx context.Context, session *nopool.Session) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		rows, err := session.Query(ctx, "select title from notes order by id")
		if err != nil {
			yield("", err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var title string
			err := rows.Scan(&title)
			if !yield(title, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield("", err)
		}
	}
}

func listTitles(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	for title, err := range titles(r.Context(), session) {
		if err != nil {
			return err
		}
		fmt.Fprintln(w, title)
	}
	return nil
}
`),
		route(`mux.Handle("GET /titles", s.InSession(listTitles))`),
	}},
	{name: "an iterator in the package of the notes", edits: []edit{
		{queries, "func one(", `// All returns every note, one at a time.
func All(ctx context.Context, q Queries) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		for after := int64(0); ; {
			page, err := List(ctx, q, MaxLimit, after)
			for _, note := range page.Notes {
				if !yield(note, nil) {
					return
				}
			}
			if err != nil {
				yield(Note{}, err)
				return
			}
			if page.Next == nil {
				return
			}
			after = *page.Next
		}
	}
}

func one(`},
		imports(queries, "iter"),
		code("internal/httpapi/all.go", `
func (s *Server) allNotes(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	all, n := notes.All(r.Context(), session), 0
	for note, err := range all {
		if err != nil {
			return err
		}
		n += len(note.Title)
	}
	writeJSON(w, http.StatusOK, n)
	return nil
}
`),
		route(`mux.Handle("GET /all", s.InSession(s.allNotes))`),
	}},
	{name: "more attributes in the access log", log: true, edits: []edit{
		{middleware, `"path", r.URL.Path,
		"status", w.status, "bytes", w.bytes,`, `"route", r.Pattern, "path", r.URL.Path,
		"agent", r.UserAgent(), "status", w.status, "bytes", w.bytes,`},
	}},
	{name: "a logger with the name of the program", log: true, edits: []edit{
		{serve, "slog.New(httpapi.WithCorrelation(handler))", `slog.New(httpapi.WithCorrelation(handler)).With("app", cfg.AppName, "env", cfg.Env)`},
	}},
	{name: "loggers of their own for each part", log: true, edits: []edit{
		{serve, "	cfg.DB.Logger = s.log\n", "	cfg.DB.Logger = s.log.With(\"part\", \"database\")\n"},
		{serve, "DB: s.db, Logger: s.log,", "DB: s.db, Logger: s.log.With(\"part\", \"http\"),"},
	}},
	{name: "steps in a table that runs at once", edits: []edit{
		code("internal/httpapi/setup.go", `
func setUp(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	ctx := r.Context()
	add := func(title string) error {
		_, err := notes.Create(ctx, session, notes.Draft{Title: title})
		return err
	}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"first", func() error { return add("first") }},
		{"second", func() error { return add("second") }},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
`),
		route(`mux.Handle("POST /setup", s.InSession(setUp))`),
	}},
	{name: "a repository made for one request", edits: []edit{
		code("internal/httpapi/repository.go", `
type repository struct{ db notes.Queries }

func newRepository(db notes.Queries) *repository { return &repository{db} }

func (r repository) first(ctx context.Context) (notes.Page, error) { return notes.List(ctx, r.db, 1, 0) }

func firstNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	page, err := newRepository(session).first(r.Context())
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /first", s.InSession(firstNote))`),
	}},
	{name: "settings for the transaction alone", edits: []edit{
		{handlers, "	note, err := notes.Update(", `	if _, err := session.Exec(r.Context(), "set local statement_timeout = '2s'"); err != nil {
		return err
	}
	const caller = "select set_config('app.caller', $1, true)"
	if _, err := session.Exec(r.Context(), caller, r.Header.Get("X-User")); err != nil {
		return err
	}
	note, err := notes.Update(`},
	}},
	{name: "a word in SQL that sets nothing", edits: []edit{
		code("internal/reports/reports.go", `
// Tidy empties what is long, and returns the settings that end in time.
func Tidy(ctx context.Context, session *nopool.Session, table, change string) error {
	const offset = "settled"
	if _, err := session.Exec(ctx, "update "+table+" set "+change, "short"); err != nil {
		return err
	}
	_, err := session.Exec(ctx, `+"`\n		update notes set\n			body = ''\n		where length(body) > 9000 and title <> $1`"+`, offset)
	return err
}
`),
	}},
	{name: "a session with a rollback in a deferred function", edits: []edit{
		code("internal/ledger/ledger.go", `
// Close stores that a month is closed.
func Close(ctx context.Context, db *nopool.DB, month time.Month) (err error) {
	session := db.Session(ctx, nopool.TxOptions{Isolation: pgx.Serializable})
	defer func() {
		if rollbackErr := session.Rollback(ctx); err != nil {
			err = errors.Join(err, rollbackErr)
		}
	}()
	if _, err := session.Exec(ctx, "insert into notes (title, body) values ($1, '')", month.String()); err != nil {
		return err
	}
	return session.Commit(ctx)
}
`),
	}},
	{name: "rows that are read in other ways", edits: []edit{
		code("internal/ledger/rows.go", `
// Sizes returns how long the titles are.
func Sizes(ctx context.Context, session *nopool.Session) (sizes []int, err error) {
	rows, err := session.Query(ctx, "select length(title) from notes")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var size int
		if err := rows.Scan(&size); err != nil {
			return nil, err
		}
		sizes = append(sizes, size)
	}
	return sizes, rows.Err()
}

// Sum adds up what Sizes returns one by one.
func Sum(ctx context.Context, session *nopool.Session) (sum int, err error) {
	rows, err := session.Query(ctx, "select length(title) from notes")
	if err != nil {
		return 0, err
	}
	var size int
	_, err = pgx.ForEachRow(rows, []any{&size}, func() error {
		sum += size
		return nil
	})
	return sum, err
}

// Titles has a function that takes the rows over.
func Titles(ctx context.Context, session *nopool.Session) ([]string, error) {
	rows, err := session.Query(ctx, "select title from notes")
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

func collect(rows pgx.Rows) ([]string, error) { return pgx.CollectRows(rows, pgx.RowTo[string]) }

// Batch closes what it sends.
func Batch(ctx context.Context, session *nopool.Session) error {
	batch := &pgx.Batch{}
	batch.Queue("delete from notes where title = ''")
	return session.SendBatch(ctx, batch).Close()
}
`),
	}},
	{name: "a job at every tick, whatever became of the last", edits: []edit{
		code("cmd/demo/tick.go", `
func (s *service) tick(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		}
		err := s.db.RunWithRetry(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := session.Exec(ctx, "delete from notes where updated_at < now() - interval '1 year'")
			return err
		})
		if err != nil {
			s.log.WarnContext(ctx, "notes were not purged", "error", nopool.Describe(err))
		}
	}
}
`),
		{serve, "	var started []hook\n", "	go s.tick(ctx)\n	var started []hook\n"},
	}},
	{name: "one session for each of many, until one fails", edits: []edit{
		code("internal/ledger/all.go", `
// StoreAll stores notes, each for itself.
func StoreAll(ctx context.Context, db *nopool.DB, drafts []notes.Draft) error {
	for _, draft := range drafts {
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := notes.Create(ctx, session, draft)
			return err
		})
		if err != nil {
			return fmt.Errorf("store a note: %w", err)
		}
	}
	return nil
}
`),
	}},
	{name: "one session for each of many, those left out that fail", edits: []edit{
		code("internal/ledger/most.go", `
// StoreMost stores notes, each for itself, and says how many.
func StoreMost(ctx context.Context, db *nopool.DB, drafts []notes.Draft) (stored int) {
	for _, draft := range drafts {
		if len(draft.Problems()) > 0 {
			continue
		}
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			if _, err := session.Exec(ctx, "savepoint before"); err != nil {
				return err
			}
			_, err := notes.Create(ctx, session, draft)
			if err != nil {
				_, err = session.Exec(ctx, "rollback to savepoint before")
			}
			return err
		})
		if err != nil {
			continue
		}
		stored++
	}
	return stored
}
`),
	}},
	{name: "a function that calls itself for what is below", edits: []edit{
		code("internal/ledger/tree.go", `
// Branch is a note and what is below it.
type Branch struct {
	Draft notes.Draft
	Below []Branch
}

// StoreTree stores each in a transaction of its own.
func StoreTree(ctx context.Context, db *nopool.DB, tree Branch) error {
	err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := notes.Create(ctx, session, tree.Draft)
		return err
	})
	if err != nil {
		return err
	}
	for _, branch := range tree.Below {
		if err := StoreTree(ctx, db, branch); err != nil {
			return err
		}
	}
	return nil
}
`),
	}},
	{name: "the program's own context in a variable", edits: []edit{
		code("cmd/demo/life.go", `
var life = context.Background()

// begin makes the life of all background work that of ctx.
func begin(ctx context.Context) (end context.CancelFunc) {
	life, end = context.WithCancel(ctx)
	return end
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	defer begin(ctx)()\n"},
	}},
	{name: "what is declared by var", edits: []edit{
		code("internal/ledger/declared.go", `
// Both reads what two transactions see.
func Both(ctx context.Context, db *nopool.DB) (counts [2]int, err error) {
	var first, second = db.Session(ctx, nopool.TxOptions{ReadOnly: true}), db.Session(ctx, nopool.TxOptions{ReadOnly: true})
	defer first.Rollback(ctx)
	defer second.Rollback(ctx)
	var row = first.QueryRow(ctx, "select count(*) from notes")
	if err := row.Scan(&counts[0]); err != nil {
		return counts, err
	}
	return counts, second.QueryRow(ctx, "select count(*) from notes").Scan(&counts[1])
}
`),
	}},
	{name: "a text of one's own in an error", edits: []edit{
		code("internal/httpapi/move.go", `
func move(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	if most := int64(1000); id > most {
		detail := fmt.Sprintf("note %d is too far: at most %v can be moved", id, most)
		return newError(http.StatusConflict, "too_far", detail)
	}
	note, err := notes.Get(r.Context(), session, id)
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("GET /move/{id}", s.InSession(move))`),
	}},
	{name: "a line in the log about a note", edits: []edit{
		code("internal/httpapi/seen.go", `
func (s *Server) seen(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	log := s.Logger.With("note", id)
	note, err := notes.Get(r.Context(), session, id)
	if err != nil {
		log.DebugContext(r.Context(), "a note was not seen", "error", nopool.Describe(err))
		return err
	}
	log.InfoContext(r.Context(), "a note was seen", "characters", len(note.Body))
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("GET /seen/{id}", s.InSession(s.seen))`),
	}},
	{name: "other programs and other servers", edits: []edit{
		code("internal/others/others.go", `
// Convert makes a PNG of an image.
func Convert(ctx context.Context, from io.Reader, to io.Writer) error {
	run := exec.CommandContext(ctx, "convert", "-", "png:-")
	run.Stdin, run.Stdout = from, to
	return run.Run()
}

// Count tells statsd, over UDP.
func Count(ctx context.Context, name string) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:8125")
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s:1|c", name)
}
`),
	}},
	{name: "the counters on an address of this machine", edits: []edit{
		code("cmd/demo/metrics.go", `
// metrics answers Prometheus, on an address that only this machine reaches.
func (s *service) metrics(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	own := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := s.db.Snapshot()
		fmt.Fprintf(w, "db_sessions_in_use %d\ndb_sessions_opened_total %d\n", now.InUse, now.Opened)
	})}
	go func() { _ = own.Serve(listener) }()
	context.AfterFunc(ctx, func() { _ = own.Close() })
	return nil
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	if err := s.metrics(ctx); err != nil {\n		return err\n	}\n"},
	}},
	{name: "what a handler asks of its client before a transaction", edits: []edit{
		code("internal/httpapi/signed.go", `
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (user string, ok bool) {
	if user = r.Header.Get("X-User"); user == "" {
		s.problem(w, r, newError(http.StatusUnauthorized, "unauthorized", "Say who you are"))
	}
	return user, user != ""
}

func (s *Server) signed(w http.ResponseWriter, r *http.Request) {
	user, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	err := s.DB.Run(r.Context(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		_, err := notes.Create(ctx, session, notes.Draft{Title: user})
		return err
	})
	if err != nil {
		s.problem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
`),
		route(`mux.HandleFunc("POST /signed", s.signed)`),
	}},
	{name: "values that are words of SQL, and SQL in parts", edits: []edit{
		code("internal/ledger/states.go", `
// Abort notes that a job was given up.
func Abort(ctx context.Context, session *nopool.Session, id int64) error {
	if _, err := session.Exec(ctx, "update jobs set state = $1 where id = $2", "abort", id); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue("insert into steps (job, step) values (@job, @step)", pgx.NamedArgs{"job": id, "step": "rollback"})
	batch.Queue("insert into steps (job, step) values ($1, $2)", id, "end")
	batch.Queue("update jobs " + "set steps = steps + 2 where id = $1 and " +
		"begin < now()", id)
	if err := session.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	_, err := session.Exec(ctx, "select case when state = 'abort' then 1 else 0 "+"end from jobs")
	return err
}
`),
	}},
	{name: "a row that is traced, and one that was never queried", edits: []edit{
		code("internal/ledger/traced.go", `
type tracedRow struct {
	pgx.Row
	span string
}

func (r *tracedRow) Scan(dest ...any) error {
	if err := r.Row.Scan(dest...); err != nil {
		return fmt.Errorf("%s: %w", r.span, err)
	}
	return nil
}

func failedRow(err error) pgx.Row { return &tracedRow{span: err.Error()} }

var noRow = failedRow(pgx.ErrNoRows)

// First is the first row of a query.
func First(ctx context.Context, session *nopool.Session, sql string, args ...any) pgx.Row {
	if sql == "" {
		return noRow
	}
	row := session.QueryRow(ctx, sql, args...)
	return &tracedRow{Row: row, span: sql}
}
`),
	}},
	{name: "another service is told of a failure", edits: []edit{
		code("internal/others/told.go", `
// Tell tells a service of a failure, and returns when to tell it again.
func Tell(ctx context.Context, to string, failure error) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(failure.Error()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "text/plain")
	request.Header["X-Failure"] = []string{failure.Error()}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	return answer.Header.Get("Retry-After"), answer.Body.Close()
}
`),
	}},
	{name: "a loop and a goto that a failure leaves by", edits: []edit{
		code("internal/ledger/empty.go", `
// Empty deletes all notes, a thousand at a time.
func Empty(ctx context.Context, db *nopool.DB) error {
	for {
		var deleted int64
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			tag, err := session.Exec(ctx, "delete from notes where id in (select id from notes limit 1000)")
			deleted = tag.RowsAffected()
			return err
		})
		if err != nil {
			return err
		} else if deleted == 0 {
			break
		}
	}
	count := func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into counts values (0)")
		return err
	}
	err := db.Run(ctx, nopool.TxOptions{}, count)
	if err != nil {
		goto failed
	}
	return nil
failed:
	return fmt.Errorf("count the notes: %w", err)
}
`),
	}},
	{name: "YAML that is not deployed", edits: []edit{
		{".gitlab-ci.yml", "", `test:
  services: [postgres:17]
  variables:
    POSTGRES_HOST_AUTH_METHOD: trust
    TEST_DATABASE_URL: postgres://postgres@postgres.internal:5432/postgres?sslmode=disable
  script: [go test ./...]
`},
		{"sqlc.yaml", "", `version: "2"
sql:
  - engine: postgresql
    database:
      uri: postgres://postgres:x@localhost:5432/db
`},
	}},
	{name: "another project's address in the example", edits: []edit{
		{".env.example", "DATABASE_URL='postgres://postgres.PROJECTREF:PASSWORD@aws-0-REGION.", "DATABASE_URL='postgres://service.abcdefghij:PASSWORD@aws-0-eu-central-1."},
	}},
	{name: "a helper with any result of a transaction", edits: []edit{
		code("internal/ledger/intx.go", `
func InTx[T any](ctx context.Context, db *nopool.DB, f func(context.Context, *nopool.Session) (T, error)) (out T, err error) {
	err = db.RunWithRetry(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) (err error) {
		out, err = f(ctx, session)
		return err
	})
	return out, err
}

func CountInTx(ctx context.Context, db *nopool.DB) (int, error) {
	return InTx(ctx, db, func(ctx context.Context, session *nopool.Session) (n int, err error) {
		err = session.QueryRow(ctx, "select count(*) from notes").Scan(&n)
		return n, err
	})
}
`),
	}},
	{name: "queries that are given their session, as sqlc writes them", edits: []edit{
		code("internal/queries/queries.go", `
type DBTX interface {
	Exec(context.Context, string, ...interface{}) (pgconn.CommandTag, error)
	Query(context.Context, string, ...interface{}) (pgx.Rows, error)
	QueryRow(context.Context, string, ...interface{}) pgx.Row
}

func New() *Queries { return &Queries{} }

type Queries struct{}

type Querier interface {
	CountNotes(ctx context.Context, db DBTX) (int64, error)
	ListTitles(ctx context.Context, db DBTX, limit int32) ([]string, error)
}

var _ Querier = (*Queries)(nil)

func (q *Queries) CountNotes(ctx context.Context, db DBTX) (int64, error) {
	row := db.QueryRow(ctx, "select count(*) from notes")
	var count int64
	err := row.Scan(&count)
	return count, err
}

func (q *Queries) ListTitles(ctx context.Context, db DBTX, limit int32) ([]string, error) {
	rows, err := db.Query(ctx, "select title from notes limit $1", limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	items := []string{}
	for rows.Next() {
		var title string
		if err := rows.Scan(&title); err != nil {
			return nil, err
		}
		items = append(items, title)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return items, nil
}

type Service struct{ q Querier }

func (s *Service) Titles(ctx context.Context, session *nopool.Session) ([]string, error) {
	if n, err := s.q.CountNotes(ctx, session); err != nil || n == 0 {
		return nil, err
	}
	return s.q.ListTitles(ctx, session, 10)
}
`),
	}},
	{name: "middleware that knows who asks, around routes of its own", edits: []edit{
		code("internal/httpapi/admin.go", `
type userKey struct{}

type user struct{ ID, Name string }

func (u user) LogValue() slog.Value { return slog.GroupValue(slog.String("id", u.ID)) }

func (s *Server) withUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := user{ID: r.Header.Get("X-User")}
		if from.ID == "" {
			s.problem(w, r, newError(http.StatusUnauthorized, "unauthorized", "Say who you are"))
			return
		}
		ctx := context.WithValue(r.Context(), userKey{}, from)
		s.Logger.DebugContext(ctx, "authenticated", "user", from, "agent", r.UserAgent())
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /users/{id}", s.InSession(showUser))
	mux.Handle("DELETE /users/{id}", s.InSession(byID(notes.Get)))
	return http.StripPrefix("/admin", s.withUser(mux))
}

func showUser(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	from, _ := r.Context().Value(userKey{}).(user)
	var name string
	if err := session.QueryRow(r.Context(), "select name from users where id = $1", from.ID).Scan(&name); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"name": name})
	return nil
}

func byID[T any](find func(ctx context.Context, q notes.Queries, id int64) (T, error)) SessionHandler {
	return func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		id, err := noteID(r)
		if err != nil {
			return err
		}
		found, err := find(r.Context(), session, id)
		return answerWith(w, found, err)
	}
}

var _ = (*Server).admin
`),
	}},
	{name: "a worker with a queue", edits: []edit{
		code("internal/worker/worker.go", `
type Worker struct {
	db    *nopool.DB
	log   *slog.Logger
	queue chan job
	done  sync.WaitGroup
}

type job struct {
	id  int64
	run func(ctx context.Context, session *nopool.Session) error
}

func New(db *nopool.DB, log *slog.Logger) *Worker {
	return &Worker{db: db, log: log, queue: make(chan job, 16)}
}

func (w *Worker) Start(ctx context.Context) {
	w.done.Go(func() {
		for j := range w.queue {
			if err := w.once(ctx, j); err != nil {
				w.log.WarnContext(ctx, "a job failed", "job", j.id, "error", nopool.Describe(err))
				continue
			}
			w.log.DebugContext(ctx, "a job is done", "job", j.id)
		}
	})
}

func (w *Worker) once(ctx context.Context, j job) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return w.db.RunWithRetry(ctx, nopool.TxOptions{}, j.run)
}

func (w *Worker) Add(id int64, title string) {
	w.queue <- job{id, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "update notes set title = $2 where id = $1", id, title)
		return err
	}}
}

func (w *Worker) Stop() {
	close(w.queue)
	w.done.Wait()
}
`),
	}},
	{name: "what a client uploads is read first", edits: []edit{
		code("internal/httpapi/upload.go", `
func upload(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	defer r.Body.Close()
	decoder := json.NewDecoder(r.Body)
	var drafts []notes.Draft
	for decoder.More() {
		var draft notes.Draft
		if err := decoder.Decode(&draft); err != nil {
			return malformed
		}
		drafts = append(drafts, draft)
	}
	for _, draft := range drafts {
		if _, err := notes.Create(r.Context(), session, draft); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func uploadCSV(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return err
	}
	records, n := csv.NewReader(bytes.NewReader(raw)), 0
	for {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return malformed
		}
		if _, err := session.Exec(r.Context(), "insert into notes (title, body) values ($1, '')", record[0]); err != nil {
			return err
		}
		n++
	}
	writeJSON(w, http.StatusOK, n)
	return nil
}

type file struct {
	title string
	body  io.Reader
}

func uploadFile(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	var in file
	in.title, in.body = r.PathValue("title"), r.Body
	data, err := io.ReadAll(in.body)
	if err != nil {
		return err
	}
	if _, err := session.Exec(r.Context(), "insert into uploads (title, data) values ($1, $2)", in.title, data); err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, in.title)
	return nil
}

var _ = []SessionHandler{upload, uploadCSV, uploadFile}
`),
	}},
	{name: "errors of a domain, with texts of their own", edits: []edit{
		code("internal/httpapi/domain.go", `
type fieldError struct{ Field, Reason string }

func (e *fieldError) Error() string { return e.Field + " " + e.Reason }

var errTooMany = errors.New("too many notes")

func domain(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	_, err := session.Exec(r.Context(), "select 1")
	var invalid *fieldError
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &invalid):
		return &Error{Status: 422, Code: "invalid", Detail: invalid.Error(), Fields: []FieldError{{invalid.Field, invalid.Reason}}}
	case errors.As(err, &pgErr) && pgErr.ConstraintName == "notes_title_key":
		return newError(http.StatusConflict, "title_taken", "The title is taken")
	case errors.Is(err, errTooMany):
		return newError(http.StatusConflict, "too_many", errTooMany.Error())
	}
	return err
}

var _ SessionHandler = domain
`),
	}},
	{name: "rows in the hands of others", edits: []edit{
		code("internal/ledger/hands.go", `
type headline struct {
	ID   int64
	Text string
}

func scanheadline(rows pgx.Rows) (t headline, err error) {
	err = rows.Scan(&t.ID, &t.Text)
	return t, err
}

func allHeadlines(ctx context.Context, session *nopool.Session) (all []headline, err error) {
	rows, err := session.Query(ctx, "select id, title from notes")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		t, err := scanheadline(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

func collectEach[T any](rows pgx.Rows, scan func(pgx.Rows) (T, error)) (all []T, err error) {
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

func alsoHeadlines(ctx context.Context, session *nopool.Session) ([]headline, error) {
	rows, err := session.Query(ctx, "select id, title from notes")
	if err != nil {
		return nil, err
	}
	return collectEach(rows, scanheadline)
}

func query(ctx context.Context, session *nopool.Session, sql string, args ...any) (pgx.Rows, error) {
	rows, err := session.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return rows, nil
}

func onceHeadlines(ctx context.Context, session *nopool.Session) ([]headline, error) {
	rows, err := query(ctx, session, "select id, title from notes")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[headline])
}

func firstPulled(ctx context.Context, session *nopool.Session) (first headline, err error) {
	rows, err := session.Query(ctx, "select id, title from notes")
	if err != nil {
		return first, err
	}
	next, stop := iter.Pull2(each(rows))
	defer stop()
	first, err, _ = next()
	return first, err
}

func each(rows pgx.Rows) iter.Seq2[headline, error] {
	return func(yield func(headline, error) bool) {
		defer rows.Close()
		for rows.Next() {
			if !yield(scanheadline(rows)) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(headline{}, err)
		}
	}
}
`),
	}},
	{name: "a failure is noted by another session", edits: []edit{
		code("internal/ledger/noted.go", `
func storeOrNote(ctx context.Context, db *nopool.DB, title string) error {
	err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into notes (title, body) values ($1, '')", title)
		return err
	})
	if err != nil {
		return errors.Join(err, db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := session.Exec(ctx, "insert into failures (title) values ($1)", title)
			return err
		}))
	}
	return nil
}

func note(ctx context.Context, db *nopool.DB, what string) error {
	return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into events (what) values ($1)", what)
		return err
	})
}

func work(ctx context.Context, db *nopool.DB, log *slog.Logger) error {
	if err := note(ctx, db, "began"); err != nil {
		return err
	}
	if err := storeOrNote(ctx, db, "a"); err != nil {
		return errors.Join(err, note(ctx, db, "failed"))
	}
	return note(ctx, db, "done")
}

func poll(ctx context.Context, db *nopool.DB, log *slog.Logger) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			if err := note(ctx, db, "polled"); err != nil {
				log.WarnContext(ctx, "not polled", "error", nopool.Describe(err))
			}
			timer.Reset(time.Minute)
		}
	}
}

func patient(ctx context.Context, db *nopool.DB) error {
	for {
		err := note(ctx, db, "patient")
		if !errors.Is(err, nopool.ErrBusy) {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tick runs once an hour, whatever became of the last.
func tick(ctx context.Context, db *nopool.DB, log *slog.Logger) {
	if err := note(ctx, db, "ticked"); err != nil {
		log.WarnContext(ctx, "no tick", "error", nopool.Describe(err))
	}
	time.AfterFunc(time.Hour, func() { tick(ctx, db, log) })
}
`),
	}},
	{name: "a stream of CSV, and a text that is put together", edits: []edit{
		code("internal/httpapi/csv.go", `
func asCSV(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	rows, err := session.Query(r.Context(), "select id, title from notes order by id")
	if err != nil {
		return err
	}
	defer rows.Close()
	w.Header().Set("Content-Type", "text/csv")
	out := csv.NewWriter(w)
	for rows.Next() {
		var id int64
		var title string
		if err := rows.Scan(&id, &title); err != nil {
			return err
		}
		if err := out.Write([]string{strconv.FormatInt(id, 10), title}); err != nil {
			return err
		}
	}
	out.Flush()
	return errors.Join(rows.Err(), out.Error())
}

func asText(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	var text strings.Builder
	page, err := notes.List(r.Context(), session, 10, 0)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	for _, note := range page.Notes {
		fmt.Fprintf(&text, "%d %s\n", note.ID, note.Title)
	}
	_, err = io.WriteString(w, text.String())
	return err
}

var _ = []SessionHandler{asCSV, asText}
`),
	}},
	{name: "an import that counts what it stored", edits: []edit{
		code("internal/importer/importer.go", `
type importer struct {
	titles []string
	stored int
	log    *slog.Logger
}

func (i *importer) run(ctx context.Context, session *nopool.Session) error {
	batch := &pgx.Batch{}
	for _, title := range i.titles {
		batch.Queue("insert into notes (title, body) values ($1, '')", title).Exec(func(tag pgconn.CommandTag) error {
			i.stored += int(tag.RowsAffected())
			return nil
		})
	}
	return session.SendBatch(ctx, batch).Close()
}

func Import(ctx context.Context, db *nopool.DB, log *slog.Logger, titles []string) (int, error) {
	i := importer{titles: titles, log: log.With("part", "import")}
	if err := db.Run(ctx, nopool.TxOptions{}, i.run); err != nil {
		return 0, fmt.Errorf("import %d: %w", len(titles), err)
	}
	i.log.InfoContext(ctx, "imported", "stored", i.stored)
	return i.stored, nil
}
`),
	}},
	{name: "counters for those who run the service", edits: []edit{
		code("internal/gauges/gauges.go", `
func Watch(ctx context.Context, db *nopool.DB, log *slog.Logger) {
	for range time.Tick(time.Minute) {
		if ctx.Err() != nil {
			return
		}
		now := db.Snapshot()
		log.InfoContext(ctx, "database", slog.Group("sessions", "in_use", now.InUse, "waiting", now.Waiting))
	}
}

type Gauge struct{ Name string; Read func() float64 }

func Gauges(db *nopool.DB) []Gauge {
	return []Gauge{
		{"in_use", func() float64 { return float64(db.Snapshot().InUse) }},
		{"waiting", func() float64 { return float64(db.Snapshot().Waiting) }},
	}
}
`),
	}},
	{name: "a list of checks, and a visitor of rows", edits: []edit{
		code("internal/checks/checks.go", `
type check func(ctx context.Context, session *nopool.Session) (string, error)

var checks = []check{titles, bodies}

func titles(ctx context.Context, session *nopool.Session) (string, error) {
	return "titles", session.QueryRow(ctx, "select 1 from notes where title = ''").Scan(new(int))
}

func bodies(ctx context.Context, session *nopool.Session) (string, error) {
	return "bodies", session.QueryRow(ctx, "select 1 from notes where body = ''").Scan(new(int))
}

func Check(ctx context.Context, session *nopool.Session) (failed []string, err error) {
	for _, c := range checks {
		name, err := c(ctx, session)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		failed = append(failed, name)
	}
	return failed, nil
}

func visit(ctx context.Context, session *nopool.Session, v func(title string) error) error {
	rows, err := session.Query(ctx, "select title from notes")
	if err != nil {
		return err
	}
	var title string
	_, err = pgx.ForEachRow(rows, []any{&title}, func() error { return v(title) })
	return err
}

func Longest(ctx context.Context, session *nopool.Session) (longest string, err error) {
	err = visit(ctx, session, func(title string) error {
		if len(title) > len(longest) {
			longest = title
		}
		return nil
	})
	return longest, err
}
`),
	}},
	{name: "sessions that are ended in other ways", edits: []edit{
		code("internal/ledger/ended.go", `
func begin(ctx context.Context, db *nopool.DB) (session *nopool.Session, end func()) {
	session = db.Session(ctx, nopool.TxOptions{ReadOnly: true})
	return session, func() { _ = session.Rollback(ctx) }
}

func countRecovered(ctx context.Context, db *nopool.DB) (n int, err error) {
	session := db.Session(ctx, nopool.TxOptions{})
	defer func() {
		if recovered := recover(); recovered != nil {
			_ = session.Rollback(ctx)
			panic(recovered)
		}
		_ = session.Rollback(ctx)
	}()
	if err := session.QueryRow(ctx, "select count(*) from notes").Scan(&n); err != nil {
		return 0, err
	}
	return n, session.Commit(ctx)
}

func maybe(ctx context.Context, db *nopool.DB, write bool) error {
	var session *nopool.Session
	if write {
		session = db.Session(ctx, nopool.TxOptions{})
	} else {
		session = db.Session(ctx, nopool.TxOptions{ReadOnly: true})
	}
	defer session.Rollback(ctx)
	if _, err := session.Exec(ctx, "select 1"); err != nil {
		return err
	}
	return session.Commit(ctx)
}
`),
	}},
	{name: "a cache of answers", edits: []edit{
		code("internal/httpapi/cache.go", `
type pageCache struct {
	mu    sync.RWMutex
	pages map[string]notes.Page
}

var cachedPages = pageCache{pages: map[string]notes.Page{}}

func (c *pageCache) get(key string, load func() (notes.Page, error)) (notes.Page, error) {
	c.mu.RLock()
	page, ok := c.pages[key]
	c.mu.RUnlock()
	if ok {
		return page, nil
	}
	page, err := load()
	if err != nil {
		return page, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pages[key] = page
	return page, nil
}

func cachedNotes(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	page, err := cachedPages.get(r.URL.Path, func() (notes.Page, error) { return notes.List(r.Context(), session, 10, 0) })
	return answerWith(w, page, err)
}

var _ SessionHandler = cachedNotes
`),
	}},
	{name: "an update of what is given", edits: []edit{
		code("internal/ledger/change.go", `
// Change changes a note, and logs where it runs.
func Change(ctx context.Context, session *nopool.Session, log *slog.Logger, table, title, body string) error {
	log.InfoContext(ctx, "a change", "region", os.Getenv("FLY_REGION"), "port", os.Getenv("PORT"))
	if _, err := session.Exec(ctx, "update "+pgx.Identifier{table}.Sanitize()+" set title = $1", title); err != nil {
		return err
	}
	var sql strings.Builder
	sql.WriteString("update notes ")
	sql.WriteString("set title = $1")
	if body != "" {
		sql.WriteString(", body = $2")
	}
	_, err := session.Exec(ctx, sql.String(), title, body)
	return err
}
`),
	}},
	{name: "a handler that is busy when the database is", edits: []edit{
		code("internal/httpapi/shed.go", `
func (s *Server) shed(w http.ResponseWriter, r *http.Request) {
	if s.DB.Snapshot().Waiting > 100 {
		s.problem(w, r, busy)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
`),
	}},
	{name: "transactions in loops, and after one that failed", edits: []edit{
		code("internal/loops/loops.go", `
func put(ctx context.Context, db *nopool.DB, what string) error {
	return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into events (what) values ($1)", what)
		return err
	})
}

// Most says how many of many it stored.
func Most(ctx context.Context, db *nopool.DB, titles []string) (stored int) {
	for _, title := range titles {
		if err := put(ctx, db, title); err == nil {
			stored++
		}
	}
	return stored
}

// First stores the first that can be.
func First(ctx context.Context, db *nopool.DB, titles []string) (err error) {
	for _, title := range titles {
		work := func(ctx context.Context, session *nopool.Session) error {
			_, err := session.Exec(ctx, "insert into notes (title, body) values ($1, '')", title)
			return err
		}
		if err = db.Run(ctx, nopool.TxOptions{}, work); err == nil {
			return nil
		}
	}
	return err
}

// Noted stores a note, and that it could not.
func Noted(ctx context.Context, db *nopool.DB, title string) error {
	if err := put(ctx, db, title); err != nil {
		return errors.Join(err, put(ctx, db, "failed: "+title))
	}
	return nil
}

func mayRepeat(err error) bool { return errors.Is(err, nopool.ErrBusy) }

// Patient waits for a free slot.
func Patient(ctx context.Context, db *nopool.DB) (err error) {
	for range 3 {
		if err = put(ctx, db, "patient"); err == nil || !mayRepeat(err) {
			return err
		}
	}
	return err
}

func all(ctx context.Context, db *nopool.DB, titles <-chan string) error {
	for title := range titles {
		if err := put(ctx, db, title); err != nil {
			return err
		}
	}
	return nil
}

// Supervise goes on with what is left where one failed.
func Supervise(ctx context.Context, db *nopool.DB, titles <-chan string) {
	for all(ctx, db, titles) != nil {
		time.Sleep(time.Second)
	}
}

// Wait waits for a first note.
func Wait(ctx context.Context, db *nopool.DB) {
	for {
		err := db.Run(ctx, nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, session *nopool.Session) error {
			return session.QueryRow(ctx, "select 1 from notes").Scan(new(int))
		})
		if err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}
`),
	}},
	{name: "SQL that is put together of parts", edits: []edit{
		code("internal/parts/parts.go", `
func assignments() string { return "set title = $1" }

// Retitle changes a title, in three ways.
func Retitle(ctx context.Context, session *nopool.Session, title string) error {
	set := "set title = $1"
	for _, sql := range []string{
		"update notes " + assignments(),
		"update notes " + set,
		fmt.Sprintf("update notes %s where id = %d", set, 1),
	} {
		if _, err := session.Exec(ctx, sql, title); err != nil {
			return err
		}
	}
	return nil
}
`),
	}},
	{name: "an upload by a function, and words for an error", edits: []edit{
		code("internal/httpapi/words.go", `
type loadError struct{ text string }

func (e *loadError) Error() string { return e.text }

func titleOf(ctx context.Context, session *nopool.Session) (string, error) {
	var title string
	if err := session.QueryRow(ctx, "select title from notes").Scan(&title); err != nil {
		return "", &loadError{err.Error()}
	}
	return title, nil
}

func wordsFor(err error) string {
	if errors.Is(err, pgx.ErrNoRows) {
		return "there is none"
	}
	return "it failed"
}

func isTwice(err error) bool { return err != nil && strings.Contains(err.Error(), "twice") }

func storeTitled(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	defer func() { _ = r.Body.Close() }()
	read := func() ([]byte, error) { return io.ReadAll(r.Body) }
	data, err := read()
	if err != nil {
		return err
	}
	title, err := titleOf(r.Context(), session)
	if err != nil {
		return newError(http.StatusConflict, "failed", wordsFor(err))
	}
	_ = r.Body.Close()
	rest, err := io.ReadAll(bytes.NewReader(data))
	writeJSON(w, http.StatusOK, map[string]any{"title": title, "twice": isTwice(err), "size": len(rest)})
	return err
}

var _ SessionHandler = storeTitled
`),
	}},
	{name: "clients of other services with dialers of their own", edits: []edit{
		code("internal/clients/clients.go", `
// Client asks another service.
func Client() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
	}}
}

// Transport is that of all clients, but for how long it tries.
func Transport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: time.Second}).DialContext
	return transport
}

// Convert makes a picture smaller.
func Convert(from io.Reader, to io.Writer) error {
	run := exec.Cmd{Path: "/usr/bin/convert", Stdin: from}
	run.Args = []string{"convert", "-", "png:-"}
	run.Stdout = to
	return run.Run()
}
`),
	}},
	{name: "functions of one argument, where others have several", edits: []edit{
		code("internal/forms/forms.go", `
func copy(text string) string { return strings.ToUpper(text) }

func nothing(ctx context.Context) (context.Context, nopool.TxOptions, func(context.Context, *nopool.Session) error) {
	return ctx, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		return err
	}
}

func sets() (to, from map[string]int) { return map[string]int{}, map[string]int{copy("a"): 1} }

// Work does nothing.
func Work(ctx context.Context, db *nopool.DB) error {
	maps.Copy(sets())
	return db.Run(nothing(ctx))
}
`),
	}},
	{name: "a job whose method does its work here", edits: []edit{
		code("internal/tasks/tasks.go", `
type job struct {
	name string
	work func(context.Context) error
}

func (j *job) do(ctx context.Context) error {
	if err := j.work(ctx); err != nil {
		return fmt.Errorf("%s: %w", j.name, err)
	}
	return nil
}

// Do does two jobs, one after the other.
func Do(ctx context.Context, session *nopool.Session, more map[string]func(context.Context) error) error {
	jobs := map[string]func(context.Context) error{"count": func(ctx context.Context) error {
		_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
		return err
	}}
	all := maps.Clone(jobs)
	maps.Copy(all, more)
	for name, work := range all {
		j := &job{name, work}
		if err := j.do(ctx); err != nil {
			return err
		}
	}
	return nil
}
`),
	}},
}
