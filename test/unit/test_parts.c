/* Part sizes: R2's limits for every size, and what a rewrite moves. */
#include "check.h"
#include "io/parts.h"

#define GIB (1ull << 30)
#define MIB (1ull << 20)

struct change {
	uint64_t off, end, base_len;
};

static bool changed(void *arg, uint64_t off, uint64_t end)
{
	struct change *c = arg;

	return end > c->base_len || (off < c->end && c->off < end);
}

static bool legal(uint64_t size, uint64_t part)
{
	return part >= PART_MIN && part <= PART_MAX &&
	       (size + part - 1) / part <= PARTS_MAX;
}

static void test_limits(void)
{
	for (uint64_t size = 1; size < OBJECT_MAX; size = size * 3 + 7)
		CHECK(legal(size, parts_size(size, 0)));
	CHECK(legal(OBJECT_MAX, parts_size(OBJECT_MAX, 0)));
	CHECK(legal(OBJECT_MAX - 1, parts_size(OBJECT_MAX - 1, 5 * MIB)));
	CHECK(parts_size(OBJECT_MAX + 1, 0) == 0);
	CHECK(parts_size(100 * MIB, 0) == 16 * MIB);
	CHECK(parts_size(100 * MIB, 1) == 5 * MIB);
	CHECK(parts_size(100 * MIB, 6000 * MIB) <= PART_MAX);
}

static uint64_t moved(const struct change *c, uint64_t size, uint64_t part)
{
	uint64_t sum = 0;

	for (uint64_t off = 0; off < size; off += part) {
		uint64_t end = off + part < size ? off + part : size;

		if (changed((void *)c, off, end))
			sum += end - off;
	}
	return sum;
}

static void test_append(void)
{
	uint64_t base = 5 * GIB, size = base + 4096;
	struct change c = { base, size, base };
	uint64_t part = parts_size_rewrite(size, base, 0, changed, &c);

	CHECK(legal(size, part));
	CHECK(moved(&c, size, part) < 40 * MIB);
	CHECK((size + part - 1) / part < 32);
}

static void test_middle(void)
{
	uint64_t base = 2 * GIB + 12345;
	struct change c = { GIB + 5, GIB + 4101, base };
	uint64_t part = parts_size_rewrite(base, base, 0, changed, &c);

	CHECK(legal(base, part));
	CHECK(moved(&c, base, part) <= 64 * MIB);
}

static void test_shrunk_and_huge(void)
{
	struct change c = { 0, 1, 100 * GIB };
	uint64_t size = 100 * GIB;

	CHECK(legal(size, parts_size_rewrite(size, size, 0, changed, &c)));
	c.base_len = 6 * MIB;
	CHECK(legal(7 * MIB,
		    parts_size_rewrite(7 * MIB, 6 * MIB, 0, changed, &c)));
	CHECK(parts_size_rewrite(OBJECT_MAX + 1, 1, 0, changed, &c) == 0);
}

struct stream {
	uint64_t wish, part;
	uint64_t sent; /* by uploads that were given up */
	unsigned restarts;
};

/* A stream that R2 has up to here, as far as full parts go. */
static void grow_to(struct stream *s, uint64_t size)
{
	if (parts_count(size, s->part) <= PARTS_MAX)
		return;
	s->sent += s->part * PARTS_MAX;
	s->restarts++;
	s->part = parts_size_outgrown(size, s->wish);
	CHECK(legal(size, s->part));
}

static void test_stream(uint64_t wish)
{
	struct stream s = { .wish = wish, .part = parts_size(48 * MIB, wish) };

	for (uint64_t size = 48 * MIB; size <= OBJECT_MAX; size += 64 * MIB) {
		unsigned before = s.restarts;

		grow_to(&s, size);
		/* what was sent before is sent again; never much more */
		if (s.restarts != before)
			CHECK(s.sent <= size + size / 4);
	}
	grow_to(&s, OBJECT_MAX);
	CHECK(s.restarts <= 2);
	CHECK(s.sent + OBJECT_MAX <= OBJECT_MAX + OBJECT_MAX / 2);
	CHECK(parts_size_outgrown(OBJECT_MAX + 1, wish) == 0);
}

/* Of 200 parts, how many are refused by a server that takes `limit`? Each turn
 * all that may fly are sent; what is refused waits for the next second. */
static unsigned refusals(unsigned limit, unsigned *ret_turns)
{
	struct part_window w = part_window_begin(4, 16);
	unsigned left = 200, refused = 0;
	uint64_t now_ms = 1000;

	for (*ret_turns = 0; left; ++*ret_turns, now_ms += 1500) {
		unsigned flying = left < w.now ? left : w.now;
		unsigned taken = flying < limit ? flying : limit;

		for (unsigned i = taken; i < flying; i++, refused++)
			part_window_refused(&w, flying, now_ms);
		for (unsigned i = 0; i < taken; i++)
			part_window_stored(&w, 16);
		left -= taken;
		CHECK(w.now >= 1 && w.now <= w.most && w.most <= 16);
	}
	return refused;
}

static void test_window(void)
{
	unsigned turns;

	CHECK_INT(refusals(100, &turns), 0);
	CHECK(turns < 16); /* 16 at once after two turns */
	CHECK(refusals(4, &turns) <= 8);
	CHECK(turns < 200 / 3);
	CHECK(refusals(1, &turns) <= 20);
}

static void test_slow_parts(void)
{
	struct part_window w = part_window_begin(4, 16);

	for (unsigned ms = 5000; ms < 5250; ms += 10)
		part_window_tick(&w, 4, ms);
	CHECK_INT(w.now, 4);
	part_window_tick(&w, 4, 5250);
	CHECK_INT(w.now, 8);
	part_window_tick(&w, 5, 5400); /* there is no more to send */
	part_window_tick(&w, 8, 5500);
	CHECK_INT(w.now, 8);
	part_window_tick(&w, 8, 5750);
	CHECK_INT(w.now, 16);
	part_window_refused(&w, 16, 5760);
	CHECK_INT(w.now, 8);
	for (unsigned ms = 5770; ms < 6760; ms += 10)
		part_window_tick(&w, 8, ms);
	CHECK_INT(w.now, 8);
	CHECK_INT(w.most, 15);
}

int main(void)
{
	CASE("parts at once: fast to the most, few refusals where there is one");
	test_window();
	CASE("parts that travel for long count, too");
	test_slow_parts();
	CASE("a stream of the largest size is begun anew twice at most");
	test_stream(0);
	test_stream(5 * MIB);
	test_stream(64 * MIB);
	test_stream(6000 * MIB);
	CASE("every size gets a legal part size");
	test_limits();
	CASE("an append to 5 GiB moves little, in few requests");
	test_append();
	CASE("a change in the middle moves one part");
	test_middle();
	CASE("small remainders and impossible sizes");
	test_shrunk_and_huge();
	return check_done();
}
