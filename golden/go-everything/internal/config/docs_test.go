package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// documented is what .env.example and the README say of a setting, in one order
// and in the same words.
type documented struct{ name, fallback, bound, help string }

func TestEnvExample(t *testing.T) {
	t.Parallel()
	examples, settings := envExample(t), new(Config).settings()
	if len(examples) != len(settings) {
		t.Fatalf("%d settings with a comment above, want %d", len(examples), len(settings))
	}
	for i, s := range settings {
		d := examples[i]
		// DATABASE_URL alone has to be filled in. Everything else is a choice.
		if name, optional := strings.CutPrefix(d.name, "#"); name != s.name || optional == (s.name == "DATABASE_URL") {
			t.Errorf("got %s, want %s", d.name, s.name)
		}
		if s.fallback != "" && d.fallback != s.fallback {
			t.Errorf("%s: shows %q, the default is %q", s.name, d.fallback, s.fallback)
		}
	}
}

// envExample returns the settings in .env.example, commented out or not, with
// the line above each.
func envExample(t *testing.T) (found []documented) {
	t.Helper()
	assignment := regexp.MustCompile(`(?m)^# (.*)\n(#?[A-Z_]+)=(.*)$`)
	for _, match := range assignment.FindAllStringSubmatch(read(t, "../../.env.example"), -1) {
		found = append(found, documented{help: match[1], name: match[2], fallback: match[3]})
	}
	return found
}

func TestReadme(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (.+?) \\| (.+?) \\| (.+?) \\|$")
	rows, examples, settings := row.FindAllStringSubmatch(read(t, "../../README.md"), -1), envExample(t), new(Config).settings()
	if len(rows) != len(settings) {
		t.Fatalf("%d rows about settings, want %d", len(rows), len(settings))
	}
	for i, s := range settings {
		d := documented{rows[i][1], rows[i][2], rows[i][3], rows[i][4]}
		if d.name != s.name || d.help != examples[i].help {
			t.Errorf("got %s, %q; want %s, and what .env.example says: %q", d.name, d.help, s.name, examples[i].help)
		}
		if want := "`" + s.fallback + "`"; s.fallback != "" && d.fallback != want {
			t.Errorf("%s: default %s, want %s", s.name, d.fallback, want)
		}
		if want := accepted(s.name); want != "" && d.bound != want {
			t.Errorf("%s: bound %q, want %q", s.name, d.bound, want)
		}
	}
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

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
