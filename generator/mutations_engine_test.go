package generator_test

// engineMutations change how many connections there are, and how each is opened and closed,
// in the order of the rules.
var engineMutations = []mutation{
	{name: "one connection too many", fails: "NP17", edits: []edit{
		{slotsFile, "	s := &slots{free:", "	n++\n	s := &slots{free:"},
	}, also: "NP01 NP11 NP13 NP18 NP22 NP27"},
	{name: "who waits is served in any order", fails: "NP17/first_come,_first_served", edits: []edit{
		{slotsFile, "	if s.waiting.Add(1) > s.maxWaiting {\n		return freed, ErrBusy\n	}\n", `	if s.waiting.Add(1) > s.maxWaiting {
		return freed, ErrBusy
	}
	time.Sleep(rand.N(100 * time.Millisecond)) // so that not all come back at once
`},
	}},
	{name: "the queue has no end", fails: "NP17/past_the_queue", edits: []edit{
		{slotsFile, "s.waiting.Add(1) > s.maxWaiting {", "s.waiting.Add(1) > s.maxWaiting+1000 {"},
	}, also: "NP18 NP11"},
	{name: "a full queue is our fault", fails: "NP17/past_the_queue", edits: []edit{
		{problems, "is(nopool.ErrBusy, nopool.ErrPoolerFull)", "is(nopool.ErrPoolerFull)"},
	}, also: "NP11 NP18"},

	{name: "Supavisor's refusal is not known", fails: "NP20", edits: []edit{
		{refusals, `"EMAXCONN|MaxClientsInSessionMode|Max`, `"Max`},
	}, also: "NP21 NP27"},
	{name: "PgBouncer's refusal of the first statement is not known", fails: "NP20", edits: []edit{
		{refusals, `|query_wait_timeout`, ``},
	}},
	{name: "a refused password is tried again", fails: "NP20/what_must_not_be_tried_again", edits: []edit{
		{refusals, `	{"28P01", "", password, mendLogin},
	{"28", "", password, ""}, `, `	{"none", "", password, mendLogin}, `},
	}, also: "NP09 NP12"},
	{name: "a refused password is given any number of times", fails: "NP20/what_must_not_be_tried_again", edits: []edit{
		{breaker, "	maxRefused = 3  ", "	maxRefused = 300"},
	}},
	{name: "a pooler that cannot ask for secrets is given more logins", fails: "NP20/what_must_not_be_tried_again", edits: []edit{
		{refusals, `|ECIRCUITBREAKER", unasked, ""},`, `|ECIRCUITBREAKER", passing, ""},`},
	}},
	{name: "an error in answer to SSLRequest means no TLS", fails: "NP20", edits: []edit{
		{connector, "		dial = greet(dial)\n", ""},
	}},
	{name: "a refusal that nobody knows is final", fails: "NP20/what_must_not_be_tried_again", edits: []edit{
		{openFile, "	transientTries = 3 ", "	transientTries = 1 "},
	}},
	{name: "what may have run is tried again", fails: "NP20/what_must_not_be_tried_again", edits: []edit{
		{openFile, " || conn.flight.mayHaveRun(answer):", ":"},
	}},
	{name: "a full pooler is our fault", fails: "NP20", edits: []edit{
		{problems, "is(nopool.ErrBusy, nopool.ErrPoolerFull)", "is(nopool.ErrBusy)"},
	}},

	{name: "pgx falls back", fails: "NP21", edits: []edit{
		{connecting, "	config.Fallbacks = nil\n", ""},
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
	{name: "a silent server is waited for", fails: "NP21/each_bound_of_ours_ends_what_exceeds_it", edits: []edit{
		{openFile, "int64(limit + statementMargin)", "0"},
	}, also: "NP13"},
	{name: "the next address is not tried", fails: "NP21", edits: []edit{
		{dialFile, "	for i, ip := range known.addresses {\n", "	for i, ip := range known.addresses[:1] {\n"},
	}},

	{name: "the slot is freed before the close", fails: "NP22", edits: []edit{
		{endFile, "		s.conn.hangUp()\n", "		s.db.slots.release()\n		s.conn.hangUp()\n"},
		{endFile, "\"close\", time.Since(ended))\n		s.db.slots.release()\n", "\"close\", time.Since(ended))\n"},
	}, also: "NP01 NP04 NP10 NP17"},
	{name: "a failed open gives its slot back at once", fails: "NP22/so_does_that_of_a_session_whose_BEGIN_is_refused", edits: []edit{
		{openFile, "go func() { conn.hangUp(); o.db.slots.release() }()", "go func() { o.db.slots.release(); conn.hangUp() }()"},
	}},
	{name: "another attempt does not wait for the end of the last", fails: "NP22/so_does_that_of_a_session_whose_BEGIN_is_refused", edits: []edit{
		{openFile, "	case <-gone:\n", "	default:\n"},
	}, also: "NP17 NP20 NP21"},
	{name: "nobody waits for the server's close", fails: "NP22", edits: []edit{
		{connection, "io.Copy(io.Discard, e.Conn)", "io.Copy(io.Discard, io.LimitReader(e.Conn, 0))"},
	}, also: "NP01 NP04 NP10 NP17 NP23"},
	{name: "a slot is freed after a moment, whatever the server does", fails: "NP22", edits: []edit{
		{connection, "	closeTimeout = 5 * time.Second\n", "	closeTimeout = 50 * time.Millisecond\n"},
	}, also: "NP01 NP04 NP10 NP17 NP06 NP13"},
	{name: "a pooler that is late is given no time", fails: "NP22/a_pooler_that_frees_its_places_late", edits: []edit{
		{slotsFile, "age+settleStep, settleMost", "0, settleMost"},
	}},
	{name: "an opening that is given up ends at once", fails: "NP22/the_slot_waits_for_an_opening_that_was_given_up", edits: []edit{
		{openFile, "context.WithoutCancel(ctx), deadline", "ctx, deadline"},
	}},
	{name: "the response waits for the server's close", fails: "NP22", edits: []edit{
		{endFile, "	go func() {\n		s.conn.hangUp()\n", "	func() {\n		s.conn.hangUp()\n"},
	}, also: "NP10"},

	{name: "the answer to a read waits for COMMIT", fails: "NP31 NP19/what_waits_for_COMMIT", edits: []edit{
		{responses, "h.err = h.session.Finish(ctx)", "h.err = h.session.Commit(ctx)"},
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
