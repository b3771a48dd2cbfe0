/*
 * Training reads a data set larger than the cache over and over, in order or
 * shuffled. LRU then evicts each extent just before its next use and hits
 * nothing; the best possible is to keep any half and leave it alone. Serving
 * has a hot set that scans must not flush. And when a job moves on to other
 * data, the old must go soon.
 *
 * The extents are in two sets. New ones live in the window (a sixteenth of
 * the cache, oldest out first), long enough for what was prefetched to be
 * read. One that leaves it takes the place of the least used of a sample of
 * the main set only if it was used at least HYSTERESIS times more, counted
 * over its evictions (ghosts); else it goes itself. In an epoch loop all are
 * used equally often, give or take one, so the main set stays and hits its
 * share. Counts are halved every PERIOD of traffic; one use before the halving
 * and one after it then differ by two, hence HYSTERESIS.
 *
 * Counts are slow to believe in a change, and where popularity drifts,
 * recency is the better guide. So both policies, that one and LRU, run on a
 * sample of the keys in two models of the cache to scale, and the real cache
 * follows the model that hits clearly more. A model needs no data, only this
 * file again.
 *
 * Not taken: S3-FIFO, ARC and CLOCK-Pro admit on the second miss within a
 * ghost list, which turns an epoch loop over twice the cache into LRU; random
 * replacement hits a fifth of it. Estimating LRU's hits from the traffic
 * between two uses of an extent fails where hits are frequent, since traffic
 * then is much more than the distinct extents used.
 */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cache/evict_impl.h"

enum {
	SAMPLE = 16,
	TICKS = 64, /* ticks a cache size of traffic */
	SAME_USE = 4, /* ticks within which accesses are one */
	PERIOD_BITS = 9, /* ticks until counts are halved: 8 cache sizes */
	FREQ_MAX = 63,
	HYSTERESIS = 3,
	WINDOW_SHARE = 16, /* the window's share of the cache... */
	WINDOW_SHARE_MAX = 14, /* ...which this much prefetch may extend: */
	WINDOW_PAGES = 8192,
	MODEL_EXTENTS = 4096, /* a model grown beyond is scaled down */
	VERDICT_MIN = 128, /* accesses before a model is believed */
	VERDICT_MARGIN = 32, /* 1/32 of the accesses */
	START_TICK = 1024, /* so that loaded extents can be older */
};

struct policy {
	struct extent_table t;
	uint64_t capacity; /* pages */
	uint64_t now; /* pages of traffic */
	uint64_t rng;
	bool recent; /* LRU */
};

enum model { FREQUENT, RECENT, MODELS };

struct evict {
	struct policy real;
	struct policy model[MODELS];
	unsigned shift; /* a model is 1 / 2^shift of the cache */
	uint32_t asked, hits[MODELS];
};

/* ---- time ---- */

static uint64_t tick_pages(const struct policy *p)
{
	return p->capacity < TICKS ? 1 : p->capacity / TICKS;
}

static uint32_t now_tick(const struct policy *p)
{
	return (uint32_t)(p->now / tick_pages(p)) & TICK_MASK;
}

static uint32_t age(uint32_t tick, uint32_t now)
{
	return (now - tick) & TICK_MASK;
}

static uint32_t decayed(uint32_t freq, uint32_t tick, uint32_t now)
{
	uint32_t halvings = ((now >> PERIOD_BITS) - (tick >> PERIOD_BITS)) &
			    (TICK_MASK >> PERIOD_BITS);

	return halvings < 8 ? freq >> halvings : 0;
}

static uint32_t one_more(uint32_t freq, uint32_t tick, uint32_t now)
{
	freq = decayed(freq, tick, now);
	return freq < FREQ_MAX ? freq + 1 : freq;
}

/* ---- one policy ---- */

static void policy_init(struct policy *p, uint64_t capacity, uint64_t seed,
			bool recent)
{
	memset(p, 0, sizeof(*p));
	extent_table_init(&p->t);
	p->capacity = capacity ? capacity : 1;
	p->now = START_TICK * tick_pages(p);
	p->rng = seed;
	p->recent = recent;
}

