package report

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/buildcage/buildcage/internal/event"
)

// inert makes foreign text safe to print: printable ASCII only, whatever the
// records held, nothing that a log reader takes for a command, and no label so
// long that it could be data which the cage kept from leaving as a name.
func inert(s string) string {
	s = strings.ReplaceAll(event.ShortLabels(event.Clean(s)), "##", `#\x23`)
	if strings.HasPrefix(strings.TrimLeft(s, " "), "::") {
		s = strings.Replace(s, "::", `\x3a:`, 1)
	}
	return s
}

// command makes a RUN command readable again: its line breaks were escaped.
func command(s string) string {
	return inert(strings.Join(strings.Fields(plain(s)), " "))
}

const ellipsis = '…'

// middle shortens s to width columns, keeping both ends: the end of a host
// name says whose it is. After inert, and with our own symbols, a rune is a column.
func middle(s string, width int) string {
	r := []rune(s)
	switch {
	case len(r) <= width:
		return s
	case width < 1:
		return ""
	}
	tail := width / 2
	return string(r[:width-1-tail]) + string(ellipsis) + string(r[len(r)-tail:])
}

// end shortens s to width columns, keeping its start.
func end(s string, width int) string {
	r := []rune(s)
	switch {
	case len(r) <= width:
		return s
	case width < 1:
		return ""
	}
	return string(r[:width-1]) + string(ellipsis)
}

// wrap breaks s at spaces into lines of at most width columns; longer words stay whole.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Split(s, " ") {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		} else if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	for f >= 1024 && unit < 4 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[unit])
}

func duration(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// address is host:port as a person writes it, with v6 in brackets.
func address(host string, port uint16) string {
	a, err := netip.ParseAddr(host)
	switch {
	case host == "":
		host = "(no name)"
	case host == more:
		return "(others, not listed one by one)"
	case err == nil && a.Is6():
		host = "[" + inert(host) + "]"
	default:
		host = inert(host)
	}
	if port == 0 {
		return host
	}
	return fmt.Sprintf("%s:%d", host, port)
}
