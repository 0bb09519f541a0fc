//go:build unix

package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// site serves a large page, made anew for each request, at /page, and a note at /note.
func site(t *testing.T, timeout time.Duration) (*Server, *httptest.Server) {
	t.Helper()
	server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
	server.RequestTimeout = timeout
	answer := func(size int) http.Handler {
		return server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			_, err := s.Exec(r.Context(), "select 1")
			return answerWith(w, strings.Repeat("x", size), err)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/page", answer(2<<20))
	mux.Handle("/huge", answer(6<<20))
	mux.Handle("/note", answer(100))
	web := httptest.NewUnstartedServer(server.Wrap(mux))
	web.Config.ReadTimeout = timeout // what a bound of the whole request would be
	web.Listener = Patient(narrow{web.Listener})
	web.Start()
	t.Cleanup(web.Close)
	return server, web
}

// narrow has the kernel take as little for a client that does not read as it does beyond this machine.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(64 << 10)
	}
	return conn, err
}

const get = "GET %s HTTP/1.1\r\nHost: x\r\n\r\n"

// ask sends a request on a connection of its own, which takes in little by itself.
func ask(t *testing.T, web *httptest.Server, buffer int, request string, args ...any) net.Conn {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer) })
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, request, args...)
	return conn
}

// TestDeafClients asks for large pages and reads nothing. What is held for such clients
// must be bounded, others be served meanwhile, and they themselves be cut off.
func TestDeafClients(t *testing.T) {
	t.Parallel()
	server, web := site(t, time.Minute)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var deaf []net.Conn
	for i := range 60 {
		deaf = append(deaf, ask(t, web, 4<<10, get, []string{"/page", "/huge"}[i/50]))
		time.Sleep(10 * time.Millisecond)
	}
	for server.DB.Snapshot().InUse > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if status := do(web.Config.Handler, "GET", "/note", "").StatusCode; status != http.StatusOK {
		t.Errorf("a small answer meanwhile: %d", status)
	}
	wantProblem(t, do(web.Config.Handler, "GET", "/page", ""), http.StatusServiceUnavailable, "busy")
	runtime.GC()
	runtime.ReadMemStats(&now)
	if unsent, heap := server.unsent.Load(), (now.HeapAlloc-before.HeapAlloc)>>20; unsent < maxUnsent || unsent > maxUnsent+8<<20 || heap > 80 {
		t.Errorf("%d MiB are held for them, %d MiB of memory", unsent>>20, heap)
	}
	started := time.Now()
	for server.unsent.Load() > 0 && time.Since(started) < 2*clientTimeout {
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(started); took < clientTimeout/2 || took > clientTimeout+5*time.Second {
		t.Errorf("cut off after %v, want about %v", took, clientTimeout)
	}
	all, err := io.ReadAll(deaf[0])
	if len(all) >= 2<<20 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first one got %d bytes and %v after all", len(all), err)
	}
	if status := do(web.Config.Handler, "GET", "/page", "").StatusCode; status != http.StatusOK {
		t.Errorf("a large page afterwards: %d", status)
	}
}

// TestSlowClients read on for longer than a request may take, and than a client may take nothing. A part of them reads so
// slowly that the kernel is silent for longer than that, until it has room for a third of what it holds.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	_, web := site(t, 5*time.Second)
	var all sync.WaitGroup
	for _, slow := range []struct {
		path               string
		size, buffer, rate int // of its body, of what it takes in by itself, and per second
	}{
		{"/page", 2 << 20, 64 << 10, 160 << 10},
		{"/huge", 6 << 20, 64 << 10, 480 << 10},
		{"/page", 2 << 20, 4 << 10, 3 << 10},
		{"/huge", 6 << 20, 4 << 10, 3 << 10},
	} {
		conn := ask(t, web, slow.buffer, get, slow.path)
		all.Go(func() {
			started := time.Now()
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Error(err)
				return
			}
			size, piece := 0, make([]byte, slow.rate/10)
			for err == nil {
				var n int
				n, err = io.ReadFull(response.Body, piece)
				size += n
				if time.Since(started) < 3*clientTimeout {
					time.Sleep(100 * time.Millisecond)
				}
			}
			if size != slow.size+3 || time.Since(started) < clientTimeout { // the quotes, and the end of the line
				t.Errorf("%+v: %d bytes and %v after %v", slow, size, err, time.Since(started))
			}
		})
	}
	all.Wait()
}

