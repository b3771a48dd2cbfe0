#include "check.h"
#include "io/predict.h"

#include <stdbool.h>

/*
 * A reader: asks for paths in an order, fetches what is predicted, and counts
 * how many of its own paths had been fetched before it asked.
 */
enum { MAX_PATHS = 4096 };

struct reader {
	struct predict *p;
	char *fetched[MAX_PATHS * 2];
	unsigned nfetched, right, asked, absent;
	bool (*exists)(const char *path);
};

static void reader_init(struct reader *r, bool (*exists)(const char *path),
			bool (*after)(void *arg, const char *path, char *next))
{
	struct predict_config c = { .after = after };

	memset(r, 0, sizeof(*r));
	r->p = predict_create(&c);
	r->exists = exists;
}

static void reader_release(struct reader *r)
{
	predict_destroy(r->p);
	for (unsigned i = 0; i < r->nfetched; i++)
		free(r->fetched[i]);
}

static bool was_fetched(const struct reader *r, const char *path)
{
	for (unsigned i = 0; i < r->nfetched; i++)
		if (strcmp(r->fetched[i], path) == 0)
			return true;
	return false;
}

static void ask(struct reader *r, const char *path)
{
	char *paths[64];
	unsigned n;

	r->asked++;
	r->right += was_fetched(r, path);
	predict_note(r->p, path, true);
	while ((n = predict_take(r->p, paths, 64)) > 0) {
		for (unsigned i = 0; i < n; i++) {
			if (r->nfetched < MAX_PATHS * 2)
				r->fetched[r->nfetched++] = paths[i];
			if (r->exists && !r->exists(paths[i])) {
				predict_result(r->p, paths[i], PREDICT_ABSENT);
				r->absent++;
			}
		}
	}
}

static void ask_chunk(struct reader *r, int a, int b, int c)
{
	char path[64];

	snprintf(path, sizeof(path), "data/a.zarr/c/%d/%d/%d", a, b, c);
	ask(r, path);
}

enum { SIDE = 12 };

static bool in_array(const char *path)
{
	int a, b, c;

	return sscanf(path, "data/a.zarr/c/%d/%d/%d", &a, &b, &c) == 3 &&
	       a < SIDE && b < SIDE && c < SIDE;
}

static void check_scan(int fast, int middle, int slow)
{
	struct reader r;
	int at[3];

	reader_init(&r, in_array, NULL);
	ask(&r, "data/a.zarr/zarr.json");
	for (at[slow] = 0; at[slow] < SIDE; at[slow]++)
		for (at[middle] = 0; at[middle] < SIDE; at[middle]++)
			for (at[fast] = 0; at[fast] < SIDE; at[fast]++)
				ask_chunk(&r, at[0], at[1], at[2]);
	CHECK(r.right >= r.asked - 8);
	CHECK(r.absent <= 16);
	CHECK(r.nfetched - r.absent <= r.asked + 2);
	reader_release(&r);
}

static void test_axes(void)
{
	CASE("an array is followed along every axis, over rows and folders");
	check_scan(2, 1, 0);
	check_scan(1, 2, 0);
	check_scan(0, 2, 1);
	check_scan(0, 1, 2);
	check_scan(2, 0, 1);
}

static bool is_shard(const char *path)
{
	unsigned n;

	return sscanf(path, "train/shard-%5u.tar", &n) == 1 && n < 200;
}

static void test_shards(void)
{
	struct reader r;
	char path[64];

	CASE("numbered files, with leading zeros");
	reader_init(&r, is_shard, NULL);
	for (int i = 95; i < 200; i++) {
		snprintf(path, sizeof(path), "train/shard-%05d.tar", i);
		ask(&r, path);
	}
	CHECK(r.right >= r.asked - 3);
	CHECK(was_fetched(&r, "train/shard-00100.tar"));
	CHECK(!was_fetched(&r, "train/shard-100.tar"));
	CHECK(r.absent <= 64);
	reader_release(&r);

	CASE("every fourth file, backwards");
	reader_init(&r, is_shard, NULL);
	for (int i = 199; i >= 0; i -= 4) {
		snprintf(path, sizeof(path), "train/shard-%05d.tar", i);
		ask(&r, path);
	}
	CHECK(r.right >= r.asked - 3);
	CHECK(r.nfetched <= r.asked);
	reader_release(&r);
}

static uint64_t seed;