/* Ticks are in units of the capacity: they must not jump with it. */
static void policy_set_capacity(struct policy *p, uint64_t capacity)
{
	uint64_t ticks = p->now / tick_pages(p);

	p->capacity = capacity ? capacity : 1;
	p->now = ticks * tick_pages(p);
}

static uint64_t window_quota(const struct policy *p)
{
	uint64_t least = p->capacity / WINDOW_SHARE;
	uint64_t most = p->capacity / WINDOW_SHARE_MAX;
	uint64_t want = WINDOW_PAGES < most ? WINDOW_PAGES : most;

	return least > want ? least : want;
}

static uint64_t main_quota(const struct policy *p)
{
	return p->capacity - window_quota(p);
}

static uint32_t random_below(struct policy *p, uint32_t n)
{
	p->rng += 0x9E3779B97F4A7C15ull;
	return (uint32_t)((hash_u64(p->rng) >> 32) * n >> 32);
}

static bool is_older(const struct extent_entry *a, const struct extent_entry *b,
		     uint32_t now)
{
	return age(a->tick, now) > age(b->tick, now);
}

static bool is_less_used(const struct extent_entry *a,
			 const struct extent_entry *b, uint32_t now)
{
	uint32_t fa = decayed(a->freq, a->tick, now);
	uint32_t fb = decayed(b->freq, b->tick, now);

	return fa != fb ? fa < fb : is_older(a, b, now);
}

struct choice {
	bool (*busy)(struct evict_key key, void *arg);
	void *arg;
	bool (*worse)(const struct extent_entry *a,
		      const struct extent_entry *b, uint32_t now);
};

static bool is_busy(const struct choice *c, const struct extent_entry *x)
{
	return c->busy && c->busy((struct evict_key){ x->cid, x->ext }, c->arg);
}

/* The place of the worst of a sample of the set. While all of it is busy, the
 * rest is looked at one by one. */
static uint32_t sample(struct policy *p, enum extent_set set,
		       const struct choice *c)
{
	const struct extent_list *s = &p->t.sets[set];
	uint32_t best = NO_PLACE, now = now_tick(p);
	uint32_t start = s->n ? random_below(p, s->n) : 0;
	uint32_t drawn = s->n > SAMPLE ? SAMPLE : 0;

	for (uint32_t i = 0; i < drawn + s->n; i++) {
		uint32_t pos = (start + i) % s->n;

		if (i >= SAMPLE && best != NO_PLACE)
			break;
		if (i < drawn)
			pos = random_below(p, s->n);
		if (best != NO_PLACE && !c->worse(&s->v[pos], &s->v[best], now))
			continue;
		if (!is_busy(c, &s->v[pos]))
			best = pos;
	}
	return best == NO_PLACE ? NO_PLACE : place_of(set, best);
}

static void move_to_main(struct policy *p, uint32_t place)
{
	struct extent_entry x = extent_take(&p->t, place);

	extent_add(&p->t, SET_MAIN, &x);
}

/* While the main set has room, it takes what outgrows the window. */
static void fill_main(struct policy *p)
{
	const struct choice oldest = { .worse = is_older };

	while (p->t.sets[SET_WINDOW].pages > window_quota(p)) {
		uint32_t w = sample(p, SET_WINDOW, &oldest);

		if (p->t.sets[SET_MAIN].pages +
			    extent_pages(extent_at(&p->t, w)) >
		    main_quota(p))
			return;
		move_to_main(p, w);
	}
}

static void policy_insert(struct policy *p, struct evict_key key,
			  uint32_t pages)
{
	struct extent_entry x = {
		.cid = key.cid, .ext = key.ext, .freq = 1, .pages_1 = pages - 1
	};
	uint32_t tick, freq;

	p->now += pages;
	x.tick = now_tick(p);
	if (ghost_take(&p->t, key, &tick, &freq))
		x.freq = one_more(freq, tick, x.tick);
	extent_add(&p->t, SET_WINDOW, &x);
	fill_main(p);
}

static void policy_grow(struct policy *p, uint32_t place, uint32_t pages)
{
	uint32_t before = extent_pages(extent_at(&p->t, place));

	p->now += pages > before ? pages - before : 0;
	extent_resize(&p->t, place, pages);
}