// TestFarClients wants the kernel to choose how much may be under way to a client, as it does by itself: 16 MiB over 100 ms
// take 15 s where that is 64 KiB, and less than one where it grows with the connection.
func TestFarClients(t *testing.T) {
	t.Parallel()
	var sizes []int
	for _, wrap := range []func(net.Listener) net.Listener{func(l net.Listener) net.Listener { return l }, Patient} {
		web := httptest.NewUnstartedServer(nil)
		defer web.Close()
		web.Listener = wrap(web.Listener)
		ask(t, web, 64<<10, get, "/")
		conn, err := web.Listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			size, _ := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
			sizes = append(sizes, size)
		})
	}
	if sizes[0] != sizes[1] {
		t.Errorf("%d bytes without, %d with Patient", sizes[0], sizes[1])
	}
}

// TestTakenOver wants a connection that was taken over to keep the deadlines of its new owner.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, nowhere)
	failed := make(chan error, 1)
	web := httptest.NewUnstartedServer(server.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			defer conn.Close()
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, err = conn.Write(make([]byte, 16<<20))
		}
		failed <- err
	})))
	web.Listener = Patient(web.Listener)
	web.Start()
	defer web.Close()
	started := time.Now()
	ask(t, web, 4<<10, get, "/")
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(started) > clientTimeout/2 {
		t.Errorf("%v after %v", err, time.Since(started))
	}
}

// TestCopiedTo copies to a connection that was taken over, as a proxy does, some time after its handshake.
func TestCopiedTo(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, nowhere)
	failed := make(chan error, 1)
	web := httptest.NewUnstartedServer(server.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, handshake, err := http.NewResponseController(w).Hijack()
		if err == nil {
			defer conn.Close()
			_, _ = handshake.WriteString("handshake")
			err = handshake.Flush()
			time.Sleep(1500 * time.Millisecond)
			_, later := io.Copy(conn, struct{ io.Reader }{strings.NewReader("later")}) // a Reader alone: strings' own would call Write
			err = errors.Join(err, later)
		}
		failed <- err
	})))
	web.Listener = Patient(web.Listener)
	web.Start()
	defer web.Close()
	ask(t, web, 4<<10, get, "/")
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

// TestKeptAlive sends requests on one connection, whose handlers take their time before and
// behind what they write, as does the client between them.
func TestKeptAlive(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, nowhere)
	server.RequestTimeout = time.Minute
	web := httptest.NewServer(server.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pause := func(when string) {
			if r.URL.Path == when {
				time.Sleep(clientTimeout + time.Second)
			}
		}
		_, _ = io.WriteString(w, "a")
		pause("/before")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "b")
		pause("/behind")
	})))
	defer web.Close()
	var all sync.WaitGroup
	for when, requests := range map[string]int{"/before": 1, "/behind": 1, "/between": 2} {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}} // with one connection
			defer client.CloseIdleConnections()
			for i := range requests {
				if i > 0 {
					time.Sleep(clientTimeout + time.Second)
				}
				response, err := client.Get(web.URL + when)
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(response.Body); string(body) != "ab" || err != nil {
					t.Errorf("%s: %q and %v", when, body, err)
				}
				response.Body.Close()
			}
		})
	}
	all.Wait()
}

// TestTimeoutLeaves lets the time of a request end while its session idles, on a network
// that is gone by then: the answer has to leave all the same, and say what happened.
func TestTimeoutLeaves(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Hang: sql == "rollback"}
	}}).URL())
	server.RequestTimeout = time.Second
	web := httptest.NewUnstartedServer(server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		if _, err := s.Exec(r.Context(), "select 1"); err != nil {
			return err
		}
		<-r.Context().Done()
		return r.Context().Err()
	})))
	web.Config.ReadTimeout = time.Second
	web.Start()
	defer web.Close()
	response, err := web.Client().Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, response, http.StatusGatewayTimeout, "timeout")
}

