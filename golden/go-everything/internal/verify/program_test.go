package verify

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/demo/internal/pgtest"
)

// program is the service's command, built once for all parts, in the folder that goes with the tests.
var program = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(os.TempDir(), "program")
	build := exec.Command("go", "build", "-o", path, "./cmd/demo")
	build.Dir = moduleDir()
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// process is a run of the program, with settings of its own and no other.
type process struct {
	t           *T
	cmd         *exec.Cmd
	stderr, out *pgtest.Log
	ended       chan struct{}
	began       time.Time
}

// start runs the program with a database and more settings, as NAME=value.
func start(t *T, databaseURL string, args []string, settings ...string) *process {
	t.Helper()
	p := &process{t: t, stderr: &pgtest.Log{}, out: &pgtest.Log{}, ended: make(chan struct{})}
	path, err := program()
	t.need(err)
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "APP_ENV=local", "LOG_FORMAT=json",
		"DATABASE_URL=" + databaseURL, "HTTP_ADDR=127.0.0.1:0", "DB_MAX_SESSIONS=4",
	}, settings...)
	p.cmd.Stderr, p.cmd.Stdout = p.stderr, p.out
	p.began = time.Now()
	t.need(p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the status says it
	}()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.ended })
	return p
}

// soon is far more than the program takes for a step, on a busy machine too.
const soon = 30 * time.Second

// wait wants the process to end, and returns its status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(soon):
		p.t.Errorf("still running after %v: %s", soon, p.stderr.Tail())
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits for a text in what the program logs, or for its end, and reports whether it was there.
func (p *process) says(text string) bool {
	return pgtest.Within(soon, func() bool {
		return strings.Contains(p.stderr.String(), text) || p.cmd.ProcessState != nil
	}) && strings.Contains(p.stderr.String(), text)
}

// listening matches the line that says where the program listens, however the owner's logs are written.
var listening = regexp.MustCompile(`listening.*(127\.0\.0\.1:\d+)`)

// address waits until the program listens, and returns where.
func (p *process) address() string {
	p.t.Helper()
	if !p.says("listening") {
		p.t.Fatal("it does not listen:", p.stderr.Tail())
	}
	return "http://" + listening.FindStringSubmatch(p.stderr.String())[1]
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	p.t.need(p.cmd.Process.Signal(s))
}

// errors are the lines for people on stderr, log lines left out.
func (p *process) errors() (lines []string) {
	for line := range strings.Lines(p.stderr.String()) {
		if !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "time=") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// status is the status of a GET, 0 if there is no answer.
func status(url string) int {
	response, err := (&http.Client{Timeout: soon}).Get(url)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}
