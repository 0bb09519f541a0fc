package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// routes maps the service's paths to their handlers.
func (s *Server) routes() http.Handler {
	mux := chi.NewRouter()
	mux.Use(middleware.GetHead) // what answers GET answers HEAD, too
	mux.NotFound(s.unrouted(mux))
	mux.MethodNotAllowed(s.unrouted(mux))
	mux.Handle("POST /notes", s.InSession(createNote))
	mux.Handle("GET /notes", s.InSession(listNotes))
	mux.Handle("GET /notes/{id}", s.InSession(getNote))
	mux.Handle("PUT /notes/{id}", s.InSession(updateNote))
	mux.Handle("DELETE /notes/{id}", s.InSession(deleteNote))
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ready", s.readyz)

	return s.canonical(mux)
}

// unrouted answers for an unknown path, and for a method that a path does not take.
func (s *Server) unrouted(mux *chi.Mux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		allowed := methods(mux, chi.RouteContext(r.Context()).RoutePath)
		if len(allowed) == 0 {
			s.write(w, r, notFound)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.write(w, r, newError(http.StatusMethodNotAllowed, "method_not_allowed", "The method is not allowed here"))
	}
}

// methods returns those that a path takes, which chi tells to its own answer alone.
func methods(mux *chi.Mux, path string) (taken []string) {
	for _, method := range []string{"CONNECT", "DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"} {
		if mux.Match(chi.NewRouteContext(), method, path) {
			taken = append(taken, method)
		}
	}
	if at := slices.Index(taken, "GET"); at >= 0 {
		taken = slices.Insert(taken, at+1, "HEAD")
	}
	return taken
}

// canonical does what the standard library's mux does before it routes, and chi
// does not: it compares paths part by part, whatever is escaped in them, and sends
// a client that asks for one with dots or double slashes to the one that is meant.
func (s *Server) canonical(mux *chi.Mux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "*" {
			if r.ProtoAtLeast(1, 1) {
				w.Header().Set("Connection", "close")
			}
			s.write(w, r, malformed)
			return
		}
		asked := r.URL.EscapedPath()
		meant := path.Clean("/" + asked)
		if strings.HasSuffix(asked, "/") && meant != "/" {
			meant += "/"
		}
		if meant == asked || r.Method == http.MethodConnect {
			route := chi.NewRouteContext()
			route.Routes, route.RoutePath = mux, cmp.Or(unescaped(asked), "/")
			r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, route))
			defer tidy(r)
			mux.ServeHTTP(w, r)
			return
		}
		to := url.URL{Path: meant, RawQuery: r.URL.RawQuery}
		if slices.Contains(methods(mux, unescaped(meant)), r.Method) {
			http.Redirect(w, r, to.String(), http.StatusTemporaryRedirect)
			return
		}
		http.Redirect(&response{ResponseWriter: w}, r, to.String(), http.StatusTemporaryRedirect)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
}

// unescaped returns a path with its parts unescaped, but for slashes within them. A
// part that is nothing but a slash is an empty one to the standard library's mux.
func unescaped(escaped string) string {
	parts := strings.Split(escaped, "/")
	for i, part := range parts {
		if text, err := url.PathUnescape(part); err == nil {
			parts[i] = strings.ReplaceAll(text, "/", "%2F")
			if text == "/" {
				parts[i] = ""
			}
		}
	}
	return strings.Join(parts, "/")
}
