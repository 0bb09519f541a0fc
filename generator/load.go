package generator

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Load returns the stacks among the top folders of files, the default first. A
// mistake in a stack, such as a folder that no choice declares, is an error. Where
// it joins nothing but *LockError, the stacks are returned with it, for the program
// that mends these.
func Load(files fs.FS) ([]*Stack, error) {
	paths, err := fs.Glob(files, "*/stack.json")
	if err != nil {
		return nil, fmt.Errorf("find stacks: %w", err)
	}
	var stacks []*Stack
	var locks []error
	for _, p := range paths {
		stack, err := loadStack(files, path.Dir(p))
		if err != nil {
			return nil, fmt.Errorf("load stack %q: %w", path.Dir(p), err)
		}
		if stack.Default {
			stacks = slices.Insert(stacks, 0, stack)
		} else {
			stacks = append(stacks, stack)
		}
		locks = append(locks, stack.checkLocks())
	}
	if err := checkTogether(files, stacks); err != nil {
		return nil, err
	}
	return stacks, errors.Join(locks...)
}

func loadStack(files fs.FS, name string) (*Stack, error) {
	folder, err := fs.Sub(files, name)
	if err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(folder, "stack.json")
	if err != nil {
		return nil, err
	}
	stack := &Stack{}
	if err := decodeStrict(data, stack); err != nil {
		return nil, fmt.Errorf("read stack.json: %w", err)
	}
	stack.Name, stack.files = name, folder
	if err := stack.checkOptions(); err != nil {
		return nil, err
	}
	if stack.layers, err = layersOf(stack, files); err != nil {
		return nil, err
	}
	return stack, errors.Join(stack.checkRelations(), stack.checkPaths(), stack.checkSettings())
}

// checkTogether wants one default among stacks, an option to be asked alike by all that
// have it, since its flag is one, and each folder that they may share to be used.
func checkTogether(files fs.FS, stacks []*Stack) error {
	var errs []error
	if len(stacks) > 1 && (!stacks[0].Default || stacks[1].Default) {
		errs = append(errs, errors.New(`want "default": true of one stack`))
	}
	type manner struct {
		text, many bool
		without    string
	}
	asked, used := map[string]manner{}, map[string]bool{}
	for _, s := range stacks {
		for _, o := range s.Options {
			m := manner{o.IsText(), o.Many, o.Without}
			if other, ok := asked[o.Name]; ok && other != m {
				errs = append(errs, fmt.Errorf("option %q: stack %q asks it in another manner", o.Name, s.Name))
			}
			asked[o.Name] = m
		}
		for _, l := range s.layers {
			used[path.Join(s.Name, l.folder)] = true
		}
	}
	folders, err := fs.Glob(files, "shared/*")
	for _, folder := range folders {
		if !used[folder] {
			errs = append(errs, fmt.Errorf("folder %s: no stack uses it", folder))
		}
	}
	return errors.Join(append(errs, err)...)
}

// checkRelations wants a project of the defaults, and one with each choice.
func (s *Stack) checkRelations() error {
	var errs []error
	if err := s.Validate(Answers{}.WithDefaults(s)); err != nil {
		errs = append(errs, fmt.Errorf("defaults: %w", err))
	}
	for _, choice := range s.choices() {
		if _, ok := s.complete(map[string]bool{choice: true}); !ok {
			errs = append(errs, fmt.Errorf("choice %s: goes with no others", choice))
		}
	}
	return errors.Join(errs...)
}

// properName is that of an option, a choice or a group of settings: a field of what
// templates see.
var properName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

func (s *Stack) checkOptions() error {
	var errs []error
	// What templates see them as must differ, too: the field of v-2 is that of v2.
	seen := map[string]bool{camel(versionKey): true, camel(stackKey): true, "Version": true, partsField: true, settingsField: true}
	for _, option := range s.Options {
		if !properName.MatchString(option.Name) || seen[camel(option.Name)] {
			errs = append(errs, fmt.Errorf("option %q: malformed, reserved or declared twice", option.Name))
			continue
		}
		seen[camel(option.Name)] = true
		if _, ok := formats[option.Format]; !ok {
			errs = append(errs, fmt.Errorf("option %q: unknown format %q", option.Name, option.Format))
		}
		errs = append(errs, s.checkChoices(option))
	}
	for _, name := range []string{NameOption, cmp.Or(s.Lock.Self, NameOption)} {
		if option, ok := s.Option(name); !ok || !option.IsText() {
			errs = append(errs, fmt.Errorf("option %q: missing, or no text", name))
		}
	}
	if _, ok := lockKinds[s.Lock.File]; !ok {
		errs = append(errs, fmt.Errorf("lock: unknown file %q", s.Lock.File))
	}
	return errors.Join(errs...)
}

