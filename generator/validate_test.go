package generator

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Some answers are checked as far as they go: what a choice requires of an option
// that is still open is not wrong yet, and a default is not what is wrong.
func TestValidateSomeAnswers(t *testing.T) {
	t.Parallel()
	unfit := answers("name=Supper", "cookbook=example.com/Some Supper")
	unfit["cookbook"] = Answer{Values: unfit["cookbook"].Values, Origin: FromDefault}
	tests := map[string]struct {
		given Answers
		want  []string
	}{
		"none":                {answers(), nil},
		"one":                 {answers("table-cloth=linen"), nil},
		"open":                {answers("side=sauce"), nil},
		"closed":              {answers("side=sauce", "main=fish"), []string{`side "sauce": needs --main roast`}},
		"given first":         {answers("main=roast", "side=ice-cream"), []string{`main "roast": does not go with --side ice-cream`}},
		"a default":           {unfit, []string{`name "Supper": want at most 63 of a-z, 0-9 and -, first a letter, last no -`}},
		"a text":              {answers("cookbook=a b"), []string{`cookbook "a b": malformed: invalid char ' '`}},
		"no text":             {answers("table-cloth="), []string{`table-cloth "": want one answer`}},
		"an option, and more": {answers("dessert=ice", "main=soup"), []string{`dessert: no such option`, `main "soup": no such choice`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := menuStack(t).Validate(test.given)
			if diff := cmp.Diff(test.want, messages(err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if err != nil {
				mustBeAnswerErrors(t, err)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"name", "module", "router", "db", "migrations", "provider", "with"}
	for text, want := range map[string]string{
		"modul": "module", "modules": "module", "providr": "provider", "mig": "migrations", "wit": "with", "naem": "name",
		"database": "", "x": "", "": "", "zzzzzz": "",
	} {
		if got := Nearest(text, words); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
