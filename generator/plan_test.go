package generator

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlanLayers(t *testing.T) {
	t.Parallel()
	// Answers in any order give layers in declared order.
	plan, err := NewPlan(menuStack(t), answers("side=sauce,rice", "main=roast", "name=supper"), "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(plan.layers))
	for i, l := range plan.layers {
		names[i] = l.name
	}
	want := []string{"base", "shared/stove", "plate/china", "main/roast", "side/rice", "side/sauce"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if want := []string{"eat supper"}; !slices.Equal(plan.Next(), want) {
		t.Errorf("next commands %q, want %q", plan.Next(), want)
	}
}

func TestPlanOrigins(t *testing.T) {
	t.Parallel()
	plan, err := NewPlan(menuStack(t), answers("name=supper", "main=roast"), "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	want := Answers{
		"name":        {Values: []string{"supper"}, Origin: FromFlag},
		"cookbook":    {Values: []string{"example.com/supper"}, Origin: FromDefault},
		"table-cloth": {Values: []string{"linen for supper"}, Origin: FromDefault},
		"plate":       {Values: []string{"china"}, Origin: FromDefault},
		"main":        {Values: []string{"roast"}, Origin: FromFlag},
		"side":        {Values: []string{"rice"}, Origin: FromDefault},
	}
	if diff := cmp.Diff(want, plan.Answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		given Answers
		want  []string
	}{
		"nothing answered": {answers(), []string{`name: missing`}},
		"unknown option":   {answers("name=supper", "dessert=ice"), []string{`dessert: no such option`}},
		"unknown choice":   {answers("name=supper", "main=soup"), []string{`main "soup": no such choice`}},
		"two of one":       {answers("name=supper", "main=fish,roast"), []string{`main "fish,roast": want one answer`}},
		"twice":            {answers("name=supper", "side=rice,rice"), []string{`side "rice": given twice`}},
		"needs":            {answers("name=supper", "side=sauce"), []string{`side "sauce": needs --main roast`}},
		"conflict": {
			answers("name=supper", "main=roast", "side=ice-cream"),
			[]string{`main "roast": does not go with --side ice-cream`},
		},
		"name of a folder": {
			answers("name=dishes"), []string{`name "dishes": a file or folder of the project has this name`},
		},
		"name of a folder that is not chosen": {
			answers("name=sauce"), []string{`name "sauce": a file or folder of the project has this name`},
		},
		"all at once": {
			answers("name=My Supper", "main=soup", "side=salt,sauce", "dessert=ice"),
			[]string{
				`dessert: no such option`,
				`name "My Supper": want at most 63 of a-z, 0-9 and -, first a letter, last no -`,
				`main "soup": no such choice`,
				`side "salt": no such choice`,
				`side "sauce": needs --main roast`,
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := NewPlan(menuStack(t), test.given, "v1.2.3")
			if diff := cmp.Diff(test.want, messages(err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			mustBeAnswerErrors(t, err)
		})
	}
}

func TestSolutions(t *testing.T) {
	t.Parallel()
	s := menuStack(t)
	got := map[string]bool{}
	for choices := range s.solutions(nil, func(string) bool { return true }) {
		got[strings.TrimPrefix(strings.Join(planOf(s, "supper", choices).active(), " "), "plate/china ")] = true
	}
	// Of 16, those without a sauce on fish and an ice cream after a roast.
	want := map[string]bool{
		"main/fish": true, "main/fish side/rice": true,
		"main/fish side/ice-cream": true, "main/fish side/rice side/ice-cream": true,
		"main/roast": true, "main/roast side/rice": true,
		"main/roast side/sauce": true, "main/roast side/rice side/sauce": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("solutions (-want +got):\n%s", diff)
	}
}

// What does not go with the default is completed with another choice, or not at all.
func TestComplete(t *testing.T) {
	t.Parallel()
	s := menuStack(t)
	for _, test := range []struct {
		fixed map[string]bool
		want  string
	}{
		{nil, "main/fish side/rice"},
		{map[string]bool{"side/sauce": true}, "main/roast side/rice side/sauce"},
		{map[string]bool{"main/roast": false, "side/rice": false}, "main/fish"},
		{map[string]bool{"side/sauce": true, "side/ice-cream": true}, "none"},
		{map[string]bool{"main/fish": true, "main/roast": true}, "none"},
		{map[string]bool{"main/fish": false, "main/roast": false}, "none"},
	} {
		got := "none"
		if choices, ok := s.complete(test.fixed); ok {
			got = strings.TrimPrefix(strings.Join(planOf(s, "supper", choices).active(), " "), "plate/china ")
		}
		if got != test.want {
			t.Errorf("%v: completed to %s, want %s", test.fixed, got, test.want)
		}
	}
}
