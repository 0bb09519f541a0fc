package generator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// settingsFile holds the settings that a layer declares. Beside the stacks it holds what
// those that have a setting all say of it.
const settingsFile = "settings.json"

// A Setting is an environment variable of the rendered service. One declaration,
// in a layer's settings.json, gives what reads it, its documentation and its
// example: templates range over .Settings.
//
// Of a setting that base declares, a choice may say what base leaves open: the
// note and the example, such as those that fit a provider.
type Setting struct {
	Name  string `json:"name"`  // of the variable
	Group string `json:"group"` // where it stands: one of base's groups

	Help     string   `json:"help"`               // what it is for, in one line
	Default  string   `json:"default,omitempty"`  // NAME stands for the project's name
	Unset    string   `json:"unset,omitempty"`    // in Markdown, what holds where it is not set and Default is empty
	Bound    string   `json:"bound"`              // in Markdown, what it takes
	Required bool     `json:"required,omitempty"` // there is no service without it
	Note     []string `json:"note,omitempty"`     // lines about it for whoever fills in an example
	Example  string   `json:"example,omitempty"`  // Default where there is none; NAME stands for the project's name

	// In the stack's language.
	Field string `json:"field,omitempty"` // where the value is kept
	Type  string `json:"type,omitempty"`  // of the field; "" where it is declared elsewhere
	About string `json:"about,omitempty"` // the field's comment; Help where there is none
	Read  string `json:"read,omitempty"`  // what reads it
}

// Fallback returns what holds where the variable is not set, in Markdown.
func (s Setting) Fallback() string {
	if s.Default != "" {
		return "`" + s.Default + "`"
	}
	return s.Unset
}

// Doc returns a line about the field in which the value is kept.
func (s Setting) Doc() string { return cmp.Or(s.About, s.Help) }

// Env returns the setting's lines in an example of an environment: what it is
// for, and an assignment, which is commented out unless it is required.
func (s Setting) Env() string {
	var lines strings.Builder
	for _, line := range append(slices.Clone(s.Note), s.Help) {
		lines.WriteString("# " + line + "\n")
	}
	if !s.Required {
		lines.WriteString("#")
	}
	return lines.String() + s.Name + "=" + cmp.Or(s.Example, s.Default)
}

// filled returns what a stack's base declares, completed with what all stacks say of it.
func (s Setting) filled(all Setting) Setting {
	s.Group, s.Help, s.Bound = cmp.Or(s.Group, all.Group), cmp.Or(s.Help, all.Help), cmp.Or(s.Bound, all.Bound)
	s.Default, s.Unset, s.Example = cmp.Or(s.Default, all.Default), cmp.Or(s.Unset, all.Unset), cmp.Or(s.Example, all.Example)
	s.Required = s.Required || all.Required
	return s
}

// readSettings returns the settings that a layer declares.
func readSettings(files fs.FS) ([]Setting, error) {
	data, err := fs.ReadFile(files, settingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var settings []Setting
	if err := decodeStrict(data, &settings); err != nil {
		return nil, fmt.Errorf("read %s: %w", settingsFile, err)
	}
	return settings, nil
}

// groups returns the settings' groups in order.
func groups(settings []Setting) (names []string) {
	for _, setting := range settings {
		if !slices.Contains(names, setting.Group) {
			names = append(names, setting.Group)
		}
	}
	return names
}

func find(settings []Setting, name string) (int, bool) {
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Name == name })
	return i, i >= 0
}

// settingsOf returns the settings of a project called name, of what its layers
// declare, the first of which is base. What choices add to a group stands before the
// group's last setting: an owner writes behind that one, and an update finds the
// two apart.
func settingsOf(declared [][]Setting, name string) []Setting {
	all := slices.Clone(declared[0])
	for _, settings := range declared[1:] {
		for _, setting := range settings {
			if at, ok := find(all, setting.Name); ok {
				all[at].Note = append(slices.Clone(all[at].Note), setting.Note...)
				all[at].Example = cmp.Or(all[at].Example, setting.Example)
				continue
			}
			last := len(all) - 1
			for all[last].Group != setting.Group {
				last--
			}
			all = slices.Insert(all, last, setting)
		}
	}
	for i := range all {
		all[i].Default = strings.ReplaceAll(all[i].Default, "NAME", name)
		all[i].Example = strings.ReplaceAll(all[i].Example, "NAME", name)
	}
	return all
}

// decodeStrict decodes one JSON value and nothing behind it, without unknown keys.
func decodeStrict(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows behind the end")
	}
	return nil
}
