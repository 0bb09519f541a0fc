package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// When the line of progress appears, and how often it is renewed.
const (
	progressAfter = 500 * time.Millisecond
	progressEvery = time.Second
)

// A progress is a line on a terminal that says what takes so long, and for how
// long it has. It appears after half a second, steps aside for what is written
// through it, and is gone in the end.
type progress struct {
	out   io.Writer
	what  string
	since time.Time

	mutex sync.Mutex
	shown bool
	timer *time.Timer // nil where out is no terminal
}

// showProgress starts a line of progress on stderr. It must be ended.
func (a *app) showProgress(what string) *progress {
	p := &progress{out: a.err, what: what, since: time.Now()}
	if file, ok := a.err.(*os.File); ok && isTerminal(file) {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.timer = time.AfterFunc(progressAfter, p.show)
	}
	return p
}

func (p *progress) show() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.timer == nil {
		return // it ended just now
	}
	p.clear()
	// Cut to what is left of 80 columns: a line that wraps cannot be cleared.
	fmt.Fprintf(p.out, "%.60s … %s", p.what, time.Since(p.since).Round(time.Second))
	p.shown = true
	p.timer.Reset(progressEvery)
}

// clear must be called with the mutex held.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprintf(p.out, "\r%*s\r", progressWidth, "")
	}
	p.shown = false
}

// progressWidth is what a line of progress takes at most, in columns.
const progressWidth = 79

// Write writes lines in the place of the line of progress, which appears again
// below them when it is renewed.
func (p *progress) Write(data []byte) (int, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.clear()
	return p.out.Write(data)
}

func (p *progress) end() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.clear()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}
