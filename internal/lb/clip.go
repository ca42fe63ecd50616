package lb

import (
	"fmt"
	"strconv"
	"strings"
)

// quotedBytes is how much of a text that a user wrote is quoted in an error, a condition,
// an event or a log: enough to recognise it.
const quotedBytes = 64

// Quote quotes what a user wrote, with control characters escaped. Of a long text it
// quotes the beginning and adds the length: an annotation can have 256 kB, and the same
// text is repeated in conditions, events and logs.
func Quote(s string) string {
	if len(s) <= quotedBytes {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(strings.ToValidUTF8(s[:quotedBytes], "")), len(s))
}

// Few lists the first few, comma-separated, and adds how many more there are. Lists in
// conditions, events and logs are bounded by it, whatever users create.
func Few[T any](list []T, few int) string { return joinFew(list, few, ", ") }

// FewOf lists those that are shown of so many as Few does: for a list that was cut already.
func FewOf[T any](shown []T, all int) string { return joinShown(shown, all, ", ") }

func joinFew[T any](list []T, few int, separator string) string {
	return joinShown(list[:min(len(list), few)], len(list), separator)
}

func joinShown[T any](shown []T, all int, separator string) string {
	var names []string
	for _, x := range shown {
		names = append(names, fmt.Sprint(x))
	}
	s := strings.Join(names, separator)
	if more := all - len(shown); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}
