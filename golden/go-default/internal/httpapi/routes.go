package httpapi

import "net/http"

// routes maps the service's paths to their handlers.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /notes", s.InSession(createNote))
	mux.Handle("GET /notes", s.InSession(listNotes))
	mux.Handle("GET /notes/{id}", s.InSession(getNote))
	mux.Handle("PUT /notes/{id}", s.InSession(updateNote))
	mux.Handle("DELETE /notes/{id}", s.InSession(deleteNote))
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ready", s.readyz)

	return s.problems(mux)
}

// problems turns the mux's own answers, unknown path and wrong method, into problems.
func (s *Server) problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		own := &response{ResponseWriter: w} // its text is dropped, its headers stay
		mux.ServeHTTP(own, r)
		switch own.status {
		case http.StatusNotFound:
			s.write(w, r, notFound)
		case http.StatusMethodNotAllowed:
			s.write(w, r, newError(own.status, "method_not_allowed", "The method is not allowed here"))
		case http.StatusBadRequest:
			s.write(w, r, malformed)
		default: // a redirect, from //path for one
			w.WriteHeader(own.status)
		}
	})
}