/* True if the access counts as one more. */
static bool policy_touch(struct policy *p, uint32_t place)
{
	struct extent_entry *x = extent_at(&p->t, place);
	uint32_t now = now_tick(p);

	if (age(x->tick, now) < SAME_USE)
		return false;
	p->now += extent_pages(x);
	x->freq = one_more(x->freq, x->tick, now) & 0xFF;
	x->tick = now;
	return true;
}

/* Whether w, leaving the window, deserves the place of m in the main set. */
static bool beats(const struct policy *p, const struct extent_entry *w,
		  const struct extent_entry *m)
{
	uint32_t now = now_tick(p);

	if (p->recent)
		return is_older(m, w, now);
	return decayed(w->freq, w->tick, now) >=
	       decayed(m->freq, m->tick, now) + HYSTERESIS;
}

static uint32_t policy_choose(struct policy *p, const struct choice *window,
			      const struct choice *rest)
{
	uint32_t w = NO_PLACE, m;

	if (p->t.sets[SET_MAIN].pages <= main_quota(p))
		w = sample(p, SET_WINDOW, window);
	m = sample(p, SET_MAIN, rest);
	if (m == NO_PLACE && w == NO_PLACE)
		return sample(p, SET_WINDOW, window);
	if (w == NO_PLACE)
		return m;
	if (m == NO_PLACE ||
	    !beats(p, extent_at(&p->t, w), extent_at(&p->t, m)))
		return w;
	/* Puts w at the end of the main set: m stays where it is. */
	move_to_main(p, w);
	return m;
}

static bool policy_pick(struct policy *p,
			bool (*busy)(struct evict_key key, void *arg),
			void *arg, struct extent_entry *ret)
{
	const struct choice window = { busy, arg, is_older };
	const struct choice rest = { busy, arg,
				     p->recent ? is_older : is_less_used };
	uint32_t place = policy_choose(p, &window, &rest);

	if (place == NO_PLACE)
		return false;
	*ret = extent_take(&p->t, place);
	ghost_add(&p->t, ret);
	return true;
}

/* ---- the models ---- */

static void models_init(struct evict *e)
{
	for (int i = 0; i < MODELS; i++)
		policy_init(&e->model[i], e->real.capacity >> e->shift,
			    e->real.rng + (uint64_t)i + 1, i == RECENT);
	e->asked = 0;
	memset(e->hits, 0, sizeof(e->hits));
}

static void models_release(struct evict *e)
{
	for (int i = 0; i < MODELS; i++)
		extent_table_release(&e->model[i].t);
}

static bool model_make_room(struct policy *p, uint32_t pages)
{
	struct extent_entry gone;

	while (extent_total(&p->t) + pages > p->capacity)
		if (!policy_pick(p, NULL, NULL, &gone))
			return false;
	return true;
}

/* The extent has this size; true if the model had it. */
static bool model_take(struct policy *p, struct evict_key key, uint32_t pages,
		       bool access)
{
	uint32_t place = extent_find(&p->t, key), before;

	if (place == NO_PLACE) {
		if (access && model_make_room(p, pages))
			policy_insert(p, key, pages);
		return false;
	}
	if (access)
		(void)policy_touch(p, place);
	before = extent_pages(extent_at(&p->t, place));
	if (pages > before && model_make_room(p, pages - before)) {
		place = extent_find(&p->t, key);
		if (place != NO_PLACE)
			policy_grow(p, place, pages);
	}
	return true;
}

static void judge(struct evict *e)
{
	uint32_t margin = e->asked / VERDICT_MARGIN;

	if (e->asked >= VERDICT_MIN) {
		if (e->hits[RECENT] > e->hits[FREQUENT] + margin)
			e->real.recent = true;
		else if (e->hits[RECENT] <= e->hits[FREQUENT])
			e->real.recent = false;
	}
	if (e->asked < 2 * (VERDICT_MIN + extent_count(&e->model[RECENT].t)))
		return;
	e->asked /= 2;
	for (int i = 0; i < MODELS; i++)
		e->hits[i] /= 2;
}

static void models_take(struct evict *e, struct evict_key key, uint32_t pages,
			bool access)
{
	bool full = false;

	if (extent_hash(key) >> 48 & ((1u << e->shift) - 1))
		return;
	for (int i = 0; i < MODELS; i++) {
		e->hits[i] += model_take(&e->model[i], key, pages, access) &&
			      access;
		full |= extent_count(&e->model[i].t) > MODEL_EXTENTS;
	}
	e->asked += access;
	if (access)
		judge(e);
	if (!full || e->shift == 15)
		return;
	e->shift++;
	models_release(e);
	models_init(e);
}

