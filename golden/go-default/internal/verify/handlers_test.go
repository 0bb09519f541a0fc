package verify

import (
	"errors"
	"net/http"

	"example.com/demo/internal/httpapi"
	"example.com/demo/internal/nopool"
)

// query is a handler of one statement.
func query(sql string) httpapi.SessionHandler {
	return func(_ http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		_, err := session.Exec(r.Context(), sql)
		return err
	}
}

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

func leavesRows(then error) httpapi.SessionHandler {
	return func(_ http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		_, err := session.Query(r.Context(), "select generate_series(1, 100000)")
		return errors.Join(then, err)
	}
}

// ignores answers as if a statement had gone well.
func ignores(sql string) httpapi.SessionHandler {
	return func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		_, _ = session.Exec(r.Context(), sql)
		return large(w, r, session)
	}
}

// doubles writes its row again, which a constraint refuses at COMMIT: no handler sees that.
func doubles(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	_, err := session.Exec(r.Context(), "insert into item select name from item where xmin = pg_current_xact_id()::xid")
	return errors.Join(err, large(w, r, session))
}

// streams lets bytes leave, and then does as it is told. A query must be refused from there on, else the client gets no
// whole answer.
func streams(leave func(http.ResponseWriter) error, then func() error) httpapi.SessionHandler {
	return func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		if err := leave(w); err != nil {
			return err
		}
		if _, err := session.Exec(r.Context(), "select 1"); !errors.Is(err, nopool.ErrSessionDone) {
			panic(http.ErrAbortHandler)
		}
		if then != nil {
			return then()
		}
		return nil
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

// upgrade answers a handshake, and takes the connection over.
func upgrade(w http.ResponseWriter) error {
	w.Header().Set("Upgrade", "verify")
	w.Header().Set("Connection", "Upgrade")
	w.WriteHeader(http.StatusSwitchingProtocols)
	return hijack(w) // what it writes is no answer any more
}
