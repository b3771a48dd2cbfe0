/* What R2's refusals hold back: the key they speak of, or everything. */
#include <string.h>

#include "base/clock.h"
#include "check.h"
#include "r2/op.h"

enum { MAX = 16 };

static uint64_t mono_ns;

static uint64_t fake_mono(void)
{
	return mono_ns;
}

static int64_t fake_wall(void)
{
	return 0;
}

static const struct clock_ops fake_clock = { fake_mono, fake_wall };
static struct r2 r2;
static struct op ops[4 * MAX];
static struct store_req reqs[4 * MAX];
static unsigned nops;

static void begin(void)
{
	memset(&r2, 0, sizeof(r2));
	mutex_init(&r2.lock);
	memset(ops, 0, sizeof(ops));
	nops = 0;
	r2.window = r2.max_window = MAX;
	list_init(&r2.queue);
	list_init(&r2.admitted);
	mono_ns += 10000000000ull;
}

static void queue(enum store_op kind, const char *key, unsigned n)
{
	for (; n; n--, nops++) {
		reqs[nops].op = kind;
		reqs[nops].key = key;
		ops[nops].req = &reqs[nops];
		ops[nops].hash = window_hash(&reqs[nops]);
		list_add_tail(&r2.queue, &ops[nops].link);
	}
}

static struct op *next(void)
{
	struct op *found = NULL;

	mutex_lock(&r2.lock);
	list_for_each(n, &r2.queue)
		if (!found &&
		    window_admits_locked(&r2, list_entry(n, struct op, link)))
			found = list_entry(n, struct op, link);
	mutex_unlock(&r2.lock);
	return found;
}

static unsigned start(void)
{
	unsigned n = 0;
	struct op *op;

	while ((op = next())) {
		list_del(&op->link);
		list_add_tail(&r2.admitted, &op->link);
		r2.under_way++;
		n++;
	}
	return n;
}

static void finish(struct op *op)
{
	list_del(&op->link);
	r2.under_way--;
	mutex_lock(&r2.lock);
	window_success_locked(&r2, op);
	mutex_unlock(&r2.lock);
}

static void throttled(struct op *op, int status)
{
	mutex_lock(&r2.lock);
	window_throttled_locked(&r2, op, status);
	mutex_unlock(&r2.lock);
}

static void test_key(void)
{
	begin();
	queue(STORE_GET, "a", 8);
	CHECK_INT(start(), 8);
	throttled(&ops[0], 429);
	throttled(&ops[1], 429); /* the same moment */
	CHECK_INT(r2.counters.throttled, 2);
	CHECK_INT(r2.window, MAX);
	queue(STORE_GET, "a", 8);
	queue(STORE_GET, "b", 8);
	CHECK_INT(start(), 8); /* b's */
	for (int i = 0; i < 4; i++)
		finish(&ops[i]);
	CHECK_INT(start(), 1); /* 4 of 4 succeeded: 5 */
	queue(STORE_PUT, "a", 1);
	CHECK_INT(start(), 1); /* reads hold no write back */
}

static void test_recovery(void)
{
	begin();
	queue(STORE_GET, "a", 2);
	CHECK_INT(start(), 2);
	throttled(&ops[0], 429);
	finish(&ops[0]);
	finish(&ops[1]);
	queue(STORE_GET, "a", 2);
	CHECK_INT(start(), 2);
	for (int i = 0; i < 200; i++) {
		finish(&ops[2]);
		list_add_tail(&r2.admitted, &ops[2].link);
		r2.under_way++;
	}
	queue(STORE_GET, "a", 2 * MAX);
	CHECK_INT(start(), MAX - 2);
}

static void test_all(void)
{
	begin();
	queue(STORE_GET, "a", 1);
	queue(STORE_MPU_PART, "a", 1);
	CHECK_INT(start(), 2);
	throttled(&ops[1], 429); /* its sender's affair */
	CHECK_INT(r2.window, MAX);
	throttled(&ops[0], 503);
	CHECK_INT(r2.window, MAX / 2);
	reqs[2] = (struct store_req){ .op = STORE_LIST };
	ops[2].req = &reqs[2];
	mono_ns += 2000000000ull;
	throttled(&ops[2], 429); /* no key */
	CHECK_INT(r2.window, MAX / 4);
}

int main(void)
{
	clock_replace(&fake_clock);
	CASE("429 narrows the window of its key only");
	test_key();
	CASE("a key's window grows again");
	test_recovery();
	CASE("503 narrows the window of all");
	test_all();
	return check_done();
}
