package generator_test

// ownerRepeats are edits of the owner's own code that repeat a transaction whatever its
// error is, in other ways than a loop around Run.
var ownerRepeats = []mutation{
	{name: "Run is called once more where it failed", source: "NP29", edits: []edit{
		code("internal/ledger/store.go", `
// Store stores a note, in two attempts.
func Store(ctx context.Context, db *nopool.DB) error {
	store := func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into notes (title, body) values ('a', 'b')")
		return err
	}
	if err := db.Run(ctx, nopool.TxOptions{}, store); err != nil {
		time.Sleep(time.Second)
		return db.Run(ctx, nopool.TxOptions{}, store)
	}
	return nil
}
`),
	}},
	{name: "a helper is called once more where it failed", source: "NP29", edits: []edit{
		code("internal/ledger/enter.go", `
type book struct{ db *nopool.DB }

func (b book) enter(ctx context.Context, title string) error {
	return b.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into notes (title, body) values ($1, '')", title)
		return err
	})
}

func (b book) surely(ctx context.Context, title string) error {
	err := b.enter(ctx, title)
	if err == nil {
		return nil
	}
	return b.enter(context.WithoutCancel(ctx), title)
}

var _ = book.surely
`),
	}},
	{name: "a method is run again later where it failed", source: "NP29", edits: []edit{
		code("internal/ledger/jobs.go", `
// Jobs are done, sooner or later.
type Jobs struct{ DB *nopool.DB }

// Count counts the notes.
func (j *Jobs) Count(ctx context.Context) {
	err := j.DB.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
		return err
	})
	if err != nil {
		time.AfterFunc(time.Second, func() { j.Count(ctx) })
	}
}
`),
	}},
	{name: "Run comes again at the end of the request where it failed", source: "NP29", edits: []edit{
		code("internal/ledger/visit.go", `
// Visit notes a visit, if need be when the visitor has left.
func Visit(ctx context.Context, db *nopool.DB) {
	visit := func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into visits default values")
		return err
	}
	if err := db.Run(ctx, nopool.TxOptions{}, visit); err != nil {
		context.AfterFunc(ctx, func() { _ = db.Run(context.WithoutCancel(ctx), nopool.TxOptions{}, visit) })
	}
}
`),
	}},
	{name: "a switch of the error repeats Run", source: "NP29", edits: []edit{
		code("internal/ledger/until.go", `
// Until does work until it is done.
func Until(ctx context.Context, db *nopool.DB, work func(context.Context, *nopool.Session) error) {
	for {
		switch err := db.Run(ctx, nopool.TxOptions{}, work); err {
		case nil:
			return
		default:
			time.Sleep(time.Second)
		}
	}
}
`),
	}},
	{name: "a switch of conditions repeats Run", source: "NP29", edits: []edit{
		code("internal/ledger/thrice.go", `
// Thrice does work, in three attempts.
func Thrice(ctx context.Context, db *nopool.DB, work func(context.Context, *nopool.Session) error) error {
	for attempt := 0; ; attempt++ {
		err := db.Run(ctx, nopool.TxOptions{}, work)
		switch {
		case err == nil, attempt == 3:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		time.Sleep(time.Second)
	}
}
`),
	}},
	{name: "a loop repeats a helper that runs", source: "NP29", edits: []edit{
		code("internal/ledger/again.go", `
func count(ctx context.Context, db *nopool.DB) error {
	return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
		return err
	})
}

// Count counts the notes, in five attempts.
func Count(ctx context.Context, db *nopool.DB) (err error) {
	for range 5 {
		if err = count(ctx, db); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}
`),
	}},
	{name: "a helper that repeats is given one that runs", source: "NP29", edits: []edit{
		code("internal/ledger/persist.go", `
func persist(ctx context.Context, work func(context.Context) error) error {
	for work(ctx) != nil {
		time.Sleep(time.Second)
	}
	return ctx.Err()
}

func once(ctx context.Context, db *nopool.DB) error {
	return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
		return err
	})
}

// Persist counts the notes, however long it takes.
func Persist(ctx context.Context, db *nopool.DB) error { 
	return persist(ctx, func(ctx context.Context) error { return once(ctx, db) })
}
`),
	}},
}
