/* What the eviction policy hits on the workloads it was made for, beside LRU;
 * its bookkeeping against a model. */
#include "base/rand.h"
#include "cache/evict.h"
#include "check.h"

enum {
	CACHE = 1000, /* extents */
	PAGES = 1024, /* of one */
	PIECES = 4, /* an extent is written in so many steps */
	MAX_ITEMS = 12 * CACHE,
};

/* ---- a cache without data ---- */

static struct evict *policy;
static bool resident[MAX_ITEMS];

static struct evict_key key_of(unsigned item)
{
	return (struct evict_key){ item / 8 + 1, item % 8 };
}

static void make_room(uint32_t pages)
{
	struct evict_key gone;
	uint32_t n;

	while (evict_pages(policy) + pages > (uint64_t)CACHE * PAGES) {
		if (!evict_pick(policy, NULL, NULL, &gone, &n))
			abort();
		resident[(gone.cid - 1) * 8 + gone.ext] = false;
	}
}

static bool use(unsigned item)
{
	bool hit = resident[item];

	for (int i = 1; i <= PIECES && !hit; i++) {
		make_room(PAGES / PIECES);
		evict_put(policy, key_of(item), (uint32_t)(PAGES / PIECES * i));
		resident[item] = true;
	}
	for (int i = 0; i < PIECES; i++)
		evict_touch(policy, key_of(item));
	return hit;
}

static void start(void)
{
	policy = evict_create((uint64_t)CACHE * PAGES, 7);
	memset(resident, 0, sizeof(resident));
	rand_seed(11);
}

static void stop(void)
{
	evict_destroy(policy);
}

static void load_one(const struct evict_use *u, void *arg)
{
	CHECK(evict_load(arg, u));
	CHECK(!evict_load(arg, u));
}

static void remount(void)
{
	struct evict *next = evict_create((uint64_t)CACHE * PAGES, 8);

	evict_each(policy, load_one, next);
	CHECK_INT(evict_count(next), evict_count(policy));
	CHECK_INT(evict_pages(next), evict_pages(policy));
	evict_destroy(policy);
	policy = next;
}

/* ---- LRU, to compare with ---- */

struct lru {
	unsigned last[MAX_ITEMS]; /* 0: not resident */
	unsigned tail, n, clock;
	unsigned *log; /* every use, in order */
};

static struct lru lru;

static void lru_start(unsigned uses)
{
	memset(&lru, 0, sizeof(lru));
	lru.log = malloc((uses + 1) * sizeof(*lru.log));
}

static bool lru_use(unsigned item)
{
	bool hit = lru.last[item];

	lru.log[++lru.clock] = item;
	lru.last[item] = lru.clock;
	lru.n += !hit;
	while (lru.n > CACHE) {
		unsigned old = lru.log[++lru.tail];

		if (lru.last[old] != lru.tail)
			continue;
		lru.last[old] = 0;
		lru.n--;
	}
	return hit;
}

/* ---- workloads ---- */

