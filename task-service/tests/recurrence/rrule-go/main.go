// Prints the first occurrences of each rule on standard input, by rrule-go. A line is "LIMIT HORIZON ANCHOR RULE".
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/teambition/rrule-go"
)

const layout = "20060102T150405"

func occurrences(limit int, horizon, anchor time.Time, text string) string {
	option, err := rrule.StrToROption(text)
	if err != nil {
		return "refused"
	}
	// The calendar repeats after 400 years. Close to its end, a search for an occurrence that does not exist is short.
	const shift = 19 * 400
	option.Dtstart = anchor.AddDate(shift, 0, 0)
	horizon = horizon.AddDate(shift, 0, 0)
	rule, err := rrule.NewRRule(*option)
	if err != nil {
		return "refused"
	}
	var times []string
	for next := rule.Iterator(); len(times) < limit; {
		occurrence, ok := next()
		if !ok || !occurrence.Before(horizon) {
			break
		}
		times = append(times, occurrence.AddDate(-shift, 0, 0).Format(layout))
	}
	return strings.Join(times, ",")
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for input.Scan() {
		var limit int
		var horizon, anchor, text string
		if _, err := fmt.Sscan(input.Text(), &limit, &horizon, &anchor, &text); err != nil {
			panic(err)
		}
		end, endErr := time.Parse(layout, horizon)
		start, startErr := time.Parse(layout, anchor)
		if endErr != nil || startErr != nil {
			panic(input.Text())
		}
		fmt.Fprintln(output, occurrences(limit, end, start, text))
	}
}
