/*
 * Unit tests that speak TAP: a program calls CHECK and friends, then
 * check_done(). A failed check prints where and what; the program goes on.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned check_count, check_failed;
static const char *check_title = "start";
static unsigned check_title_failed;

/* Ends the running case and begins the next: one TAP line each. */
static inline void check_end(void)
{
	check_count++;
	printf("%sok %u - %s\n", check_title_failed ? "not " : "", check_count,
	       check_title);
	check_failed += check_title_failed;
	check_title_failed = 0;
	fflush(stdout);
}

static inline void check_case(const char *title)
{
	if (check_count || strcmp(check_title, "start") != 0)
		check_end();
	check_title = title;
}

static inline int check_done(void)
{
	check_end();
	printf("1..%u\n", check_count);
	return check_failed ? 1 : 0;
}

#define CASE(title) check_case(title)

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			check_title_failed++; \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond); \
		} \
	} while (0)

#define CHECK_INT(a, b) \
	do { \
		long long check_a = (long long)(a), check_b = (long long)(b); \
		if (check_a != check_b) { \
			check_title_failed++; \
			printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, \
			       __LINE__, #a, check_a, check_b); \
		} \
	} while (0)

#define CHECK_STR(a, b) \
	do { \
		const char *check_a = (a), *check_b = (b); \
		if (!check_a || strcmp(check_a, check_b) != 0) { \
			check_title_failed++; \
			printf("# %s:%d: %s is \"%s\", not \"%s\"\n", \
			       __FILE__, __LINE__, #a, \
			       check_a ? check_a : "(null)", check_b); \
		} \
	} while (0)

#endif
