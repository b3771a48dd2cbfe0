/*
 * Keeps the streams, and the last paths in which new ones are looked for.
 *
 * Three paths in order are enough, whatever the step, and with a step of one
 * also when other readers' paths lie between. Threads that share a list take
 * its files in order but ask for them out of order, so that three in a row
 * hardly occur; then half of the last sixteen must lie close together in one
 * row, later ones further along than earlier ones.
 */
#include "io/predict.h"

#include <stdlib.h>
#include <string.h>

#include "io/predict_stream.h"

enum {
	RECENT = 16,
	CROWD = 8, /* of the recent ones, in one row */
	ALLOWED_WASTE = 8, /* paths, besides a share of all */
	WASTE_SHARE = 20,
	STEP_MAX = 1 << 20,
};

struct recent {
	char *path;
	struct spot spot;
	uint64_t next; /* hash of what follows in the listing, 0 unknown */
};

struct predict {
	struct predict_config config;
	struct recent recent[RECENT]; /* [0] is the last */
	unsigned nrecent;
	struct stream stream[PREDICT_STREAMS];
	unsigned alive;
	uint64_t limit; /* 0: none */
	struct predict_stats stats;
};

struct predict *predict_create(const struct predict_config *config)
{
	struct predict *p = xcalloc(1, sizeof(*p));

	p->config = *config;
	if (!p->config.max_window || p->config.max_window > PREDICT_WINDOW)
		p->config.max_window = PREDICT_WINDOW;
	return p;
}

void predict_destroy(struct predict *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < PREDICT_STREAMS; i++)
		stream_end(&p->stream[i], &p->stats);
	for (unsigned i = 0; i < p->nrecent; i++)
		free(p->recent[i].path);
	free(p);
}

/* ---- streams ---- */

static void count_alive(struct predict *p)
{
	p->alive = 0;
	for (unsigned i = 0; i < PREDICT_STREAMS; i++)
		p->alive += p->stream[i].alive;
}

static struct stream *free_stream(struct predict *p)
{
	struct stream *oldest = &p->stream[0];

	for (unsigned i = 0; i < PREDICT_STREAMS; i++) {
		struct stream *s = &p->stream[i];

		if (!s->alive)
			return s;
		if (s->stamp < oldest->stamp)
			oldest = s;
	}
	stream_end(oldest, &p->stats);
	return oldest;
}

static bool predicted_already(const struct predict *p, uint64_t hash)
{
	for (unsigned i = 0; i < PREDICT_STREAMS; i++)
		if (stream_holds(&p->stream[i], hash))
			return true;
	return false;
}

static bool known_to_streams(struct predict *p, const struct spot *spot)
{
	bool known = false;

	for (unsigned i = 0; i < PREDICT_STREAMS; i++)
		if (p->stream[i].alive)
			known |= stream_hit(&p->stream[i], spot->hash,
					    p->config.max_window, &p->stats);
	for (unsigned i = 0; i < PREDICT_STREAMS && !known; i++)
		if (p->stream[i].alive)
			known = stream_follow(&p->stream[i], spot, &p->stats);
	return known;
}

/* ---- beginning a stream ---- */

static bool may_begin(const struct predict *p)
{
	return p->stats.wasted <= ALLOWED_WASTE + p->stats.asked / WASTE_SHARE;
}

/* A template that shows leading zeros, if any of the recent ones does. */
static const struct recent *template(const struct predict *p, unsigned field)
{
	for (unsigned i = 0; i < p->nrecent; i++)
		if (p->recent[i].spot.shape == p->recent[0].spot.shape &&
		    p->recent[i].spot.padded[field])
			return &p->recent[i];
	return &p->recent[0];
}

static void begin_numbers(struct predict *p, const struct spot *from,
			  unsigned field, int64_t step, uint64_t lo)
{
	const struct recent *t = template(p, field);
	struct stream *s = free_stream(p);

	stream_begin_numbers(s, t->path, &t->spot, field, step, lo);
	memcpy(s->here, from->value, sizeof(s->here));
	memcpy(s->there, from->value, sizeof(s->there));
	s->stamp = p->stats.asked;
}

