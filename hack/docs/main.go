// Command docs writes those pages of docs/ that follow from the code.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	if err := generate(root); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// pages are the pages that are written, by their names.
var pages = map[string]func(root string) (string, error){
	"configuration.md": configurationPage,
	"reasons.md":       reasonsPage,
	"metrics.md":       metricsPage,
}

func generate(root string) error {
	for name, page := range pages {
		text, err := page(root)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "docs", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
