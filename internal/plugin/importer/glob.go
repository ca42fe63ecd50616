package importer

import (
	"regexp"
	"strings"
)

// globPart is what of a regular expression has an exact counterpart in a pattern: a
// name's characters, one of a set, any one, any number of any.
var globPart = regexp.MustCompile(`^(?:([A-Za-z0-9_-])|\\(\.)|(\[\^?[A-Za-z0-9_.-]+\])|(\.))([*+]?)`)

// stars in a row are as good as one.
var stars = regexp.MustCompile(`\*+`)

// mostRepeated is how many times a set that is repeated is written: there is no
// pattern for any number of digits, and interfaces with more than that are rare.
const mostRepeated = 3

// mostPatterns is how many patterns one expression may become.
const mostPatterns = 16

// globs returns the patterns of interface names that match what a regular
// expression does, which is found anywhere in the name unless it is anchored. It
// reports whether there are such patterns.
func globs(expression string) (patterns []string, ok bool) {
	rest, begins := strings.CutPrefix(expression, "^")
	rest, ends := strings.CutSuffix(rest, "$")
	patterns = []string{""}
	if !begins {
		patterns = []string{"*"}
	}
	for rest != "" {
		m := globPart.FindStringSubmatch(rest)
		if m == nil || len(patterns) > mostPatterns {
			return nil, false
		}
		rest = rest[len(m[0]):]
		one := m[1] + m[2] + m[3]
		last := rest == "" && !ends
		switch {
		case m[4] != "" && m[5] == "*":
			patterns = appended(patterns, "*")
		case m[4] != "" && m[5] == "+":
			patterns = appended(patterns, "?*")
		case m[4] != "":
			patterns = appended(patterns, "?")
		case m[5] == "":
			patterns = appended(patterns, one)
		case m[5] == "+" && last: // what follows the first may be anything
			patterns = appended(patterns, one)
		case m[5] == "*" && last:
		case m[5] == "+":
			patterns = repeated(patterns, one, 1)
		default:
			patterns = repeated(patterns, one, 0)
		}
	}
	if !ends {
		patterns = appended(patterns, "*")
	}
	for n, p := range patterns {
		patterns[n] = stars.ReplaceAllString(p, "*")
	}
	return patterns, true
}

func appended(patterns []string, s string) []string {
	out := make([]string, len(patterns))
	for n, p := range patterns {
		out[n] = p + s
	}
	return out
}

// repeated appends s at least so many times, and at most mostRepeated.
func repeated(patterns []string, s string, least int) (out []string) {
	for n := least; n <= mostRepeated; n++ {
		out = append(out, appended(patterns, strings.Repeat(s, n))...)
	}
	return out
}
