package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	// widthPx is the width of all pictures.
	widthPx = 1400
	// tallestPx cuts a picture off.
	tallestPx = 2000
	// namesWide and namesNarrow are the part of the width that the names of spans get,
	// without and with details beside them.
	namesWide, namesNarrow = "0.5", "0.36"
	// settle is how long the page may take to draw what it has.
	settle = time.Second
)

// browser is a running headless Chromium.
type browser struct {
	ctx  context.Context
	stop func()
}

// startBrowser starts the Chromium that is on PATH. Whoever started it stops it.
func startBrowser(ctx context.Context) (*browser, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.WindowSize(widthPx, 900))
	if os.Getuid() == 0 {
		// Root's Chromium starts without its sandbox only; it loads nothing but Jaeger's page.
		options = append(options, chromedp.NoSandbox)
	}
	ctx, stopProcess := chromedp.NewExecAllocator(ctx, options...)
	ctx, stopTab := chromedp.NewContext(ctx)
	b := &browser{ctx: ctx, stop: func() { stopTab(); stopProcess() }}
	if err := chromedp.Do(ctx); err != nil {
		b.stop()
		return nil, fmt.Errorf("start chromium: install Debian's package chromium: %w", err)
	}
	return b, nil
}

// take returns a picture of the trace at url, as PNG.
func (b *browser) take(ctx context.Context, url string, s *scene) ([]byte, error) {
	// Actions need the browser's context, and end with the caller's.
	tab, cancel := context.WithCancel(b.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	names := namesWide
	if s.details != "" {
		names = namesNarrow
	}
	steps := []chromedp.Action[chromedp.Void]{
		// The page draws only the rows that fit into the window.
		chromedp.EmulateViewport(widthPx, tallestPx),
		chromedp.Navigate(url),
		chromedp.Evaluate[chromedp.Void](`localStorage.setItem("spanNameColumnWidth", "` + names + `")`),
		chromedp.Reload(),
		chromedp.WaitVisible(chromedp.CSS(".span-row")),
	}
	if s.details != "" {
		steps = append(steps, showDetails(s.details, s.topmost))
	}
	if err := chromedp.Do(tab, append(steps, chromedp.Sleep(settle))...); err != nil {
		return nil, fmt.Errorf("look at %s: %w", url, err)
	}
	picture, err := capture(tab)
	if err != nil {
		return nil, fmt.Errorf("take a picture of %s: %w", url, err)
	}
	return picture, nil
}

// showDetails opens the details of the first span of that name, and its attributes, whose
// list it scrolls down to the attribute topmost.
func showDetails(name, topmost string) chromedp.Action[chromedp.Void] {
	row := `//div[contains(@class, "span-row")][.//small[text()="` + name + `"]]//*[contains(@class, "span-view")]`
	scroll := `{
		const keys = Array.from(document.querySelectorAll(".KeyValueTable--keyColumn"));
		const key = keys.find(e => e.textContent === ` + strconv.Quote(topmost) + `);
		const list = key.closest(".KeyValueTable");
		list.scrollTop += key.getBoundingClientRect().top - list.getBoundingClientRect().top;
	}`
	return chromedp.Steps(
		chromedp.Click("("+row+")[1]"),
		chromedp.Click(chromedp.CSS(".detail-row .AccordianKeyValues--header")),
		chromedp.WaitVisible(chromedp.CSS(".KeyValueTable--keyColumn")),
		chromedp.Evaluate[chromedp.Void](scroll),
		// Else the tooltip of what the mouse is on lies over the picture.
		chromedp.MouseEvent("mouseMoved", 0, 0),
	)
}

// capture takes a picture of the page down to the last row.
func capture(tab context.Context) ([]byte, error) {
	const end = `Math.ceil(Math.max(...Array.from(document.querySelectorAll(".span-row, .detail-row"), e => e.getBoundingClientRect().bottom)))`
	bottom, err := chromedp.Run(tab, chromedp.Evaluate[int64](end))
	if err != nil {
		return nil, err
	}
	if err := chromedp.Do(tab, chromedp.EmulateViewport(widthPx, min(bottom, tallestPx)), chromedp.Sleep(settle)); err != nil {
		return nil, err
	}
	return chromedp.Run(tab, chromedp.CaptureScreenshot())
}
