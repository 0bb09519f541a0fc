package httpapi

import (
	"cmp"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/demo/internal/standin"
)

// TestSoak lets every second connection meet a fault, each in its turn, from 32
// clients at a pooler that admits fewer than we ask for, until SOAK (a duration)
// is over and each has been met 50 times; without SOAK, for a second. Nothing may
// be left: no connection, no slot, no goroutine. It runs beside no other test,
// since it would see theirs.
func TestSoak(t *testing.T) {
	duration, err := time.ParseDuration(cmp.Or(os.Getenv("SOAK"), "1s"))
	if err != nil {
		t.Fatalf("SOAK: %v", err)
	}
	wanted := int64(50)
	if os.Getenv("SOAK") == "" {
		wanted = 1
	}
	faults := allFaults()[1:] // not the one that is none
	options := behave(func(n int) *fault {
		if n%2 == 0 {
			return faults[n/2%len(faults)]
		}
		return new(fault)
	})
	options.MaxClients, options.ReleaseLag = 15, 2*time.Millisecond
	pooler := standin.Start(t, options)
	web, server, _ := serveRows(t, pooler.URL(), func(c *dbConfig) {
		c.MaxSessions, c.MaxWaiting, c.ConnectTimeout, c.Logger = 20, 30, time.Second, nil
	})
	server.Logger = slog.New(slog.DiscardHandler)

	end := time.Now().Add(duration)
	over := func() bool {
		for _, f := range faults {
			if f.met.Load() < wanted {
				return false
			}
		}
		return time.Now().After(end)
	}
	var mu sync.Mutex
	answers := map[string]int{}
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for !over() && !t.Failed() {
				status, p := post(t, web, "1")
				mu.Lock()
				answers[strconv.Itoa(status)+" "+p.Code]++
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	wantNothingOpen(t, pooler, server.DB)
	t.Logf("%d connections, answers: %v", pooler.Stats().Dials, answers)
	if n := answers["499 client_gone"]; n > 0 {
		t.Errorf("%d clients were told that they have left", n)
	}
	ours := regexp.MustCompile(`internal/nopool\.|pgx/v5/pgconn\.`)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left := slices.DeleteFunc(strings.Split(string(stacks), "\n\n"), func(stack string) bool { return !ours.MatchString(stack) })
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left, one of them:\n%s", len(left), left[0])
		}
	}
}
