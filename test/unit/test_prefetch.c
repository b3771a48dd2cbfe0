#include <string.h>

#include "check.h"
#include "io/prefetch.h"

#define MIB (1ull << 20)

static void test_sequential(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, ahead = 0, window = 0;

	CASE("a stream gets a window that grows on stalls");
	for (uint64_t off = 0; off < 512 * MIB; off += MIB) {
		prefetch_note(&p, 1024 * MIB, off, MIB, true, 64 * MIB, &from,
			      &to);
		CHECK(from >= off + MIB && to >= from);
		if (to > from) {
			CHECK(from >= ahead);
			ahead = to;
			window = to - (off + MIB);
		}
	}
	CHECK_INT(window, 64 * MIB);
}

static void test_random(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, extra = 0, seed = 1;

	CASE("a random reader gets nothing it did not ask for");
	for (int i = 0; i < 1000; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		prefetch_note(&p, 4096 * MIB,
			      (seed >> 20) % (4096 * MIB) / 65536 * 65536,
			      65536, true, 64 * MIB, &from, &to);
		extra += to - from;
	}
	CHECK(extra < 1000 * 65536 / 10);

	CASE("a random place read again asks for nothing ahead");
	memset(&p, 0, sizeof(p));
	for (int i = 0; i < 2; i++) {
		prefetch_note(&p, 4096 * MIB, 64 * MIB + 65536, 65536, true,
			      64 * MIB, &from, &to);
		CHECK_INT(from, to);
	}
}

static void test_interleaved(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, got[4] = { 0 };

	CASE("four interleaved streams are all followed");
	for (uint64_t step = 0; step < 64; step++)
		for (uint64_t s = 0; s < 4; s++) {
			prefetch_note(&p, 4096 * MIB,
				      s * 1000 * MIB + step * 131072, 131072,
				      true, 64 * MIB, &from, &to);
			got[s] += to - from;
		}
	for (int s = 0; s < 4; s++)
		CHECK(got[s] >= 8 * MIB);
}

static void test_down(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, asked = 64 * MIB, windows = 0;

	CASE("a stream that goes down is followed downwards");
	for (uint64_t off = 64 * MIB - 69632; off > 69632; off -= 69632) {
		prefetch_note(&p, 4096 * MIB, off, 69632, true, 64 * MIB, &from,
			      &to);
		if (from == to)
			continue;
		CHECK(to <= off);
		CHECK(to <= asked);
		asked = from;
		windows++;
	}
	CHECK_INT(asked, 0);
	CHECK(windows <= 12);

	CASE("the next one in the file gets the whole steps around it");
	prefetch_note(&p, 4096 * MIB, 256 * MIB, MIB / 16, false, 64 * MIB,
		      &from, &to);
	CHECK_INT(from, 248 * MIB);
	CHECK_INT(to, 264 * MIB);
	prefetch_note(&p, 4096 * MIB, 256 * MIB - MIB / 16, MIB / 16, false,
		      64 * MIB, &from, &to);
	CHECK_INT(from, to);
	for (uint64_t off = 256 * MIB - MIB / 8; off >= 252 * MIB;
	     off -= MIB / 16)
		prefetch_note(&p, 4096 * MIB, off, MIB / 16, false, 64 * MIB,
			      &from, &to);
	CHECK_INT(to, 248 * MIB);
	CHECK_INT(from, 240 * MIB);
	prefetch_begun_down(&p, from, 248 * MIB);
	prefetch_note(&p, 4096 * MIB, 252 * MIB - MIB / 16, MIB / 16, false,
		      64 * MIB, &from, &to);
	CHECK_INT(to, 248 * MIB);

	CASE("going up again it is followed upwards");
	for (uint64_t i = 0; i < 3; i++)
		prefetch_note(&p, 4096 * MIB, 512 * MIB - i * MIB / 16,
			      MIB / 16, true, 64 * MIB, &from, &to);
	prefetch_note(&p, 4096 * MIB, 512 * MIB, MIB / 8, true, 64 * MIB, &from,
		      &to);
	CHECK(from >= 512 * MIB && to > from);

	CASE("a few that do not, and it is expected no more");
	for (uint64_t i = 0; i <= PREFETCH_TRUST; i++)
		prefetch_note(&p, 4096 * MIB, (1024 + 64 * i) * MIB, MIB / 16,
			      true, 64 * MIB, &from, &to);
	CHECK_INT(from, to);
}

enum { PAGE = 4096, FAULT = 32 * PAGE, BELOW = 17 * PAGE };

