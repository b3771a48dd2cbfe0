/*
 * Values of options: sizes, times, modes, words of a list. One function stores
 * and one says what would have been stored, so that the two agree.
 */
#include "config_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *option_field(struct config *c, const struct option *o)
{
	return (char *)c + o->offset;
}

static bool parse_scaled(const char *s, const char *units, uint64_t step,
			 uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) :
				  NULL;
	uint64_t scale = 1;

	if (errno || (*end && !unit))
		return false;
	if (unit) {
		for (long i = unit - units; i >= 0; i--)
			scale *= step;
		end++;
		if (*end == 'i')
			end++;
		if (*end == 'B')
			end++;
	}
	if (*end || n > UINT64_MAX / scale)
		return false;
	*ret = n * scale;
	return true;
}

static bool parse_duration(const char *s, int64_t *ret)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "", 1e9 },   { "s", 1e9 },    { "ms", 1e6 },
		      { "m", 60e9 }, { "h", 3600e9 }, { "d", 86400e9 } };
	char *end;
	double n;

	if (!isdigit((unsigned char)*s))
		return false;
	n = strtod(s, &end);
	for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit) == 0 && n * units[i].ns < 9e18) {
			*ret = (int64_t)(n * units[i].ns);
			return true;
		}
	}
	return false;
}

static bool parse_ttl(const char *s, int64_t *ret)
{
	if (strcmp(s, "indefinite") == 0)
		*ret = INT64_MAX;
	else if (strcmp(s, "minimal") == 0)
		*ret = 100000000;
	else
		return parse_duration(s, ret);
	return true;
}

static bool parse_number(const char *s, int base, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*ret = strtoull(s, &end, base);
	return !errno && !*end;
}

/* The whole of a is one of the words "x y z". */
static bool is_choice(const char *a, const char *words)
{
	size_t n = strlen(a);

	for (const char *p = words; *p; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");

		if (len == n && memcmp(p, a, n) == 0)
			return true;
		p += len;
	}
	return false;
}

static void add_choices(struct buf *b, const char *words)
{
	for (const char *p = words; *p; p++) {
		if (*p != ' ')
			buf_addch(b, *p);
		else
			buf_addstr(b, strchr(p + 1, ' ') ? ", " : " or ");
	}
}

static void add_range(struct buf *b, const struct option *o)
{
	if (o->max <= UINT32_MAX)
		buf_addf(b, " from %llu to %llu", (unsigned long long)o->min,
			 (unsigned long long)o->max);
	else if (o->min)
		buf_addf(b, " of at least %lluM",
			 (unsigned long long)o->min >> 20);
}

void option_accepted(const struct option *o, struct buf *b)
{
	if (o->shown.choices) {
		add_choices(b, o->shown.choices);
		return;
	}
	switch (o->type) {
	case SIZE:
		buf_addstr(b, "a size");
		add_range(b, o);
		buf_addstr(b, ", such as 512M or 100G");
		break;
	case NUMBER:
		buf_addstr(b, "a number");
		add_range(b, o);
		break;
	case OCTAL:
		buf_addstr(b, "an octal mode such as 644");
		break;
	case DURATION:
		buf_addstr(b, "a time such as 30, 500ms or 2m");
		break;
	case TTL:
		buf_addstr(b,
			   "minimal, indefinite, or a time such as 60 or 5m");
		break;
	default:
		buf_addf(b, "a value: --%s %s", o->shown.name,
			 o->shown.placeholder);
	}
}

bool option_set(struct config *c, const struct option *o, const char *v)
{
	uint64_t n = 0;
	bool ok = true;

	switch (o->type) {
	case STRING:
		free(*(char **)option_field(c, o));
		*(char **)option_field(c, o) = xstrdup(v);
		return *v &&
		       (!o->shown.choices || is_choice(v, o->shown.choices));
	case FLAG:
		*(bool *)option_field(c, o) = true;
		return true;
	case TTL:
		return parse_ttl(v, option_field(c, o));
	case DURATION:
		return parse_duration(v, option_field(c, o)) &&
		       *(int64_t *)option_field(c, o) > 0;
	case SIZE:
		ok = parse_scaled(v, "KMGTP", 1024, &n);
		break;
	case NUMBER:
		ok = parse_number(v, 10, &n);
		break;
	case OCTAL:
		ok = parse_number(v, 8, &n);
		break;
	}
	if (!ok || n < o->min || n > o->max)
		return false;
	*(uint64_t *)option_field(c, o) = n;
	return true;
}