/* ---- the interface ---- */

struct evict *evict_create(uint64_t capacity_pages, uint64_t seed)
{
	struct evict *e = xcalloc(1, sizeof(*e));

	policy_init(&e->real, capacity_pages, seed, false);
	models_init(e);
	return e;
}

void evict_destroy(struct evict *e)
{
	if (!e)
		return;
	models_release(e);
	extent_table_release(&e->real.t);
	free(e);
}

void evict_set_capacity(struct evict *e, uint64_t capacity_pages)
{
	uint64_t old = e->real.capacity;

	if (capacity_pages > old / 8 * 7 && capacity_pages < old / 7 * 8)
		return;
	policy_set_capacity(&e->real, capacity_pages);
	for (int i = 0; i < MODELS; i++)
		policy_set_capacity(&e->model[i], e->real.capacity >> e->shift);
}

uint64_t evict_pages(const struct evict *e)
{
	return extent_total(&e->real.t);
}

uint32_t evict_count(const struct evict *e)
{
	return extent_count(&e->real.t);
}

uint32_t evict_now(const struct evict *e)
{
	return now_tick(&e->real) / SAME_USE;
}

uint32_t evict_put(struct evict *e, struct evict_key key, uint32_t pages)
{
	uint32_t place = extent_find(&e->real.t, key), before = 0;

	BUG_ON(!pages || pages > EVICT_PAGES_MAX);
	if (place == NO_PLACE) {
		policy_insert(&e->real, key, pages);
	} else {
		before = extent_pages(extent_at(&e->real.t, place));
		policy_grow(&e->real, place, pages);
	}
	models_take(e, key, pages, before == 0);
	return before;
}

void evict_touch(struct evict *e, struct evict_key key)
{
	uint32_t place = extent_find(&e->real.t, key);

	if (place != NO_PLACE && policy_touch(&e->real, place))
		models_take(e, key, extent_pages(extent_at(&e->real.t, place)),
			    true);
}

uint32_t evict_remove(struct evict *e, struct evict_key key)
{
	uint32_t place = extent_find(&e->real.t, key);
	struct extent_entry gone;

	if (place == NO_PLACE)
		return 0;
	gone = extent_take(&e->real.t, place);
	return extent_pages(&gone);
}

bool evict_pick(struct evict *e, bool (*busy)(struct evict_key key, void *arg),
		void *arg, struct evict_key *ret, uint32_t *ret_pages)
{
	struct extent_entry gone;

	if (!policy_pick(&e->real, busy, arg, &gone))
		return false;
	*ret = (struct evict_key){ gone.cid, gone.ext };
	*ret_pages = extent_pages(&gone);
	return true;
}

bool evict_load(struct evict *e, const struct evict_use *use)
{
	uint32_t now = now_tick(&e->real);
	struct extent_entry x = { .cid = use->key.cid,
				  .ext = use->key.ext,
				  .pages_1 = use->pages - 1,
				  .freq = use->freq ? use->freq : 1,
				  .tick = (now - use->age) & TICK_MASK };

	BUG_ON(!use->pages || use->pages > EVICT_PAGES_MAX);
	if (extent_find(&e->real.t, use->key) != NO_PLACE)
		return false;
	extent_add(&e->real.t, SET_MAIN, &x);
	return true;
}

void evict_each(const struct evict *e,
		void (*fn)(const struct evict_use *use, void *arg), void *arg)
{
	uint32_t now = now_tick(&e->real);

	for (int set = 0; set < SETS; set++)
		for (uint32_t i = 0; i < e->real.t.sets[set].n; i++) {
			const struct extent_entry *x =
				&e->real.t.sets[set].v[i];
			uint32_t old = age(x->tick, now);
			struct evict_use use = {
				.key = { x->cid, x->ext },
				.pages = extent_pages(x),
				.freq = (uint8_t)decayed(x->freq, x->tick, now),
				.age = old < 255 ? (uint8_t)old : 255,
			};

			fn(&use, arg);
		}
}
