/*
 * Prints the first occurrences of each rule on standard input, by libical. A line is "LIMIT HORIZON ANCHOR RULE".
 * Some rules make libical 3.0.16 crash, or search without an end: it is then stopped after 100 ms of CPU time.
 */

#include <libical/ical.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

/*
 * The calendar of libical ends with the year 2582, and repeats after 400 years: close to its end, a search for an
 * occurrence that does not exist is short.
 */
#define SHIFT 400

static struct icaltimetype shifted(const char *text)
{
    struct icaltimetype time = icaltime_from_string(text);
    time.year += SHIFT;
    return time;
}

static void print_occurrences(int limit, const char *horizon, const char *anchor, const char *rule)
{
    char line[4096] = "";
    size_t length = 0;
    struct icalrecurrencetype recurrence = icalrecurrencetype_from_string(rule);
    struct icaltimetype end = shifted(horizon);
    icalrecur_iterator *iterator = NULL;

    if (recurrence.freq != ICAL_NO_RECURRENCE)
        iterator = icalrecur_iterator_new(recurrence, shifted(anchor));
    if (!iterator) {
        puts("refused");
        return;
    }
    for (int count = 0; count < limit; count++) {
        struct icaltimetype next = icalrecur_iterator_next(iterator);
        if (icaltime_is_null_time(next) || icaltime_compare(next, end) >= 0)
            break;
        length += snprintf(line + length, sizeof line - length, "%s%04d%02d%02dT%02d%02d%02d", count ? "," : "",
                           next.year - SHIFT, next.month, next.day, next.hour, next.minute, next.second);
    }
    puts(line);
}

int main(void)
{
    char line[2048], horizon[32], anchor[32], rule[1024];
    int limit;

    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%d %31s %31s %1023s", &limit, horizon, anchor, rule) != 4)
            return 1;
        setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_usec = 100000}, NULL);
        print_occurrences(limit, horizon, anchor, rule);
        fflush(stdout);
    }
    return 0;
}
