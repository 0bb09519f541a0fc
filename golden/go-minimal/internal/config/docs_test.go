package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumented wants every setting, and nothing else, in .env.example and in the
// README's table, in one order, with the same default and the same words.
func TestDocumented(t *testing.T) {
	t.Parallel()
	// A comment of one line or more, the last of which is what the README says, too.
	examples, exampleNames := documented(t, "../../.env.example", `(?m)^# (?P<help>.*)\n(?P<optional>#?)(?P<name>[A-Z_]+)=(?P<fallback>.*)$`)
	rows, rowNames := documented(t, "../../README.md", "(?m)^\\| `(?P<name>[A-Z_]+)` \\| (?P<fallback>.+?) \\| (?P<bound>.+?) \\| (?P<help>.+?) \\|$")
	var names []string
	for _, s := range new(Config).settings() {
		names = append(names, s.name)
		example, row := examples[s.name], rows[s.name]
		if example == nil {
			t.Errorf("%s: .env.example lacks it: add \"# what it is for\" and, below, \"#%s=%s\"", s.name, s.name, s.fallback)
			continue
		}
		if row == nil {
			t.Errorf("%s: the README's table lacks it: add \"| `%s` | `%s` | %s | %s |\"", s.name, s.name, s.fallback, accepted(s.name), example["help"])
			continue
		}
		if required := example["optional"] == ""; required != (s.name == "DATABASE_URL") {
			t.Errorf("%s: required: %v, in .env.example", s.name, required) // it is the one to be filled in
		}
		if row["help"] != example["help"] {
			t.Errorf("%s: the README says %q, .env.example %q", s.name, row["help"], example["help"])
		}
		if s.fallback != "" && (example["fallback"] != s.fallback || row["fallback"] != "`"+s.fallback+"`") {
			t.Errorf("%s: the default is %q, .env.example says %q, the README %s", s.name, s.fallback, example["fallback"], row["fallback"])
		}
		if want := accepted(s.name); want != "" && row["bound"] != want {
			t.Errorf("%s: it takes %s, the README says %s", s.name, want, row["bound"])
		}
	}
	for file, found := range map[string][]string{".env.example": exampleNames, "README.md": rowNames} {
		if !slices.Equal(found, names) && !t.Failed() {
			t.Errorf("%s has %q, want %q", file, found, names)
		}
	}
}

// documented returns what a file says of settings, the groups of the pattern by the
// group called name, and these names in order.
func documented(t *testing.T, path, pattern string) (settings map[string]map[string]string, names []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	settings = map[string]map[string]string{}
	find := regexp.MustCompile(pattern)
	for _, match := range find.FindAllStringSubmatch(string(data), -1) {
		said := map[string]string{}
		for i, group := range find.SubexpNames() {
			said[group] = match[i]
		}
		settings[said["name"]] = said
		names = append(names, said["name"])
	}
	return settings, names
}

// accepted returns what a setting takes, in the words of the error about
// something it does not take; "" where these are no list and no range.
func accepted(name string) string {
	_, err := load(map[string]string{name: "\x00"})
	if err == nil {
		return ""
	}
	match := regexp.MustCompile(`not one of (.+)$| from (\w+ to \w+)|neither (true nor false)`).
		FindStringSubmatch(err.Error())
	if match == nil {
		return ""
	}
	words := strings.NewReplacer("24h0m0s", "24h", " nor ", ", ")
	return words.Replace(match[1] + match[2] + match[3])
}
