package main

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/demo/internal/config"
	"example.com/demo/internal/localpg"
	"example.com/demo/internal/pgtest"
)

// No request shows from outside which setting bounds it, unless one of yours is
// slow: so this looks at what the parts were given.
func TestSettingsReachTheServer(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"DATABASE_URL": "postgres://u:p@db.example.com/d?sslmode=require", "REQUEST_TIMEOUT": "77s", "HTTP_MAX_BODY": "4711",
	}
	cfg, err := config.Load(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	s, err := newService(cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.api.RequestTimeout != 77*time.Second || s.api.MaxBody != 4711 {
		t.Errorf("requests may take %v and have %d bytes", s.api.RequestTimeout, s.api.MaxBody)
	}
	if s.http.WriteTimeout <= 77*time.Second || min(s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.IdleTimeout) <= 0 {
		t.Errorf("timeouts of the HTTP server: header %v, read %v, write %v, idle %v",
			s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.WriteTimeout, s.http.IdleTimeout)
	}
}

// While a load balancer is given time to notice, the probe fails and requests
// are still served. A second signal does not wait.
func TestStopDelayAndSecondSignal(t *testing.T) {
	t.Parallel()
	p := serve(t, pgtest.Database(t), map[string]string{"SHUTDOWN_DELAY": "60s"})
	if status := p.status("/ready"); status != http.StatusOK {
		t.Errorf("/ready: %d", status)
	}
	p.signal(syscall.SIGTERM)
	p.within(5*time.Second, "/ready to fail", func() bool { return p.status("/ready") == http.StatusServiceUnavailable })
	if status := p.status("/health"); status != http.StatusOK {
		t.Errorf("/health while stopping: %d", status)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(2 * time.Second); code != exitInterrupted {
		t.Errorf("exit status %d", code)
	}
}

// A start-up that waits for its database serves once that is there.
func TestDatabaseComesLate(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, localpg.Options{})
	server.Kill()
	p := start(t, "", map[string]string{"DATABASE_URL": server.URL("postgres"), "HTTP_ADDR": "127.0.0.1:0"})
	p.within(10*time.Second, "the first attempt", func() bool { return strings.Contains(p.stderr.String(), "not ready") })
	pgtest.Start(t, server.Options)
	p.awaitListening()
	p.stop()
}
