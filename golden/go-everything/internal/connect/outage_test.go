package connect

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// supavisor counts as Supavisor does (circuit_breaker.ex), and cannot ask for secrets during an outage.
type supavisor struct {
	mu            sync.Mutex
	to            time.Time     // the end of the outage; without one the secrets are cached
	takes         time.Duration // to find out that the database cannot be asked
	asked, failed []time.Time   // in vain; and refused to the address
	circuit       time.Time     // until when it does not ask
	blocked       time.Time     // until when it does not listen to the address
	blocks        int
}

func within(times []time.Time, d time.Duration) (n int) {
	for _, at := range times {
		if time.Since(at) < d {
			n++
		}
	}
	return n
}

// refuse is a standin.Options.OnStep, in Supavisor's order of steps.
func (s *supavisor) refuse(_ int, step standin.Step) *pgproto3.ErrorResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch now := time.Now(); {
	case step == standin.Starting && now.Before(s.blocked):
		return standin.Fatal("XX000", "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked")
	case step == standin.Challenged && now.Before(s.circuit):
		s.fail()
		return standin.Fatal("XX000", "(ECIRCUITBREAKER) failed to retrieve database credentials after multiple attempts, new connections are temporarily blocked")
	case step == standin.Challenged && now.Before(s.to):
		s.mu.Unlock()
		time.Sleep(s.takes)
		s.mu.Lock()
		if s.asked = append(s.asked, time.Now()); within(s.asked, 300*time.Second) >= 5 {
			s.circuit = time.Now().Add(30 * time.Second)
		}
		s.fail()
		return standin.Fatal("XX000", "(EAUTHQUERY) authentication query failed: connection to database not available")
	}
	return nil
}

func (s *supavisor) fail() {
	if s.failed = append(s.failed, time.Now()); within(s.failed, 150*time.Second) >= 10 {
		s.blocked = time.Now().Add(120 * time.Second)
		s.blocks++
	}
}

// TestSecretsCannotBeAsked wants processes to be well soon after an outage of the database in which Supavisor has forgotten
// their role's secret, and their address never to be blocked. All time is a bubble's.
func TestSecretsCannotBeAsked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		processes, load int  // requests at a time, of each process
		warm            bool // they were well before
		outage, takes   time.Duration
		unreached       time.Duration // nobody answers at all, at the end of the outage
		well            time.Duration // after the outage
	}{
		{"alone", 1, 4, false, 20 * time.Second, 0, 0, 15 * time.Second},
		{"alone, for most of the next pause", 1, 4, false, 34 * time.Second, 0, 0, 33 * time.Second},
		{"alone, warm, at load", 1, 40, true, 20 * time.Second, 50 * time.Millisecond, 0, 15 * time.Second},
		{"alone, warm, at load, asks long", 1, 40, true, 20 * time.Second, 4 * time.Second, 0, 20 * time.Second},
		{"alone, for long", 1, 40, true, 3 * time.Minute, 0, 0, 80 * time.Second},
		{"alone, warm, at load, asks long, for long", 1, 40, true, 3 * time.Minute, 4 * time.Second, 0, 80 * time.Second},
		{"two", 2, 4, false, 20 * time.Second, 0, 0, 15 * time.Second},
		{"two, for long", 2, 4, false, 3 * time.Minute, 0, 0, 80 * time.Second},
		{"four", 4, 4, false, 20 * time.Second, 0, 0, 15 * time.Second},
		{"four, at load, asks long", 4, 40, false, 20 * time.Second, 4 * time.Second, 0, 20 * time.Second},
		{"four, at load, ask long, for a minute", 4, 40, false, time.Minute, 4 * time.Second, 0, 30 * time.Second},
		{"four, warm", 4, 1, true, 20 * time.Second, 0, 0, 15 * time.Second},
		{"two, warm, at load", 2, 40, true, 20 * time.Second, 0, 0, 15 * time.Second},
		{"four, warm, at load", 4, 40, true, 20 * time.Second, 50 * time.Millisecond, 0, 15 * time.Second},
		{"four, warm, at load, ask long", 4, 40, true, 20 * time.Second, 4 * time.Second, 0, 20 * time.Second},
		{"four, for a minute", 4, 4, false, time.Minute, 0, 0, 30 * time.Second},
		{"four, for a moment", 4, 4, false, time.Second, 0, 0, 33 * time.Second},
		{"alone, then without a pooler", 1, 4, false, 80 * time.Second, 0, time.Minute, 10 * time.Second},
		{"four, then without a pooler", 4, 4, false, 80 * time.Second, 0, time.Minute, 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rules := &supavisor{takes: test.takes}
			pooler := standin.Start(t, standin.Options{Auth: standin.SCRAM, OnStep: rules.refuse})
			synctest.Test(t, func(t *testing.T) {
				var processes []*Connector
				for range test.processes {
					c, err := Parse(pooler.URL(), Options{AllowPlaintext: true, Processes: test.processes, DialFunc: func(context.Context, string, string) (net.Conn, error) {
						if left := time.Until(rules.to); left > 0 && left < test.unreached {
							return nil, errors.New("connection refused")
						}
						ours, theirs := net.Pipe()
						go pooler.Serve(theirs)
						return ours, nil
					}})
					must(t, err)
					if test.warm {
						must(t, session(t.Context(), c))
					}
					processes = append(processes, c)
				}
				rules.mu.Lock()
				rules.to = time.Now().Add(test.outage)
				rules.mu.Unlock()
				var all sync.WaitGroup
				for _, c := range processes {
					slots := make(chan struct{}, 10)
					for range test.load {
						all.Go(func() { untilWell(t, c, slots, rules.to.Add(test.well)) })
					}
				}
				all.Wait()
				t.Logf("well %v after it, %d logins refused", time.Since(rules.to).Round(time.Second), len(rules.failed))
				if rules.blocks > 0 {
					t.Errorf("the address was blocked: %d logins were refused", len(rules.failed))
				}
			})
		})
	}
}

// session opens a connection as package nopool does, whose own goroutines do not let a bubble's time pass.
func session(ctx context.Context, c *Connector) error {
	for attempt := 1; ; attempt++ {
		dialled := time.Now()
		config, err := c.Config()
		if err == nil {
			bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
			var conn *pgx.Conn
			conn, err = pgx.ConnectConfig(bounded, config)
			cancel()
			if err == nil {
				c.Opened(dialled)
				return conn.Close(ctx)
			}
		}
		if kind := c.Refused(err); attempt == 3 || !errors.Is(kind, nopool.ErrUnavailable) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// untilWell makes requests until one succeeds, which it must by the deadline.
func untilWell(t *testing.T, c *Connector, slots chan struct{}, deadline time.Time) {
	for {
		slots <- struct{}{}
		err := session(t.Context(), c)
		<-slots
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("not well: %v", err)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}