static unsigned below(unsigned n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

static void shuffle(int *order, int n)
{
	for (int i = n - 1; i > 0; i--) {
		int j = below(i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
}

static void test_threads(void)
{
	static int order[2000];
	struct reader r;
	char path[64];

	CASE("sixteen threads that share a list come out of order");
	seed = 1;
	reader_init(&r, NULL, NULL);
	for (int i = 0; i < 2000; i++)
		order[i] = i;
	for (int i = 0; i + 16 <= 2000; i += 8)
		shuffle(order + i, 16);
	for (int i = 0; i < 2000; i++) {
		snprintf(path, sizeof(path), "small/f%08d", order[i]);
		ask(&r, path);
	}
	CHECK(r.right >= 1900);
	CHECK(r.nfetched <= 2100);
	reader_release(&r);
}

static void check_random(int n, int take)
{
	static int order[2000];
	struct reader r;
	char path[64];
	unsigned extra;

	reader_init(&r, NULL, NULL);
	for (int i = 0; i < n; i++)
		order[i] = i;
	shuffle(order, n);
	for (int i = 0; i < take; i++) {
		snprintf(path, sizeof(path), "small/f%08d", order[i]);
		ask(&r, path);
	}
	extra = r.nfetched - r.right;
	CHECK(extra * 10 < r.asked);
	reader_release(&r);
}

static void test_random(void)
{
	CASE("a random order costs less than a tenth more");
	for (seed = 1; seed < 4000000000ull; seed += 200000000ull) {
		check_random(2000, 2000);
		check_random(2000, 500);
		check_random(300, 250);
	}
}

static const char *const names[] = {
	"n/ape", "n/bee", "n/cat", "n/dog", "n/eel", "n/fox", "n/gnu",
	"n/hen", "n/jay", "n/kid", "n/leu", "n/man", "n/nut", "n/owl",
};

enum { NNAMES = sizeof(names) / sizeof(names[0]) };

static bool after_name(void *arg, const char *path, char *next)
{
	for (int i = 0; i + 1 < NNAMES; i++) {
		if (strcmp(names[i], path) == 0) {
			strcpy(next, names[i + 1]);
			return true;
		}
	}
	return false;
}

static void test_listing(void)
{
	struct reader r;

	CASE("names without numbers follow the listing");
	reader_init(&r, NULL, after_name);
	for (int i = 0; i < NNAMES; i++)
		ask(&r, names[i]);
	CHECK_INT(r.right, NNAMES - 3);
	CHECK_INT(r.nfetched, NNAMES - 3);
	reader_release(&r);
}

static bool has_holes(const char *path)
{
	int a, b, c;

	return sscanf(path, "data/a.zarr/c/%d/%d/%d", &a, &b, &c) == 3 &&
	       a < SIDE && b < SIDE && c < SIDE && (a + b + c) % 5 != 0;
}

static void test_holes(void)
{
	struct reader r;

	CASE("an array with missing chunks");
	reader_init(&r, has_holes, NULL);
	for (int a = 0; a < SIDE; a++)
		for (int b = 0; b < SIDE; b++)
			for (int c = 0; c < SIDE; c++)
				ask_chunk(&r, a, b, c);
	CHECK(r.right >= r.asked * 9 / 10);
	reader_release(&r);
}

static void test_two(void)
{
	struct reader r;
	char path[64];

	CASE("four readers, each in its own quarter");
	reader_init(&r, NULL, NULL);
	for (int i = 0; i < 250; i++)
		for (int w = 0; w < 4; w++) {
			snprintf(path, sizeof(path), "small/f%08d",
				 w * 250 + i);
			ask(&r, path);
		}
	CHECK(r.right >= 900);
	reader_release(&r);
}

static void test_limit(void)
{
	char path[64], *taken[64];
	unsigned n, most = 0;
	struct reader r;

	CASE("no more waits than the limit says");
	reader_init(&r, NULL, NULL);
	predict_limit(r.p, 3);
	for (int i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "a/%d", i);
		predict_note(r.p, path, true);
		n = predict_take(r.p, taken, 64);
		most = n > most ? n : most;
		while (n--) {
			predict_result(r.p, taken[n], PREDICT_FETCHED);
			free(taken[n]);
		}
	}
	CHECK_INT(most, 3);
	reader_release(&r);
}

static void test_leaving(void)
{
	struct predict_stats stats;
	struct reader r;
	char path[64];

	CASE("a reader that leaves the way ends the stream");
	seed = 3;
	reader_init(&r, NULL, NULL);
	for (int i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "a/%d", i);
		ask(&r, path);
	}
	CHECK(!predict_idle(r.p));
	for (int i = 0; i < 400; i++) {
		snprintf(path, sizeof(path), "b/%x",
			 below(1u << 30) | 1u << 30);
		ask(&r, path);
	}
	CHECK(predict_idle(r.p));
	predict_stats_get(r.p, &stats);
	CHECK_INT(stats.used, r.right);
	CHECK_INT(stats.used + stats.wasted, stats.predicted);
	reader_release(&r);
}

static void test_at_hand(void)
{
	char path[64], *taken[64];
	struct reader r;
	unsigned n;

	CASE("nothing is predicted where everything is at hand");
	reader_init(&r, NULL, NULL);
	for (int i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "a/%d", i);
		predict_note(r.p, path, false);
	}
	CHECK(predict_idle(r.p));
	for (int i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "b/%d", i);
		predict_note(r.p, path, i < 10);
		n = predict_take(r.p, taken, 64);
		CHECK(i < 40 || n == 0);
		while (n--) {
			predict_result(r.p, taken[n], PREDICT_AT_HAND);
			free(taken[n]);
		}
	}
	CHECK(predict_idle(r.p));
	reader_release(&r);
}

static void test_odd_paths(void)
{
	char path[PREDICT_PATH + 100], *taken[8];
	struct predict_config c = { .max_window = 8 };
	struct predict *p = predict_create(&c);

	CASE("long paths, long numbers, the largest number");
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = 0;
	predict_note(p, path, true);
	for (int i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "%0*d", PREDICT_PATH, i);
		predict_note(p, path, true);
		snprintf(path, sizeof(path), "9999999999999999%02d", 95 + i);
		predict_note(p, path, true);
	}
	for (unsigned n; (n = predict_take(p, taken, 8)) > 0;)
		while (n--) {
			CHECK(strlen(taken[n]) <= PREDICT_PATH);
			free(taken[n]);
		}
	for (int i = 4; i >= 0; i--) {
		snprintf(path, sizeof(path), "down/%d", i);
		predict_note(p, path, true);
	}
	for (unsigned n; (n = predict_take(p, taken, 8)) > 0;)
		while (n--) {
			CHECK(strncmp(taken[n], "down/", 5) != 0);
			free(taken[n]);
		}
	predict_destroy(p);
}

int main(void)
{
	test_axes();
	test_shards();
	test_threads();
	test_random();
	test_listing();
	test_holes();
	test_two();
	test_limit();
	test_leaving();
	test_at_hand();
	test_odd_paths();
	return check_done();
}
