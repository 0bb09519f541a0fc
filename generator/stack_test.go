package generator

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// A stack is data: this one is generated with no line of Go about it.
func TestMadeUpStack(t *testing.T) {
	t.Parallel()
	tree := generate(t, menuStack(t), answers("name=supper", "side=ice-cream,rice"))
	got := map[string]string{}
	for _, file := range tree {
		got[file.Path+" "+file.Mode.String()] = string(file.Data)
	}
	want := map[string]string{
		"plain.txt -rw-r--r--":         "as it is\n",
		"dishes/supper.txt -rw-r--r--": "supper on linen for supper\nfish for supper\n\nrice\nice cream\nend\n",
		"serve.sh -rwxr-xr-x":          "#!/bin/sh\necho v0.0.0-golden quick\n",
		"go.mod -rw-r--r--":            "module example.com/supper\n\nrequire example.com/cutlery v1.0.0 // for fish\n",
		"rice.yaml -rw-r--r--":         "grains: many\n",
		".nullpool.json -rw-r--r--": `{
  "nullpool": "v0.0.0-golden",
  "stack": "menu",
  "name": "supper",
  "cookbook": "example.com/supper",
  "table-cloth": "linen for supper",
  "plate": "china",
  "main": "fish",
  "side": ["ice-cream","rice"]
}
`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestMadeUpStackWithoutParts(t *testing.T) {
	t.Parallel()
	tree := generate(t, menuStack(t), answers("name=supper", "main=roast", "side="))
	for _, file := range tree {
		if file.Path == "dishes/supper.txt" && string(file.Data) != "supper on linen for supper\nend\n" {
			t.Errorf("an empty slot leaves something behind: %q", file.Data)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit func(fstest.MapFS)
		want string
	}{
		"undeclared folder": {
			func(f fstest.MapFS) { f["menu/options/main/soup/slots.tmpl"] = &fstest.MapFile{} },
			"folder options/main/soup: no such choice",
		},
		"missing folder": {
			func(f fstest.MapFS) { delete(f, "menu/options/main/roast/slots.tmpl") },
			"choice main/roast: has no folder",
		},
		"unknown key": {edited(`"title"`, `"titel"`), `unknown field "titel"`},
		"unknown relation": {
			edited(`"side/ice-cream"`, `"side/icecream"`), `names "side/icecream", which is no choice`,
		},
		"unknown format": {edited(`"project-name"`, `"project"`), `unknown format "project"`},
		"no name":        {edited(`"name": "name"`, `"name": "nome"`), `option "name": missing`},
		"reserved":       {edited(`"table-cloth"`, `"stack"`), `option "stack": malformed, reserved or declared twice`},
		"twice":          {edited(`"table-cloth"`, `"main"`), `option "main": malformed, reserved or declared twice`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := menu()
			test.edit(files)
			_, err := Load(files)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// edited returns an edit of stack.json.
func edited(old, replacement string) func(fstest.MapFS) {
	return func(files fstest.MapFS) {
		file := files["menu/stack.json"]
		file.Data = []byte(strings.Replace(string(file.Data), old, replacement, 1))
	}
}
