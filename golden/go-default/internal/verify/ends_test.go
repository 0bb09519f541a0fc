package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/demo/internal/httpapi"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// endParts are the rules about how a session ends. Most look at the same table of all ways to end, which is gone through
// once for each kind of server.
var endParts = []part{
	{"NP04", "every way to end, stand-in", endsOnStandin}, {"NP04", "every way to end, Postgres", endsOnPostgres},
	{"NP04", "shutdown waits", shutdownWaits},
	{"NP05", "every way to end, stand-in", endsOnStandin}, {"NP05", "every way to end, Postgres", endsOnPostgres},
	{"NP06", "every way to end, stand-in", endsOnStandin}, {"NP06", "every way to end, Postgres", endsOnPostgres},
	{"NP08", "every way to end, stand-in", endsOnStandin},
	{"NP19", "every way to end, stand-in", endsOnStandin}, {"NP19", "every way to end, Postgres", endsOnPostgres},
	{"NP23", "every way to end, stand-in", endsOnStandin}, {"NP23", "a pooler keeps its backend", keepsBackend},
	{"NP28", "every way to end, stand-in", endsOnStandin},
}

// end is a way for a request to end that has written a row, and what must be seen of it: the answer, the row, and the
// last thing that the server heard.
type end struct {
	name   string
	rules  string // that a wrong answer breaks
	then   httpapi.SessionHandler
	read   bool          // a GET, which writes no row
	leaves string        // where the client goes away: in the "handler", a "select", the "commit"
	commit standin.Reply // to COMMIT
	status int           // of the answer; 0 if there must be none that looks complete
	code   string        // of the problem
	kept   bool          // the row
	last   string        // statement of the session, "" where it depends
	cut    bool          // the connection ends in the middle of a statement
}

var (
	errSecret = errors.New("secret-cause")
	ends      = []end{
		{name: "nothing written", rules: "NP05", then: chosen(0), status: 200, kept: true, last: "commit"},
		{name: "large", rules: "NP05 NP19", then: large, commit: standin.Reply{Delay: 300 * time.Millisecond}, status: 201, kept: true, last: "commit"},
		{name: "its own COMMIT", rules: "NP05", then: commits, status: 201, kept: true, last: "commit"},
		{name: "redirect", rules: "NP05", then: chosen(303), status: 303, kept: true, last: "commit"},
		{name: "read", rules: "NP23", read: true, then: chosen(0), status: 200, last: "commit"},
		{name: "status 400", rules: "NP06", then: chosen(400), status: 400, last: "rollback"},
		{name: "status 404", rules: "NP06", then: chosen(404), status: 404, last: "rollback"},
		{name: "status 410", rules: "NP06", then: chosen(410), status: 410, last: "rollback"},
		{name: "error", rules: "NP08", then: fails, status: 500, last: "rollback"},
		{name: "panic", rules: "NP08", then: panics(errSecret), status: 500, last: "rollback"},
		{name: "abort", rules: "NP08", then: panics(http.ErrAbortHandler), last: "rollback"},
		{name: "rows open", rules: "NP04", then: withRows, status: 500},
		{name: "gone", rules: "NP06", then: waits, leaves: "handler", last: "rollback"},
		{name: "gone in a statement", rules: "NP04", then: query("select pg_sleep(20)"), leaves: "select", last: "select pg_sleep(20)", cut: true},
		{name: "gone in COMMIT", rules: "NP23", then: chosen(0), leaves: "commit", commit: standin.Reply{Delay: 300 * time.Millisecond}, kept: true, last: "commit"},
		{name: "an error ignored", rules: "NP19", then: ignores, status: 500, code: "internal_error", last: "commit"},
		{name: "COMMIT refused", rules: "NP19", then: doubles, commit: refusal("23505"), status: 409, code: "already_exists", last: "commit"},
		{name: "COMMIT lost", rules: "NP19", then: large, commit: standin.Reply{Drop: true}, status: 500, code: "commit_unknown", last: "commit", cut: true},
		{name: "flush", rules: "NP28", then: streams(flush, nil), status: 200, kept: true, last: "commit"},
		{name: "full buffer", rules: "NP28", then: streams(fill, nil), status: 200, kept: true, last: "commit"},
		{name: "hijack", rules: "NP28", then: streams(hijack, nil), status: 200, kept: true, last: "commit"},
		{name: "COMMIT refused at a flush", rules: "NP28", then: streams(flush, nil), commit: refusal("40001"), status: 503, last: "commit"},
		{name: "error after a flush", rules: "NP28", then: streams(flush, func() error { return errSecret }), kept: true, last: "commit"},
		{name: "panic after a flush", rules: "NP28", then: streams(flush, func() error { panic(errSecret) }), kept: true, last: "commit"},
	}
)

