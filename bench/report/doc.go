// Package report shows what a load generator measured: a progress line while it runs, a table at the
// end, a JSON document, and one HTML page with charts that needs nothing beside itself.
//
// Its functions may be called from any goroutine, a [Progress] from one at a time. Nothing here
// measures; package load does.
//
// # Invariants
//
//   - A run that failed, lost, doubled or reordered messages says so before anything else.
//   - A page fetches nothing: style, charts and script are inside, so that it can be mailed. Without
//     the script everything is still to be seen; it only shows the values under the pointer.
//   - Text from outside (broker's version, errors) passes through html/template.
//
// # Design
//
// Charts are SVG that is worked out here, not in the browser: a page opens at once, prints, and is the
// same for everybody. A chart library would be larger than all pages together, and would have to be
// carried inside each of them. Colours are CSS variables, so light and dark are the reader's choice.
package report
