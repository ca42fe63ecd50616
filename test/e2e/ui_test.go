package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/gobwas/ws"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// picturesEnv names a folder that gets pictures of the page: docs/images.
const picturesEnv = "FAIRLEAD_PICTURES"

// browser is Chromium on the control plane, which has one page open.
type browser struct {
	ctx context.Context

	mu     sync.Mutex
	errors []string // of the page, as its console has them; guarded by mu
}

// browse starts Chromium where the page is served, and opens it. Nothing of it leaves
// the lab: its network is that of the host it runs on.
func (c *corner) browse(t *testing.T, url string) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("there is no chromium to look at the page; Debian's package chromium brings it (make deps)")
	}
	home, err := os.MkdirTemp(c.Dir, "chromium") // not the test's: its helpers write there until the lab ends
	must(t, err)
	p, err := c.ControlPlane.Start("chromium", program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars",
		"--user-data-dir="+home, "--window-size=1360,1000", "--remote-debugging-address=127.0.0.1", "--remote-debugging-port=0", "about:blank")
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop(context.Background())) })
	devtools := said(t, p, `ws://127\.0\.0\.1:\S+`)

	ws.DefaultDialer.NetDial = c.ControlPlane.Dial // chromedp asks for no other
	ctx, cancel := chromedp.NewRemoteAllocator(context.Background(), devtools, chromedp.NoModifyURL)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{ctx: ctx}
	chromedp.ListenTarget(ctx, b.listen)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.errors) > 0 {
			t.Errorf("the browser's console has errors:\n%s", strings.Join(b.errors, "\n"))
		}
	})
	b.do(t, cdplog.Enable(), runtime.Enable(), chromedp.Navigate(url))
	return b
}

// said waits until a process has written what the expression matches, and returns it.
func said(t *testing.T, p *lab.Process, expression string) (found string) {
	t.Helper()
	wanted := regexp.MustCompile(expression)
	lab.Eventually(t, 2*soon, func() error {
		text, err := os.ReadFile(p.Log())
		if err != nil {
			return err
		}
		if found = string(wanted.Find(text)); found == "" {
			return fmt.Errorf("%s has not said %s:\n%s", p.Name, expression, p.Tail(5))
		}
		return nil
	})
	return found
}

// listen notes what goes wrong in the page.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			b.errors = append(b.errors, fmt.Sprintf("console: %s", e.Args[0].Value))
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.LevelError || e.Entry.Level == cdplog.LevelWarning {
			b.errors = append(b.errors, fmt.Sprintf("%s: %s", e.Entry.URL, e.Entry.Text))
		}
	}
}

// do has the browser do something.
func (b *browser) do(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	// Not by the context of one call: the first makes the browser's page.
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(b.ctx, actions...) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(3 * soon):
		t.Fatal("the browser does not answer")
	}
}

// text is the text of an element.
func (b *browser) text(t *testing.T, selector string) (text string) {
	t.Helper()
	b.do(t, chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector), &text))
	return text
}

// untilSays waits until an element says these words.
func (b *browser) untilSays(t *testing.T, selector string, words ...string) {
	t.Helper()
	lab.Eventually(t, 2*soon, func() error {
		text := b.text(t, selector)
		for _, w := range words {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%s says %q, want %q", selector, text, w)
			}
		}
		return nil
	})
}