/* The last three at one distance. */
static bool begin_steps(struct predict *p)
{
	const struct spot *a = &p->recent[0].spot, *b = &p->recent[1].spot,
			  *c = &p->recent[2].spot;
	int field = p->nrecent < 3 ? -1 : spot_field(a, b);
	int64_t step;

	if (field < 0 || spot_field(b, c) != field)
		return false;
	step = (int64_t)(a->value[field] - b->value[field]);
	if (step != (int64_t)(b->value[field] - c->value[field]) ||
	    llabs(step) > STEP_MAX)
		return false;
	begin_numbers(p, a, field, step, c->value[field]);
	return true;
}

/* The recent path, older than `after`, that lies `way` from spot in field. */
static unsigned neighbour(const struct predict *p, const struct spot *spot,
			  unsigned field, uint64_t way, unsigned after)
{
	for (unsigned i = after + 1; i < p->nrecent; i++) {
		const struct spot *b = &p->recent[i].spot;

		if (spot_field(spot, b) == (int)field &&
		    b->value[field] == spot->value[field] + way)
			return i;
	}
	return 0;
}

/* Steps of one, also where readers take turns. */
static bool begin_turns(struct predict *p)
{
	const struct spot *a = &p->recent[0].spot;

	for (unsigned f = a->n; f-- > 0;) {
		unsigned one = neighbour(p, a, f, (uint64_t)-1, 0);

		if (!one || !neighbour(p, a, f, (uint64_t)-2, one) ||
		    neighbour(p, a, f, 1, 0))
			continue;
		begin_numbers(p, a, f, 1, a->value[f] - 2);
		return true;
	}
	return false;
}

struct crowd {
	unsigned n, half[2]; /* of the newer and the older half */
	uint64_t min, max;
	double sum[2];
	const struct spot *first, *last;
};

/* The recent ones that lie in one row with the last. */
static void gather(const struct predict *p, unsigned field, struct crowd *c)
{
	const struct spot *a = &p->recent[0].spot;

	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < p->nrecent; i++) {
		const struct spot *b = &p->recent[i].spot;
		uint64_t value = b->value[field];

		if (i > 0 && spot_field(a, b) != (int)field)
			continue;
		if (!c->n || value < c->min) {
			c->min = value;
			c->first = b;
		}
		if (!c->n || value > c->max) {
			c->max = value;
			c->last = b;
		}
		c->sum[i >= RECENT / 2] += (double)value;
		c->half[i >= RECENT / 2]++;
		c->n++;
	}
}

/* Half of the recent ones in a row, close together, moving one way. */
static bool begin_crowd(struct predict *p)
{
	const struct spot *a = &p->recent[0].spot;

	if (p->nrecent < RECENT)
		return false;
	for (unsigned f = a->n; f-- > 0;) {
		struct crowd c;
		double way;

		gather(p, f, &c);
		if (c.n < CROWD || !c.half[0] || !c.half[1] ||
		    c.max - c.min >= 2ull * c.n)
			continue;
		way = c.sum[0] / c.half[0] - c.sum[1] / c.half[1];
		if (way * way < c.n * c.n / 16.0)
			continue;
		if (way > 0)
			begin_numbers(p, c.last, f, 1, c.min);
		else
			begin_numbers(p, c.first, f, -1, c.max);
		return true;
	}
	return false;
}

static const struct recent *recent_find(const struct predict *p, uint64_t hash)
{
	for (unsigned i = 0; i < p->nrecent; i++)
		if (p->recent[i].spot.hash == hash)
			return &p->recent[i];
	return NULL;
}

/* In the order of the listing: the last three, or half of the recent. */
static bool begin_listing(struct predict *p)
{
	const struct recent *front = NULL;
	unsigned links = 0;
	bool strict;

	for (unsigned i = 0; i < p->nrecent; i++) {
		const struct recent *r = &p->recent[i];

		if (!r->next)
			continue;
		if (recent_find(p, r->next))
			links++;
		else if (!front || strcmp(r->path, front->path) > 0)
			front = r;
	}
	strict = p->nrecent >= 3 &&
		 p->recent[1].next == p->recent[0].spot.hash &&
		 p->recent[2].next == p->recent[1].spot.hash;
	if (!front || (!strict && links < CROWD))
		return false;
	if (strict)
		front = &p->recent[0];
	struct stream *s = free_stream(p);

	stream_begin_listing(s, front->path);
	s->stamp = p->stats.asked;
	return true;
}

/* ---- what is asked for ---- */

static uint64_t hash_after(struct predict *p, const char *path)
{
	char next[PREDICT_PATH + 1];

	if (!p->config.after || !p->config.after(p->config.arg, path, next))
		return 0;
	return predict_hash(next);
}

