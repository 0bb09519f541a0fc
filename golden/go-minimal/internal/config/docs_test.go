package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The two places where people look settings up. Both follow the table in
// settings.go, in its order and in its words.
const (
	envExample = "../../.env.example"
	readme     = "../../README.md"
)

func TestEnvExample(t *testing.T) {
	t.Parallel()
	assignment := regexp.MustCompile(`(?m)^# (.*)\n(#?)([A-Z_]+)=(.*)$`)
	lines := assignment.FindAllStringSubmatch(read(t, envExample), -1)
	if len(lines) != len(settings) {
		t.Fatalf("%d settings with a comment above, want %d", len(lines), len(settings))
	}
	for i, s := range settings {
		comment, hash, name, value := lines[i][1], lines[i][2], lines[i][3], lines[i][4]
		if name != s.Name || comment != s.Help {
			t.Errorf("got %s, %q; want %s, %q", name, comment, s.Name, s.Help)
		}
		// DATABASE_URL alone has to be filled in. Everything else is a choice.
		if required := s.Name == "DATABASE_URL"; required == (hash == "#") {
			t.Errorf("%s: commented out: %v", name, hash == "#")
		}
		if s.Default != "" && value != s.Default {
			t.Errorf("%s: shows %q, the default is %q", name, value, s.Default)
		}
	}
}

func TestReadme(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (.+?) \\| (.+?) \\| (.+?) \\|$")
	rows := row.FindAllStringSubmatch(read(t, readme), -1)
	if len(rows) != len(settings) {
		t.Fatalf("%d rows about settings, want %d", len(rows), len(settings))
	}
	for i, s := range settings {
		name, value, bound, help := rows[i][1], rows[i][2], rows[i][3], rows[i][4]
		if name != s.Name || help != s.Help {
			t.Errorf("got %s, %q; want %s, %q", name, help, s.Name, s.Help)
		}
		if want := "`" + s.Default + "`"; s.Default != "" && value != want {
			t.Errorf("%s: default %s, want %s", name, value, want)
		}
		if want := accepted(s.Name); want != "" && bound != want {
			t.Errorf("%s: bound %q, want %q", name, bound, want)
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
	match := regexp.MustCompile(`not one of (.+)$|a (?:duration|whole number) from (\w+ to \w+)|neither (true nor false)`).
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
