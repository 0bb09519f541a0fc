package notes

import (
	"fmt"
	"strings"
	"testing"
)

func TestProblems(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", MaxTitle)
	for _, test := range []struct {
		draft Draft
		want  string
	}{
		{Draft{Title: long, Body: "b"}, "[]"},
		{Draft{Title: ""}, "[{title must have 1 to 200 characters}]"},
		{Draft{Title: long + "x"}, "[{title must have 1 to 200 characters}]"},
		{Draft{Title: "a", Body: strings.Repeat("x", MaxBody+1)}, "[{body must have 0 to 10000 characters}]"},
		{Draft{Title: "a\x00", Body: "b\x00"}, "[{title must not contain a NUL character} {body must not contain a NUL character}]"},
	} {
		if got := fmt.Sprint(test.draft.Problems()); got != test.want {
			t.Errorf("%+v: %s, want %s", test.draft, got, test.want)
		}
	}
}
