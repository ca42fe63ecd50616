// Command check looks for what no compiler sees: links in the documentation that
// lead nowhere, and libraries in our programs whose licence forbids what we do.
package main

import (
	"fmt"
	"os"

	"github.com/fairlead-lb/fairlead/hack/check/licences"
	"github.com/fairlead-lb/fairlead/hack/check/links"
)

func main() {
	root := "../.."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	problems, err := check(root)
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "check:", p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
	}
	if err != nil || len(problems) > 0 {
		os.Exit(1)
	}
}

// check returns what is wrong in the repository at root, in words.
func check(root string) ([]string, error) {
	problems, err := links.Check(os.DirFS(root))
	if err != nil {
		return nil, err
	}
	modules, err := licences.Built(root, "./cmd/...")
	if err != nil {
		return problems, err
	}
	more, err := licences.Check(modules)
	return append(problems, more...), err
}
