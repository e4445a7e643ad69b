package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Marks around the table in a document: what stands between them is made by writeTable.
const (
	tableBegin = "<!-- comparison: made by make compare-table -->\n"
	tableEnd   = "<!-- end of comparison -->\n"
)

// readReport reads what report.write wrote.
func readReport(path string) (r report, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// markdown is the comparison as a table: the reference, the first other broker, their ratio.
func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s at commit %s: %s, %d cores, Linux %s, %s; medians of %d runs of %v, brokers in turn, the load\n"+
		"generator on the same machine. Ratios are taken inside each round of runs.\n\n",
		r.Made.Format(time.DateOnly), r.Commit, r.Machine.Processor, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Repeats, r.Timing.Duration)
	var versions []string
	for _, c := range r.Candidates {
		versions = append(versions, fmt.Sprintf("%s: %s", c.Name, c.Version))
	}
	fmt.Fprintf(&b, "%s.\n\n", strings.Join(versions, "; "))
	fmt.Fprint(&b, "| workload | figure |")
	for _, c := range r.Candidates {
		fmt.Fprintf(&b, " %s |", c.Name)
	}
	fmt.Fprint(&b, "\n|---|---|")
	for range r.Candidates {
		fmt.Fprint(&b, "---|")
	}
	b.WriteByte('\n')
	for _, s := range r.Summaries {
		for _, m := range s.Columns {
			name, ok := tableNames[m]
			if !ok || isLatency(m) && !strings.HasPrefix(s.Name, "rate") {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s |", s.About, name)
			for _, line := range s.Rows {
				fmt.Fprintf(&b, " %s |", line.tableCell(m))
			}
			b.WriteByte('\n')
		}
	}
	if flawed := r.flawed(); len(flawed) > 0 {
		fmt.Fprintf(&b, "\n%d runs failed, or lost, doubled or reordered messages.\n", len(flawed))
	} else {
		fmt.Fprint(&b, "\nNo message was lost, doubled or reordered in any run.\n")
	}
	return b.String()
}

// tableNames are the figures that the table shows.
var tableNames = map[metric]string{
	storeCPU: "CPU µs each, stored", storeRate: "stored per second", cpu: "CPU µs each", rate: "per second", p50: "p50 µs", p99: "p99 µs", p999: "p99.9 µs", memory: "bytes per connection", absent: "bytes per absent session",
}

func (l row) tableCell(m metric) string {
	if l.Absent {
		return "–"
	}
	v, ok := l.Figures[m]
	if !ok {
		return "failed"
	}
	text := format(m, v.Median)
	if x, ok := l.Ratios[m]; ok {
		text += fmt.Sprintf(" (x %.3g)", x.Median)
	}
	return text
}

// writeTable prints the table, or puts it into a document.
func (r report) writeTable(document string, w io.Writer) error {
	if document == "" {
		_, err := io.WriteString(w, r.markdown())
		return err
	}
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	now, err := replaceTable(old, r.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	return os.WriteFile(document, now, 0o644)
}

// replaceTable puts table between the marks of document.
func replaceTable(document []byte, table string) ([]byte, error) {
	before, rest, ok := bytes.Cut(document, []byte(tableBegin))
	if !ok {
		return nil, fmt.Errorf("no line %q", strings.TrimSpace(tableBegin))
	}
	_, after, ok := bytes.Cut(rest, []byte(tableEnd))
	if !ok {
		return nil, fmt.Errorf("no line %q", strings.TrimSpace(tableEnd))
	}
	return []byte(string(before) + tableBegin + table + tableEnd + string(after)), nil
}
