package httpapi

import "net/http"

// routes maps the service's paths to their handlers.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ready", s.readyz)
	mux.Handle("POST /notes", s.InSession(createNote))
	mux.Handle("GET /notes", s.InSession(listNotes))
	mux.Handle("GET /notes/{id}", s.InSession(getNote))
	mux.Handle("PUT /notes/{id}", s.InSession(updateNote))
	mux.Handle("DELETE /notes/{id}", s.InSession(deleteNote))

	return s.problems(mux)
}
