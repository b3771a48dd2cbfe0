/*
 * Faults by rule, and what was counted. A rule is one line:
 *
 *   op=GET key=*.bin skip=2 count=1 action=status:503
 *
 * op and key are patterns (fnmatch), skip lets so many pass, count is how
 * often it hits (0: for ever). Actions: status:CODE, html:CODE (HTML body),
 * delay:MS, cut:BYTES, stall:BYTES (stops there for 30 s), etag (another
 * version), range (wrong Content-Range), whole (200 for a range), gzip,
 * badxml, skew:SECONDS.
 */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

static const char *const actions[] = { "status", "delay", "cut",  "stall",
				       "etag",	 "range", "whole", "gzip",
				       "html",	 "badxml", "skew" };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault *faults;

static int parse_word(struct fault *f, char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		return -1;
	*value++ = 0;
	if (!strcmp(word, "op"))
		snprintf(f->op, sizeof(f->op), "%s", value);
	else if (!strcmp(word, "key"))
		snprintf(f->key, sizeof(f->key), "%s", value);
	else if (!strcmp(word, "skip"))
		f->skip = strtoul(value, NULL, 10);
	else if (!strcmp(word, "count"))
		f->count = strtoul(value, NULL, 10);
	else if (!strcmp(word, "action")) {
		char *number = strchr(value, ':');

		if (number)
			*number++ = 0;
		f->value = number ? strtoll(number, NULL, 10) : 0;
		for (int i = 0; i < 11; i++) {
			if (strcmp(value, actions[i]) == 0) {
				f->action = i;
				return 0;
			}
		}
		return -1;
	} else {
		return -1;
	}
	return 0;
}

static struct fault *parse_line(char *line)
{
	struct fault *f = calloc(1, sizeof(*f));
	char *word;

	strcpy(f->op, "*");
	strcpy(f->key, "*");
	while ((word = strsep(&line, " \t"))) {
		if (*word && parse_word(f, word)) {
			free(f);
			return NULL;
		}
	}
	return f;
}

int fault_load(const char *rules)
{
	char *copy = strdup(rules), *rest = copy, *line;
	struct fault *fresh = NULL, **end = &fresh;
	int n = 0, bad = 0;

	while ((line = strsep(&rest, "\n"))) {
		n++;
		if (!*line || *line == '#')
			continue;
		*end = parse_line(line);
		if (!*end) {
			bad = n;
			break;
		}
		end = &(*end)->next;
	}
	free(copy);
	pthread_mutex_lock(&lock);
	faults = fresh; /* old rules stay alive: a request may hold one */
	pthread_mutex_unlock(&lock);
	return bad;
}

const struct fault *fault_match(const char *op, const char *key)
{
	struct fault *f;

	pthread_mutex_lock(&lock);
	for (f = faults; f; f = f->next) {
		if (fnmatch(f->op, op, 0) || fnmatch(f->key, key ? key : "", 0) ||
		    f->count == UINT32_MAX)
			continue;
		if (f->skip) {
			f->skip--;
			continue;
		}
		if (f->count && --f->count == 0)
			f->count = UINT32_MAX;
		break;
	}
	pthread_mutex_unlock(&lock);
	return f;
}

/* ---- counters ---- */

static const struct {
	const char *op;
	char class;
} ops[] = { { "GET", 'B' },    { "HEAD", 'B' },	  { "LIST", 'A' },
	    { "PUT", 'A' },    { "DELETE", 'F' }, { "HEADBUCKET", 'B' },
	    { "OTHER", 'F' } };

enum { NOPS = sizeof(ops) / sizeof(ops[0]) };

static uint64_t counts[NOPS], statuses[600], bytes_out;

void count_request(const char *op, unsigned status)
{
	int i = 0;

	while (i < NOPS - 1 && strcmp(ops[i].op, op) != 0)
		i++;
	__atomic_add_fetch(&counts[i], 1, __ATOMIC_RELAXED);
	if (status < 600)
		__atomic_add_fetch(&statuses[status], 1, __ATOMIC_RELAXED);
}

void count_bytes(uint64_t out)
{
	__atomic_add_fetch(&bytes_out, out, __ATOMIC_RELAXED);
}

void count_reset(void)
{
	memset(counts, 0, sizeof(counts));
	memset(statuses, 0, sizeof(statuses));
	bytes_out = 0;
}

void count_json(struct text *t)
{
	unsigned long long class[128] = { 0 }, total = 0;

	text_add(t, "{\"ops\": {");
	for (int i = 0; i < NOPS; i++) {
		text_add(t, "%s\"%s\": %llu", i ? ", " : "", ops[i].op,
			 (unsigned long long)counts[i]);
		class[(int)ops[i].class] += counts[i];
		total += counts[i];
	}
	text_add(t, "}, \"class_a\": %llu, \"class_b\": %llu, \"free\": %llu, "
		    "\"total\": %llu, \"bytes_out\": %llu, \"status\": {",
		 class['A'], class['B'], class['F'], total,
		 (unsigned long long)bytes_out);
	for (int i = 0, n = 0; i < 600; i++)
		if (statuses[i])
			text_add(t, "%s\"%d\": %llu", n++ ? ", " : "", i,
				 (unsigned long long)statuses[i]);
	text_add(t, "}}\n");
}
