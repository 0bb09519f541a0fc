// Package httpapi is the service's HTTP side. Your routes are in routes.go, and each
// resource has a file for its handlers. A request passes
//
//	middleware.go   correlation id → access log → recover → body and time limits
//	session.go      → session, opened by the handler's first query
//	response.go     → handler → COMMIT acknowledged (a read does not wait for it) → response
//
// and an error that a handler returns becomes a response in problem.go.
package httpapi

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"example.org/team/tiny-shop/internal/nopool"
)

// Server answers the service's HTTP requests.
type Server struct {
	DB             *nopool.DB
	Logger         *slog.Logger  // wrap its handler in WithCorrelation
	MaxBody        int64         // bytes of a request's body
	RequestTimeout time.Duration // of a whole request
	// Settings returns what to set in a request's transaction, at no round trip: its caller's role and claims, for
	// row-level security. Nil sets nothing.
	Settings func(r *http.Request) []nopool.Setting

	ready    readiness
	draining atomic.Bool
	unsent   atomic.Int64 // bytes of responses that wait for their clients
}

// Handler returns the service's routes behind its middleware.
func (s *Server) Handler() http.Handler { return s.Wrap(s.routes()) }

// Drain makes the readiness probe fail, so that no new requests are sent here,
// while those that come are still served, each as the last one of its connection.
func (s *Server) Drain() { s.draining.Store(true) }
