package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The contract is what the tool promises to whoever runs it. A case in
// testdata/script that holds it to a promise says so in its first line, as
// "# contract NAME: …"; what no script can see is held by the tests named here.
var contract = []struct {
	name, promise string
	tests         []string
}{
	{"commands", "nullpool new [NAME] [flags], nullpool list (stacks and options), nullpool completion, nullpool version.", nil},
	{
		"go-run", "go run MODULE/cmd/nullpool@VERSION new … works the same, but for the exit status, which go run turns into 1: " +
			"a --json error carries exit_code.", []string{"TestPublishedModule"},
	},
	{
		"declaration", "Every question is an option, the stack the first; every option is a flag, a key of the answers file, and a prompt, all from one " +
			"declaration.", []string{"TestOneDeclaration", "TestReadmeOptions"},
	},
	{
		"order", "Order: flags, answers file, prompts (only what is unset, only on a terminal), defaults.",
		[]string{"TestPromptLeavesOutWhatIsGiven", "TestPromptAsksWhatIsOpen"},
	},
	{"yes", "--yes takes defaults without asking.", nil},
	{
		"missing", "Without a terminal and without --yes, a missing answer is one error that lists all the missing flags and a ready " +
			"command.", nil,
	},
	{"options", "Options of a stack: the first choice is the default; --with several, --without some.", []string{"TestNewCommandLine"}},
	{"dir", "--dir DIR (default ./NAME).", nil},
	{"plan", "--plan writes nothing and shows what would be written, as produced by the same code path that writes.", nil},
	{"json", "--json makes stdout one JSON document (plan, result or error).", []string{"TestDocuments"}},
	{
		"streams", "Without --json stdout carries only the result; everything for people goes to stderr.",
		[]string{"TestPromptLeavesStdoutAlone"},
	},
	{
		"whole", "All or nothing: the tree is rendered, formatted and checked in memory, staged beside a new target and renamed once.",
		[]string{"../../generator/TestWriteFaults", "../../generator/TestWriteInterrupted"},
	},
	{
		"existing", "Into an existing empty folder, or one that holds only .git, it is staged inside and its entries renamed, with " +
			"undo on failure, the folder itself never removed.", []string{"../../generator/TestWriteKeepsFolder", "../../generator/TestWriteUndone"},
	},
	{"refused", "Any other existing target is refused (exit 3).", []string{"../../generator/TestWriteRefuses", "TestPromptTargetInTheWay"}},
	{
		"nothing-left", "Ctrl-C, a full disk, a read-only folder leave nothing behind.",
		[]string{"TestPromptInterrupted", "TestWriteInterrupted", "TestWriteTerminated", "../../generator/TestWriteToFullDisk"},
	},
	{"no-delete", "Nothing is ever deleted that the run did not make.", []string{"../../generator/TestWriteFaults"}},
	{"alone", "No network, no subprocess (except what a flag asks for: --git, --verify).", nil},
	{
		"same-bytes", "Same tool version and answers, same bytes: no dates, no random values, no machine-dependent order.",
		[]string{"../../generator/TestProjects", "../../generator/TestGoldens"},
	},
	{
		"version", "The version is an input of the generator (constant in goldens, devel without build information).",
		[]string{"TestPublishedModule"},
	},
	{"record", "The project records its answers and the tool's version in .nullpool.json, which --answers accepts.", nil},
	{
		"status", "Exit status: 0 done; 1 failed; 2 usage or missing answer; 3 the target is in the way; 130 interrupted.",
		[]string{"TestPromptInterrupted"},
	},
	{"errors", "Errors: \"nullpool: error: …\" and \"nullpool: hint: …\" on stderr.", []string{"TestHints", "TestProgramWords", "TestGoRun"}},
	{
		"names", "A project name matches [a-z]([a-z0-9-]{0,61}[a-z0-9])?, is no reserved file name and none of its stack's words, such as " +
			"keywords; a Go module path passes module.CheckImportPath. Each stack has its own rules for names.",
		[]string{"../../generator/TestNames", "../../generator/TestModules", "../../generator/TestNamesByStack", "../../generator/FuzzNames"},
	},
	{"before", "Every refused input is refused before anything is written.", []string{"../../generator/FuzzNew"}},
}

var (
	contractCase = regexp.MustCompile(`(?m)^# contract ([a-z-]+): .`)
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// TestContract wants a case or a test for each promise, and no case for a promise
// that is not there.
func TestContract(t *testing.T) {
	t.Parallel()
	cases := found(t, contractCase, "testdata/script/*.txtar")
	tests := found(t, testFunction, "*_test.go")
	for _, name := range found(t, testFunction, "../../generator/*_test.go") {
		tests = append(tests, "../../generator/"+name)
	}
	for _, c := range contract {
		if len(c.tests) == 0 && !slices.Contains(cases, c.name) {
			t.Errorf("%s: no case in testdata/script holds %q", c.name, c.promise)
		}
		for _, name := range c.tests {
			if !slices.Contains(tests, name) {
				t.Errorf("%s: there is no test %s", c.name, name)
			}
		}
		cases = slices.DeleteFunc(cases, func(name string) bool { return name == c.name })
	}
	if len(cases) > 0 {
		t.Errorf("cases of promises that are not in the contract: %s", strings.Join(cases, ", "))
	}
}

// found returns what the pattern's group finds in the files.
func found(t *testing.T, pattern *regexp.Regexp, files string) []string {
	t.Helper()
	paths, err := filepath.Glob(files)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", files, err)
	}
	var names []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range pattern.FindAllSubmatch(data, -1) {
			names = append(names, string(match[1]))
		}
	}
	return names
}
