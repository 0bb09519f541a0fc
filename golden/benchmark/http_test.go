//go:build unix

package benchmark

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/notes"
	"example.com/demo/internal/pgtest"
)

// plainService makes the test binary a service with plain pgx, at this address.
const plainService = "PLAIN_SERVICE"

// servePlain does what a handler does that has heard of no pool, and of nothing else.
func servePlain(address, databaseURL string) error {
	http.HandleFunc("GET /notes/{id}", func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		var note notes.Note
		if err == nil {
			err = func() error {
				conn, err := pgx.Connect(ctx, databaseURL)
				if err != nil {
					return err
				}
				defer conn.Close(ctx)
				tx, err := conn.Begin(ctx)
				if err != nil {
					return err
				}
				defer tx.Rollback(ctx) // does nothing after the commit
				if note, err = notes.Get(ctx, tx, id); err != nil {
					return err
				}
				return tx.Commit(ctx)
			}()
		}
		if err != nil {
			http.Error(w, "error", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(note)
	})
	return http.ListenAndServe(address, nil)
}

// TestHTTP counts answers per second to GET /notes/{id}, from services that are
// processes of their own, through PgBouncer.
func TestHTTP(t *testing.T) {
	near := withNotes(t)
	t.Run("PgBouncer", func(t *testing.T) { compareHTTP(t, near, 1, 8) })
	t.Run("PgBouncer, 5 ms away", func(t *testing.T) {
		far, _ := through(t, near, 5*time.Millisecond)
		compareHTTP(t, far, 1)
	})
}

func compareHTTP(t *testing.T, address string, clients ...int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"nopool", "pgx.Connect", "FastAPI"}
	services := map[string]string{
		"nopool":      start(t, address, "HTTP_ADDR", build(t)),
		"pgx.Connect": start(t, address, plainService, self),
	}
	if python := withFastAPI(); python != "" {
		services["FastAPI"] = start(t, address, "", python, "-m", "uvicorn", "--no-access-log", "fastapi_app:app")
	} else {
		t.Log("no FastAPI on this machine (Debian: python3-fastapi python3-sqlalchemy python3-psycopg2 uvicorn): left out")
		names = names[:2]
	}
	for _, n := range clients {
		duel(t, names, services, n)
	}
}

// TestBound compares the service with one whose logins do not ask the breaker before
// they prove the password: the bound on refused passwords must cost nothing.
func TestBound(t *testing.T) {
	address := withNotes(t)
	names := []string{"bounded", "unbounded"}
	services := map[string]string{
		"bounded":   start(t, address, "HTTP_ADDR", build(t)),
		"unbounded": start(t, address, "HTTP_ADDR", build(t, "-overlay="+unbounded(t))),
	}
	for _, clients := range []int{8, 64} {
		duel(t, names, services, clients)
	}
}

// unbounded returns an overlay for the go command that takes the question out of the guard.
func unbounded(t *testing.T) string {
	t.Helper()
	guard, err := filepath.Abs(filepath.Join(*service, "internal", "connect", "guard.go"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(guard)
	asks := []byte("if b[0] == 'p' && g.proof == nil {")
	if err != nil || !bytes.Contains(source, asks) {
		t.Fatalf("guard.go does not ask as it did: %v", err)
	}
	changed, overlay := filepath.Join(t.TempDir(), "guard.go"), filepath.Join(t.TempDir(), "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {guard: changed}})
	err = errors.Join(err,
		os.WriteFile(changed, bytes.Replace(source, asks, []byte("if false {"), 1), 0o600),
		os.WriteFile(overlay, replace, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return overlay
}

// build compiles the rendered service and returns its path.
func build(t *testing.T, flags ...string) string {
	t.Helper()
	demo := filepath.Join(t.TempDir(), "demo")
	args := append(append([]string{"build", "-C", *service, "-o", demo}, flags...), "./cmd/demo")
	if output, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return demo
}

// withNotes returns the URL, through PgBouncer, of a database with one note.
func withNotes(t *testing.T) string {
	t.Helper()
	direct := pgtest.Database(t)
	address := throughPgBouncer(t, direct)
	migrate := exec.Command(build(t), "migrate", "up")
	migrate.Env = append(os.Environ(), "APP_ENV=local", "DATABASE_URL="+direct)
	if output, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if _, err := pgtest.Admin(t, direct).Exec(t.Context(), "insert into notes (title) values ('first')"); err != nil {
		t.Fatal(err)
	}
	return address
}

// duel lets the services answer in turn, and prints ratios of the first to each other.
func duel(t *testing.T, names []string, services map[string]string, clients int) {
	t.Helper()
	rates, p99s := map[string][]float64{}, map[string][]float64{}
	first := names[0]
	for round := range *rounds + 1 {
		scores := map[string]score{}
		for i := range names {
			name := names[(i+round)%len(names)] // who comes first has no advantage
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
			s := race(t.Context(), get(client, services[name]), clients, *length)
			client.CloseIdleConnections()
			if s.bad > 0 {
				t.Errorf("%s: %d of %d failed", name, s.bad, s.good+s.bad)
			}
			scores[name] = s
		}
		if round == 0 {
			continue // to warm up
		}
		for _, name := range names {
			rates[name] = append(rates[name], scores[first].rate()/scores[name].rate())
			p99s[name] = append(p99s[name], scores[first].p99.Seconds()/scores[name].p99.Seconds())
		}
		if round == *rounds {
			t.Logf("%d clients, the last round: %.0f answers/s of %s", clients, scores[first].rate(), first)
		}
	}
	for _, name := range names[1:] {
		t.Logf("%d clients: %s to %-12s %s, p99 %s", clients, first, name+":", interval(rates[name]), interval(p99s[name]))
	}
}

// withFastAPI returns a Python that has what fastapi_app.py needs, "" when there is none.
func withFastAPI() string {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import fastapi, uvicorn, sqlalchemy, psycopg2").Run() == nil {
			return python
		}
	}
	return ""
}

// start runs a service, which finds its address in the environment or gets it
// as arguments, and returns the URL of a note.
func start(t *testing.T, databaseURL, variable string, command ...string) string {
	t.Helper()
	port := strconv.Itoa(localpg.FreePort())
	address := net.JoinHostPort("127.0.0.1", port)
	if variable == "" {
		command = append(command, "--port", port)
	}
	process := exec.Command(command[0], command[1:]...)
	process.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "DB_MAX_SESSIONS=10", "DB_MAX_WAITING=100", "LOG_LEVEL=warn")
	if variable != "" {
		process.Env = append(process.Env, variable+"="+address)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait(); log.Close() })
	note := (&url.URL{Scheme: "http", Host: address, Path: "/notes/1"}).String()
	for range 100 {
		if get(http.DefaultClient, note)(t.Context()) == nil {
			return note
		}
		time.Sleep(100 * time.Millisecond)
	}
	said, _ := os.ReadFile(log.Name())
	t.Fatalf("%v does not answer:\n%s", command, said)
	return ""
}

func get(client *http.Client, url string) session {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	}
}
