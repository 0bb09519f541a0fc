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
	"example.com/demo/internal/standin"
)

// endParts are the rules about how a session ends. Most look at the same table of all ways to end, which is gone through
// once for each kind of server.
var endParts = []part{
	{"NP04", "every way to end, stand-in", endsOnStandin}, {"NP04", "every way to end, Postgres", endsOnPostgres},
	{"NP05", "every way to end, stand-in", endsOnStandin}, {"NP05", "every way to end, Postgres", endsOnPostgres},
	{"NP06", "every way to end, stand-in", endsOnStandin}, {"NP06", "every way to end, Postgres", endsOnPostgres},
	{"NP08", "every way to end, stand-in", endsOnStandin},
	{"NP19", "every way to end, stand-in", endsOnStandin}, {"NP19", "every way to end, Postgres", endsOnPostgres},
	{"NP23", "every way to end, stand-in", endsOnStandin},
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
		{name: "rows open", rules: "NP04", then: leavesRows(errSecret), status: 500},
		{name: "gone", rules: "NP06", then: waits, leaves: "handler", last: "rollback"},
		{name: "gone in a statement", rules: "NP04", then: query("select pg_sleep(20)"), leaves: "select", last: "select pg_sleep(20)", cut: true},
		{name: "gone in COMMIT", rules: "NP23", then: chosen(0), leaves: "commit", commit: standin.Reply{Delay: 300 * time.Millisecond}, kept: true, last: "commit"},
		{name: "an error ignored", rules: "NP19", then: ignores("select broken"), status: 500, code: "internal_error", last: "commit"},
		{name: "an error ignored by a read", rules: "NP19", read: true, then: ignores("select broken"), status: 500},
		{name: "a read is cut off", rules: "NP19", read: true, then: ignores("select pg_terminate_backend(pg_backend_pid())"), status: 503},
		{name: "read, and ended by the handler", rules: "NP19", read: true, then: ignores("rollback"), status: 500},
		{name: "read, with rows open", rules: "NP19", read: true, then: leavesRows(nil), status: 500},
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
		cut := uint64(1) // the one whose handler ended the transaction is cut off politely
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
	reply, verb := asPostgres(c, sql), strings.ToLower(strings.Split(sql, " ")[0])
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

// asPostgres answers as a database would: to what is broken, to what takes its time, and to what ends the connection.
func asPostgres(_ *standin.Conn, sql string) (r standin.Reply) {
	if sql == "select broken" {
		return refusal("42703")
	}
	return standin.Reply{Hang: strings.Contains(sql, "pg_sleep"), Drop: strings.Contains(sql, "pg_terminate")}
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