static void shuffle(unsigned *order, unsigned n)
{
	for (unsigned i = n - 1; i > 0; i--) {
		unsigned j = (unsigned)rand_below(i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
}

static double epoch(const unsigned *order, unsigned n)
{
	unsigned hits = 0;

	for (unsigned i = 0; i < n; i++)
		hits += use(order[i]);
	return (double)hits / n;
}

static double worst_epoch(unsigned items, bool shuffled, bool remounted)
{
	unsigned order[MAX_ITEMS];
	double worst = 1, h;

	start();
	for (unsigned i = 0; i < items; i++)
		order[i] = i;
	for (int e = 0; e < 10; e++) {
		if (shuffled)
			shuffle(order, items);
		h = epoch(order, items);
		if (e && h < worst)
			worst = h;
		if (remounted)
			remount();
	}
	stop();
	return worst;
}

static void test_epochs(void)
{
	double order, shuffled;

	order = worst_epoch(2 * CACHE, false, false);
	shuffled = worst_epoch(2 * CACHE, true, false);
	CASE("epochs in order over twice the cache hit 0.46");
	printf("# %.3f\n", order);
	CHECK(order >= 0.46);
	CASE("shuffled epochs over twice the cache hit 0.46");
	printf("# %.3f\n", shuffled);
	CHECK(shuffled >= 0.46);
	CASE("a remount between epochs changes nothing");
	CHECK(worst_epoch(2 * CACHE, false, true) >= 0.45);
	CHECK(worst_epoch(2 * CACHE, true, true) >= 0.45);
	CASE("data that fits is hit always");
	CHECK(worst_epoch(CACHE * 95 / 100, true, false) == 1);
	CASE("data a tenth larger than the cache is mostly hit");
	CHECK(worst_epoch(CACHE * 11 / 10, false, false) >= 0.8);
}

/* ---- files of mixed sizes ---- */

enum { FILES = 3000, EXTENTS = 5 };

static uint32_t file_pages[FILES];
static bool has[FILES][EXTENTS];

/* Most are small, most bytes are in a few large ones. */
static uint64_t size_files(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < FILES; i++) {
		uint32_t most = rand_below(20) ? 1 << rand_below(9) :
						 EXTENTS * PAGES;

		file_pages[i] = 1 + (uint32_t)rand_below(most);
		sum += file_pages[i];
	}
	return sum;
}

static void mixed_insert(struct evict_key key, uint32_t pages, uint64_t room)
{
	struct evict_key gone;
	uint32_t n;

	while (evict_pages(policy) + pages > room) {
		if (!evict_pick(policy, NULL, NULL, &gone, &n))
			abort();
		has[gone.cid][gone.ext] = false;
	}
	evict_put(policy, key, pages);
	has[key.cid][key.ext] = true;
}

/* Pages hit. */
static uint64_t mixed_read(unsigned file, uint64_t room)
{
	uint64_t hit = 0;

	for (uint32_t at = 0; at < file_pages[file]; at += PAGES) {
		struct evict_key key = { file, at / PAGES };
		uint32_t left = file_pages[file] - at;
		uint32_t pages = left < PAGES ? left : PAGES;

		if (has[file][key.ext])
			hit += pages;
		else
			mixed_insert(key, pages, room);
		evict_touch(policy, key);
	}
	return hit;
}

/* Bytes hit of those asked for in the worst epoch. */
static double mixed_worst(bool shuffled)
{
	unsigned order[FILES];
	uint64_t total, hit;
	double worst = 1;

	rand_seed(3);
	total = size_files();
	memset(has, 0, sizeof(has));
	policy = evict_create(total / 2, 7);
	for (unsigned i = 0; i < FILES; i++)
		order[i] = i;
	for (int e = 0; e < 10; e++) {
		if (shuffled)
			shuffle(order, FILES);
		hit = 0;
		for (unsigned i = 0; i < FILES; i++)
			hit += mixed_read(order[i], total / 2);
		if (e && (double)hit / (double)total < worst)
			worst = (double)hit / (double)total;
	}
	stop();
	return worst;
}

static void test_mixed(void)
{
	double ratio[2] = { mixed_worst(false), mixed_worst(true) };

	CASE("epochs over files of mixed sizes, twice the cache, hit 0.46");
	printf("# %.3f in order, %.3f shuffled\n", ratio[0], ratio[1]);
	CHECK(ratio[0] >= 0.46);
	CHECK(ratio[1] >= 0.46);
}

/* Share of a hot set that is still there after a scan of ten caches. */
static double hot_kept(unsigned hot, unsigned uses_between, bool remounted)
{
	unsigned kept = 0;

	start();
	for (unsigned i = 0; i < 5 * hot; i++)
		use((unsigned)rand_below(hot));
	if (remounted)
		remount();
	for (unsigned i = 0; i < 10 * CACHE; i++) {
		use(hot + i);
		for (unsigned j = 0; j < uses_between; j++)
			use((unsigned)rand_below(hot));
	}
	for (unsigned i = 0; i < hot; i++)
		kept += resident[i];
	stop();
	return (double)kept / hot;
}

static void test_hot_set(void)
{
	CASE("a hot set survives a scan through it");
	CHECK(hot_kept(CACHE / 2, 0, false) >= 0.95);
	CHECK(hot_kept(CACHE / 2, 1, false) >= 0.95);
	CHECK(hot_kept(CACHE * 8 / 10, 0, false) >= 0.95);
	CASE("a hot set survives a remount and a scan");
	CHECK(hot_kept(CACHE / 2, 0, true) >= 0.95);
}

enum { ZIPF_ITEMS = 10 * CACHE, ZIPF_USES = 60 * CACHE };

/* Hits beyond LRU's, as a share of the uses. drift: how far the ranks move. */
static double zipf_gain(unsigned drift)
{
	static double sum[ZIPF_ITEMS + 1];
	int ours = 0, theirs = 0;

	for (unsigned i = 0; i < ZIPF_ITEMS; i++)
		sum[i + 1] = sum[i] + 1.0 / (i + 1);
	start();
	lru_start(ZIPF_USES);
	for (unsigned i = 0; i < ZIPF_USES; i++) {
		double u =
			(double)(rand_u64() >> 11) * 0x1p-53 * sum[ZIPF_ITEMS];
		unsigned a = 0, b = ZIPF_ITEMS - 1;

		while (a < b) {
			unsigned m = (a + b) / 2;

			if (sum[m + 1] < u)
				a = m + 1;
			else
				b = m;
		}
		a = (a + (unsigned)((uint64_t)i * drift / ZIPF_USES)) %
		    ZIPF_ITEMS;
		ours += use(a);
		theirs += lru_use(a);
	}
	free(lru.log);
	stop();
	return (double)(ours - theirs) / ZIPF_USES;
}

static void test_zipf(void)
{
	CASE("a Zipf mix hits more than LRU");
	CHECK(zipf_gain(0) > 0.02);
	CASE("a Zipf mix whose ranks drift hits what LRU hits");
	CHECK(zipf_gain(5 * CACHE) > -0.01);
	CHECK(zipf_gain(30 * CACHE) > -0.01);
}

static void test_change(void)
{
	unsigned order[CACHE];
	unsigned n = CACHE * 9 / 10;

	CASE("when the job moves on, the old data goes");
	start();
	for (unsigned i = 0; i < n; i++)
		order[i] = i;
	for (int e = 0; e < 10; e++)
		epoch(order, n);
	for (unsigned i = 0; i < n; i++)
		order[i] = 2 * CACHE + i;
	for (int e = 0; e < 3; e++)
		epoch(order, n);
	CHECK(epoch(order, n) > 0.95);
	stop();
}

/* ---- bookkeeping ---- */

static bool is_busy(struct evict_key key, void *arg)
{
	return key.cid != *(uint64_t *)arg;
}

static void test_busy(void)
{
	struct evict_key gone;
	uint64_t only = 77;
	uint32_t pages, left, found = 0;

	CASE("what is busy stays");
	start();
	for (unsigned i = 0; i < CACHE; i++)
		use(i);
	CHECK(evict_pick(policy, is_busy, &only, &gone, &pages));
	CHECK_INT(gone.cid, only);
	only = 99999;
	CHECK(!evict_pick(policy, is_busy, &only, &gone, &pages));

	CASE("the only one that is not busy is found");
	left = evict_count(policy);
	for (only = 1; only <= CACHE / 8; only++)
		while (evict_pick(policy, is_busy, &only, &gone, &pages))
			found++;
	CHECK_INT(found, left);
	CHECK_INT(evict_count(policy), 0);
	stop();
}

static void test_model(void)
{
	enum { ITEMS = 300, STEPS = 60000 };
	uint32_t pages[ITEMS] = { 0 }, n;
	uint64_t total = 0;
	unsigned count = 0;
	struct evict_key gone;
	bool same = true;

	CASE("sizes and places agree with a model");
	start();
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)rand_below(ITEMS);
		uint32_t want = 1 + (uint32_t)rand_below(EVICT_PAGES_MAX);

		switch (rand_below(5)) {
		case 0:
		case 1:
			same &= evict_put(policy, key_of(i), want) == pages[i];
			total = total + want - pages[i];
			count += !pages[i];
			pages[i] = want;
			break;
		case 2:
			same &= evict_remove(policy, key_of(i)) == pages[i];
			total -= pages[i];
			count -= pages[i] > 0;
			pages[i] = 0;
			break;
		case 3:
			if (!evict_pick(policy, NULL, NULL, &gone, &n))
				break;
			i = (unsigned)(gone.cid - 1) * 8 + gone.ext;
			same &= n == pages[i] && n > 0;
			total -= pages[i];
			count--;
			pages[i] = 0;
			break;
		default:
			evict_touch(policy, key_of(i));
		}
		if (step % 5000 == 0)
			evict_set_capacity(policy, 1 + rand_below(1 << 20));
		same &= evict_pages(policy) == total &&
			evict_count(policy) == count;
	}
	CHECK(same);
	stop();
}

int main(void)
{
	test_epochs();
	test_mixed();
	test_hot_set();
	test_zipf();
	test_change();
	test_busy();
	test_model();
	return check_done();
}
