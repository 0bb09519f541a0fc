// Package progress says on a terminal what takes so long.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// When the line appears, how often it is renewed, and how wide it is at most.
const (
	after = 500 * time.Millisecond
	every = time.Second
	width = 79
)

// A Line says on a terminal what takes so long, and for how long it has. It
// appears after half a second, steps aside for what is written through it, and is
// gone in the end.
type Line struct {
	out   io.Writer
	what  string
	since time.Time

	mutex sync.Mutex
	shown bool
	timer *time.Timer // nil where out is no terminal
}

// Start starts a line on out. It must be ended.
func Start(out io.Writer, what string) *Line {
	l := &Line{out: out, what: what, since: time.Now()}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		l.timer = time.AfterFunc(after, l.show)
	}
	return l
}

func (l *Line) show() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.timer == nil {
		return // it ended just now
	}
	l.clear()
	// Cut to what is left of 80 columns: a line that wraps cannot be cleared.
	fmt.Fprintf(l.out, "%.60s … %s", l.what, time.Since(l.since).Round(time.Second))
	l.shown = true
	l.timer.Reset(every)
}

// clear must be called with the mutex held.
func (l *Line) clear() {
	if l.shown {
		fmt.Fprintf(l.out, "\r%*s\r", width, "")
	}
	l.shown = false
}

// Write writes lines in the place of this one, which appears again below them when
// it is renewed.
func (l *Line) Write(data []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.clear()
	return l.out.Write(data)
}

// End takes the line away.
func (l *Line) End() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.clear()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}