func refusal(code string) standin.Reply { return standin.Reply{Error: standin.Error(code, "secret")} }

// chosen answers with a status, or leaves it to others when that is 0.
func chosen(status int) httpapi.SessionHandler {
	return func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
		if status != 0 {
			w.WriteHeader(status)
		}
		return nil
	}
}

// large answers with more than net/http itself holds back.
func large(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
	w.WriteHeader(http.StatusCreated)
	_, err := w.Write(make([]byte, 100_000))
	return err
}

// commits does what is done for it.
func commits(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	return errors.Join(session.Commit(r.Context()), large(w, r, session))
}

func fails(http.ResponseWriter, *http.Request, *nopool.Session) error { return errSecret }

func panics(err error) httpapi.SessionHandler {
	return func(http.ResponseWriter, *http.Request, *nopool.Session) error { panic(err) }
}

func waits(_ http.ResponseWriter, r *http.Request, _ *nopool.Session) error {
	<-r.Context().Done()
	return nil
}

func withRows(_ http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	_, err := session.Query(r.Context(), "select generate_series(1, 100000)")
	return errors.Join(errSecret, err)
}

func ignores(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	_, _ = session.Exec(r.Context(), "select broken")
	return large(w, r, session)
}

// doubles writes the row again, which a constraint refuses at COMMIT: no handler sees that.
func doubles(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	_, err := session.Exec(r.Context(), "insert into item values ('COMMIT refused')")
	return errors.Join(err, large(w, r, session))
}

// streams lets bytes leave, and then does as it is told. A query must be refused from there on: one that is answered
// turns the end into the opposite, which the client sees.
func streams(leave func(http.ResponseWriter) error, then func() error) httpapi.SessionHandler {
	return func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		if err := leave(w); err != nil {
			return err
		}
		_, err := session.Exec(r.Context(), "select 1")
		switch refused := errors.Is(err, nopool.ErrSessionDone); {
		case !refused && then == nil:
			panic(http.ErrAbortHandler)
		case !refused || then == nil:
			return nil
		}
		return then()
	}
}

func flush(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }

func fill(w http.ResponseWriter) error {
	_, err := w.Write(make([]byte, 8<<20))
	return err
}

func hijack(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = conn.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
		_ = conn.Close()
	}
	return err
}

// ended is an end that was gone through.
type ended struct {
	end
	ctx    context.Context // of the client
	leave  context.CancelFunc
	answer answer
	row    string          // how many there are of it, on Postgres
	conns  []*standin.Conn // that carried it, on a stand-in
}

// complaint says what is wrong with an end, and which rules it breaks.
type complaint func(rules, name, format string, args ...any)

// seen keeps what was wrong with the ends on a server, by rule: the first rule to ask has them looked at.
type seen struct {
	sync.Mutex
	wrong map[string][]string
}

var onStandin, onPostgres seen

// want fails the part with what its rule is told.
func (s *seen) want(t *T, look func(wrong complaint)) {
	t.Helper()
	s.Lock()
	defer s.Unlock()
	if s.wrong == nil {
		found := map[string][]string{}
		look(func(rules, name, format string, args ...any) {
			for rule := range strings.FieldsSeq(rules) {
				found[rule] = append(found[rule], name+": "+fmt.Sprintf(format, args...))
			}
		})
		s.wrong = found
	}
	for _, text := range s.wrong[t.rule] {
		t.Errorf("%s", text)
	}
}

// begin is about to go through the ends that a server can have.
func begin(which func(e end) bool) (all []*ended) {
	for _, e := range ends {
		if which(e) {
			ctx, leave := context.WithCancel(context.Background())
			all = append(all, &ended{end: e, ctx: ctx, leave: leave})
		}
	}
	return all
}

