package ui

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead-lb/fairlead/internal/config"
)

//go:embed web
var web embed.FS

// policy is what the page may do: what is served here, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// How long a browser is waited for.
const (
	slow  = 10 * time.Second // to ask, and to take in what it asked for
	quiet = 15 * time.Second // between two signs of life on a stream
)

// handler answers browsers that call it by the name of this machine.
func handler(p *page, port int) http.Handler {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // it is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /document.json", p.serveDocument)
	mux.HandleFunc("GET /events", p.serveEvents)
	mux.HandleFunc("GET /explain", p.serveExplanation)
	return guard(mux, port)
}

// guard lets nothing in but questions of a page that was loaded from here: a host name
// of somebody else's, which leads here, would make a page of theirs one of ours
// (DNS rebinding).
func guard(next http.Handler, port int) http.Handler {
	var hosts []string
	for _, name := range []string{"127.0.0.1", "localhost", "::1"} {
		hosts = append(hosts, net.JoinHostPort(name, strconv.Itoa(port)))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !slices.Contains(hosts, r.Host):
			http.Error(w, fmt.Sprintf("this is %s, and not %q", hosts[0], r.Host), http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet:
			h.Set("Allow", http.MethodGet)
			http.Error(w, "nothing can be changed here: only GET is answered", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (p *page) serveDocument(w http.ResponseWriter, _ *http.Request) {
	document, _ := p.current()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document) // or the browser is gone
}

// serveEvents sends the document, and every other that comes after it (Server-Sent
// Events; HTML Living Standard, 9.2).
func (p *page) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(format string, args ...any) error {
		if err := out.SetWriteDeadline(time.Now().Add(slow)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return out.Flush()
	}
	life := time.NewTicker(quiet)
	defer life.Stop()
	for {
		document, next := p.current()
		if send("data: %s\n\n", document) != nil {
			return // the browser is gone
		}
		for waiting := true; waiting; {
			select {
			case <-r.Context().Done():
				return
			case <-next:
				waiting = false
			case <-life.C:
				if send(": nothing new\n\n") != nil {
					return
				}
			}
		}
	}
}

func (p *page) serveExplanation(w http.ResponseWriter, r *http.Request) {
	a, err := config.Address(r.FormValue("address"))
	if err != nil {
		http.Error(w, fmt.Sprintf("address=%s: %v", r.FormValue("address"), err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, p.explain(a))
}

// serve answers browsers until ctx ends.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: slow, ReadTimeout: slow,
		BaseContext: func(net.Listener) context.Context { return ctx }, // which ends streams
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(listener); ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
