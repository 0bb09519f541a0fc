package generator_test

// serviceMutations change the process: its start and end, its settings, its log and its migrations,
// in the order of the rules.
var serviceMutations = []mutation{
	{name: "migrations may have any number of connections", source: "NP02", edits: []edit{
		{migrations, "	db.SetMaxOpenConns(1)\n", ""},
	}},
	{name: "migrations keep idle connections", source: "NP02", edits: []edit{
		{migrations, "db.SetMaxIdleConns(1)", "db.SetMaxIdleConns(4)"},
	}},
	{name: "migrations do not close their connection", fails: "NP02", edits: []edit{
		{migrations, "	defer closeAll()\n", "	_ = closeAll\n"},
	}, also: "NP30"},
	{name: "migrations open a pool of their own", fails: "NP02", source: "NP14", edits: []edit{
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

	{name: "it starts without asking the database", fails: "NP09/a_database_that_comes_late", edits: []edit{
		{serve, `name: "database", start: s.checkDatabase,`, `name: "database",`},
	}, also: "NP12"},
	{name: "every failure at start is tried again", fails: "NP09", edits: []edit{
		{serve, "case errors.Is(err, nopool.ErrConfiguration):", "case ctx.Err() != nil:"},
	}, also: "NP12"},
	{name: "nothing at start is tried again", fails: "NP09/a_database_that_comes_late", edits: []edit{
		{serve, "case errors.Is(err, nopool.ErrConfiguration):", "case err != nil:"},
	}},
	{name: "a refused password ends the process at once", fails: "NP09", edits: []edit{
		{command, "	if connect.IsAuthentication(err) {", "	if false && connect.IsAuthentication(err) {"},
	}},
	{name: "a refused password is not given once more", fails: "NP09/a_database_that_comes_late", edits: []edit{
		{refusals, `!ok || pgErr.Code != "28P01" {`, `!ok || pgErr.Code != "none" {`},
	}},
	{name: "what psql reads from the environment breaks the URL", fails: "NP09", edits: []edit{
		{connecting, `strings.HasPrefix(name, "PG") &&`, `strings.HasPrefix(name, "PG?") &&`},
	}},
	{name: "it listens first and looks for its database then", fails: "NP09/a_database_that_comes_late", edits: []edit{
		{serve, `		{name: "database", start: s.checkDatabase, stop: s.db.Close},
		{name: "http server", start: s.listen, stop: s.drain},
`, `		{name: "http server", start: s.listen, stop: s.drain},
		{name: "database", start: s.checkDatabase, stop: s.db.Close},
`},
	}},

	{name: "requests under way are cut at the signal", fails: "NP10/a_session_under_way", edits: []edit{
		{serve, "	if err := s.http.Shutdown(ctx); err != nil {", "	if err := s.http.Close(); err != nil {"},
	}},
	{name: "the database is not closed at the end", fails: "NP10/a_session_under_way", edits: []edit{
		{serve, ", stop: s.db.Close}", "}"},
	}},
	{name: "SIGTERM is not heard", fails: "NP10", edits: []edit{
		{command, "NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)", "NotifyContext(ctx, os.Interrupt)"},
		{command, "	\"syscall\"\n", ""},
	}},
	{name: "it is ready to the end", fails: "NP10/time_to_notice,_and_a_second_signal", edits: []edit{
		{serve, "	s.api.Drain()\n", ""},
	}},

	{name: "the close is logged without its request", fails: "NP11", edits: []edit{
		{endFile, `s.db.log.DebugContext(s.ctx, "database session closed"`, `s.db.log.Debug("database session closed"`},
	}, also: "NP26"},
	{name: "closes are not counted", fails: "NP11", edits: []edit{
		{endFile, "	s.db.count(func(total *Snapshot) { total.Closed++ })\n", ""},
	}},
	{name: "errors are logged as warnings", fails: "NP11", edits: []edit{
		{events, "level, attrs := slog.LevelError,", "level, attrs := slog.LevelWarn,"},
	}},
	{name: "refused sessions leave no trace", fails: "NP11/past_the_queue", edits: []edit{
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
	{name: "pgx logs in on a connection of another type, and channel binding is off", fails: "NP12/a_real_server's_TLS,_with_its_channel_bound", edits: []edit{
		{connector, "		return conn, nil // and", "		return struct{ net.Conn }{conn}, nil // and"},
	}},
	{name: "the password is given to whoever asks", fails: "NP12", edits: []edit{
		{connecting, `		config.RequireAuth = onlySCRAM
`, `		config.RequireAuth = ""
`},
	}},

	{name: "no lock timeout", fails: "NP13/in_force,_through_PgBouncer", edits: []edit{
		{openFile, `		{"lock_timeout", in(o.db.config.LockTimeout)},
`, ""},
	}, also: "NP16"},
	{name: "the timeouts are start-up parameters", fails: "NP13/in_force,_through_PgBouncer", edits: []edit{
		{connection, "	dial, build := config.DialFunc", `	config.RuntimeParams["statement_timeout"] = "30000"
	dial, build := config.DialFunc`},
	}, also: "NP20 NP23 NP16"},
	{name: "a timeout of zero is taken", fails: "NP13/each_is_set_and_can_be_set", edits: []edit{
		{settings, "	shortest = time.Millisecond // Postgres counts in these, and reads 0 as \"no limit\"\n", "	shortest = 0\n"},
	}},
	{name: "a setting is read into another's timeout", fails: "NP13/each_is_set_and_can_be_set", edits: []edit{
		{settings, `duration(&c.DB.IdleInTransactionTimeout, shortest)`, `duration(&c.DB.LockTimeout, shortest)`},
	}},
	{name: "requests have no bound", fails: "NP13/each_bound_of_ours_ends_what_exceeds_it", edits: []edit{
		{middleware, "w, r, s.RequestTimeout)", "w, r, s.RequestTimeout+10*time.Second)"},
	}, also: "NP21"},
	{name: "a client that takes nothing is waited for", test: "./cmd/demo TestSettingsReachTheServer", edits: []edit{
		{serve, "Serve(httpapi.Patient(listener))", "Serve(listener)"},
	}},
	{name: "a handler reads its body after its query", source: "NP13", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	_ = r.ParseForm()\n	w.Header().Set(\"Location\""},
	}},
	{name: "a helper reads the body after the query", source: "NP13", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	_, _ = readNote(r)\n	w.Header().Set(\"Location\""},
	}},
	{name: "opening takes longer than it may", fails: "NP13/each_bound_of_ours_ends_what_exceeds_it", edits: []edit{
		{openFile, "time.AfterFunc(o.db.config.ConnectTimeout, ", "time.AfterFunc(o.db.config.ConnectTimeout+10*time.Second, "},
		{openFile, "gotSlot.Add(o.db.config.ConnectTimeout)", "gotSlot.Add(o.db.config.ConnectTimeout+10*time.Second)"},
	}, also: "NP09 NP11 NP20 NP21"},

	{name: "two migrations run at once", fails: "NP30/two_runs_at_once,_one_connection_each,_of_which_one_waits_outside NP02", edits: []edit{
		{migrations, "		goose.WithSessionLocker(locker), ", "		"},
		{migrations, "	locker, err := lock.", "	_, err = lock."},
	}},
	{name: "migrations have no timeouts", fails: "NP30/timeouts,_files_without_a_transaction,_and_what_a_file_sets", edits: []edit{
		{migrations, "set statement_timeout = '15min'; ", ""},
	}},
	{name: "migrations have no timeout on locks", fails: "NP30/timeouts,_files_without_a_transaction,_and_what_a_file_sets", edits: []edit{
		{migrations, `"'5s'"`, `"0"`},
	}},
	{name: "an index gives up on the locks that it waits for", fails: "NP30/timeouts,_files_without_a_transaction,_and_what_a_file_sets", edits: []edit{
		{migrations, `lockTimeout = "0"`, `lockTimeout = "'5s'"`},
	}},
	{name: "what a migration sets stays", fails: "NP30/timeouts,_files_without_a_transaction,_and_what_a_file_sets", edits: []edit{
		{migrations, "reset all; ", ""},
	}},
	{name: "an invalid index is taken for done", fails: "NP30/an_invalid_index,_and_files_that_would_be_skipped", edits: []edit{
		{migrations, "		err = r.check(ctx, db, request.Version)\n", ""},
	}},
	{name: "a migration without a number is skipped", fails: "NP30/an_invalid_index,_and_files_that_would_be_skipped", edits: []edit{
		{migrations, `			return fmt.Errorf("%s would be skipped: name it NUMBER_what_it_does.sql, outside of any folder", name)
`, "			return nil\n"},
	}},
	{name: "migrations go through port 6543", fails: "NP30/refuses_a_pooler_in_transaction_mode", edits: []edit{
		{migrations, `:6543$`, `:6544$`},
	}},
	{name: "migrations go where requests go", fails: "NP30/an_address_of_its_own", edits: []edit{
		{command, "cfg.Migrations,", "cfg.Database,"},
	}},
	{name: "no migrations are an error", fails: "NP30/no_migrations_at_all", edits: []edit{
		{migrations, `	if errors.Is(err, goose.ErrNoMigrations) {
		fmt.Fprintln(o.Out, "no migrations")
		return nil
	}
`, ""},
	}},
}