func (e *ended) path() string { return "/" + strings.ReplaceAll(e.name, " ", "-") }

// rows counts the end's row, where there is a database.
func (e *ended) rows(s *service) string {
	return s.value("select count(*) from item where name = '" + e.name + "'")
}

// goThrough sends a request for each of the ends, all at once, and looks at the answers.
func goThrough(s *service, all []*ended, wrong complaint) {
	for _, e := range all {
		s.handle(e.path(), func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
			sql := "insert into item values ('" + e.name + "')"
			if e.read {
				sql = "select '" + e.name + "'"
			}
			if _, err := session.Exec(r.Context(), sql); err != nil {
				return err
			}
			switch {
			case e.leaves == "handler":
				e.leave()
			case e.leaves == "select" && s.admin != nil: // a stand-in knows when
				time.AfterFunc(300*time.Millisecond, e.leave)
			}
			return e.then(w, r, session)
		})
	}
	together(len(all), func(i int) {
		e := all[i]
		e.answer = s.do(e.ctx, map[bool]string{true: "GET", false: "POST"}[e.read], e.path())
		e.leave()
		if e.kept && s.admin != nil { // as soon as the answer is there
			e.row = e.rows(s)
		}
	})
	if left := s.left(); left != "" {
		wrong("NP04", "afterwards", "%s", left)
	}
	for _, e := range all {
		e.judge(s.log.String(), wrong)
	}
}

// judge compares the answer with what it must be.
func (e *ended) judge(log string, wrong complaint) {
	a := e.answer
	if complete := a.err == nil; e.leaves == "" && (complete != (e.status != 0) || complete && a.status != e.status) {
		wrong(e.rules, e.name, "answered %d, %v: %.200q", a.status, a.err, a.body)
	}
	if strings.Contains(a.body, "secret") {
		wrong("NP08", e.name, "the cause is in the response: %.200q", a.body)
	}
	if e.code != "" && a.problem["code"] != e.code {
		wrong(e.rules, e.name, "want code %s, got %.200q", e.code, a.body)
	}
	if id := a.header.Get("X-Request-ID"); e.status == 500 && a.status == 500 && (a.problem["correlation_id"] != id || strings.Count(log, `"correlation_id":"`+id+`"`) < 2) {
		wrong("NP08", e.name, "the log does not say what happened to request %q: %.200q", id, a.body)
	}
}

// endsOnPostgres has the ends that a real server can have, and looks for the row.
func endsOnPostgres(t *T) {
	onPostgres.want(t, func(wrong complaint) {
		s := real(t)
		s.create("create table item (name text, unique (name) deferrable initially deferred)")
		all := begin(func(e end) bool {
			return e.leaves != "commit" && !e.commit.Drop && (e.commit.Error == nil || e.code != "")
		})
		goThrough(s, all, wrong)
		for _, e := range all {
			if e.kept && e.row != "1" {
				wrong(e.rules, e.name, "%s rows when its answer was there", e.row)
			} else if row := e.rows(s); !e.kept && row != "0" {
				wrong("NP06", e.name, "%s rows were kept", row)
			}
		}
	})
}

// endsOnStandin has all ends, and looks at what the server heard.
func endsOnStandin(t *T) {
	onStandin.want(t, func(wrong complaint) {
		all := begin(func(end) bool { return true })
		pooler := standin.Start(t, standin.Options{OnStatement: func(c *standin.Conn, sql string) standin.Reply { return replyToEnds(all, c, sql) }})
		s := on(t, pooler.URL())
		goThrough(s, all, wrong)
		cut := uint64(0)
		for _, conn := range pooler.Conns() {
			if conn.End != "" && !polite(&conn) {
				cut++
			}
			for _, e := range all {
				if e.carriedBy(&conn) {
					e.conns = append(e.conns, &conn)
				}
			}
		}
		for _, e := range all {
			e.judgeWire(wrong)
		}
		now := s.db.Snapshot()
		if now.Aborted != cut {
			wrong("NP23", "afterwards", "%d were cut, %d are counted as aborted", cut, now.Aborted)
		}
		if now.CommitUnknown == 0 || !strings.Contains(s.log.String(), "outcome unknown") {
			wrong("NP19", "COMMIT lost", "neither counted nor logged as an unknown outcome")
		}
		if len(s.log.Records("panic")) == 0 {
			wrong("NP08", "panic", "it is not in the log")
		}
	})
}

