package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.org/team/tiny-shop/internal/nopool"
)

// reader reads settings and collects what is wrong with them. After a problem it
// returns the zero value.
type reader struct {
	getenv   func(string) string
	problems []error
}

func (r *reader) problem(name, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s: "+format, append([]any{name}, args...)...))
}

// value returns a setting or its default, without the spaces around it.
func (r *reader) value(name string) string {
	if v := strings.TrimSpace(r.getenv(name)); v != "" {
		return v
	}
	return defaults[name]
}

// url returns a connection string that nopool will take, "" when it is not set.
func (r *reader) url(name string, allowPlaintext bool) string {
	v := r.value(name)
	if v == "" {
		return ""
	}
	if err := nopool.CheckURL(v, allowPlaintext); err != nil {
		_, reason, _ := strings.Cut(err.Error(), "invalid: ")
		r.problem(name, "%s", cmp.Or(reason, err.Error()))
	}
	return v
}

// name accepts what Postgres keeps as it is in application_name.
func (r *reader) name(name string) string {
	v := r.value(name)
	if len(v) > 63 || strings.ContainsFunc(v, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.problem(name, "must be at most 63 letters, digits and signs of ASCII, without spaces")
	}
	return v
}

func (r *reader) level(name string) (level slog.Level) {
	v := r.oneOf(name, "", "debug", "info", "warn", "error")
	_ = level.UnmarshalText([]byte(v)) // "" stands for a problem already noted
	return level
}

func (r *reader) oneOf(name, otherwise string, choices ...string) string {
	v := strings.ToLower(r.value(name))
	if v == "" {
		return otherwise
	}
	if slices.Contains(choices, v) {
		return v
	}
	r.problem(name, "%s is not one of %s", quote(v), strings.Join(choices, ", "))
	return ""
}

func (r *reader) address(name string) string {
	v := r.value(name)
	_, port, err := net.SplitHostPort(v)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		r.problem(name, "%s is not an address such as :8080 or 127.0.0.1:8080", quote(v))
	}
	return v
}

func (r *reader) integer(name string, least, most int) int {
	v := r.value(name)
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		r.problem(name, "%s is not a whole number from %d to %d", quote(v), least, most)
		return 0
	}
	return n
}

func (r *reader) duration(name string, least time.Duration) time.Duration {
	v := r.value(name)
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > longest {
		r.problem(name, "%s is not a duration from %v to %v, such as 500ms, 30s or 2m", quote(v), least, longest)
		return 0
	}
	return d
}

func (r *reader) boolean(name string) bool {
	v := r.value(name)
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.problem(name, "%s is neither true nor false", quote(v))
	}
	return b
}

// quote shows a refused value, unless it may be a connection string that landed
// in the wrong setting.
func quote(v string) string {
	if len(v) > 40 || strings.ContainsAny(v, "@=/") {
		return "the value (not shown)"
	}
	return strconv.Quote(v)
}
