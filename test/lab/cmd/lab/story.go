package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// story is what a person reads while something happens: what is done, when, and
// what came of it.
//
//	3.1 s  apply     $ kubectl apply -f examples/layer2.yaml
//	                 ipaddresspool.fairlead.dev/lan created
type story struct {
	out    io.Writer
	began  time.Time
	colour bool
}

func newStory(out *os.File) *story {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	plain := os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb"
	return &story{out: out, began: time.Now(), colour: terminal && !plain}
}

// storyIndent is where the text of a line begins.
const storyIndent = "                   "

// say tells one thing, under a verb.
func (s *story) say(verb, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	verb = fmt.Sprintf("%-8s", verb)
	if s.colour {
		verb = "\x1b[1m" + verb + "\x1b[0m"
	}
	fmt.Fprintf(s.out, "%5.1f s  %s  %s\n", time.Since(s.began).Seconds(), verb, s.indented(text))
}

// show tells what a command has written.
func (s *story) show(output string) {
	output = strings.TrimRight(output, "\n")
	if output == "" {
		return
	}
	if s.colour {
		output = "\x1b[2m" + output + "\x1b[0m"
	}
	fmt.Fprintln(s.out, storyIndent+s.indented(output))
}

func (s *story) indented(text string) string {
	lines := strings.Split(text, "\n")
	for i := 1; i < len(lines); i++ {
		if lines[i] != "" {
			lines[i] = storyIndent + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}
