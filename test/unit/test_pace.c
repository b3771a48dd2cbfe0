/* How often one key is written, whoever writes it. */
#include "io/pace.h"

#include <stdio.h>

#include "base/clock.h"
#include "check.h"

static uint64_t now_ns = 1000000000ull;

static uint64_t fake_mono(void)
{
	return now_ns;
}

static int64_t fake_wall(void)
{
	return 0;
}

static const struct clock_ops fake_clock = { fake_mono, fake_wall };

static void sleep_ms(uint64_t ms)
{
	now_ns += ms * 1000000;
}

/* Writes of key, each of 200 ms, until one has to wait; at most 10. */
static unsigned in_a_row(struct pace *p, const char *key, uint64_t *ret_wait)
{
	unsigned n = 0;

	while (n < 10 && (*ret_wait = pace_take(p, key)) == 0) {
		sleep_ms(200);
		pace_done(p, key, false);
		n++;
	}
	return n;
}

static void test_key(struct pace *p)
{
	uint64_t wait;

	CHECK_INT(in_a_row(p, "k", &wait), 4);
	CHECK(wait > 999 && wait <= 1001); /* after the end of the last */
	CHECK_INT(in_a_row(p, "other", &wait), 4);
	sleep_ms(wait);
	CHECK_INT(in_a_row(p, "other", &wait), 1);
	sleep_ms(2500);
	CHECK_INT(in_a_row(p, "other", &wait), 2);
	sleep_ms(60000);
	CHECK_INT(in_a_row(p, "other", &wait), 4);
	pace_begin(p, "other");
	CHECK_INT(in_a_row(p, "other", &wait), 4);
}

static void test_refused(struct pace *p)
{
	uint64_t wait;

	CHECK_INT(pace_take(p, "r"), 0);
	pace_done(p, "r", true);
	sleep_ms(999);
	CHECK(pace_take(p, "r") > 0);
	sleep_ms(1);
	CHECK_INT(in_a_row(p, "r", &wait), 1);
	pace_begin(p, "r");
	CHECK_INT(in_a_row(p, "r", &wait), 0);
	sleep_ms(60000);
	CHECK_INT(in_a_row(p, "r", &wait), 1);
}

static void test_bounded(struct pace *p)
{
	char key[16];
	uint64_t wait;
	unsigned held = 0;

	for (int i = 0; i < 100000; i++) {
		snprintf(key, sizeof(key), "many%d", i);
		held += pace_take(p, key) != 0;
		pace_done(p, key, false);
	}
	CHECK_INT(held, 0);
	CHECK_INT(in_a_row(p, "many99999", &wait), 3);
}

int main(void)
{
	struct pace *p;

	clock_replace(&fake_clock);
	p = pace_create();
	CASE("a few in a row, then one a second, for each key");
	test_key(p);
	CASE("one a second always after a refusal");
	test_refused(p);
	CASE("many keys do not hold each other up");
	test_bounded(p);
	pace_destroy(p);
	return check_done();
}