// replyToEnds answers as a database would, but for what the ends say of COMMIT, and lets their clients leave.
func replyToEnds(all []*ended, c *standin.Conn, sql string) standin.Reply {
	reply, verb := replyTo(c, sql), strings.ToLower(strings.Split(sql, " ")[0])
	for _, e := range all {
		if !e.carriedBy(c) {
			continue
		}
		if verb == "commit" {
			reply = e.commit
		}
		if verb == e.leaves {
			e.leave()
		}
	}
	return reply
}

// polite reports whether a client ended its transaction, and then the connection.
func polite(c *standin.Conn) bool { return c.End == standin.Terminated && c.Status == 'I' }

// replyTo answers as a database would: to what is broken, and to what takes its time.
func replyTo(_ *standin.Conn, sql string) (r standin.Reply) {
	if sql == "select broken" {
		return refusal("42703")
	}
	return sleepy(nil, sql)
}

// sleepy hangs where Postgres would sleep.
func sleepy(_ *standin.Conn, sql string) standin.Reply {
	return standin.Reply{Hang: strings.Contains(sql, "pg_sleep")}
}

// carriedBy reports whether a connection was that of the end.
func (e *ended) carriedBy(c *standin.Conn) bool {
	return strings.Contains(strings.Join(c.Statements, "\n"), "'"+e.name+"'")
}

// judgeWire compares what the server heard with what it must hear.
func (e *ended) judgeWire(wrong complaint) {
	if e.answer.err == nil && e.answer.first < e.commit.Delay {
		wrong(e.rules, e.name, "answered after %v, before COMMIT could be acknowledged", e.answer.first)
	}
	if len(e.conns) != 1 {
		wrong(e.rules, e.name, "%d connections", len(e.conns))
	} else if conn := e.conns[0]; e.last != "" {
		if last := strings.ToLower(conn.Statements[len(conn.Statements)-1]); last != e.last {
			wrong(map[bool]string{true: "NP06", false: e.rules}[e.last == "rollback"], e.name, "the last statement was %q, want %q", last, e.last)
		}
		if polite(conn) == e.cut {
			wrong("NP23", e.name, "the connection ended by %q in status %c", conn.End, conn.Status)
		}
	}
}

// shutdownWaits wants Close to wait for a session.
func shutdownWaits(t *T) {
	begun, release := make(chan struct{}), make(chan struct{})
	s := on(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select slow" {
			close(begun)
			<-release
		}
		return r
	}}).URL())
	underway, ended := make(chan error, 1), make(chan error, 1)
	go func() { underway <- s.run("select 1", "select slow") }()
	<-begun
	go func() { ended <- s.db.Close(context.Background()) }()
	select {
	case err := <-ended:
		t.Errorf("Close did not wait for a session: %v", err)
		ended <- err
	case <-time.After(200 * time.Millisecond):
	}
	t.wantErr(nopool.ErrClosed, s.run("select 1"), "a session was opened after Close")
	close(release)
	t.wantErr(nil, errors.Join(<-underway, <-ended), "a session under way when Close was called, and Close")
	s.wantNoneLeft()
}

// keepsBackend wants sessions to end so that a pooler can give its backend to the next.
func keepsBackend(t *T) {
	s := real(t, func(o *options) { o.bouncer = &pgtest.PgBouncerOptions{PoolSize: 5} })
	backends := map[int]bool{}
	for i := range 8 {
		var pid int
		err := s.session(func(ctx context.Context, session *nopool.Session) error {
			err := session.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid)
			return errors.Join(err, []error{nil, errSecret}[i%2]) // the latter rolls back
		})
		t.failIf(err != nil && !errors.Is(err, errSecret), "session: %v", err)
		backends[pid] = true
		s.wantNoneLeft()
	}
	t.failIf(len(backends) != 1, "8 sessions in turn used %d backends of the pooler", len(backends))
}
