//go:build unix

package benchmark

import (
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
	direct := pgtest.Database(t)
	address := throughPgBouncer(t, direct)
	demo := build(t, "../go-default")
	prepare(t, demo, direct)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"nopool", "pgx.Connect", "FastAPI"}
	services := map[string]string{
		"nopool":      start(t, address, "HTTP_ADDR", demo),
		"pgx.Connect": start(t, address, plainService, self),
	}
	if python := withFastAPI(); python != "" {
		services["FastAPI"] = start(t, address, "", python, "-m", "uvicorn", "--no-access-log", "fastapi_app:app")
	} else {
		t.Log("no FastAPI on this machine (Debian: python3-fastapi python3-sqlalchemy python3-psycopg2 uvicorn): left out")
		names = names[:2]
	}
	for _, clients := range []int{1, 8} {
		ratios := map[string][]float64{}
		for round := range *rounds + 1 {
			rates := map[string]float64{}
			for _, name := range names {
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
				s := race(t.Context(), get(client, services[name]), clients, *length)
				client.CloseIdleConnections()
				if s.bad > 0 {
					t.Errorf("%s: %d of %d failed", name, s.bad, s.good+s.bad)
				}
				rates[name] = s.rate()
			}
			if round == 0 {
				continue // to warm up
			}
			for _, name := range names {
				ratios[name] = append(ratios[name], rates["nopool"]/rates[name])
			}
			if round == *rounds {
				t.Logf("%d clients, the last round: %.0f answers/s of nopool", clients, rates["nopool"])
			}
		}
		for _, name := range names[1:] {
			t.Logf("%d clients: nopool to %-12s %s", clients, name+":", spread(ratios[name]))
		}
	}
}

// build returns the program of a service's folder.
func build(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "demo")
	if output, err := exec.Command("go", "build", "-C", dir, "-o", program, "./cmd/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// prepare makes a database with a note.
func prepare(t *testing.T, program, direct string) {
	t.Helper()
	migrate := exec.Command(program, "migrate", "up")
	migrate.Env = append(os.Environ(), "APP_ENV=local", "DATABASE_URL="+direct)
	if output, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if _, err := pgtest.Admin(t, direct).Exec(t.Context(), "insert into notes (title) values ('first')"); err != nil {
		t.Fatal(err)
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
	service := exec.Command(command[0], command[1:]...)
	service.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "DB_MAX_SESSIONS=10", "LOG_LEVEL=warn")
	if variable != "" {
		service.Env = append(service.Env, variable+"="+address)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	service.Stdout, service.Stderr = log, log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Process.Kill(); _ = service.Wait(); log.Close() })
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
