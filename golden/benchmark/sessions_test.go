//go:build unix

package benchmark

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"example.com/demo/internal/pgtest"
)

var (
	rounds = flag.Int("rounds", 5, "how often each contestant runs, in turn")
	length = flag.Duration("for", 2*time.Second, "how long each time")
)

func TestMain(m *testing.M) {
	if address := os.Getenv(plainService); address != "" {
		panic(servePlain(address, os.Getenv("DATABASE_URL")))
	}
	os.Exit(pgtest.Main(m))
}

func least(of []float64) float64  { return slices.Min(of) }
func most(of []float64) float64   { return slices.Max(of) }
func median(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

// TestSessions counts sessions per second: through PgBouncer, straight to
// Postgres, and with 5 ms more per round trip.
func TestSessions(t *testing.T) {
	for _, setup := range []struct {
		name    string
		url     func(t testing.TB, url string) string
		clients []int
	}{
		{"PgBouncer", throughPgBouncer, []int{1, 8, 64}},
		{"PgBouncer with a certificate of RSA", throughRSA, []int{1, 8, 64}},
		{"Postgres", func(_ testing.TB, url string) string { return url }, []int{1, 8, 64}},
		{"PgBouncer, 5 ms away", func(t testing.TB, url string) string {
			url, _ = through(t, throughPgBouncer(t, url), 5*time.Millisecond)
			return url
		}, []int{1, 8}},
	} {
		t.Run(setup.name, func(t *testing.T) {
			address := setup.url(t, pgtest.Database(t))
			for _, clients := range setup.clients {
				t.Run(strconv.Itoa(clients), func(t *testing.T) { compare(t, address, clients) })
			}
		})
	}
}

func throughPgBouncer(t testing.TB, url string) string {
	return pgtest.PgBouncer(t, url, pgtest.PgBouncerOptions{PoolSize: 80, MaxClientConn: 200, Secret: secret(t, url)})
}

// secret returns what Postgres keeps of the password, where it can be read. To derive it for each client costs PgBouncer
// more than all the rest that it does.
func secret(t testing.TB, url string) (kept string) {
	t.Helper()
	_ = pgtest.Admin(t, url).QueryRow(t.Context(), "select rolpassword from pg_authid where rolname = 'app'").Scan(&kept)
	return kept
}

// throughRSA is throughPgBouncer with the kind of key that most authorities certify
// and that Debian makes for a server. It is dearer to sign with than ours of ECDSA.
func throughRSA(t testing.TB, url string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err1 := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return pgtest.PgBouncer(t, url, pgtest.PgBouncerOptions{
		PoolSize: 80, MaxClientConn: 200, Secret: secret(t, url),
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	})
}

// compare runs the contestants in turn, so that whatever else the machine does
// meets them all, and prints ratios to plain pgx and to pgbench.
func compare(t *testing.T, address string, clients int) {
	ratios, cpu := map[string][]float64{}, map[string][]float64{}
	allocations := map[string]float64{}
	for round := range *rounds + 1 {
		scores := map[string]score{}
		for _, c := range contestants {
			t.Run("", func(t *testing.T) {
				run := c.open(t, address, max(10, clients)) // as many as the service's own default
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				s := race(t.Context(), run, clients, *length)
				runtime.ReadMemStats(&after)
				s.mallocs = after.Mallocs - before.Mallocs
				scores[c.name] = s
				if s.bad > 0 {
					t.Errorf("%s: %d of %d sessions failed", c.name, s.bad, s.good+s.bad)
				}
			})
		}
		inC := pgbench(t, address, clients, *length)
		if round == 0 {
			continue // to warm up
		}
		plain := scores["pgx.Connect"]
		for name, s := range scores {
			ratios[name] = append(ratios[name], s.rate()/plain.rate())
			cpu[name] = append(cpu[name], (s.cpu.Seconds()/float64(s.good))/(plain.cpu.Seconds()/float64(plain.good)))
			allocations[name] = float64(s.mallocs) / float64(s.good)
		}
		ratios["pgbench -C"] = append(ratios["pgbench -C"], inC/plain.rate())
		ratios["nopool to pgbench -C"] = append(ratios["nopool to pgbench -C"], scores["nopool"].rate()/inC)
		if round == *rounds {
			t.Logf("the last round: %.0f sessions/s of pgx.Connect, %.0f µs of CPU each", plain.rate(), plain.cpu.Seconds()/float64(plain.good)*1e6)
		}
	}
	t.Logf("%d clients: sessions per second and client CPU per session, as ratios to pgx.Connect; allocations per session", clients)
	for _, c := range contestants {
		t.Logf("  %-13s %s   CPU %s   %.0f allocations", c.name, spread(ratios[c.name]), spread(cpu[c.name]), allocations[c.name])
	}
	t.Logf("  %-13s %s", "pgbench -C", spread(ratios["pgbench -C"]))
	t.Logf("  nopool to pgbench -C: %s", spread(ratios["nopool to pgbench -C"]))
}

// TestRoundTrips counts how often a client speaks and waits in one session, and
// how often it dials.
func TestRoundTrips(t *testing.T) {
	for _, setup := range []struct {
		name string
		url  func(t testing.TB, url string) string
	}{{"PgBouncer", throughPgBouncer}, {"Postgres", func(_ testing.TB, url string) string { return url }}} {
		t.Run(setup.name, func(t *testing.T) {
			address := setup.url(t, pgtest.Database(t))
			for _, c := range contestants {
				t.Run("", func(t *testing.T) {
					url, relay := through(t, address, 0)
					run := c.open(t, url, 1)
					const sessions = 20
					var dials, bursts int64
					for i := range sessions + 2 { // the first are those that learn
						if i == 2 {
							time.Sleep(50 * time.Millisecond) // the last connection may have its last word
							dials, bursts = relay.dials.Load(), relay.bursts.Load()
						}
						if err := run(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(50 * time.Millisecond)
					t.Logf("%-13s %4.1f bursts, %.1f connections per session", c.name,
						float64(relay.bursts.Load()-bursts)/sessions, float64(relay.dials.Load()-dials)/sessions)
				})
			}
		})
	}
}

// TestFullPooler has 64 clients and a PgBouncer that admits 15, which all that
// have a limit are told.
func TestFullPooler(t *testing.T) {
	const admitted = 15
	direct := pgtest.Database(t)
	address := pgtest.PgBouncer(t, direct, pgtest.PgBouncerOptions{PoolSize: admitted, MaxClientConn: admitted, Secret: secret(t, direct)})
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	limited := contestant{"pgx, 15 at once", func(t testing.TB, url string, limit int) session {
		run, slots := openPgx(t, url, limit), make(chan struct{}, limit)
		return func(ctx context.Context) error {
			slots <- struct{}{}
			defer func() { <-slots }()
			return run(ctx)
		}
	}}
	for _, c := range append(slices.Clone(contestants), limited) {
		t.Run("", func(t *testing.T) {
			s := race(t.Context(), c.open(t, u.String(), admitted), 64, *length)
			t.Logf("%-15s %6.0f good sessions/s, %5.1f %% failed", c.name, s.rate(), s.failed())
		})
		time.Sleep(200 * time.Millisecond) // PgBouncer notices that the last one has gone
	}
}
