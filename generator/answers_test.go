package generator

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnswersRoundTrip(t *testing.T) {
	t.Parallel()
	for _, plan := range projects(t, menuStack(t), "supper") {
		first, err := plan.AnswersFile()
		if err != nil {
			t.Fatal(err)
		}
		read, stack, err := ReadAnswers(first)
		if err != nil || stack != "menu" {
			t.Fatalf("read answers: stack %q, error %v", stack, err)
		}
		again, err := NewPlan(plan.Stack, read, testVersion)
		if err != nil {
			t.Fatal(err)
		}
		second, err := again.AnswersFile()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(first), string(second)); diff != "" {
			t.Errorf("answers (-first +second):\n%s", diff)
		}
	}
}

func TestReadAnswersRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                        "empty",
		"# nothing":               "empty",
		"null":                    "neither a JSON object nor a YAML mapping",
		"---":                     "neither a JSON object nor a YAML mapping",
		"[]":                      "neither a JSON object nor a YAML mapping",
		"just words":              "neither a JSON object nor a YAML mapping",
		"a: b\na: c":              `not a YAML mapping of strings: line 2: mapping key "a" already defined`,
		"a: [":                    "neither a JSON object nor YAML: yaml: line 1: ",
		"\xff\xfen\x00":           "not UTF-8",
		"{\"name\": \"\xff\"}":    "not UTF-8",
		`{"name":"a","name":"b"}`: `key "name": given twice`,
		`{"name"}`:                "not a JSON object",
		`{"name": "a", }`:         "not a JSON object",
		`{'name': 'a'}`:           "not a JSON object",
		"name: a\n---\nname: b":   "not one YAML document",
		"name: 1":                 `key "name": want a string or a list of strings`,
		"{":                       "not a JSON object",
		`{"name": "a"} {}`:        "not one JSON object",
		`{"name": "a"}}`:          "not one JSON object",
		`{"name": 1}`:             `key "name": want a string or a list of strings`,
		`{"with": ["docker",1]}`:  `key "with": want a string or a list of strings`,
		`{"with": {}}`:            `key "with": want a string or a list of strings`,
	}
	for text, want := range tests {
		if _, _, err := ReadAnswers([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("answers %s: error %v, want %q", text, err, want)
		}
	}
}

func TestReadAnswersForms(t *testing.T) {
	t.Parallel()
	want := Answers{"name": {[]string{"demo"}, FromFile}, "with": {[]string{"docker", "notes"}, FromFile}}
	for _, text := range []string{
		`{"name": "demo", "with": ["docker", "notes"], "stack": "go"}`,
		"{\n\t\"name\": \"demo\",\n\t\"with\": [\"docker\", \"notes\"]\n, \"stack\": \"go\"}\n",
		"\ufeff# what we chose\r\nname: demo\r\nstack: go\r\nwith:\r\n  - docker\r\n  - notes\r\n",
		"name: demo\nwith: [docker, notes]\nstack: go\n",
	} {
		got, stack, err := ReadAnswers([]byte(text))
		if err != nil || stack != "go" {
			t.Errorf("%q: stack %q, %v", text, stack, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// What is read and makes a plan is written so that it is read the same.
func FuzzReadAnswers(f *testing.F) {
	stack := menuStack(f)
	f.Add([]byte(`{"nullpool":"v1.0.0","stack":"menu","name":"supper","side":["rice"]}`))
	f.Add([]byte(`{"name":"supper","side":[]}`))
	f.Add([]byte(`{"name":["supper"],"cookbook":"EXAMPLE.com/x"}`))
	f.Add([]byte(`{"name":"supper","name":"other","stack":["a","b"]}`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Add([]byte("name: supper\r\nside:\r\n- rice\r\n"))
	f.Add([]byte("name: &a [supper]\ncookbook: *a\n"))
	f.Add([]byte("name: \xff\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		given, _, err := ReadAnswers(data)
		if err != nil {
			return
		}
		plan, err := NewPlan(stack, given, testVersion)
		if err != nil {
			return
		}
		first, err := plan.AnswersFile()
		if err != nil {
			t.Fatal(err)
		}
		read, _, err := ReadAnswers(first)
		if err != nil {
			t.Fatal(err)
		}
		again, err := NewPlan(stack, read, testVersion)
		if err != nil {
			t.Fatal(err)
		}
		if second, _ := again.AnswersFile(); !bytes.Equal(first, second) {
			t.Errorf("answers %s became %s", first, second)
		}
	})
}
