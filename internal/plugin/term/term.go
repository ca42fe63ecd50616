// Package term lays text out for a terminal: fields, tables, bars and tones.
//
// What comes from objects is not trusted to be harmless to a terminal: it is
// escaped here, and nowhere else.
package term

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"k8s.io/cli-runtime/pkg/printers"
)

// Tone is how a text is meant. The zero Tone is plain.
type Tone uint8

// The tones of a text.
const (
	Plain Tone = iota
	Good
	Warn
	Bad
	Faint
	Strong
)

// codes are the parameters of SGR for the tones (ECMA-48, 8.3.117).
var codes = map[Tone]string{Good: "32", Warn: "33", Bad: "31", Faint: "2", Strong: "1"}

// String returns the tone's name.
func (t Tone) String() string {
	return [...]string{"plain", "good", "warn", "bad", "faint", "strong"}[t]
}

// Text is words in a tone.
type Text struct {
	Words string
	Tone  Tone
}

// Say returns plain text.
func Say(format string, args ...any) Text { return In(Plain, format, args...) }

// In returns text in a tone.
func In(t Tone, format string, args ...any) Text {
	return Text{Words: fmt.Sprintf(format, args...), Tone: t}
}

// labelWidth is that of the labels of fields.
const labelWidth = 11

// Page writes text.
type Page struct {
	w      io.Writer
	colour bool
	err    error
}

// NewPage returns a page that is written to w, with colours if w is a terminal
// that shows them.
func NewPage(w io.Writer) *Page { return &Page{w: w, colour: printers.AllowsColorOutput(w)} }

// Err returns why not all could be written.
func (p *Page) Err() error { return p.err }

// Line writes the texts in one line, with a space between them.
func (p *Page) Line(texts ...Text) {
	parts := make([]string, len(texts))
	for i, t := range texts {
		parts[i] = p.paint(t, 0)
	}
	p.write(strings.TrimRight(strings.Join(parts, " "), " ") + "\n")
}

// Head writes the headline of a section.
func (p *Page) Head(format string, args ...any) { p.Line(In(Strong, format, args...)) }

// Field writes a line behind a label. Without a label it goes on with the field
// above.
func (p *Page) Field(label string, texts ...Text) {
	p.Line(append([]Text{{Words: pad(label, labelWidth-1), Tone: Faint}}, texts...)...)
}

// Table writes rows in columns. Without a header it is a list.
func (p *Page) Table(indent int, header []string, rows [][]Text) {
	if len(header) > 0 {
		head := make([]Text, len(header))
		for i, h := range header {
			head[i] = Text{Words: h, Tone: Faint}
		}
		rows = append([][]Text{head}, rows...)
	}
	var widths []int
	for _, row := range rows {
		for i, t := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(escape(t.Words)))
		}
	}
	const gap = "  "
	for _, row := range rows {
		parts := make([]string, len(row))
		for i, t := range row {
			width := widths[i]
			if i == len(row)-1 {
				width = 0
			}
			parts[i] = p.paint(t, width)
		}
		p.write(strings.TrimRight(strings.Repeat(" ", indent)+strings.Join(parts, gap), " ") + "\n")
	}
}

// paint returns the text padded to a width, in its tone.
func (p *Page) paint(t Text, width int) string {
	words := escape(t.Words)
	code, toned := codes[t.Tone]
	if !p.colour || !toned || words == "" {
		return pad(words, width)
	}
	return "\x1b[" + code + "m" + words + "\x1b[0m" + pad("", width-utf8.RuneCountInString(words))
}

func (p *Page) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

// escape makes words harmless, and one line of them.
func escape(words string) string {
	return printers.EscapeTerminal(strings.ReplaceAll(words, "\n", " "))
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// Bar returns a picture of how much of a whole is used.
func Bar(used, whole float64, width int) string {
	full := 0
	if whole > 0 {
		full = min(width, int(used/whole*float64(width)+0.5))
	}
	if full == 0 && used > 0 {
		full = 1 // something is not nothing
	}
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// Count says how many there are: "1 node", "3 nodes".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
