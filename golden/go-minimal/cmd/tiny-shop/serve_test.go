package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/team/tiny-shop/internal/localpg"
	"example.org/team/tiny-shop/internal/localpg/pgtest"
)

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
