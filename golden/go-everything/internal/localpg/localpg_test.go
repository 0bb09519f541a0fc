package localpg

import (
	"bufio"
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
)

// TestMain doubles as the program that TestServerDiesWithUs kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCALPG_TEST_DIR"); dir != "" {
		server, err := Start(context.Background(), Options{Dir: dir})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(server.Options.Port)
		select {}
	}
	os.Exit(m.Run())
}

// newDir returns a folder for a cluster; as root, t.TempDir is closed to the account that servers run as.
func newDir(t *testing.T) string {
	t.Helper()
	if _, err := FindBinaries(); err != nil {
		if os.Getenv("CI") == "true" || !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	parent, err := os.MkdirTemp("", "localpg-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	if err := os.Chmod(parent, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(parent, "deep", "cluster")
}

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	server, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	return server
}

// refused starts a server that must not start, and checks that the error is one line with the given words.
func refused(t *testing.T, opts Options, words ...string) {
	t.Helper()
	server, err := Start(t.Context(), opts)
	if err == nil {
		_ = server.Stop(context.Background())
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
	if err := WriteFile(path, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func TestClusterIsKept(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	server := start(t, Options{Dir: dir, Durable: true})
	for range 2 { // the second time it is there already
		if err := server.CreateDatabase(t.Context(), `odd "name`); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", info, err)
	}
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
	again := start(t, Options{Dir: dir, Durable: true})
	conn, err := pgx.Connect(t.Context(), again.URL(`odd "name`))
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

func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	server := start(t, Options{Dir: newDir(t)})
	log, _ := os.ReadFile(server.file("server.log"))
	refused(t, Options{Dir: server.Options.Dir}, "another server already runs", server.Options.Dir)
	if after, _ := os.ReadFile(server.file("server.log")); !strings.HasPrefix(string(after), string(log)) {
		t.Error("the first server's log is gone")
	}
	if conn, err := pgx.Connect(t.Context(), server.AdminURL("postgres")); err != nil {
		t.Errorf("the first server suffered: %v", err)
	} else {
		conn.Close(t.Context())
	}
}

// A crash left a pid file, and the pid belongs to another program now: us.
func TestStalePidFileIsRemoved(t *testing.T) {
	t.Parallel()
	server := start(t, Options{Dir: newDir(t)})
	server.Kill()
	pidFile := filepath.Join(server.Options.Dir, "postmaster.pid")
	write(t, pidFile, fmt.Sprintf("%d\n%s\n0\n%d\n\n", os.Getppid(), server.Options.Dir, server.Options.Port))
	start(t, server.Options)
}

func TestDataOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	server := start(t, Options{Dir: newDir(t)})
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, server.file("PG_VERSION"), "7\n")
	refused(t, server.Options, "holds data of Postgres 7", server.Options.Dir, "EMBEDDED_PG")
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "thesis.txt"), "precious")
	refused(t, Options{Dir: dir}, "something else than a cluster")
	if _, err := os.Stat(filepath.Join(dir, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

func TestWhatPostgresSaysIsPassedOn(t *testing.T) {
	t.Parallel()
	server := start(t, Options{Dir: newDir(t)})
	server.Kill()
	write(t, server.file("postgresql.auto.conf"), "max_connections = none\n")
	refused(t, server.Options, "postgresql.auto.conf", "contains errors")
}

func TestFolderOutOfReach(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root runs servers as somebody else")
	}
	dir := newDir(t)
	if err := os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, Options{Dir: dir}, "Permission denied", "ordinary user")
}

func TestServerDiesWithUs(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the children of a killed program")
	}
	dir := newDir(t)
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), "LOCALPG_TEST_DIR="+dir)
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_ = program.Process.Kill()
	_ = program.Wait()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
			return // it shut down in good order
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("the server on port %s outlives the program", strings.TrimSpace(port))
		}
	}
}

func TestFindBinaries(t *testing.T) { // changes the environment, so not in parallel
	found := newBin(t)
	t.Setenv("EMBEDDED_PG", filepath.Dir(found))
	if got, err := FindBinaries(); got != found || err != nil {
		t.Errorf("EMBEDDED_PG: got %q, %v", got, err)
	}
	t.Setenv("EMBEDDED_PG", t.TempDir())
	if _, err := FindBinaries(); err == nil || !strings.Contains(err.Error(), "EMBEDDED_PG") {
		t.Errorf("EMBEDDED_PG without programs: %v", err)
	}
	t.Setenv("EMBEDDED_PG", "")
	t.Setenv("PATH", found)
	if got, err := FindBinaries(); got != found || err != nil {
		t.Errorf("PATH: got %q, %v", got, err)
	}
	usual := folders
	t.Cleanup(func() { folders = usual })
	t.Setenv("PATH", "")
	folders = []string{filepath.Join(t.TempDir(), "??", "bin")}
	if _, err := FindBinaries(); !errors.Is(err, ErrNotFound) {
		t.Errorf("nowhere: %v", err)
	}
	root := filepath.Dir(filepath.Dir(folders[0]))
	for _, version := range []string{"9.6", "17", "16"} {
		if err := os.MkdirAll(filepath.Join(root, version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(newBin(t), filepath.Join(root, version, "bin")); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := FindBinaries(); got != filepath.Join(root, "17", "bin") || err != nil {
		t.Errorf("folders: got %q, %v", got, err)
	}
}

// newBin makes a folder with what passes for the programs of a server.
func newBin(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb"} {
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}
