package generator_test

// sessionMutations change how a session begins, ends and reports its end,
// in the order of the rules.
var sessionMutations = []mutation{
	{name: "the deferred rollback is gone", fails: "NP04/every_way_to_end,_stand-in NP06/every_way_to_end,_stand-in", edits: []edit{
		{session, "		defer session.Rollback(ctx)\n", ""},
	}, also: "NP08 NP23"},
	{name: "a session with open rows is not rolled back", fails: "NP04", edits: []edit{
		{endFile, `	if s.open != nil { // reading them to their end could take for ever
		s.cancel(ErrSessionDone)
		s.open.end()
	}
`, `	if s.open != nil {
		return ErrSessionBusy
	}
`},
	}},
	{name: "the engine is closed without waiting for sessions", fails: "NP13/each_bound_of_ours_ends_what_exceeds_it", edits: []edit{
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
	}, also: "NP04 NP10 NP19"},

	{name: "the commit is moved behind the response", fails: "NP05/every_way_to_end,_stand-in NP19/what_waits_for_COMMIT", edits: []edit{
		{session, `		if err == nil {
			err = held.finish()
		}
`, `		if err == nil {
			held.send()
			err = held.finish()
		}
`},
	}, also: "NP06 NP28"},
	{name: "the status leaves at once", fails: "NP05/every_way_to_end,_stand-in NP19/every_way_to_end,_stand-in", edits: []edit{
		{responses, `	if h.sent || interim && h.status == 0 {
		h.ResponseWriter.WriteHeader(status)
	}
`, `	h.ResponseWriter.WriteHeader(status)
	_ = http.NewResponseController(h.ResponseWriter).Flush()
`},
	}, also: "NP06 NP08 NP25 NP04 NP23 NP07 NP28"},
	{name: "a transaction of the handler's own is committed", fails: "NP16", edits: []edit{
		{endFile, "s.conn.flight.begunAnew || s.conn", "s.conn"},
	}, also: "NP13"},
	{name: "a COMMIT of the handler's own is an error", fails: "NP05", edits: []edit{
		{endFile, "		return s.said\n", "		return err\n"},
	}},
	{name: "a write does not wait for its COMMIT", fails: "NP05 NP19", edits: []edit{
		{endFile, "	return s.opts.ReadOnly && !s.opts.WaitForCommit && level", "	return !s.opts.WaitForCommit && level"},
	}, also: "NP07 NP23 NP28 NP06"},

	{name: "a handler's error commits", fails: "NP06", edits: []edit{
		{session, "			if said := session.Undo(ctx, err)", "			_ = session.Commit(ctx)\n			if said := session.Undo(ctx, err)"},
	}, also: "NP08 NP25 NP11 NP20 NP24 NP23 NP04"},
	{name: "only a status of ours rolls back", fails: "NP06", edits: []edit{
		{responses, "h.status >= http.StatusBadRequest", "h.status >= http.StatusInternalServerError"},
	}},
	{name: "a cancelled request commits", fails: "NP06", edits: []edit{
		{responses, "	case ctx.Err() != nil:\n", "	case ctx.Err() != nil && context.Cause(ctx) == http.ErrServerClosed:\n"},
	}},
	{name: "what is not found is no failure", fails: "NP06", edits: []edit{
		{responses, "	case h.status >= http.StatusBadRequest:\n", "	case h.status >= http.StatusBadRequest && h.status != http.StatusNotFound:\n"},
	}},
	{name: "a rollback only closes", fails: "NP06/every_way_to_end,_stand-in NP23/every_way_to_end,_stand-in", edits: []edit{
		{endFile, `_, err = s.say(ctx, "rollback"); err`, `err = ctx.Err(); err`},
	}, also: "NP04 NP07"},

	{name: "an error of COPY is not told", fails: "NP07/every_kind_of_statement,_Postgres", edits: []edit{
		{sessions, "	return n, cmp.Or(from.err, err)\n", "	return n, from.err\n"},
	}},
	{name: "background work that panics is not rolled back", fails: "NP07", edits: []edit{
		{engine, "	defer s.Rollback(ctx) // does nothing once Commit has ended the session\n", ""},
	}, also: "NP29 NP04 NP10 NP02 NP20 NP13 NP17 NP12 NP24 NP22 NP23"},
	{name: "background work that was cancelled commits", fails: "NP07", edits: []edit{
		{engine, "late != nil {", "late != nil && s == nil {"},
	}},
	{name: "background work commits whatever the function says", fails: "NP07", edits: []edit{
		{engine, `	if err := fn(WithSession(ctx, s), s); err != nil {
`, `	if err := fn(WithSession(ctx, s), s); err != nil {
		_ = s.Commit(ctx)
`},
	}, also: "NP23"},
	{name: "background work is not told that its commit failed", fails: "NP07", edits: []edit{
		{engine, "	return s.Commit(ctx)\n}\n\n// RunWithRetry", "	_ = s.Commit(ctx)\n	return nil\n}\n\n// RunWithRetry"},
	}, also: "NP13 NP16"},

	{name: "a GET may write", fails: "NP16", edits: []edit{
		{session, "nopool.TxOptions{ReadOnly: r.Method == http.MethodGet || r.Method == http.MethodHead}", "nopool.TxOptions{}"},
	}, also: "NP13 NP19 NP31"},
	{name: "a HEAD may write", fails: "NP16/in_force,_Postgres", edits: []edit{
		{session, "r.Method == http.MethodGet || r.Method == http.MethodHead}", "r.Method == http.MethodGet}"},
	}, also: "NP13 NP19"},
	{name: "the isolation level is lost", fails: "NP16/in_force,_Postgres", edits: []edit{
		{flightFile, `		begin += " isolation level " + string(o.Isolation)
`, `		_ = o.Isolation
`},
	}, also: "NP13"},
	{name: "text results depend on role and database", fails: "NP16", edits: []edit{
		{flightFile, "append(calls, pinned, ", "append(calls, "},
	}},
	{name: "the timeouts outlive their transaction", fails: "NP16/in_force,_Postgres", edits: []edit{
		{flightFile, `'UTF8'), true)"`, `'UTF8'), false)"`},
	}, also: "NP13"},
	{name: "statements are prepared", fails: "NP16", edits: []edit{
		{valuesFile, "[]any{pgx.QueryExecModeExec}", "[]any{pgx.QueryExecModeCacheStatement}"},
		{connecting, "config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0", "config.StatementCacheCapacity, config.DescriptionCacheCapacity = 512, 512"},
	}, also: "NP31"},

	{name: "each session says hello to the database", fails: "NP18", edits: []edit{
		{session, "		// For a panic, or runtime.Goexit", "		_, _ = session.Exec(ctx, \"select 1\")\n		// For a panic, or runtime.Goexit"},
	}, also: "NP01 NP11 NP16 NP17 NP19 NP20 NP21 NP23 NP24 NP25 NP28 NP31 NP04 NP05 NP06 NP08 NP13 NP26 NP22"},
	{name: "each request looks whether the database is there", fails: "NP18 NP27/health_never_asks_the_database,_readiness_once", edits: []edit{
		{middleware, "		next.ServeHTTP(recorder, r)\n", "		_ = reachable(s.DB)\n		next.ServeHTTP(recorder, r)\n"},
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

	{name: "a failed commit is not looked at", fails: "NP19", edits: []edit{
		{session, "			err = held.finish()\n", "			_ = held.finish()\n"},
	}, also: "NP06 NP05"},
	{name: "a lost COMMIT is called a lost connection", fails: "NP19", edits: []edit{
		{endFile, "	case unsent || s.opts.ReadOnly:\n", "	case unsent || s.opts.ReadOnly || s.conn.pgx.IsClosed():\n"},
	}},
	{name: "a serializable read does not wait for its COMMIT", fails: "NP19/what_waits_for_COMMIT", edits: []edit{
		{endFile, `level != "" && level != string(pgx.Serializable) &&`, `level != "" &&`},
		{endFile, "	\"github.com/jackc/pgx/v5\"\n", ""},
	}},
	{name: "only a level that was asked for is looked at", fails: "NP19/what_waits_for_COMMIT", edits: []edit{
		{endFile, "	level := s.conn.flight.isolation\n", "	level := cmp.Or(s.opts.Isolation, pgx.ReadCommitted)\n"},
		{endFile, "level != string(pgx.Serializable)", "level != pgx.Serializable"},
		{endFile, "	\"context\"\n", "	\"cmp\"\n	\"context\"\n"},
	}},
	{name: "COMMIT is sent to a server that has closed the connection", fails: "NP19/every_way_to_end,_Postgres", edits: []edit{
		{endFile, "if !unsent && !s.opts.ReadOnly {", "if unsent {"},
	}},
	{name: "a route cannot ask to wait for COMMIT", fails: "NP19/what_waits_for_COMMIT", edits: []edit{
		{endFile, "s.opts.ReadOnly && !s.opts.WaitForCommit &&", "s.opts.ReadOnly &&"},
	}},
	{name: "a read that has failed is answered as if it had not", fails: "NP19", edits: []edit{
		{endFile, " &&\n		!s.conn.pgx.IsClosed() && s.conn.pgx.PgConn().TxStatus() == 'T' && !s.conn.flight.begunAnew\n", "\n"},
	}},
	{name: "a failed COMMIT of a read is not counted", fails: "NP19/a_read_does_not_wait_for_COMMIT", edits: []edit{
		{endFile, "			s.db.count(func(total *Snapshot) { total.ReadCommitErrors++ })\n", ""},
	}},
	{name: "a failed COMMIT of a read is not logged", fails: "NP19/a_read_does_not_wait_for_COMMIT", edits: []edit{
		{endFile, "			if s.err = err; err != nil {", "			if err != nil {"},
	}},
	{name: "programs cannot tell an unknown outcome", fails: "NP19", edits: []edit{
		{problems, "`json:\"code\"`", "`json:\"-\"`"},
	}, also: "NP05 NP07 NP20"},
	{name: "a COMMIT that rolled back is a success", fails: "NP19", edits: []edit{
		{endFile, `	case tag.String() == "COMMIT": // whatever`, `	case tag.String() != "": // whatever`},
	}},

	{name: "a rollback under the request's own context", fails: "NP23/every_way_to_end,_stand-in NP06/every_way_to_end,_stand-in", edits: []edit{
		{endFile, `s.say(ctx, "rollback")`, `s.conn.pgx.Exec(ctx, "rollback")`},
	}, also: "NP07"},
	{name: "a commit under the request's own context", fails: "NP23/every_way_to_end,_stand-in", edits: []edit{
		{endFile, `s.say(ctx, "commit")`, `s.conn.pgx.Exec(ctx, "commit")`},
	}, also: "NP11 NP16 NP19"},
	{name: "what was only read is not committed", fails: "NP23/every_way_to_end,_stand-in", edits: []edit{
		{endFile, "	// Asked before", `	if s.opts.ReadOnly {
		return committed, nil
	}
	// Asked before`},
	}, also: "NP16 NP19"},
	{name: "a read whose answer has left is not committed", fails: "NP23/every_way_to_end,_stand-in", edits: []edit{
		{endFile, "			how, err := s.commit(ctx)\n", "			how, err := committed, error(nil)\n"},
	}, also: "NP16 NP19 NP31 NP11"},
	{name: "a connection is dropped without a word", fails: "NP23/every_way_to_end,_stand-in", edits: []edit{
		{connection, "			_ = c.pgx.Close(ctx) // the endpoint knows when the server has closed\n", "			_ = c.pgx.PgConn().Conn().Close()\n			time.Sleep(10 * time.Millisecond)\n			_ = c.pgx.Close(ctx)\n"},
	}, also: "NP06 NP10 NP22 NP31 NP19"},

	{name: "a retry has no end", fails: "NP29", edits: []edit{
		{engine, "		if attempt == 3 || stands || !ok ||", "		if attempt == 30 || stands || !ok ||"},
	}},
	{name: "a deadlock is not retried", fails: "NP29", edits: []edit{
		{engine, `(pgErr.Code != "40001" && pgErr.Code != "40P01")`, `pgErr.Code != "40001"`},
	}},
	{name: "all of class 40 is retried", fails: "NP29", edits: []edit{
		{engine, `!ok || (pgErr.Code != "40001" && pgErr.Code != "40P01")`, `!ok || pgErr.Code[:2] != "40"`},
	}},
	{name: "everything is retried", fails: "NP29", edits: []edit{
		{engine, `		if attempt == 3 || stands || !ok || (pgErr.Code != "40001" && pgErr.Code != "40P01") ||`, `		_, _ = pgErr, ok
		if attempt == 3 || stands || err == nil ||`},
	}},
}