func (s *Stack) checkChoices(option Option) error {
	var errs []error
	seen := map[string]bool{}
	for _, choice := range option.Choices {
		if !properName.MatchString(choice.Name) || seen[camel(choice.Name)] {
			errs = append(errs, fmt.Errorf("choice %s/%s: malformed or declared twice", option.Name, choice.Name))
			continue
		}
		seen[camel(choice.Name)] = true
		for _, other := range slices.Concat(choice.Requires, choice.Conflicts) {
			if !slices.Contains(s.choices(), other) {
				errs = append(errs, fmt.Errorf("choice %s/%s: names %q, which is no choice", option.Name, choice.Name, other))
			}
		}
	}
	return errors.Join(errs...)
}

// A LockError says that a part of a lock is missing or older than stack.json.
type LockError struct{ Reason string }

func (e *LockError) Error() string {
	return e.Reason + ": run go generate ./generator"
}

// checkLocks wants a part of each choice that says it changes dependencies, and
// one version of each module: that of stack.json, where it is there.
func (s *Stack) checkLocks() error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, &LockError{fmt.Sprintf(format, args...)})
	}
	files := strings.Join(lockKinds[s.Lock.File].parts, " and ")
	versions, direct := map[string]string{}, map[string]bool{}
	for name, version := range s.Modules {
		versions[pinned(name)] = version
	}
	for _, l := range s.layers {
		if l.lock == nil {
			if s.locks(l) {
				refuse("layer %q: %s: missing", l.name, files)
			}
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(l.lock.versions)) {
			version := l.lock.versions[name]
			if versions[name] == "" {
				versions[name] = version
			}
			if versions[name] != version {
				refuse("layer %q: its lock has %s %s, and not %s", l.name, name, version, versions[name])
			}
			direct[name] = direct[name] || l.lock.direct[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Modules)) {
		if !direct[pinned(name)] {
			refuse("module %q of stack.json: in no layer's %s, which a choice with \"locks\": true has", name, files)
		}
	}
	return errors.Join(errs...)
}

// locks reports whether the layer is to have a part. One that is not a single
// choice's may have one: nothing in stack.json says so.
func (s *Stack) locks(l *layer) bool {
	if slices.Contains(s.choices(), l.name) {
		return s.choice(l.name).Locks
	}
	return l.name == "base" && len(s.Modules) > 0
}

var variable = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// checkSettings returns what is wrong with the layers' declarations. No two layers
// of one project declare the same, or amend the same of base's.
func (s *Stack) checkSettings() error {
	var errs []error
	for i, l := range s.layers {
		for j, setting := range l.settings {
			if err := s.checkSetting(l, setting); err != nil {
				errs = append(errs, fmt.Errorf("layer %q: setting %q: %w", l.name, setting.Name, err))
			}
			if _, twice := find(l.settings[:j], setting.Name); twice {
				errs = append(errs, fmt.Errorf("layer %q: setting %q: declared twice", l.name, setting.Name))
			}
			for _, other := range s.layers[min(i, 1):i] { // after base
				if _, both := find(other.settings, setting.Name); both && s.meet(l, other) {
					errs = append(errs, fmt.Errorf("setting %q: declared by both %s and %s", setting.Name, other.name, l.name))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Stack) checkSetting(l *layer, setting Setting) error {
	base := s.layers[0]
	if !setting.isPlain() {
		return errors.New("want lines, and no | in what is a row of the README's table")
	}
	if at, ok := find(base.settings, setting.Name); ok && l != base {
		return setting.checkAmendment(base.settings[at])
	}
	groups := groups(base.settings)
	switch {
	case !variable.MatchString(setting.Name):
		return errors.New("want a name of A-Z, 0-9 and _")
	case !properName.MatchString(setting.Group) || setting.Group == "all" || strings.Contains(setting.Group, "-"):
		return fmt.Errorf("group %q: malformed or reserved", setting.Group)
	case slices.Contains([]string{setting.Help, setting.Bound, setting.Fallback()}, ""):
		return errors.New(`want "help", "bound", and "default" or "unset", which says what holds where it is not set`)
	case !slices.Contains(groups, setting.Group):
		return fmt.Errorf("group %q is none of base's: %s", setting.Group, strings.Join(groups, ", "))
	}
	return nil
}

// isPlain reports whether the setting's texts leave tables and comments whole.
func (s Setting) isPlain() bool {
	row := s.Default + s.Unset + s.Bound + s.Help
	return !strings.ContainsRune(row, '|') && !strings.Contains(row+s.About+s.Example+strings.Join(s.Note, ""), "\n")
}

// checkAmendment accepts what a choice may say of a setting that base declares.
func (s Setting) checkAmendment(declared Setting) error {
	left := s
	left.Name, left.Note, left.Example = "", nil, ""
	if !reflect.DeepEqual(left, Setting{}) {
		return errors.New("base declares it: a choice can add a note and an example")
	}
	if len(s.Note) > 0 && len(declared.Note) > 0 || s.Example != "" && declared.Example != "" {
		return errors.New("base has such a note or example already")
	}
	return nil
}
