//go:build unix

package benchmark

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/demo/internal/pgtest"
)

// TestBound weighs what the bound on logins under way costs: the service beside the same without it, in pairs, by answers
// per second and by the p99 of their times. It gives means of the ratios with their intervals of 95 %.
func TestBound(t *testing.T) {
	direct := pgtest.Database(t)
	address := throughPgBouncer(t, direct)
	bound := build(t, "../go-default")
	unbound := build(t, withoutBound(t))
	prepare(t, bound, direct)
	for _, sessions := range []string{"10", "64"} {
		services := map[string]string{}
		for name, program := range map[string]string{"bound": bound, "unbound": unbound} {
			services[name] = start(t, address, "HTTP_ADDR", "env", "DB_MAX_SESSIONS="+sessions, "DB_MAX_WAITING=64", program)
		}
		for _, clients := range []int{8, 64} {
			var rates, tails []float64
			for round := range *rounds + 1 {
				rate, tail := map[string]float64{}, map[string]float64{}
				names := []string{"bound", "unbound"}
				if round%2 == 1 {
					slices.Reverse(names)
				}
				for _, name := range names {
					rate[name], tail[name] = answers(t, services[name], clients)
				}
				if round == 0 {
					continue // to warm up
				}
				rates = append(rates, rate["bound"]/rate["unbound"])
				tails = append(tails, tail["bound"]/tail["unbound"])
				if round == *rounds {
					t.Logf("the last round: %.0f answers/s with a p99 of %.0f ms, unbound %.0f and %.0f ms",
						rate["bound"], tail["bound"], rate["unbound"], tail["unbound"])
				}
			}
			t.Logf("%s sessions, %d clients: answers per second %s, p99 %s", sessions, clients, interval(rates), interval(tails))
		}
	}
}

// withoutBound returns the folder of a copy of the service that takes any number of logins for six.
func withoutBound(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "unbound")
	if err := os.CopyFS(dir, os.DirFS("../go-default")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "internal/connect/breaker.go")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	limits := regexp.MustCompile(`(?m)^(\tmax(Places|Refused) += \d)`)
	if n := len(limits.FindAll(text, -1)); n != 2 {
		t.Fatalf("%d limits found, want 2", n)
	}
	if err := os.WriteFile(file, limits.ReplaceAll(text, []byte("${1}00")), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// answers asks for a note again and again, and returns the answers per second and the p99 of their times in milliseconds.
func answers(t *testing.T, note string, clients int) (rate, p99 float64) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	one := get(client, note)
	var mu sync.Mutex
	var took []time.Duration
	s := race(t.Context(), func(ctx context.Context) error {
		began := time.Now()
		err := one(ctx)
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(began))
		return err
	}, clients, *length)
	if s.bad > 0 {
		t.Errorf("%d of %d failed", s.bad, s.good+s.bad)
	}
	slices.Sort(took)
	return s.rate(), took[len(took)*99/100].Seconds() * 1e3
}

// interval is the geometric mean of ratios, and where it lies with 95 % (Student's t for ten, a little narrow for fewer).
func interval(ratios []float64) string {
	var sum, squares float64
	n := float64(len(ratios))
	for _, ratio := range ratios {
		sum += math.Log(ratio)
	}
	for _, ratio := range ratios {
		squares += math.Pow(math.Log(ratio)-sum/n, 2)
	}
	around := 2.262 * math.Sqrt(squares/max(1, n-1)/n)
	return fmt.Sprintf("%.3f (%.3f to %.3f)", math.Exp(sum/n), math.Exp(sum/n-around), math.Exp(sum/n+around))
}