static void remember(struct predict *p, const char *path,
		     const struct spot *spot, uint64_t next)
{
	if (p->nrecent == RECENT)
		free(p->recent[--p->nrecent].path);
	memmove(&p->recent[1], &p->recent[0],
		p->nrecent * sizeof(p->recent[0]));
	p->recent[0] = (struct recent){ .path = xstrdup(path),
					.spot = *spot,
					.next = next };
	p->nrecent++;
}

void predict_note(struct predict *p, const char *path, bool fresh)
{
	struct spot spot;
	bool known;

	if (!spot_parse(path, &spot) || recent_find(p, spot.hash))
		return;
	p->stats.asked++;
	known = known_to_streams(p, &spot);
	remember(p, path, &spot, fresh && !known ? hash_after(p, path) : 0);
	if (!known) {
		for (unsigned i = 0; i < PREDICT_STREAMS; i++)
			if (p->stream[i].alive)
				stream_miss(&p->stream[i], &p->stats);
		if (fresh && may_begin(p) && !begin_turns(p) &&
		    !begin_steps(p) && !begin_crowd(p))
			begin_listing(p);
	}
	count_alive(p);
}

/* ---- what comes next ---- */

static struct stream *freshest(struct predict *p, uint64_t before)
{
	struct stream *best = NULL;

	for (unsigned i = 0; i < PREDICT_STREAMS; i++) {
		struct stream *s = &p->stream[i];

		if (s->alive && s->stamp < before &&
		    (!best || s->stamp > best->stamp))
			best = s;
	}
	return best;
}

/* A stream whose reader has gone makes room for others. */
static void end_stale(struct predict *p)
{
	for (unsigned i = 0; i < PREDICT_STREAMS; i++) {
		struct stream *s = &p->stream[i];

		if (s->alive &&
		    p->stats.asked - s->stamp > 4ull * s->window + 2 * RECENT)
			stream_end(s, &p->stats);
	}
}

static unsigned all_waiting(const struct predict *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PREDICT_STREAMS; i++)
		if (p->stream[i].alive)
			n += p->stream[i].waiting;
	return n;
}

static unsigned take_from(struct predict *p, struct stream *s, char **paths,
			  unsigned max)
{
	char path[PREDICT_PATH + 1];
	unsigned n = 0;
	struct item item;

	while (n < max && s->waiting < s->window &&
	       stream_peek(s, &p->config, path, &item)) {
		if (predicted_already(p, item.hash)) { /* two have met */
			stream_end(s, &p->stats);
			break;
		}
		if (recent_find(p, item.hash))
			item.state = ITEM_USED;
		stream_push(s, path, &item);
		if (item.state == ITEM_USED)
			continue;
		p->stats.predicted++;
		paths[n++] = xstrdup(path);
	}
	return n;
}

void predict_limit(struct predict *p, uint64_t files)
{
	p->limit = files > 1 ? files : 1;
}

static unsigned limit(const struct predict *p)
{
	return p->limit && p->limit < p->config.max_window ?
		       p->limit :
		       p->config.max_window;
}

unsigned predict_take(struct predict *p, char **paths, unsigned max)
{
	unsigned n = 0, waiting;
	uint64_t before = UINT64_MAX;
	struct stream *s;

	end_stale(p);
	waiting = all_waiting(p);
	if (waiting >= limit(p))
		max = 0;
	else if (max > limit(p) - waiting)
		max = limit(p) - waiting;
	while (n < max && (s = freshest(p, before))) {
		before = s->stamp;
		n += take_from(p, s, paths + n, max - n);
	}
	count_alive(p);
	return n;
}

void predict_result(struct predict *p, const char *path,
		    enum predict_result what)
{
	uint64_t hash = predict_hash(path);

	for (unsigned i = 0; i < PREDICT_STREAMS; i++) {
		struct stream *s = &p->stream[i];

		if (!s->alive || !stream_holds(s, hash))
			continue;
		if (what == PREDICT_ABSENT)
			stream_absent(s, hash, &p->stats);
		else
			stream_result(s, what == PREDICT_FETCHED, &p->stats);
	}
	count_alive(p);
}

bool predict_idle(const struct predict *p)
{
	return p->alive == 0;
}

void predict_stats_get(const struct predict *p, struct predict_stats *ret)
{
	*ret = p->stats;
}