static void test_fault(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, page = 48 * MIB - PAGE;

	CASE("two page faults are enough to know a copy that goes down");
	prefetch_note(&p, 4096 * MIB, page - FAULT / 2, FAULT, true, 64 * MIB,
		      &from, &to);
	CHECK_INT(from, to);
	prefetch_note(&p, 4096 * MIB, page - FAULT / 2 - BELOW, BELOW, true,
		      64 * MIB, &from, &to);
	CHECK_INT(to, page - FAULT / 2 - BELOW);
	CHECK_INT(from % PREFETCH_STEP, 0);
	CHECK(to - from >= PREFETCH_STEP - MIB);
	CHECK(to - from <= 2 * PREFETCH_STEP);

	CASE("two reads of a footer are not");
	memset(&p, 0, sizeof(p));
	prefetch_note(&p, 256 * MIB, 256 * MIB - FAULT / 2, FAULT / 2, true,
		      64 * MIB, &from, &to);
	prefetch_note(&p, 256 * MIB, 256 * MIB - FAULT / 2 - BELOW, BELOW, true,
		      64 * MIB, &from, &to);
	CHECK_INT(from, to);

	CASE("they are known when they come in pieces");
	memset(&p, 0, sizeof(p));
	prefetch_note(&p, 4096 * MIB, page - PAGE, 9 * PAGE, true, 64 * MIB,
		      &from, &to);
	CHECK_INT(from, to);
	CHECK(prefetch_piece(&p, page - FAULT / 2, FAULT / 2 - PAGE));
	CHECK(prefetch_piece(&p, page + 8 * PAGE, FAULT / 2 - 8 * PAGE));
	CHECK(prefetch_piece(&p, page - FAULT / 2 - 5 * PAGE, 5 * PAGE));
	CHECK(!prefetch_piece(&p, page - FAULT / 2 - BELOW, BELOW - 5 * PAGE));
	prefetch_note(&p, 4096 * MIB, page - FAULT / 2 - BELOW,
		      BELOW - 5 * PAGE, true, 64 * MIB, &from, &to);
	CHECK(to - from >= PREFETCH_STEP - MIB);
}

static void test_peek(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, page = 48 * MIB - PAGE;

	CASE("a piece brings the others along where the file began in large");
	prefetch_note(&p, 4096 * MIB, 0, FAULT, false, 64 * MIB, &from, &to);
	prefetch_note(&p, 4096 * MIB, page, PAGE, true, 64 * MIB, &from, &to);
	CHECK(from <= page - FAULT / 2);
	CHECK(to >= page + FAULT / 2);
	CHECK(to - from <= 2 * FAULT);

	CASE("but not for ever");
	for (uint64_t i = 0; i < PREFETCH_TRUST; i++)
		prefetch_note(&p, 4096 * MIB, (1024 + 64 * i) * MIB, PAGE, true,
			      64 * MIB, &from, &to);
	CHECK_INT(from, to);
}

static void test_touched(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, extra = 0;

	CASE("a stream that passes what was touched before shows a copy");
	prefetch_note(&p, 4096 * MIB, 0, FAULT, false, 64 * MIB, &from, &to);
	prefetch_note(&p, 4096 * MIB, 16 * MIB, FAULT, true, 64 * MIB, &from,
		      &to);
	CHECK_INT(from, to);
	for (uint64_t off = FAULT; off < 17 * MIB; off += FAULT)
		prefetch_note(&p, 4096 * MIB, off, FAULT, false, 64 * MIB,
			      &from, &to);
	prefetch_note(&p, 4096 * MIB, 128 * MIB - PAGE, FAULT, true, 64 * MIB,
		      &from, &to);
	CHECK_INT(from, 112 * MIB);
	CHECK(to >= 136 * MIB);
	CHECK(to <= 128 * MIB + 2 * 17 * MIB + PREFETCH_STEP);

	CASE("jumps that are not followed soon get nothing");
	for (uint64_t i = 1; i <= 100; i++) {
		prefetch_note(&p, 4096 * MIB, (128 + 32 * i) * MIB, MIB / 16,
			      true, 64 * MIB, &from, &to);
		extra += to - from;
	}
	CHECK(extra <= 128 * MIB);
}

static void test_end(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to;

	CASE("nothing beyond the end of the file");
	prefetch_note(&p, 100, 0, 131072, true, 64 * MIB, &from, &to);
	CHECK_INT(from, to);
	prefetch_note(&p, 100, 0, 131072, false, 64 * MIB, &from, &to);
	CHECK(to <= 100);
}

static void test_even(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, refills = 0, off;

	CASE("a wide window is refilled in steps, none of them odd");
	for (off = 0; off < 512 * MIB; off += MIB / 8) {
		prefetch_note(&p, 4096 * MIB, off, MIB / 8, off < 64 * MIB,
			      256 * MIB, &from, &to);
		if (off < 128 * MIB || to == from)
			continue;
		CHECK_INT(to - from, PREFETCH_STEP);
		refills++;
	}
	CHECK_INT(refills, (512 - 128) * MIB / PREFETCH_STEP);
}

static void test_begun(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, had;

	CASE("what could not be asked for is given again");
	prefetch_note(&p, 4096 * MIB, 0, MIB / 8, true, 64 * MIB, &from, &to);
	CHECK(to - from >= MIB / 2);
	had = from + MIB / 4;
	prefetch_begun(&p, to, had);
	prefetch_note(&p, 4096 * MIB, MIB / 8, MIB / 8, false, 64 * MIB, &from,
		      &to);
	CHECK_INT(from, had);
	CHECK(to > from);
}

static void test_crumbs(void)
{
	struct prefetch p = { .stamp = 0 };
	uint64_t from, to, asked = MIB, gets = 0;

	CASE("a file whose first MiB is here takes one more request");
	for (uint64_t off = 0; off < 2 * MIB; off += MIB / 8) {
		prefetch_note(&p, 2 * MIB + 5, off, MIB / 8, false, 64 * MIB,
			      &from, &to);
		if (to > asked) {
			asked = to;
			gets++;
		}
	}
	CHECK_INT(asked, 2 * MIB + 5);
	CHECK_INT(gets, 1);
}

int main(void)
{
	test_sequential();
	test_random();
	test_interleaved();
	test_down();
	test_fault();
	test_peek();
	test_touched();
	test_end();
	test_even();
	test_begun();
	test_crumbs();
	return check_done();
}
