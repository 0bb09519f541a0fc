package localpg_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/pgtest"
)

// TestMain doubles as the program that TestCluster kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCALPG_TEST_DIR"); dir != "" {
		if _, err := localpg.Start(context.Background(), localpg.Options{Dir: dir}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("started")
		select {}
	}
	os.Exit(pgtest.Main(m))
}

// newDir returns a folder for a cluster; as root, t.TempDir is closed to the account that servers run as.
func newDir(t *testing.T) string {
	t.Helper()
	if _, err := localpg.FindBinaries(); err != nil {
		if os.Getenv("CI") == "true" || !errors.Is(err, localpg.ErrNotFound) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	parent, err := os.MkdirTemp("", "localpg-test-")
	if err == nil {
		err = os.Chmod(parent, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	return filepath.Join(parent, "deep, with spaces", "cluster")
}

// refused starts a server that must not start, and checks that the error is one line with the given words.
func refused(t *testing.T, opts localpg.Options, words ...string) {
	t.Helper()
	server, err := localpg.Start(t.Context(), opts)
	if err == nil {
		server.Stop()
		t.Fatal("the server started")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := localpg.WriteFile(path, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

// TestCluster takes one cluster through all that can happen to it.
func TestCluster(t *testing.T) {
	t.Parallel()
	opts := localpg.Options{Dir: newDir(t), Durable: true}
	start := func() *localpg.Server {
		t.Helper()
		server := pgtest.Start(t, opts)
		opts.Port = server.Port
		return server
	}
	file := func(name string) string { return filepath.Join(opts.Dir, name) }

	server := start()
	if info, err := os.Stat(file("password")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", info, err)
	}
	for range 2 { // the second time it is there already
		if err := server.CreateDatabase(t.Context(), `odd "name`); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, localpg.Options{Dir: opts.Dir}, `"postmaster.pid" already exists`, "Is another postmaster", opts.Dir)
	if log, err := os.ReadFile(opts.Dir + ".log"); err != nil || !strings.Contains(string(log), "ready to accept") {
		t.Errorf("the first server's log is gone: %v", err)
	}
	for range 2 { // the second time it has ended already
		server.Stop()
	}

	server = start()
	wantKept(t, server.URL(`odd "name`))
	server.Kill() // which leaves a pid file, and its children for a moment
	start().Kill()
	pid := another(t, filepath.Join(filepath.Dir(opts.Dir), "log"))
	write(t, file("postmaster.pid"), fmt.Sprintf("%s\n%s\n0\n%d\n\n", pid, opts.Dir, opts.Port))
	refused(t, opts, `"postmaster.pid" already exists`, "PID "+pid)
	if err := os.Remove(file("postmaster.pid")); err != nil {
		t.Fatal(err)
	}

	write(t, file("postgresql.auto.conf"), "max_connections = none\n")
	refused(t, opts, "postgresql.auto.conf", "contains errors")
	write(t, file("postgresql.auto.conf"), "")
	if runtime.GOOS == "linux" { // others do not end the children of a killed program
		wantEndsWithUs(t, opts.Dir)
	}
	version, err := os.ReadFile(file("PG_VERSION"))
	if err != nil || len(version) == 0 {
		t.Fatal("no version", err)
	}
	write(t, file("PG_VERSION"), "7\n")
	refused(t, opts, "initialized by PostgreSQL version 7", "not compatible with this version", opts.Dir)
}

// another returns the number of a program that has nothing to do with Postgres, and runs as the same user.
func another(t *testing.T, log string) string {
	t.Helper()
	process, err := localpg.StartProcess(t.Context(), log, "sh", "-c", "echo $$; exec sleep 600")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	var pid []byte
	if !pgtest.Within(time.Minute, func() bool { pid, _ = os.ReadFile(log); return bytes.HasSuffix(pid, []byte("\n")) }) {
		t.Fatal("it says nothing")
	}
	return strings.TrimSpace(string(pid))
}

// wantKept looks at a database that was made by a server that has ended since.
func wantKept(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var fsync, owner string
	err = conn.QueryRow(t.Context(), `select current_setting('fsync'), pg_get_userbyid(datdba) from pg_database
		where datname = current_database()`).Scan(&fsync, &owner)
	if err != nil || fsync != "on" || owner != "app" {
		t.Errorf("fsync %s, owner %s, error %v", fsync, owner, err)
	}
}

// wantEndsWithUs kills a program that has started a server, whatever is set for psql, and wants the server to shut down in good order.
func wantEndsWithUs(t *testing.T, dir string) {
	t.Helper()
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), "LOCALPG_TEST_DIR="+dir, "PGSERVICE=nobody", "PGSSLCERT=/nowhere", "PGOPTIONS=-cno=1", "PGTARGETSESSIONATTRS=standby")
	out, err := program.StdoutPipe()
	if err == nil {
		err = program.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
		t.Fatal(line, err)
	}
	_ = program.Process.Kill()
	_ = program.Wait()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("the server outlives the program")
		}
	}
}

func TestFolderInTheWay(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "thesis.txt"), "precious")
	refused(t, localpg.Options{Dir: dir}, "something else than a cluster")
	if _, err := os.Stat(filepath.Join(dir, "thesis.txt")); err != nil {
		t.Error(err)
	}
	if os.Getuid() == 0 { // only root runs servers as somebody else
		if err := os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, localpg.Options{Dir: filepath.Join(filepath.Dir(dir), "other")}, "Permission denied", "ordinary user")
	}
}

func TestFindBinaries(t *testing.T) { // changes the environment, so not in parallel
	root, usual := t.TempDir(), *localpg.Folders
	t.Cleanup(func() { *localpg.Folders = usual })
	find := func(what, embedded, path, want string) {
		t.Helper()
		t.Setenv("EMBEDDED_PG", embedded)
		t.Setenv("PATH", path)
		if got, err := localpg.FindBinaries(); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	*localpg.Folders = []string{filepath.Join(root, "??", "bin")}
	find("nowhere", "", "", "")
	for _, version := range []string{"9.6", "17", "16"} {
		bin := filepath.Join(root, version, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"postgres", "initdb", "postgres.exe", "initdb.exe"} {
			if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	find("the usual folders", "", "", filepath.Join(root, "17", "bin"))
	find("PATH", "", filepath.Join(root, "16", "bin"), filepath.Join(root, "16", "bin"))
	find("EMBEDDED_PG", filepath.Join(root, "9.6"), filepath.Join(root, "16", "bin"), filepath.Join(root, "9.6", "bin"))
	find("EMBEDDED_PG without programs", root, filepath.Join(root, "16", "bin"), "")
}
