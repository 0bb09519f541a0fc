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
		if _, pattern := mux.Handler(r); pattern == "" {
			w = &plainError{ResponseWriter: w, server: s, request: r}
		}
		mux.ServeHTTP(w, r)
	})
}

// plainError replaces a plain-text error by a problem.
type plainError struct {
	http.ResponseWriter
	server   *Server
	request  *http.Request
	replaced bool
}

func (p *plainError) WriteHeader(status int) {
	switch status {
	case http.StatusNotFound:
		p.replaced = true
		p.server.write(p.ResponseWriter, p.request, &Error{Status: status, Code: "not_found", Detail: "There is nothing here"})
	case http.StatusMethodNotAllowed:
		p.replaced = true
		p.server.write(p.ResponseWriter, p.request, &Error{Status: status, Code: "method_not_allowed", Detail: "The method is not allowed here"})
	default:
		p.ResponseWriter.WriteHeader(status)
	}
}

func (p *plainError) Write(b []byte) (int, error) {
	if p.replaced {
		return len(b), nil
	}
	return p.ResponseWriter.Write(b)
}
