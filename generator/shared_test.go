package generator

import (
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nullpool/nullpool/templates"
)

// TestSharedText wants what two stacks have word for word to be written once, in the
// folders and settings beside them. With -v it lists what is.
func TestSharedText(t *testing.T) {
	t.Parallel()
	stacks := realStacks(t)
	own := map[string]string{} // where a text was found, by what it is
	users := map[string][]string{}
	for _, s := range stacks {
		for _, l := range s.layers {
			at := path.Join(s.Name, l.folder)
			if strings.HasPrefix(at, "shared/") {
				users[at] = append(users[at], s.Name)
				continue
			}
			for _, part := range l.texts(t) {
				if other, ok := own[part]; ok && !strings.HasPrefix(other, s.Name+"/") {
					t.Errorf("%s and %s have in common, so that it should be in templates/shared:\n%s", other, at, part)
				}
				own[part] = at
			}
		}
	}
	for at, names := range users {
		t.Logf("%s: used by %s", at, strings.Join(names, ", "))
		if len(names) < 2 && len(stacks) > 1 {
			t.Errorf("%s: %s alone uses it", at, names[0])
		}
	}
	mustShareSettings(t, stacks)
}

// texts returns the layer's files and parts of slots, as far as there is text in them.
func (l *layer) texts(t *testing.T) (all []string) {
	t.Helper()
	err := fs.WalkDir(l.files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || slices.Contains(notRendered, name) {
			return err
		}
		data, err := fs.ReadFile(l.files, name)
		all = append(all, string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.contents()
	if err != nil {
		t.Fatal(err)
	}
	if c.slots != nil {
		for _, part := range c.slots.Templates() {
			all = append(all, part.Root.String())
		}
	}
	return slices.DeleteFunc(all, func(text string) bool { return strings.Count(text, "\n") < 4 })
}

// mustShareSettings wants the settings beside the stacks to be of stacks, and stacks to
// say of none what is said there.
func mustShareSettings(t *testing.T, stacks []*Stack) {
	t.Helper()
	shared, err := readSettings(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range shared {
		used := 0
		for _, s := range stacks {
			if _, ok := find(s.layers[0].settings, setting.Name); ok {
				used++
			}
		}
		t.Logf("%s: used by %d stacks", setting.Name, used)
		if used == 0 {
			t.Errorf("setting %s: no stack has it", setting.Name)
		}
	}
	for _, s := range stacks {
		declared, err := readSettings(s.layers[0].files)
		if err != nil {
			t.Fatal(err)
		}
		for _, setting := range declared {
			if at, ok := find(shared, setting.Name); ok {
				mustNotRepeat(t, reflect.ValueOf(setting), reflect.ValueOf(shared[at]))
			}
		}
	}
}

func mustNotRepeat(t *testing.T, setting, shared reflect.Value) {
	t.Helper()
	for i := 1; i < setting.NumField(); i++ { // after the name
		if !setting.Field(i).IsZero() && reflect.DeepEqual(setting.Field(i).Interface(), shared.Field(i).Interface()) {
			t.Errorf("setting %s: a stack repeats %q", setting.Field(0), setting.Field(i))
		}
	}
}
