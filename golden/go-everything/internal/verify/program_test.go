package verify

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// built is the program, built once for all parts.
var built struct {
	sync.Once
	path string
	out  []byte
	err  error
}

// program builds the service's command.
func program(t *T) string {
	t.Helper()
	built.Do(func() {
		dir, err := os.MkdirTemp("", "verify-") // removed by cleanUp: it outlives this part
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "program")
		build := exec.Command("go", "build", "-o", built.path, ".")
		build.Dir = filepath.Join(moduleDir(t), "cmd", "demo")
		built.out, built.err = build.CombinedOutput()
	})
	if built.err != nil {
		t.Fatalf("build the program: %v\n%s", built.err, built.out)
	}
	return built.path
}

// cleanUp removes the program.
func cleanUp() {
	if built.path != "" {
		_ = os.RemoveAll(filepath.Dir(built.path))
	}
}

// process is a run of the program, with settings of its own and no other.
type process struct {
	t     *T
	cmd   *exec.Cmd
	logs  *logBuffer // stderr
	out   *bytes.Buffer
	ended chan struct{}
	code  int
	began time.Time
}

// start runs the program with a database and more settings, as NAME=value.
func start(t *T, databaseURL string, args []string, settings ...string) *process {
	t.Helper()
	p := &process{t: t, logs: &logBuffer{}, out: &bytes.Buffer{}, ended: make(chan struct{}), began: time.Now()}
	p.cmd = exec.Command(program(t), args...)
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "APP_ENV=local", "LOG_FORMAT=json",
		"DATABASE_URL=" + databaseURL, "HTTP_ADDR=127.0.0.1:0", "DB_MAX_SESSIONS=4",
	}, settings...)
	p.cmd.Stderr, p.cmd.Stdout = p.logs, p.out
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the status says it
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.ended)
	}()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.ended })
	return p
}

// wait wants the process to end in time and returns its status and how long it
// took.
func (p *process) wait(limit time.Duration) (int, time.Duration) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.t.Errorf("still running after %v: %s", limit, p.logs)
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return p.code, time.Since(p.began)
}

// listening matches the line that says where the program listens, however the
// owner's logs are written.
var listening = regexp.MustCompile(`listening.*(127\.0\.0\.1:\d+)`)

// address waits until the program listens, and returns where.
func (p *process) address(limit time.Duration) string {
	p.t.Helper()
	var found []string
	within(limit, func() bool {
		found = listening.FindStringSubmatch(p.logs.String())
		select {
		case <-p.ended:
			return true
		default:
			return found != nil
		}
	})
	if found == nil {
		p.t.Fatalf("it does not listen: %s", p.logs)
	}
	return "http://" + found[1]
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal: %v", err)
	}
}

// errors are the lines for people on stderr, log lines left out.
func (p *process) errors() (lines []string) {
	for line := range strings.Lines(p.logs.String()) {
		if !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "time=") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// status is the status of a GET, 0 if there is no answer.
func status(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
