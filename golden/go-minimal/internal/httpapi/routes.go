package httpapi

import "net/http"

// routes maps the service's paths to their handlers.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ready", s.readyz)

	return s.problems(mux)
}

// problems turns the mux's own answers, unknown path and wrong method, into
// problems.
func (s *Server) problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		plain := &withoutText{ResponseWriter: w}
		mux.ServeHTTP(plain, r)
		switch plain.status {
		case http.StatusNotFound:
			s.write(w, r, newError(plain.status, "not_found", "There is nothing here"))
		case http.StatusMethodNotAllowed:
			s.write(w, r, newError(plain.status, "method_not_allowed", "The method is not allowed here"))
		default: // a redirect, from //path for one
			w.WriteHeader(plain.status)
		}
	})
}

// withoutText keeps the headers and the status of an answer.
type withoutText struct {
	http.ResponseWriter
	status int
}

func (w *withoutText) WriteHeader(status int)      { w.status = status }
func (w *withoutText) Write(p []byte) (int, error) { return len(p), nil }
