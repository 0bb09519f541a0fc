package generator

import (
	"iter"
	"maps"
	"slices"
)

// Which choices are active is a map from "option/choice": true where one is
// taken, false where it is not, absent where that is open.

// complete returns valid choices for a whole project that are as fixed says, with
// defaults wherever these go. It returns false where there are none. Only choices with
// relations vary: no others can stand in the way.
func (s *Stack) complete(fixed map[string]bool) (map[string]bool, bool) {
	related := map[string]bool{}
	for _, option := range s.Options {
		for _, choice := range option.Choices {
			for _, other := range slices.Concat(choice.Requires, choice.Conflicts) {
				related[option.Name+"/"+choice.Name], related[other] = true, true
			}
		}
	}
	for choices := range s.solutions(fixed, func(choice string) bool { return related[choice] }) {
		return choices, true
	}
	return nil, false
}

// solutions yields valid choices for whole projects that are as fixed says. What fixed
// leaves open takes every value if it varies, the default first, else its default, or
// the first value that fixed allows. The map that is yielded is used again for the next.
func (s *Stack) solutions(fixed map[string]bool, vary func(choice string) bool) iter.Seq[map[string]bool] {
	return func(yield func(map[string]bool) bool) {
		var steps []step
		for _, option := range s.Options {
			steps = append(steps, option.steps(fixed, vary)...)
		}
		// What is decided comes first, so that what breaks a relation with it is not tried again and again.
		slices.SortStableFunc(steps, func(a, b step) int { return min(len(a), 2) - min(len(b), 2) })
		choices := map[string]bool{}
		var next func(i int) bool
		next = func(i int) bool {
			if i == len(steps) {
				return yield(choices)
			}
			for _, values := range steps[i] {
				maps.Copy(choices, values)
				if s.goTogether(choices) && !next(i+1) {
					return false
				}
				for choice := range values {
					delete(choices, choice)
				}
			}
			return true
		}
		next(0)
	}
}

// A step is one decision: all that can be chosen in it, the best first.
type step []map[string]bool

// steps returns the decisions of an option: one, or one for each choice where it
// takes many.
func (o Option) steps(fixed map[string]bool, vary func(choice string) bool) []step {
	switch {
	case o.IsText():
		return nil
	case !o.Many:
		return []step{o.oneOf(fixed, vary)}
	}
	var steps []step
	for _, c := range o.Choices {
		name, taken := o.Name+"/"+c.Name, slices.Contains(o.Defaults(""), c.Name)
		values := step{{name: taken}}
		if only, ok := fixed[name]; ok {
			values = step{{name: only}}
		} else if vary(name) {
			values = append(values, map[string]bool{name: !taken})
		}
		steps = append(steps, values)
	}
	return steps
}

// oneOf returns the decision of an option that takes one choice. Of the choices
// that do not vary one will do.
func (o Option) oneOf(fixed map[string]bool, vary func(choice string) bool) (values step) {
	var wanted step
	some := false
	for _, c := range o.Choices {
		name := o.Name + "/" + c.Name
		taken, isFixed := fixed[name]
		switch {
		case taken:
			wanted = append(wanted, o.only(name))
		case !isFixed && (vary(name) || !some):
			values = append(values, o.only(name))
			some = some || !vary(name)
		}
	}
	switch len(wanted) {
	case 0:
		return values
	case 1:
		return wanted
	}
	return nil // it takes one
}

// only returns the decision for one choice and against the option's others.
func (o Option) only(name string) map[string]bool {
	values := map[string]bool{}
	for _, c := range o.Choices {
		values[o.Name+"/"+c.Name] = o.Name+"/"+c.Name == name
	}
	return values
}

// goTogether reports whether choices, some of which may be open, break no relation.
func (s *Stack) goTogether(choices map[string]bool) bool {
	for _, option := range s.Options {
		for _, c := range option.Choices {
			if !choices[option.Name+"/"+c.Name] {
				continue
			}
			for _, other := range c.Conflicts {
				if choices[other] {
					return false
				}
			}
			for _, other := range c.Requires {
				if taken, decided := choices[other]; decided && !taken {
					return false
				}
			}
		}
	}
	return true
}

// answersOf returns the answers of a project called name with these choices.
func (s *Stack) answersOf(name string, choices map[string]bool) Answers {
	answers := Answers{NameOption: {Values: []string{name}, Origin: FromFlag}}
	for _, option := range s.Options {
		if option.IsText() {
			continue
		}
		values := []string{}
		for _, choice := range option.ChoiceNames() {
			if choices[option.Name+"/"+choice] {
				values = append(values, choice)
			}
		}
		answers[option.Name] = Answer{Values: values, Origin: FromFlag}
	}
	return answers
}