// cellOf is the expression for the cell of an address, which is the one whose map has
// that address at that place; a cell's words are made when the pointer comes by.
func cellOf(pool, address string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('[data-pool="%[1]s"] .map i')].find((e) => {
		e.dispatchEvent(new Event("pointerover", {bubbles: true}));
		return e.title === %[2]q || e.title.startsWith(%[2]q + ": ");
	})`, pool, address)
}

// untilCell waits until the cell of an address has this state.
func (b *browser) untilCell(t *testing.T, pool, address, state string) {
	t.Helper()
	lab.Eventually(t, 2*soon, func() error {
		var class string
		b.do(t, chromedp.Evaluate(cellOf(pool, address)+`?.className ?? "no cell"`, &class))
		if want := strings.TrimSpace("cell " + state); strings.TrimSpace(strings.TrimSuffix(class, " at")) != want {
			return fmt.Errorf("the cell of %s is %q, want %q", address, class, want)
		}
		return nil
	})
}

// clickCell clicks on the cell of an address, where it is on the screen, until that is
// chosen: what is told meanwhile may move it away from under the pointer.
func (b *browser) clickCell(t *testing.T, pool, address string) {
	t.Helper()
	lab.Eventually(t, 2*soon, func() error {
		var at struct{ X, Y float64 }
		b.do(t, chromedp.Evaluate(`(() => {
			const e = `+cellOf(pool, address)+`;
			e.scrollIntoView({block: "center"});
			const r = e.getBoundingClientRect();
			return {X: r.x + r.width / 2, Y: r.y + r.height / 2};
		})()`, &at))
		b.do(t, chromedp.MouseClickXY(at.X, at.Y))
		if got := strings.TrimSpace(b.text(t, "#chosen h2")); got != address {
			return fmt.Errorf("a click on the cell of %s chose %q", address, got)
		}
		return nil
	})
}

// picture takes one of the page, if pictures are wanted.
func (b *browser) picture(t *testing.T, name string) {
	t.Helper()
	folder := os.Getenv(picturesEnv)
	if folder == "" {
		return
	}
	var body []byte
	b.do(t, chromedp.EmulateViewport(1280, 900, chromedp.EmulateScale(1)), chromedp.Evaluate("scrollTo(0, 0)", nil), chromedp.CaptureScreenshot(&body))
	shown, err := png.Decode(bytes.NewReader(body))
	must(t, err)
	var small bytes.Buffer // it is for a repository
	must(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, fewColours(shown)))
	must(t, os.WriteFile(filepath.Join(folder, name), small.Bytes(), 0o644))
}

// fewColours returns the picture in at most 256 colours, which takes a third of the room:
// of colours that are nearly alike, the most frequent stands for all.
func fewColours(from image.Image) image.Image {
	times := map[color.Color]int{}
	for y := from.Bounds().Min.Y; y < from.Bounds().Max.Y; y++ {
		for x := from.Bounds().Min.X; x < from.Bounds().Max.X; x++ {
			times[from.At(x, y)]++
		}
	}
	best := map[[3]uint32]color.Color{} // the upper bits of red, green and blue -> the most frequent
	for c, n := range times {
		r, g, b, _ := c.RGBA()
		key := [3]uint32{r >> 11, g >> 11, b >> 11}
		if best[key] == nil || n > times[best[key]] {
			best[key] = c
		}
	}
	palette := slices.Collect(maps.Values(best))
	slices.SortFunc(palette, func(x, y color.Color) int { return times[y] - times[x] })
	to := image.NewPaletted(from.Bounds(), palette[:min(len(palette), 256)])
	draw.Draw(to, to.Bounds(), from, from.Bounds().Min, draw.Src)
	return to
}

// A person looks at the page while things happen, and at nothing else.
func TestUI(t *testing.T) {
	c := peered(t, watchedByBFD)
	c.create(t, &v1alpha1.BGPAdvertisement{ObjectMeta: meta1("routed"), Spec: v1alpha1.BGPAdvertisementSpec{ServiceSelectors: []v1alpha1.LabelSelector{selects("by", "routers")}}})
	c.pool(t, "lan", "172.30.0.100-172.30.0.149", "fd30::100-fd30::149")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("lan"), Spec: v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{"lan"}}})
	lan := annotated(v1alpha1.AnnotationAddressPool, "lan")
	exact := func(a string) func(*corev1.Service) { return annotated(v1alpha1.AnnotationLoadBalancerIPs, a) }

	ui, err := c.StartPlugin(t.Context(), "ui", "ui", "--open=false")
	must(t, err)
	t.Cleanup(func() { must(t, ui.Stop(context.Background())) })
	b := c.browse(t, said(t, ui, `http://127\.0\.0\.1:\d+/`))
	b.untilSays(t, "#live", "live")
	b.untilSays(t, "#peers", "r2", "r3", "3/3")
	b.untilCell(t, "lan", "172.30.0.105", "")
	b.do(t, chromedp.Evaluate("window.loadedOnce = true", nil))

	whole := t // what a part makes is there for the next
	t.Run("an address is given", func(t *testing.T) {
		shop := c.service(whole, "shop", exact("172.30.0.105"))
		c.backend(whole, shop, "n1")
		b.untilCell(t, "lan", "172.30.0.105", "used")
		b.clickCell(t, "lan", "172.30.0.105")
		owner := c.owner(t, c.addresses(t, shop)[0])
		b.untilSays(t, "#chosen", "172.30.0.105", c.namespace+"/shop", owner, "is announced by layer 2 from "+owner)
		b.untilSays(t, "#nodes", "172.30.0.105")
		b.untilSays(t, "#moves", owner+" announces it, of "+c.namespace+"/shop", "Assigned 172.30.0.105")

		b.do(t, chromedp.SendKeys("#search", "shop"+kb.Enter))
		b.untilSays(t, "#found", "1 address found", "172.30.0.105")
		b.do(t, chromedp.KeyEvent(kb.Escape), chromedp.SendKeys("#search", "no such thing"))
		b.untilSays(t, "#found", "0 addresses found")
		b.do(t, chromedp.KeyEvent(kb.Escape))
		b.untilSays(t, "#nodes", "n1", "n2", "n3")
	})

	t.Run("keyboard", func(t *testing.T) {
		b.clickCell(t, "lan", "172.30.0.105")
		b.do(t, chromedp.Focus(`[data-pool="lan"][data-family="IPv4"] .map`), chromedp.KeyEvent(kb.ArrowRight))
		b.untilSays(t, "#chosen h2", "172.30.0.106")
		b.untilSays(t, "#chosen pre", "it is free")
	})

	t.Run("problems", func(t *testing.T) {
		mac, _ := c.occupy(whole, "172.30.0.110")
		c.backend(whole, c.service(whole, "fought", exact("172.30.0.110")), "n1")
		c.service(whole, "idle", exact("172.30.0.112"))
		c.claim(whole, "kept", claimOf("172.30.0.114"))
		b.untilCell(t, "lan", "172.30.0.110", "conflict")
		b.untilCell(t, "lan", "172.30.0.112", "silent")
		b.untilCell(t, "lan", "172.30.0.114", "claimed")
		b.untilSays(t, "#problems", "a host outside of the cluster has it too", "→ find the host by its MAC", c.namespace+"/idle", "has no ready IPv4 endpoint")
		b.clickCell(t, "lan", "172.30.0.110")
		b.untilSays(t, "#chosen", "conflict: a host outside of the cluster has it", mac)
	})

	t.Run("light and dark", func(t *testing.T) {
		for i := range 9 {
			svc := c.service(whole, fmt.Sprintf("web-%d", i), lan, dualStack)
			c.backend(whole, svc, fmt.Sprintf("n%d", 1+i%3))
			api := c.service(whole, fmt.Sprintf("api-%d", i), exact(fmt.Sprintf("10.30.0.%d", 10+i)), func(svc *corev1.Service) {
				svc.Labels = map[string]string{"by": "routers"}
			})
			c.backend(whole, api, "n2")
		}
		b.untilSays(t, "#summary", "21 Services")
		b.untilSays(t, "#nodes", "172.30.0.109", "fd30::108")
		b.untilSays(t, "#moves", "fd30::108")
		b.clickCell(t, "lan", "172.30.0.105")
		b.untilSays(t, "#chosen pre", "is announced by layer 2")
		seen := map[string]string{}
		for _, theme := range []string{"light", "dark"} {
			b.do(t, chromedp.Click("#theme"))
			b.untilSays(t, "#theme", "Theme: "+theme)
			var colour string
			b.do(t, chromedp.Evaluate("getComputedStyle(document.body).backgroundColor", &colour))
			seen[colour] = theme
			b.picture(t, "ui-"+theme+".png")
		}
		if len(seen) != 2 {
			t.Errorf("light and dark have the same colours: %v", seen)
		}
	})

	var once bool
	b.do(t, chromedp.Evaluate("window.loadedOnce === true", &once))
	if !once {
		t.Error("the page was loaded again")
	}
}
