package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/connect"
	"example.org/team/tiny-shop/internal/httpapi"
	"example.org/team/tiny-shop/internal/nopool"
)

// hook is a part of the process. start must not keep its context, stop not outlast its own; nil does nothing.
type hook struct {
	name        string
	start, stop func(context.Context) error
}

// serve starts the hooks in order, answers requests until ctx ends, and stops what has
// started in the reverse order. It returns nil when all requests and sessions have finished.
func (a app) serve(ctx context.Context, cfg config.Config) error {
	s, err := newService(cfg, a.stderr)
	if err != nil {
		return err
	}
	s.warn()
	var started []hook
	for _, h := range []hook{
		{name: "database", start: s.checkDatabase, stop: s.db.Close},
		{name: "http server", start: s.listen, stop: s.drain},
	} {
		if h.start != nil {
			if err = h.start(ctx); err != nil {
				err = fmt.Errorf("start %s: %w", h.name, err)
				break
			}
		}
		started = append(started, h)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-s.failed:
		}
		s.log.Info("stopping")
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownDelay+cfg.ShutdownTimeout) // of all together
	defer cancel()
	for _, h := range slices.Backward(started) {
		if h.stop != nil {
			if failed := h.stop(stopping); failed != nil {
				err = errors.Join(err, fmt.Errorf("stop %s: %w", h.name, failed))
			}
		}
	}
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}

// service is the running process: an HTTP server, and the database to which each
// of its requests opens a connection.
type service struct {
	config config.Config
	log    *slog.Logger
	db     *nopool.DB
	api    *httpapi.Server
	http   *http.Server
	failed chan error // what ended the HTTP server
}

// newService puts the parts together. It does not touch the network.
func newService(cfg config.Config, logs io.Writer) (*service, error) {
	s := &service{config: cfg, log: newLogger(logs, cfg), failed: make(chan error, 1)}
	cfg.DB.Logger = s.log
	var err error
	if s.db, err = nopool.Open(cfg.DB); err != nil {
		return nil, err
	}
	s.api = &httpapi.Server{DB: s.db, Logger: s.log, MaxBody: int64(cfg.MaxBody), RequestTimeout: cfg.RequestTimeout}
	s.http = &http.Server{
		Handler:           s.api.Handler(),
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       cfg.RequestTimeout + 10*time.Second, // the API bounds each request, by its route, and Patient each response
		IdleTimeout:       2 * time.Minute,
	}
	return s, nil
}

func newLogger(w io.Writer, cfg config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if cfg.LogFormat == "text" {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(httpapi.WithCorrelation(handler))
}

// warn says how many connections this process may hold, since all replicas
// together must fit the pooler and nothing else will tell, and what is unsafe.
func (s *service) warn() {
	c := s.config
	s.log.Info("database budget", "max_sessions", c.DB.MaxSessions, "max_waiting", c.DB.MaxWaiting,
		"pool_size", c.PoolSize, "replicas", c.Replicas, "reserve", c.Reserve)
	if c.BudgetGuessed {
		s.log.Warn("database budget is a guess: set DB_POOL_SIZE and DB_REPLICAS, or DB_MAX_SESSIONS")
	}
	if !c.Database.Verified() {
		s.log.Warn("database certificate is not verified: set sslmode=verify-full and sslrootcert")
	}
}

// checkDatabase runs a query in a session like any other. It tries again until
// StartupTimeout, unless the database refuses us for a reason that will not pass.
func (s *service) checkDatabase(ctx context.Context) error {
	quiet, err := nopool.Open(s.config.DB) // without a logger: what fails is reported once, below
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.StartupTimeout)
	defer cancel()
	var version string
	ask := func(ctx context.Context, session *nopool.Session) error {
		return session.QueryRow(ctx, "select version()").Scan(&version)
	}
	last := errors.New("no answer")
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := connect.OnceMore(ctx, func(ctx context.Context) error {
			return quiet.Run(ctx, nopool.TxOptions{ReadOnly: true}, ask)
		})
		switch {
		case err == nil:
			s.log.Info("database ready", "version", version)
			return quiet.Close(ctx)
		case errors.Is(err, nopool.ErrConfiguration):
			return err
		case ctx.Err() == nil:
			last = err
			s.log.Warn("database not ready", "error", nopool.Describe(err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("gave up after %v (DB_STARTUP_TIMEOUT): %w", s.config.StartupTimeout, last)
		}
	}
}

func (s *service) listen(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.config.HTTPAddr)
	if err != nil {
		return err
	}
	s.log.Info("listening", "addr", listener.Addr().String())
	go func() { s.failed <- s.http.Serve(httpapi.Patient(listener)) }()
	return nil
}

// drain fails the readiness probe, gives load balancers time to see it, and
// lets the requests that are here finish. When ctx ends first, their connections
// are closed, which ends their sessions too.
func (s *service) drain(ctx context.Context) error {
	s.api.Drain()
	time.Sleep(s.config.ShutdownDelay) // within the bound of ctx, which is longer
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were cut short: %w", err), s.http.Close())
	}
	return nil
}
