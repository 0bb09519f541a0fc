package generator

import (
	"iter"
	"maps"
	"slices"
)

// Combinations yields a plan for every valid combination of the stack's
// choices, all with the same name and the default texts.
func (s *Stack) Combinations(name, version string) iter.Seq[*Plan] {
	return func(yield func(*Plan) bool) {
		given := []Answers{{NameOption: {Values: []string{name}, Origin: FromFlag}}}
		for _, option := range s.Options {
			if !option.IsText() {
				given = cross(given, option)
			}
		}
		for _, answers := range given {
			plan, err := NewPlan(s, answers, version)
			if err != nil {
				continue // choices that do not go together
			}
			if !yield(plan) {
				return
			}
		}
	}
}

// cross returns each of the given answers with each answer to the option.
func cross(given []Answers, option Option) []Answers {
	sets := [][]string{{}}
	for _, choice := range option.ChoiceNames() {
		for _, set := range slices.Clone(sets) {
			if option.Many || len(set) == 0 {
				sets = append(sets, append(slices.Clone(set), choice))
			}
		}
	}
	if !option.Many {
		sets = sets[1:] // one must be chosen
	}
	all := make([]Answers, 0, len(given)*len(sets))
	for _, answers := range given {
		for _, set := range sets {
			next := maps.Clone(answers)
			next[option.Name] = Answer{Values: set, Origin: FromFlag}
			all = append(all, next)
		}
	}
	return all
}
