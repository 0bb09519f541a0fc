package generator

import (
	"fmt"
	"slices"
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
		"go.mod -rw-r--r--":            "module example.com/supper\n\ngo 1.26.0\n\nrequire example.com/cutlery v1.0.0\n",
		"go.sum -rw-r--r--":            "example.com/cutlery v1.0.0 h1:a=\nexample.com/cutlery v1.0.0/go.mod h1:b=\n",
		"shopping.txt -rw-r--r--":      "a fish\n",
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

// refused are mistakes in a stack, and what Load says of them.
var refused = map[string]struct {
	edit func(fstest.MapFS)
	want string
}{
	"undeclared folder": {
		func(f fstest.MapFS) { f["menu/options/main/soup/slots.tmpl"] = &fstest.MapFile{} },
		"folder options/main/soup: nothing in stack.json has it",
	},
	"missing folder": {
		func(f fstest.MapFS) {
			delete(f, "menu/options/main/fish/slots.tmpl")
			delete(f, "menu/options/main/fish/shopping.txt")
		},
		"main/fish: has no folder options/main/fish",
	},
	"no default":     {edited("\"default\": true,\n  \"leaves\"", "\"leaves\""), `want "default": true of one stack`},
	"unknown lock":   {edited(`"file": "go.mod"`, `"file": "mod"`), `lock: unknown file "mod"`},
	"name of a lock": {edited(`"self": "cookbook"`, `"self": "main"`), `option "main": missing, or no text`},
	"asked otherwise": {func(f fstest.MapFS) {
		snack := f["snack/stack.json"]
		snack.Data = []byte(strings.Replace(string(snack.Data), `"options": [`, `"options": [{"name": "side"},`, 1))
	}, `option "side": stack "snack" asks it in another manner`},
	"all share, none uses": {func(f fstest.MapFS) { f["shared/pan/pan.txt"] = &fstest.MapFile{} }, "folder shared/pan: no stack uses it"},
	"pins malformed":       {func(f fstest.MapFS) { f["snack/base/lock.txt"].Data = []byte("spring\n") }, `lock.txt: want NAME==VERSION once, and hashes: "spring\n"`},
	"pins of another version": {
		func(f fstest.MapFS) { f["snack/base/lock.txt"].Data = []byte("spring==1.1 \\\n    --hash=sha256:aa\n") },
		`layer "base": its lock has spring 1.1, and not 1.0: run go generate`,
	},
	"unknown key": {edited(`"title"`, `"titel"`), `unknown field "titel"`},
	"unknown relation": {
		edited(`"side/ice-cream"`, `"side/icecream"`), `names "side/icecream", which is no choice`,
	},
	"unknown format":   {edited(`"project-name"`, `"project"`), `unknown format "project"`},
	"no name":          {edited(`"name": "name"`, `"name": "nome"`), `option "name": missing, or no text`},
	"reserved":         {edited(`"table-cloth"`, `"stack"`), `option "stack": malformed, reserved or declared twice`},
	"twice":            {edited(`"table-cloth"`, `"main"`), `option "main": malformed, reserved or declared twice`},
	"twice a choice":   {edited(`"rice"`, `"ice-cream"`), `choice side/ice-cream: malformed or declared twice`},
	"choice malformed": {edited(`"rice"`, `"Rice"`), `choice side/Rice: malformed`},
	"shared by none":   {added("shared/pan/pan.txt", "a pan\n"), "folder shared/pan: nothing in stack.json has it"},
	"shared missing":   {edited(`{"name": "fish"`, `{"name": "fish", "uses": ["pan"]`), "pan: has no folder shared/pan"},
	"pair misspelt":    {added("pairs/main.fish+side.rise/a.txt", "a\n"), "folder pairs/main.fish+side.rise: side/rise is no choice"},
	"pair of one":      {added("pairs/main.fish/a.txt", "a\n"), "want two choices or more"},
	"pair in disorder": {added("pairs/side.rice+main.fish/a.txt", "a\n"), "call it main.fish+side.rice, in the order of stack.json"},
	"pair of either":   {added("pairs/main.fish+main.roast/a.txt", "a\n"), "these choices never come together"},
	"pair of enemies":  {added("pairs/main.roast+side.ice-cream/a.txt", "a\n"), "these choices never come together"},
	"pair and another": {added("pairs/main.fish+side.rice/rice.yaml", "a: b\n"), `path "rice.yaml": rendered by both side/rice and main/fish+side/rice`},
	"two extras": {
		added("options/side/ice-cream/rice.yaml", "a: b\n"), `path "rice.yaml": rendered by both side/rice and side/ice-cream`,
	},
	"setting malformed":   {setting("base", `{"name": "Salt"}`), `setting "Salt": want a name`},
	"setting unexplained": {setting("base", `{"name": "SALT", "group": "spice"}`), `setting "SALT": want "help"`},
	"setting unknown key": {setting("base", `{"nom": "SALT"}`), `unknown field "nom"`},
	"setting's group": {
		setting("options/side/rice", `{"name": "SALT", "group": "spice", "help": "h", "bound": "b", "default": "d"}`), `group "spice" is none of base's`,
	},
	"setting declared twice": {func(f fstest.MapFS) {
		setting("base", spice("PEPPER"))(f)
		setting("options/side/rice", spice("SALT"))(f)
		setting("options/main/fish", spice("SALT"))(f)
	}, `setting "SALT": declared by both main/fish and side/rice`},
	"setting overridden": {func(f fstest.MapFS) {
		setting("base", spice("PEPPER"))(f)
		setting("options/side/rice", `{"name": "PEPPER", "default": "much"}`)(f)
	}, `setting "PEPPER": base declares it: a choice can add a note and an example`},
	"defaults at odds":     {edited(`"help": "a bowl of it"`, `"conflicts": ["main/fish"]`), `defaults: side "rice": does not go with --main fish`},
	"choice of nobody":     {edited(`["main/roast"]}`, `["main/roast", "side/ice-cream"]}`), `choice side/sauce: goes with no others`},
	"text behind":          {func(f fstest.MapFS) { f["menu/stack.json"].Data = append(f["menu/stack.json"].Data, '{', '}') }, "more follows behind the end"},
	"folder misspelt":      {added("pair/main.fish+side.rice/a.txt", "a\n"), "pair: a stack has base, options"},
	"folder for a file":    {added("options/side/rice/plain.txt/x.txt", "x\n"), `path "plain.txt": rendered by both base and side/rice`},
	"owner of the answers": {added("base/"+AnswersPath, "{}\n"), `rendered by both nullpool and base`},
	"setting of a table":   {setting("base", `{"name": "SALT", "group": "spice", "help": "a | b", "bound": "b", "default": "d"}`), "no | in what is a row"},
	"setting of two lines": {setting("base", `{"name": "SALT", "group": "spice", "help": "a\nb", "bound": "b", "default": "d"}`), "want lines"},
	"lock missing": {func(f fstest.MapFS) {
		edited(`"title"`, `"modules": {"example.com/pan": "v1.0.0"}, "title"`)(f)
		edited(`{"name": "fish"`, `{"name": "fish", "locks": true`)(f)
		lock("base", "v1.0.0")(f)
	}, `layer "main/fish": lock.mod and lock.sum: missing: run go generate ./generator`},
	"lock of another version": {func(f fstest.MapFS) {
		edited(`"title"`, `"modules": {"example.com/pan": "v1.0.1"}, "title"`)(f)
		lock("base", "v1.0.0")(f)
	}, `layer "base": its lock has example.com/pan v1.0.0, and not v1.0.1: run go generate ./generator`},
	"locks that differ": {func(f fstest.MapFS) {
		edited(`"title"`, `"modules": {"example.com/pan": "v1.0.0"}, "title"`)(f)
		edited(`{"name": "fish"`, `{"name": "fish", "locks": true`)(f)
		lock("base", "v1.0.0")(f)
		lock("options/main/fish", "v1.0.2")(f)
	}, `layer "main/fish": its lock has example.com/pan v1.0.2, and not v1.0.0: run go generate ./generator`},
	"module of nobody": {func(f fstest.MapFS) {
		edited(`"title"`, `"modules": {"example.com/pan": "v1.0.0", "example.com/pot": "v1.0.0"}, "title"`)(f)
		lock("base", "v1.0.0")(f)
	}, `module "example.com/pot" of stack.json: in no layer's lock.mod and lock.sum`},
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range refused {
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

// Extras that all need what a later option decides are not tried in every
// combination: that took minutes with these.
func TestLoadTakesManyRelations(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"s/base/x": {}, "s/options/auth/none/a": {}, "s/options/auth/jwt/b": {}, "s/options/with/e24/a": {}}
	extras := make([]string, 0, 25)
	for i := range 25 {
		extras = append(extras, fmt.Sprintf(`{"name": "e%d", "requires": ["auth/jwt"]}`, i))
		files[fmt.Sprintf("s/options/with/e%d/e%d", i, i)] = &fstest.MapFile{}
	}
	files["s/stack.json"] = &fstest.MapFile{Data: []byte(`{"options": [{"name": "name"}, {"name": "with", "many": true, "choices": [` +
		strings.Join(extras, ", ") + `]}, {"name": "auth", "choices": [{"name": "none"}, {"name": "jwt"}]}]}`)}
	if _, err := Load(files); err != nil { // none and e24, which never meet, have the same file
		t.Fatal(err)
	}
}

// added returns an edit that adds a file.
func added(name, text string) func(fstest.MapFS) {
	return func(files fstest.MapFS) { files["menu/"+name] = &fstest.MapFile{Data: []byte(text)} }
}

// setting returns an edit that gives a layer a setting.
func setting(folder, declaration string) func(fstest.MapFS) {
	return added(folder+"/"+settingsFile, "["+declaration+"]")
}

// spice declares a setting as it should be.
func spice(name string) string {
	return `{"name": "` + name + `", "group": "spice", "help": "how much", "bound": "any", "default": "some"}`
}

// lock returns an edit that gives a layer a part of go.mod and go.sum.
func lock(folder, version string) func(fstest.MapFS) {
	return func(files fstest.MapFS) {
		added(folder+"/lock.mod", "go 1.26.0\n\nrequire example.com/pan "+version+"\n")(files)
		added(folder+"/lock.sum", "example.com/pan "+version+" h1:x=\nexample.com/pan "+version+"/go.mod h1:y=\n")(files)
	}
}

// What choices share is there once for all of them; what is for a pair is there with
// both, and its parts come last.
func TestLayers(t *testing.T) {
	t.Parallel()
	files := menu()
	edited(`{"name": "rice"`, `{"name": "rice", "uses": ["pan"]`)(files)
	edited(`{"name": "sauce"`, `{"name": "sauce", "uses": ["pan"]`)(files)
	added("shared/pan/pan.txt", "a pan\n")(files)
	added("pairs/main.roast+side.sauce/pour.txt", "on the roast\n")(files)
	added("pairs/main.roast+side.sauce/slots.tmpl", "{{define \"dishes\"}}\npour it\n{{end}}\n")(files)
	added("options/side/sauce/slots.tmpl", "{{define \"dishes\"}}\nsauce\n{{end}}\n")(files)
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string][3]string{ // pan.txt, pour.txt, dishes
		"side=":           {"", "", "supper on linen for supper\nfish for supper\nend\n"},
		"side=rice":       {"a pan\n", "", "supper on linen for supper\nfish for supper\n\nrice\nend\n"},
		"side=rice,sauce": {"a pan\n", "on the roast\n", "supper on linen for supper\n\nrice\nsauce\npour it\nend\n"},
	} {
		all := answers("name=supper", given)
		if strings.Contains(given, "sauce") {
			all = answers("name=supper", "main=roast", given)
		}
		tree := generate(t, stacks[0], all)
		got := [3]string{string(file(tree, "pan.txt").Data), string(file(tree, "pour.txt").Data), string(file(tree, "dishes/supper.txt").Data)}
		if got != want {
			t.Errorf("%s: got %q, want %q", given, got, want)
		}
	}
}

// A setting that a choice declares stands before the last of its group; what base
// leaves open is filled by whoever knows it.
func TestSettings(t *testing.T) {
	t.Parallel()
	files := menu()
	setting("base", spice("SALT")+","+spice("PEPPER")+`, {"name": "WINE", "group": "drinks", "help": "which", "unset": "none", "bound": "any", "required": true}`)(files)
	setting("options/side/rice", spice("CURRY")+`, {"name": "WINE", "note": ["with NAME"], "example": "red for NAME"}`)(files)
	added("base/env.tmpl", "{{range .Settings.Spice}}{{.Name}} {{.Fallback}} {{.Doc}}\n{{end}}--\n{{range .Settings.All}}{{.Env}}\n{{end}}")(files)
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	want := "SALT `some` how much\nCURRY `some` how much\nPEPPER `some` how much\n--\n" +
		"# how much\n#SALT=some\n# how much\n#CURRY=some\n# how much\n#PEPPER=some\n# with NAME\n# which\nWINE=red for supper\n"
	if diff := cmp.Diff(want, string(file(generate(t, stacks[0], answers("name=supper")), "env").Data)); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// go.mod has the modules of all layers, go.sum the newest content of each, and not
// what a layer says gives way to newer versions.
func TestLockFiles(t *testing.T) {
	t.Parallel()
	files := menu()
	edited(`"title"`, `"modules": {"example.com/pan": "v1.0.0", "example.com/lid": "v1.2.0"}, "title"`)(files)
	edited(`{"name": "fish"`, `{"name": "fish", "locks": true`)(files)
	added("base/lock.mod", "go 1.26.0\n\nrequire example.com/pan v1.0.0\nrequire example.com/cutlery v1.0.0\nrequire example.com/fat v1.0.0 // indirect\n")(files)
	added("base/lock.sum", "example.com/fat v1.0.0 h1:a=\nexample.com/fat v1.0.0/go.mod h1:b=\nexample.com/old v1.0.0/go.mod h1:c=\n"+
		"example.com/oil v1.9.0 h1:d=\nexample.com/oil v1.9.0/go.mod h1:e=\n")(files)
	added("options/main/fish/lock.mod", "require example.com/lid v1.2.0\nrequire example.com/fat v1.0.0\n")(files)
	added("options/main/fish/lock.sum", "example.com/oil v1.10.0 h1:f=\nexample.com/oil v1.10.0/go.mod h1:g=\n- example.com/old v1.0.0/go.mod h1:c=\n")(files)
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	tree := generate(t, stacks[0], answers("name=supper"))
	wantMod := "module example.com/supper\n\ngo 1.26.0\n\nrequire (\n\texample.com/cutlery v1.0.0\n\texample.com/fat v1.0.0\n\texample.com/lid v1.2.0\n\texample.com/pan v1.0.0\n)\n"
	wantSum := "example.com/fat v1.0.0 h1:a=\nexample.com/fat v1.0.0/go.mod h1:b=\nexample.com/oil v1.10.0 h1:f=\nexample.com/oil v1.10.0/go.mod h1:g=\n"
	if diff := cmp.Diff([]string{wantMod, wantSum}, []string{string(file(tree, "go.mod").Data), string(file(tree, "go.sum").Data)}); diff != "" {
		t.Errorf("locks (-want +got):\n%s", diff)
	}
}

// A stack of another language has a lock of its own, a name that none of what it requires
// has, and what all stacks say of a setting.
func TestStackOfAnotherLanguage(t *testing.T) {
	t.Parallel()
	files := menu()
	files["settings.json"] = &fstest.MapFile{Data: []byte("[" + spice("SUGAR") + "," + spice("SALT") + "]")}
	files["snack/base/settings.json"] = &fstest.MapFile{Data: []byte(`[{"name": "SUGAR", "default": "none", "type": "int"}]`)}
	files["snack/base/settings.py.tmpl"] = &fstest.MapFile{Data: []byte("{{range .Settings.Spice}}{{.Name}}: {{.Type}} = {{.Default}}  # {{.Doc}}\n{{end}}")}
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	tree := generate(t, stacks[1], answers("name=nibble", "drink=tea"))
	for name, want := range map[string]string{
		"requirements.lock": "kettle==1.5 ; at_home \\\n    --hash=sha256:ca\nleaf==2.0 \\\n    --hash=sha256:ba\n" +
			"spring==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:ab\n",
		"settings.py": "SUGAR: int = none  # how much\n",
		"stove.txt":   "hot, for nibble\n",
		"go.mod":      "",
		"lock.in":     "",
	} {
		if got := string(file(tree, name).Data); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	imports, err := stacks[1].Imports()
	if err != nil || fmt.Sprint(imports[0].Code, imports[len(imports)-1].Code) != "[spring] [leaf[green]]" {
		t.Errorf("layers ask for %v: %v", imports, err)
	}
}

// What a part of a slot imports of other modules is its layer's, and what it imports
// of the project is no module's.
func TestImportsOfSlots(t *testing.T) {
	t.Parallel()
	files := menu()
	added("options/side/rice/slots.tmpl", "{{define \"dishes\"}}\n\t\"{{.Cookbook}}/internal/rice\"\n\t\"example.com/pan/lid\"\n{{end}}\n")(files)
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	all, err := stacks[0].Imports()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.Layer == "side/rice" && !slices.Equal(l.Code, []string{"example.com/pan/lid"}) {
			t.Errorf("%s imports %q", l.Layer, l.Code)
		}
	}
}

// edited returns an edit of stack.json.
func edited(old, replacement string) func(fstest.MapFS) {
	return func(files fstest.MapFS) {
		file := files["menu/stack.json"]
		file.Data = []byte(strings.Replace(string(file.Data), old, replacement, 1))
	}
}
