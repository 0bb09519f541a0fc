package generator_test

// ownerHelpers are edits in which code of the owner's own carries a session away: what
// starts, keeps and wraps.
var ownerHelpers = []mutation{
	{name: "a helper starts the goroutine", source: "NP03", edits: []edit{
		code("internal/background/background.go", `
// Do runs f while the caller goes on.
func Do(f func()) { go f() }
`),
		{handlers, "	w.Header().Set(\"Location\"", `	background.Do(func() {
		_, _ = session.Exec(r.Context(), "insert into audit (note) values ($1)", note.ID)
	})
	w.Header().Set("Location"`},
		imports(handlers, "example.com/demo/internal/background"),
	}},
	{name: "a helper of any type keeps what it is given", source: "NP15", edits: []edit{
		code("internal/cache/cache.go", `
// Cache keeps values by their names.
type Cache[V any] struct {
	mu     sync.Mutex
	values map[string]V
}

// Put keeps a value.
func (c *Cache[V]) Put(name string, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = map[string]V{}
	}
	c.values[name] = value
}

// Get returns what was kept.
func (c *Cache[V]) Get(name string) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.values[name]
}
`),
		code("internal/httpapi/mine.go", `
var mine cache.Cache[any]

func myNotes(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	mine.Put(r.RemoteAddr, session)
	page, err := notes.List(r.Context(), mine.Get(r.RemoteAddr).(notes.Queries), 1, 0)
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /mine", s.InSession(myNotes))`),
	}},
	{name: "a wait group runs queries side by side", source: "NP03", edits: []edit{
		code("internal/httpapi/both.go", `
type counter struct {
	http.ResponseWriter
	session *nopool.Session
}

func (c counter) count(ctx context.Context, of string, to *int64) {
	_ = c.session.QueryRow(ctx, "select count(*) from "+of).Scan(to)
}

func both(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	var counts [2]int64
	var group sync.WaitGroup
	for i, table := range []string{"notes", "audit"} {
		c := counter{w, session}
		group.Add(1)
		go func() {
			defer group.Done()
			c.count(r.Context(), table, &counts[i])
		}()
	}
	group.Wait()
	writeJSON(w, http.StatusOK, counts)
	return nil
}
`),
		route(`mux.Handle("GET /both", s.InSession(both))`),
	}},
	{name: "a context that lives on carries the session", source: "NP15", edits: []edit{
		code("internal/httpapi/watch.go", `
type watching struct{ ctx context.Context }

type sessionKey struct{}

var watched watching

func watch(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	watched.ctx = context.WithValue(context.WithoutCancel(r.Context()), sessionKey{}, session)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (w watching) titles() (notes.Page, error) {
	return notes.List(w.ctx, w.ctx.Value(sessionKey{}).(notes.Queries), 10, 0)
}
`),
		route(`mux.Handle("POST /watch", s.InSession(watch))`),
	}},
	{name: "an iterator over rows is kept for the next request", source: "NP15", edits: []edit{
		code("internal/httpapi/pages.go", `
type pages struct {
	mu   sync.Mutex
	next iter.Seq2[int64, error]
}

func ids(r *http.Request, session *nopool.Session) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		rows, err := session.Query(r.Context(), "select id from notes order by id")
		if err != nil {
			yield(0, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			err := rows.Scan(&id)
			if !yield(id, err) {
				return
			}
		}
	}
}

func (p *pages) serve(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = ids(r, session)
	}
	for id, err := range p.next {
		return answerWith(w, id, err)
	}
	return notFound
}
`),
		route(`mux.Handle("GET /pages", s.InSession(new(pages).serve))`),
	}},
	{name: "a group of one's own runs functions side by side", source: "NP03", edits: []edit{
		code("internal/parallel/parallel.go", `
// Group waits for functions that run side by side.
type Group struct{ waiting sync.WaitGroup }

// Run runs f beside the caller.
func (g *Group) Run(f func(context.Context), ctx context.Context) {
	g.waiting.Add(1)
	go func() {
		defer g.waiting.Done()
		f(ctx)
	}()
}

// Wait waits for all of them.
func (g *Group) Wait() { g.waiting.Wait() }
`),
		code("internal/httpapi/both.go", `
type counts struct {
	in    notes.Queries
	notes notes.Page
}

func (c *counts) first(ctx context.Context) { c.notes, _ = notes.List(ctx, c.in, 1, 0) }

func both(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	var all parallel.Group
	c := counts{in: session}
	all.Run(c.first, r.Context())
	all.Run(c.first, r.Context())
	all.Wait()
	return answerWith(w, c.notes, nil)
}
`),
		route(`mux.Handle("GET /both", s.InSession(both))`),
	}},
	{name: "a pointer to the session is kept", source: "NP15", edits: []edit{
		code("internal/httpapi/current.go", `
type current struct{ of any }

var now current

func hold(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	now = current{&session}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
`),
		route(`mux.Handle("POST /hold", s.InSession(hold))`),
	}},
	{name: "a generic helper appends", source: "NP15", edits: []edit{
		code("internal/httpapi/kept.go", `
var kept []any

func keep[T any](to *[]T, v T) { *to = append(*to, v) }

func keepNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	keep[any](&kept, session)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
`),
		route(`mux.Handle("POST /keep", s.InSession(keepNote))`),
	}},
	{name: "a service around a session behind an interface of its own", source: "NP15", edits: []edit{
		code("internal/httpapi/service.go", `
type finder interface {
	Find(ctx context.Context, id int64) (notes.Note, error)
}

type store struct{ in notes.Queries }

func (s store) Find(ctx context.Context, id int64) (notes.Note, error) { return notes.Get(ctx, s.in, id) }

var find finder

func findNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	if find == nil {
		find = store{session}
	}
	note, err := find.Find(r.Context(), 1)
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("GET /find", s.InSession(findNote))`),
	}},
}