// TestWithin gives a route more time than others have, for its answer and for its body, and
// wants its context to end with its own time, and with its client.
func TestWithin(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, nowhere)
	server.RequestTimeout = 200 * time.Millisecond
	ended := make(chan error, 1)
	mux := http.NewServeMux()
	mux.Handle("/slow", Within(time.Minute, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(body), err, r.Context().Err(), CorrelationID(r.Context()))
	})))
	wait := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	mux.Handle("/left", Within(time.Minute, wait))
	mux.Handle("/short", Within(300*time.Millisecond, wait))
	mux.Handle("/", wait)
	web := httptest.NewUnstartedServer(server.Wrap(mux))
	web.Config.ReadTimeout = server.RequestTimeout
	web.Start()
	defer web.Close()
	get := func(ctx context.Context, path string, body io.Reader) (string, time.Duration) {
		started := time.Now()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, web.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(correlationHeader, "the-one")
		response, err := web.Client().Do(request)
		if err != nil {
			return err.Error(), time.Since(started)
		}
		defer response.Body.Close()
		all, err := io.ReadAll(response.Body)
		return fmt.Sprint(string(all), err), time.Since(started)
	}
	body, late := io.Pipe()
	time.AfterFunc(2*time.Second, func() { _, _ = io.WriteString(late, "late"); late.Close() })
	if got, took := get(t.Context(), "/slow", body); got != "late<nil> <nil>the-one<nil>" || took < 2*time.Second {
		t.Errorf("%q after %v", got, took)
	}
	ctx, leave := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer leave()
	_, _ = get(ctx, "/left", nil)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the client has left: %v", err)
	}
	for path, bound := range map[string]time.Duration{"/short": 300 * time.Millisecond, "/": server.RequestTimeout} {
		_, took := get(t.Context(), path, nil)
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) || took < bound || took > bound+2*time.Second {
			t.Errorf("%s: %v after %v, want the end of its time after %v", path, err, took, bound)
		}
	}
}

// TestFormsLeaveNothing wants the files of a form to be gone behind its request, whoever has read it.
func TestFormsLeaveNothing(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, nowhere)
	server.MaxBody = 1 << 20
	var files []string
	read := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseMultipartForm(1)
		file, _, err := r.FormFile("file")
		if onDisk, ok := file.(*os.File); err == nil && ok {
			files = append(files, onDisk.Name())
			file.Close()
		}
	})
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	part, _ := writer.CreateFormFile("file", "name")
	_, _ = part.Write(make([]byte, 100_000))
	writer.Close()
	handlers := []http.Handler{read, Within(time.Minute, read), server.InSession(func(w http.ResponseWriter, r *http.Request, _ *nopool.Session) error {
		read(w, r)
		return nil
	})}
	for _, handler := range handlers {
		request := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(form.Bytes()))
		request.Header.Set("Content-Type", writer.FormDataContentType())
		server.Wrap(handler).ServeHTTP(httptest.NewRecorder(), request)
	}
	for i, file := range files {
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of handler %d: %v", i, err)
			_ = os.Remove(file)
		}
	}
	if len(files) != len(handlers) {
		t.Errorf("files %q", files)
	}
}

// TestConnectionOutlivesRequest wants a request that takes longer than its time to leave the connection
// to the next one, whose client would otherwise count as gone.
func TestConnectionOutlivesRequest(t *testing.T) {
	t.Parallel()
	server := &Server{Logger: slog.New(slog.DiscardHandler), RequestTimeout: 10 * time.Millisecond, MaxBody: 10}
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Query().Has("slow") {
			time.Sleep(1100 * time.Millisecond) // net/http's read deadline is a second after the request's time
			return
		}
		time.Sleep(time.Millisecond) // for Within to hear that the client has gone
		if errors.Is(r.Context().Err(), context.Canceled) {
			w.WriteHeader(499)
		}
	})
	mux := http.NewServeMux()
	mux.Handle("/", slow)
	mux.Handle("/within", Within(10*time.Millisecond, slow))
	mux.HandleFunc("/signed", func(w http.ResponseWriter, r *http.Request) { // as who checks a signature
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		Within(10*time.Millisecond, slow).ServeHTTP(w, r)
	})
	web := httptest.NewServer(server.Wrap(mux))
	defer web.Close()
	for _, path := range []string{"/", "/within", "/signed"} {
		for _, body := range []string{"", "body"} {
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for _, query := range []string{"?slow", ""} {
				response, err := client.Post(web.URL+path+query, "", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("%s%s with body %q: %d, want 200", path, query, body, response.StatusCode)
				}
			}
		}
	}
}
